"""What the box hears of a clip, tick by tick: the tokens that the fused head learns from.

A clip and a pause follow each other until the stream is long enough; every half second the box's own window is cut, so
that start-up windows, full windows and windows across a pause all occur.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.features.nonlinear import contour_features
from device.features.stream import frames_of
from device.features.window import repeat_padded
from device.inference.quality import speech_quality
from models.contract import (
    CHANNELS,
    CONTOUR_FEATURES,
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    SPEECH_QUALITY,
    TICKS_PER_SECOND,
    WINDOW_FRAMES,
    feature_set_digest,
)
from tools.dataset.clips import Clip, read_samples, set_digest
from tools.training.augment import add_noise, add_pause

TICKS: Final = 16
FRAMES_PER_TICK: Final = SAMPLE_RATE_HZ // HOP_SAMPLES // TICKS_PER_SECOND
FIRST_FRAME: Final = 100
FRAMES: Final = FIRST_FRAME + FRAMES_PER_TICK * (TICKS - 1)
PAUSE_S: Final = 0.5
SNR_DB: Final = 30.0


@dataclass(frozen=True, eq=False)
class Streams:
    """`frames` float16 (clips, 850, 34); at each of 16 ticks `contours` (…, 14) and `quality` (…, 2), float32."""

    frames: NDArray[np.float16]
    contours: NDArray[np.float32]
    quality: NDArray[np.float32]

    def windows(self, row: int) -> NDArray[np.float32]:
        """The feature windows of one clip's ticks, float32 (16, 512, 34)."""
        frames = self.frames[row].astype(np.float32)
        return np.stack([repeat_padded(frames[:end]) for end in tick_ends()])


def tick_ends() -> range:
    """Number of frames heard at each tick."""
    return range(FIRST_FRAME, FRAMES + 1, FRAMES_PER_TICK)


def streams(clips: Sequence[Clip], cache: Path) -> Streams:
    """Streams of all clips, computed once."""
    key = f"{set_digest(clips)} {feature_set_digest()}".encode() + Path(__file__).read_bytes()
    file = cache / f"streams-{hashlib.sha256(key).hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as stored:
            return Streams(stored["frames"], stored["contours"], stored["quality"])
    result = _compute(clips)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, frames=result.frames, contours=result.contours, quality=result.quality)
    unfinished.rename(file)
    return result


def _compute(clips: Sequence[Clip]) -> Streams:
    frames = np.empty((len(clips), FRAMES, len(CHANNELS)), np.float16)
    contours = np.empty((len(clips), TICKS, len(CONTOUR_FEATURES)), np.float32)
    quality = np.empty((len(clips), TICKS, len(SPEECH_QUALITY)), np.float32)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = pool.map(_of_clip, clips, chunksize=8)
        for row, one in enumerate(tqdm(results, total=len(clips), desc="streams", unit="clip")):
            frames[row], contours[row], quality[row] = one.frames, one.contours, one.quality
    return Streams(frames, contours, quality)


def _of_clip(clip: Clip) -> Streams:
    """The stream of one clip, without the clips' axis."""
    heard = _heard(clip)
    return Streams(
        heard.astype(np.float16),
        np.array([contour_features(repeat_padded(heard[:end])) for end in tick_ends()], np.float32),
        np.array([speech_quality(heard[max(0, end - WINDOW_FRAMES) : end]) for end in tick_ends()], np.float32),
    )


def _heard(clip: Clip) -> NDArray[np.float32]:
    spoken = add_pause(read_samples(clip).astype(np.float64), 0.0, PAUSE_S)
    needed = FRAMES * HOP_SAMPLES + SAMPLE_RATE_HZ
    generator = np.random.default_rng(zlib.crc32(clip.name.encode()))
    noisy = add_noise(np.resize(spoken, needed), SNR_DB, generator)
    return frames_of(np.clip(np.rint(noisy), -32768, 32767).astype(np.int16), SAMPLE_RATE_HZ)[:FRAMES]
