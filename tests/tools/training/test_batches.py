"""What a step of training is made of."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.contract import SPEECH_CLASSES
from tests.tools.training.made_up import RECIPE
from tools.training.batches import Draw, Drawn, Part, targets
from tools.training.recipes import Steps

#: Ninety clips of class 0, ten of class 2.
LABELS = np.array([0] * 90 + [2] * 10)


def steps(clean_share: float = 0.25, balance: float = 0.75) -> Steps:
    return msgspec.structs.replace(RECIPE.readout, clean_share=clean_share, balance=balance)


def drawn(recipe: Steps, seed: int = 0) -> Drawn:
    return Draw([Part(LABELS, 4, 2000), Part(LABELS, 1, 7)], recipe, seed).next()


def test_every_corpus_gives_its_number_of_windows() -> None:
    found = drawn(steps())
    assert [len(clips) for clips in found.clips] == [len(windows) for windows in found.windows] == [2000, 7]
    assert set(found.windows[0]) == {0, 1, 2, 3}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_window_zero_is_the_clean_one_and_has_its_share(share: float) -> None:
    assert (drawn(steps(clean_share=share)).windows[0] == 0).mean() == pytest.approx(share, abs=0.03)


def test_a_clip_with_one_window_gives_that_one() -> None:
    assert not drawn(steps(clean_share=0.0)).windows[1].any()


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.75, 10**0.25 / (10**0.25 + 90**0.25)), (1.0, 0.5)])
def test_rare_classes_are_drawn_more_often(balance: float, share: float) -> None:
    found = drawn(steps(balance=balance))
    assert (LABELS[found.clips[0]] == 2).mean() == pytest.approx(share, abs=0.03)


def test_draws_follow_the_seed() -> None:
    draw = Draw([Part(LABELS, 4, 50)], steps(), 0)
    first, second = draw.next(), draw.next()
    again = Draw([Part(LABELS, 4, 50)], steps(), 0).next()
    other = Draw([Part(LABELS, 4, 50)], steps(), 1).next()
    np.testing.assert_array_equal(first.clips[0], again.clips[0])
    np.testing.assert_array_equal(first.windows[0], again.windows[0])
    assert (first.clips[0] != second.clips[0]).any()
    assert (first.clips[0] != other.clips[0]).any()


def test_smoothed_targets_still_add_up_to_one() -> None:
    rows = targets(np.array([0, 7]), 0.1)
    assert rows.shape == (2, len(SPEECH_CLASSES))
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows[1, [0, 7]], [0.0125, 0.9125], rtol=1e-6)
    np.testing.assert_array_equal(targets(np.array([3]), 0.0), np.eye(8)[[3]])
