"""The speech recipe: what it may look at, and how its runs are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from tools.training.emodb import Clip

from models.contract import CHANNELS, CONTOUR_FEATURES, SPEECH_CLASSES, WINDOW_FRAMES
from tools.training.speech import Corpus, Recipe, fit_constants, representative
from tools.training.speech_windows import Windows


def windows(count: int) -> Windows:
    generator = np.random.default_rng(0)
    return Windows(
        generator.normal(5, 2, (count, 2, WINDOW_FRAMES, len(CHANNELS))).astype(np.float16),
        generator.normal(1, 3, (count, 2, len(CONTOUR_FEATURES))).astype(np.float32),
    )


def test_normalisation_comes_from_the_training_clips_alone() -> None:
    some = windows(4)
    before = fit_constants(some, np.array([0, 1]))
    some.frames[2:] = 1000
    some.contours[2:] = -1000
    assert fit_constants(some, np.array([0, 1])) == before
    np.testing.assert_allclose(before.channel_mean, 5, atol=0.2)
    np.testing.assert_allclose(before.channel_scale, 2, atol=0.2)


def test_channel_that_never_changes_can_still_be_divided_by() -> None:
    some = windows(2)
    some.frames[..., 3] = 7
    assert fit_constants(some, np.array([0, 1])).channel_scale[3] > 0


def test_another_recipe_has_another_name() -> None:
    assert Recipe().digest() == Recipe().digest()
    assert Recipe().digest() != replace(Recipe(), epochs=1).digest()
    assert Recipe().digest() != replace(Recipe(), seed=1).digest()


def test_ranges_for_int8_come_from_the_training_clips_alone() -> None:
    some = windows(4)
    some.frames[3] = 1000
    emotion = SPEECH_CLASSES[0]
    clips = [Clip(f"0{i}a01Wa", Path("nowhere"), f"0{i}", "a01", emotion, "0" * 64) for i in range(4)]
    constants = fit_constants(some, np.array([0, 1, 2]))
    batches = representative(Corpus(clips, some, some), np.array([0, 1, 2]), constants, 0)
    assert len(batches) == 3
    assert all(batch["frames"].shape == (1, WINDOW_FRAMES, len(CHANNELS)) for batch in batches)
    assert max(float(batch["frames"].mean()) for batch in batches) < 1
