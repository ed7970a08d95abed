from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from device.inference.resample import resample, weights


@pytest.mark.parametrize(
    "box",
    [(0.0, 0.0, 70.0, 90.0), (3.2, 5.5, 60.1, 80.0), (10.0, 10.0, 20.0, 20.0)],
    ids=["reduced", "fractional edges", "enlarged"],
)
def test_agrees_with_pillow(box: tuple[float, float, float, float]) -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (90, 70)).astype(np.float32)
    ours = resample(picture, *box, 32, 48)
    theirs = np.asarray(Image.fromarray(picture).resize((48, 32), Image.Resampling.BILINEAR, box=box))
    # At the edge of the picture Pillow averages fewer pixels, ours repeats the last one.
    assert np.abs(ours - theirs)[2:-2, 2:-2].max() < 0.01


def test_beyond_the_edge_the_last_pixel_repeats() -> None:
    picture = np.tile(np.array([10.0, 20.0, 30.0], np.float32), (3, 1))
    wide = resample(picture, -6, -6, 9, 9, 15, 15)
    assert np.array_equal(wide[7], [10] * 6 + [10, 20, 30] + [30] * 6)


def test_colours_are_resampled_each_by_itself() -> None:
    picture = np.random.default_rng(1).uniform(0, 255, (20, 30, 3)).astype(np.float32)
    small = resample(picture, 2, 3, 28, 17, 8, 9)
    assert small.shape == (8, 9, 3)
    for channel in range(3):
        assert np.allclose(small[..., channel], resample(picture[..., channel], 2, 3, 28, 17, 8, 9), atol=1e-3)


def test_a_fine_stripe_does_not_alias() -> None:
    stripes = np.tile(np.array([0.0, 255.0], np.float32), (64, 32))
    small = resample(stripes, 0, 0, 64, 64, 16, 16)
    assert stripes[:, ::4].std() == 0.0, "every fourth column alone would be all black"
    assert np.abs(small[2:-2, 2:-2] - 127.5).max() < 10


@pytest.mark.parametrize("outputs", [1, 5, 48, 100])
def test_every_output_weighs_one(outputs: int) -> None:
    assert np.allclose(weights(48, -7.3, 51.2, outputs).sum(axis=1), 1.0, atol=1e-6)
