"""Sources whose content and failures a test scripts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device.errors import CaptureError, CaptureReason
from device.frames import AudioBlock, VideoFrame


def tone(seconds: float, *, hertz: float = 140.0, amplitude: float = 0.3, rate: int = 16_000) -> NDArray[np.int16]:
    """A voiced-like sound, int16: a saw tooth, which has a pitch and many harmonics."""
    phase = (np.arange(round(seconds * rate)) * hertz / rate) % 1.0
    return np.asarray((2.0 * phase - 1.0) * amplitude * 32_767, np.int16)


def gone(reason: CaptureReason = CaptureReason.UNPLUGGED) -> CaptureError:
    """The failure of a scripted source."""
    return CaptureError(reason, "Scripted source: gone.", next_step="Plug it in.")


class FakeAudio:
    """An AudioSource: `put` what the next `read` gives; set `failure` to make `start` and `read` raise it."""

    def __init__(self, sample_rate_hz: int = 16_000) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.overflows = 0
        self.failure: CaptureError | None = None
        self.starts = 0
        self.stops = 0
        self._position = 0
        self._waiting: list[AudioBlock] = []

    def put(self, samples: NDArray[np.int16], at: float, *, skip: int = 0) -> None:
        """Sound that arrives at a monotonic second, in blocks of 20 ms, after `skip` lost samples."""
        self._position += skip
        size = self.sample_rate_hz // 50
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            self._waiting.append(AudioBlock(part, self._position, at))
            self._position += len(part)

    def start(self) -> None:
        self.starts += 1
        self._waiting.clear()
        if self.failure is not None:
            raise self.failure

    def read(self) -> list[AudioBlock]:
        if self.failure is not None:
            raise self.failure
        waiting, self._waiting = self._waiting, []
        return waiting

    def stop(self) -> None:
        self.stops += 1


class FakeVideo:
    """A VideoSource, scripted like FakeAudio."""

    def __init__(self) -> None:
        self.overflows = 0
        self.failure: CaptureError | None = None
        self.starts = 0
        self.stops = 0
        self._index = 0
        self._waiting: list[VideoFrame] = []

    def put(self, pixels: NDArray[np.uint8], at: float) -> None:
        """A picture that is taken at a monotonic second."""
        self._waiting.append(VideoFrame(pixels, self._index, at))
        self._index += 1

    def start(self) -> None:
        self.starts += 1
        self._waiting.clear()
        if self.failure is not None:
            raise self.failure

    def read(self) -> list[VideoFrame]:
        if self.failure is not None:
            raise self.failure
        waiting, self._waiting = self._waiting, []
        return waiting

    def stop(self) -> None:
        self.stops += 1
