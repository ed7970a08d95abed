from __future__ import annotations

import numpy as np
import pytest

from device.features.frame import frame_count, running_sums, sums_over, taper, windowed


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (82_160, 512)])
def test_only_whole_frames_count(samples: int, frames: int) -> None:
    assert frame_count(samples) == frames


def test_alpha_names_the_member_of_the_window_family() -> None:
    assert np.allclose(taper(400), np.hamming(400), rtol=0, atol=1e-15)
    assert np.allclose(taper(400, 0.5), np.hanning(400), rtol=0, atol=1e-15)
    assert np.array_equal(taper(400, 0.0), np.ones(400))


def test_pieces_are_views_of_the_samples() -> None:
    samples = np.arange(10.0)
    pieces = windowed(samples, 4, 3, 3)
    assert pieces.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert np.shares_memory(pieces, samples)


def test_a_piece_beyond_the_end_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        windowed(np.arange(9.0), 4, 3, 3)


def test_sums_of_full_scale_squares_are_exact() -> None:
    squares = np.full(200_000, 32768.0**2)
    assert running_sums(squares)[-1] == 200_000 * 32768**2
    assert np.array_equal(sums_over(squares, 400, 160, 1000), np.full(1000, 400 * 32768.0**2))
