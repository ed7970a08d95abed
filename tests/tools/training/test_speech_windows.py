"""Windows of the training and of the test side, from real clips."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from device.features.stream import frames_of
from device.features.window import repeat_padded
from models.contract import SAMPLE_RATE_HZ, WINDOW_FRAMES
from tools.dataset.clips import Clip, read_samples
from tools.dataset.corpora import emodb
from tools.training.speech_stream import FIRST_FRAME, TICKS, streams
from tools.training.speech_windows import clean_windows, training_windows

SOUNDS: Final = Path(__file__).parents[2] / "clips"


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    folder = tmp_path / "emodb" / "wav"
    folder.mkdir(parents=True)
    for name in ("03a02Wc.wav", "14a02Nc.wav"):
        shutil.copy(SOUNDS / name, folder)
    return emodb.load(tmp_path, complete=False)


def test_test_side_is_never_augmented(clips: list[Clip], tmp_path: Path) -> None:
    windows = clean_windows(clips, tmp_path / "cache")
    for row, clip in enumerate(clips):
        frames = frames_of(read_samples(clip), SAMPLE_RATE_HZ)
        np.testing.assert_array_equal(windows.frames[row, 0], repeat_padded(frames[:WINDOW_FRAMES]).astype(np.float16))


def test_copies_come_from_their_own_clip_alone(clips: list[Clip], tmp_path: Path) -> None:
    """The same copies, whether the other speaker's clip is in the set or not."""
    together = training_windows(clips, tmp_path / "cache", 3)
    alone = training_windows(clips[1:], tmp_path / "cache", 3)
    np.testing.assert_array_equal(together.frames[1], alone.frames[0])
    assert (together.frames[1, 1] != together.frames[1, 2]).any()


def test_cache_is_not_used_for_another_set(clips: list[Clip], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    clean_windows(clips, cache)
    clean_windows(clips[:1], cache)
    clean_windows(clips, cache)
    assert len(list(cache.iterdir())) == 2


def test_streams_are_what_the_box_hears(clips: list[Clip], tmp_path: Path) -> None:
    heard = streams(clips, tmp_path / "cache")
    windows = heard.windows(0)
    assert windows.shape[:2] == (TICKS, WINDOW_FRAMES)
    np.testing.assert_array_equal(windows[0], repeat_padded(heard.frames[0, :FIRST_FRAME].astype(np.float32)))
    assert (heard.quality[..., 0] > 0.1).all()
    assert np.isfinite(heard.contours).all()
