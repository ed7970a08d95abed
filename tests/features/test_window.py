from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.window import FeatureWindow, repeat_padded

Frames = np.ndarray[Any, np.dtype[np.float32]]


def numbered(count: int, first: int = 0) -> Frames:
    """Frames that carry their number in every channel."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], 34, axis=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=12))
def test_holds_the_last_512_frames_however_they_come(pushes: list[int]) -> None:
    window, total = FeatureWindow(), 0
    for count in pushes:
        window.push(numbered(count, total))
        total += count
        expected = numbered(min(total, 512), max(0, total - 512))
        assert len(window) == len(expected)
        assert window.is_full == (total >= 512)
        assert np.array_equal(window.frames(), expected)


def test_a_short_past_is_repeated_not_padded_with_silence() -> None:
    window = FeatureWindow()
    window.push(numbered(200, 1))
    padded = window.repeat_padded()
    assert padded.shape == (512, 34)
    assert np.array_equal(padded[:, 0], np.concatenate((np.arange(1, 201), np.arange(1, 201), np.arange(1, 113))))


def test_a_full_window_and_a_long_clip_are_cut_to_their_end() -> None:
    window = FeatureWindow()
    window.push(numbered(900))
    assert np.array_equal(window.repeat_padded(), numbered(512, 388))
    assert np.array_equal(repeat_padded(numbered(900)), numbered(512, 388))


def test_what_was_given_out_does_not_change_later() -> None:
    window = FeatureWindow()
    window.push(numbered(600))
    before = window.frames()
    window.push(numbered(600, 10_000))
    assert np.array_equal(before, numbered(512, 88))


def test_without_a_frame_there_is_no_window() -> None:
    window = FeatureWindow()
    window.push(numbered(40))
    window.clear()
    assert len(window) == 0
    with pytest.raises(ValueError, match="no frame"):
        window.repeat_padded()
