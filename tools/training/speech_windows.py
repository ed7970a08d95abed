"""Clips to feature windows: clean ones to test on, augmented ones to train on. Computed once and cached.

Every augmented copy is made from its own clip alone (seeded by the clip's name), so that a copy can never carry
anything of a test clip to the training side.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.features.nonlinear import contour_features
from device.features.stream import frames_of
from device.features.window import repeat_padded
from models.contract import (
    CHANNELS,
    CONTOUR_FEATURES,
    SAMPLE_RATE_HZ,
    WINDOW_FRAMES,
    feature_set_digest,
)
from tools.dataset.clips import Clip, read_samples, set_digest
from tools.training.augment import random_copy

#: Windows of a clip on the test side: its first and its last 5.12 s (the same ones for a clip that is shorter).
TEST_WINDOWS: Final = 2


@dataclass(frozen=True, eq=False)
class Windows:
    """Raw feature windows: `frames` (clips, windows, 512, 34), float16, and `contours` (clips, windows, 14), float32.

    Row i belongs to clip i, whatever the number of windows.
    """

    frames: NDArray[np.float16]
    contours: NDArray[np.float32]


def clean_windows(clips: Sequence[Clip], cache: Path) -> Windows:
    """The clean windows of every clip."""
    return _cached(clips, cache, TEST_WINDOWS, augmented=False)


def training_windows(clips: Sequence[Clip], cache: Path, copies: int) -> Windows:
    """Window 0 of every clip is clean, the others are augmented; all are repeated from a random phase on."""
    return _cached(clips, cache, copies, augmented=True)


def _cached(clips: Sequence[Clip], cache: Path, count: int, *, augmented: bool) -> Windows:
    """Cached by everything that fixes the values: the clips, the feature set and the code of this file and augment."""
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in ("augment.py", Path(__file__).name))
    key = f"{set_digest(clips)} {feature_set_digest()} {count} {augmented}".encode()
    file = cache / f"windows-{hashlib.sha256(key + code).hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as stored:
            return Windows(stored["frames"], stored["contours"])
    windows = _compute(clips, count, augmented=augmented)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, frames=windows.frames, contours=windows.contours)
    unfinished.rename(file)
    return windows


def _compute(clips: Sequence[Clip], count: int, *, augmented: bool) -> Windows:
    frames = np.empty((len(clips), count, WINDOW_FRAMES, len(CHANNELS)), np.float16)
    contours = np.empty((len(clips), count, len(CONTOUR_FEATURES)), np.float32)
    # Fresh processes, not forks: TensorFlow's threads do not survive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = pool.map(partial(_of_clip, count=count, augmented=augmented), clips, chunksize=8)
        what = "training windows" if augmented else "test windows"
        for row, windows in enumerate(tqdm(results, total=len(clips), desc=what, unit="clip")):
            frames[row], contours[row] = windows.frames, windows.contours
    return Windows(frames, contours)


def _of_clip(clip: Clip, count: int, *, augmented: bool) -> Windows:
    """The windows of one clip, without the clips' axis."""
    samples = read_samples(clip)
    windows = _augmented(clip.name, samples, count) if augmented else test_windows(samples)
    return Windows(np.array(windows, np.float16), np.array([contour_features(w) for w in windows], np.float32))


def test_windows(samples: NDArray[np.int16]) -> list[NDArray[np.float32]]:
    """The two windows that a clip is tested on, (512, 34) each."""
    frames = frames_of(samples, SAMPLE_RATE_HZ)
    return [repeat_padded(frames[:WINDOW_FRAMES]), repeat_padded(frames)]


def _augmented(name: str, samples: NDArray[np.int16], count: int) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    windows = []
    for copy in range(count):
        changed = random_copy(samples, generator) if copy else samples
        windows.append(random_phase(frames_of(changed, SAMPLE_RATE_HZ), generator))
    return windows


def random_phase(frames: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """512 frames that start anywhere in the clip and go round; from a longer clip, 512 frames in a row."""
    if len(frames) > WINDOW_FRAMES:
        start = int(generator.integers(len(frames) - WINDOW_FRAMES + 1))
        return frames[start : start + WINDOW_FRAMES]
    return repeat_padded(np.roll(frames, -int(generator.integers(len(frames))), axis=0))
