"""The functionals that other machines learn from."""

from __future__ import annotations

import numpy as np

from models.contract import CHANNELS, CONTOUR_FEATURES, WINDOW_FRAMES
from tools.training.baseline import functionals
from tools.training.speech_windows import Windows


def test_functionals_cover_every_channel_and_contour() -> None:
    generator = np.random.default_rng(0)
    frames = generator.standard_normal((2, 1, WINDOW_FRAMES, len(CHANNELS))).astype(np.float16)
    contours = generator.standard_normal((2, 1, len(CONTOUR_FEATURES))).astype(np.float32)
    features = functionals(Windows(frames, contours))
    assert features.shape == (2, 8 * len(CHANNELS) + len(CONTOUR_FEATURES))
    np.testing.assert_allclose(features[:, 0], frames[:, 0, :, 0].astype(np.float64).mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(features[:, -1], contours[:, 0, -1])
