"""The released face branch as a teacher of the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract import FACE_CLASSES
from tools.training.face_teacher import VIEWS, opinions
from tools.training.ferplus import SIDE

RELEASED: Final = Path(__file__).parents[3] / "models" / "bundle"


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Smooth blobs: a network answers noise with next to nothing."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (3, SIDE // 8, SIDE // 8))
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2).astype(np.uint8)


def test_opinions_are_probabilities_over_the_face_classes(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    answers = opinions(RELEASED, pictures, tmp_path / "kept.npy")
    assert answers.shape == (3, len(FACE_CLASSES))
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    assert len({row.tobytes() for row in answers}) == 3


def test_a_picture_and_its_mirror_image_get_one_opinion(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """All views are of the whole height and width or symmetric, but for two that are cut off centre."""
    centred = [view for view in VIEWS if view[1][0] + view[1][1] == SIDE]
    assert len(centred) == 2
    here = opinions(RELEASED, pictures, tmp_path / "here.npy")
    there = opinions(RELEASED, np.ascontiguousarray(pictures[:, :, ::-1]), tmp_path / "there.npy")
    np.testing.assert_allclose(here, there, atol=0.3)
    np.testing.assert_array_equal(here.argmax(axis=1), there.argmax(axis=1))


def test_opinions_are_kept_for_the_same_number_of_pictures(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "kept.npy"
    first = opinions(RELEASED, pictures, cache)
    np.save(cache, first + 1)
    np.testing.assert_array_equal(opinions(RELEASED, pictures, cache), first + 1)
    np.testing.assert_array_equal(opinions(RELEASED, pictures[:2], cache), first[:2])
