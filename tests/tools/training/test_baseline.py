"""The SVM peer sees the same features, and never a test clip."""

from __future__ import annotations

import numpy as np

from models.contract import CHANNELS, CONTOUR_FEATURES, WINDOW_FRAMES
from tools.training.baseline import functionals, svm_predictions
from tools.training.speech_windows import Windows
from tools.training.splits import Split


def test_functionals_cover_every_channel_and_contour() -> None:
    generator = np.random.default_rng(0)
    frames = generator.standard_normal((2, 1, WINDOW_FRAMES, len(CHANNELS))).astype(np.float16)
    contours = generator.standard_normal((2, 1, len(CONTOUR_FEATURES))).astype(np.float32)
    features = functionals(Windows(frames, contours))
    assert features.shape == (2, 8 * len(CHANNELS) + len(CONTOUR_FEATURES))
    np.testing.assert_allclose(features[:, 0], frames[:, 0, :, 0].astype(np.float64).mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(features[:, -1], contours[:, 0, -1])


def test_every_clip_is_predicted_by_the_fold_that_tests_it() -> None:
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 20)
    features = generator.standard_normal((40, 3)) + 6 * labels[:, np.newaxis]
    halves = [Split("first", np.arange(20, 40), np.arange(20)), Split("second", np.arange(20), np.arange(20, 40))]
    np.testing.assert_array_equal(svm_predictions(features, labels, halves), labels)


def test_clip_that_no_fold_tests_has_no_prediction() -> None:
    labels = np.tile([0, 1], 4)
    split = Split("only", np.arange(4), np.arange(4, 6))
    predicted = svm_predictions(np.random.default_rng(0).standard_normal((8, 2)), labels, [split])
    assert (predicted[[0, 1, 2, 3, 6, 7]] == -1).all()
