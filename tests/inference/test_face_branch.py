from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from device.frames import VideoFrame
from device.inference.constants import FaceConstants
from device.inference.face_branch import FaceBranch, crop_of, crop_of_whole, sharpness
from device.inference.ports import FaceBox
from models.contract import FACE, FACE_CLASSES
from tests.fakes.inference import FACE_CONSTANTS, FakeNetwork


def _frame(pixels: NDArray[np.uint8]) -> VideoFrame:
    return VideoFrame(pixels, 0, 0.0)


def _ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Every pixel's value is its column."""
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


def test_the_crop_is_wider_than_the_box_and_centred_on_it_across() -> None:
    crop = crop_of(_frame(_ramp(200, 200)), FaceBox(60, 60, 120, 120, 1.0))
    assert crop.shape == (64, 64) and crop.dtype == np.float32
    first, last = crop[32, 0], crop[32, -1]
    assert (first + last) / 2 == pytest.approx(89.5, abs=0.5)
    assert 60 * 1.1 < (last - first) * 64 / 63 < 60 * 1.2


def test_the_crop_stands_higher_than_the_box_by_the_brow() -> None:
    crop = crop_of(_frame(_ramp(200, 200).T.copy()), FaceBox(60, 60, 120, 120, 1.0))
    assert (crop[0, 32] + crop[-1, 32]) / 2 == pytest.approx(89.5 - 0.086 * 60, abs=0.5)


def test_an_oblong_box_still_gives_a_square_without_stretching() -> None:
    across = crop_of(_frame(_ramp(200, 200)), FaceBox(60, 80, 120, 100, 1.0))
    down = crop_of(_frame(_ramp(200, 200).T.copy()), FaceBox(60, 80, 120, 100, 1.0))
    assert across[32, -1] - across[32, 0] == pytest.approx(down[-1, 32] - down[0, 32], abs=0.1)


@pytest.mark.parametrize(
    "box",
    [FaceBox(-50, -50, 20, 20, 1.0), FaceBox(90, 90, 300, 300, 1.0), FaceBox(-500, -500, -400, -400, 1.0)],
    ids=["over the corner", "over the other corner", "outside"],
)
def test_beyond_the_edge_the_last_pixels_repeat(box: FaceBox) -> None:
    pixels = np.random.default_rng(0).integers(50, 200, (100, 100), dtype=np.uint8)
    crop = crop_of(_frame(pixels), box)
    assert np.isfinite(crop).all()
    assert pixels.min() <= crop.min() <= crop.max() <= pixels.max()


def test_a_crop_of_48_pixels_keeps_every_pixel() -> None:
    """FER's own pictures: enlarged, nothing else. Every fourth output lies between the same three inputs."""
    pixels = np.random.default_rng(1).integers(0, 256, (48, 48), dtype=np.uint8)
    crop = crop_of_whole(_frame(pixels))
    centre = 0.75 * (np.arange(64) + 0.5) - 0.5
    expected = np.interp(centre, np.arange(48), pixels[0])
    assert np.allclose(crop[0], expected, atol=1e-3)


def test_more_detail_than_the_network_learned_from_is_taken_away() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (480, 240))
    assert crop_of_whole(_frame(stripes))[4:-4, 4:-4].std() < 10


def test_colour_becomes_luma() -> None:
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 200
    assert np.allclose(crop_of_whole(_frame(red)), 0.299 * 200, atol=1e-3)


def test_sharpness_falls_with_blur_and_is_nothing_on_a_blank_wall() -> None:
    sharp = np.random.default_rng(2).uniform(0, 255, (64, 64)).astype(np.float32)
    blurred = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1) + np.roll(sharp, -1, 0)) / 4
    assert 1.0 > sharpness(sharp) > sharpness(blurred) > sharpness(np.full((64, 64), 90, np.float32)) == 0.0


def test_the_branch_normalises_by_its_constants_and_gives_log_probabilities_at_its_temperature() -> None:
    logits = np.linspace(-2, 3, len(FACE_CLASSES)).astype(np.float32)
    network = FakeNetwork(logits)
    constants = FaceConstants(mean=100.0, scale=50.0, temperature=2.0, prior=FACE_CONSTANTS.prior)
    output = FaceBranch(network, constants).run(np.full((64, 64), 150, np.float32))
    assert network.seen[0]["crop"].shape == FACE.inputs[0].shape
    assert np.all(network.seen[0]["crop"] == 1.0)
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    assert np.allclose(np.exp(output.log_probabilities), expected, atol=1e-6)
    assert output.embedding.shape == (64,)
