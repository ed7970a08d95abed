"""Out-of-fold answers: every clip exactly once, and embeddings carried without its speaker."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.training.speech_folds import Fold, carried_embeddings, out_of_fold
from tools.training.speech_stream import TICKS


def fold(test: list[int], train: list[int], shipped: NDArray[np.float32]) -> Fold:
    """A fold whose space is the shipped one, turned and shifted."""
    turn = np.roll(np.eye(shipped.shape[1], dtype=np.float32), len(test), axis=1) * 2

    def here(
        values: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        return (values @ turn + 3).astype(np.float32)

    return Fold(
        test=np.array(test),
        train=np.array(train),
        logits=np.array(test, np.float32)[:, np.newaxis],
        embeddings=here(shipped[test]),
        logits_int8=np.array(test, np.float32)[:, np.newaxis],
        token_logits=np.zeros((len(test), TICKS, 7), np.float32),
        token_embeddings=np.repeat(here(shipped[test])[:, np.newaxis], TICKS, axis=1),
        train_embeddings=here(shipped[train]),
    )


def embeddings(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 4, (count, 5)).astype(np.float32)


def test_answers_come_back_in_the_order_of_the_clips() -> None:
    shipped = embeddings(4)
    folds = [fold([2, 0], [1, 3], shipped), fold([3, 1], [0, 2], shipped)]
    np.testing.assert_array_equal(out_of_fold(folds, "logits", 4)[:, 0], [0, 1, 2, 3])


@pytest.mark.parametrize("tests", [([0, 1], [1, 2]), ([0], [1])])
def test_clip_tested_twice_or_never_is_refused(tests: tuple[list[int], list[int]]) -> None:
    shipped = embeddings(3)
    with pytest.raises(ValueError, match="exactly once"):
        out_of_fold([fold(rows, [0, 1, 2], shipped) for rows in tests], "logits", 3)


def test_embeddings_of_a_turned_space_are_carried_back() -> None:
    shipped = embeddings(80)
    rows = list(range(80))
    folds = [fold(rows[:40], rows[40:], shipped), fold(rows[40:], rows[:40], shipped)]
    carried = carried_embeddings(folds, shipped)
    assert carried.shape == (80, TICKS, 5)
    np.testing.assert_allclose(carried[:, 0], shipped, atol=0.25)


def test_the_map_never_sees_the_test_clips() -> None:
    """Changing the shipped embeddings of the test clips changes nothing of what is carried for them."""
    shipped = embeddings(60)
    rows = list(range(60))
    one = fold(rows[:20], rows[20:], shipped)
    changed = shipped.copy()
    changed[:20] += 5
    np.testing.assert_array_equal(carried_embeddings([one], shipped)[:20], carried_embeddings([one], changed)[:20])
