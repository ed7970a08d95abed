from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from device.frames import VideoFrame
from device.inference.face_branch import crop_of_whole
from tools.training.face_pictures import augment, normalised, upscaled


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 48, 48), dtype=np.uint8)


def test_training_enlarges_pictures_exactly_as_the_box_does(pictures: NDArray[np.uint8]) -> None:
    for picture, enlarged in zip(pictures, upscaled(pictures), strict=True):
        assert np.allclose(crop_of_whole(VideoFrame(picture, 0, 0.0)), enlarged[..., 0], atol=1e-3)


def test_distortion_differs_from_picture_to_picture_and_stays_grey_levels() -> None:
    tf.keras.utils.set_random_seed(0)
    same = np.tile(np.random.default_rng(1).uniform(0, 255, (1, 48, 48, 1)).astype(np.float32), (16, 1, 1, 1))
    distorted = augment(tf.constant(same)).numpy()
    assert distorted.shape == (16, 64, 64, 1)
    assert distorted.min() >= 0.0 and distorted.max() <= 255.0
    assert len({picture.tobytes() for picture in distorted}) == 16


def test_distortion_keeps_the_face_upright_and_in_the_picture() -> None:
    """On average over many draws, bright stays above dark, and left and right are level."""
    tf.keras.utils.set_random_seed(0)
    above = np.zeros((200, 48, 48, 1), np.float32)
    above[:, :24] = 255.0
    mean = augment(tf.constant(above)).numpy().mean(axis=0)[..., 0]
    assert mean[:16].mean() > mean[-16:].mean() + 100
    assert mean[:, :32].mean() == pytest.approx(mean[:, 32:].mean(), abs=8)


def test_grey_levels_become_about_one_int8_step_each() -> None:
    levels = normalised(np.array([0.0, 128.0, 255.0], np.float32))
    assert levels.tolist() == [-2.0, 0.0, 127 / 64]
