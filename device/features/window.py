"""The branch's view of the recent past: the last 512 feature frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.contract import CHANNELS, WINDOW_FRAMES

Frames = npt.NDArray[np.float32]


def repeat_padded(frames: Frames) -> Frames:
    """Fill a window, float32 (512, 34), with the last 512 of (k, 34) frames, k ≥ 1, repeated from the first if fewer.

    Repeated, not padded with zeros: half a window of made-up silence would drown a short clip.
    """
    if not len(frames):
        raise ValueError("There is no frame to fill a window with.")
    return np.resize(frames[-WINDOW_FRAMES:], (WINDOW_FRAMES, frames.shape[1]))


class FeatureWindow:
    """Ring of the last 512 feature frames; its memory is taken once."""

    def __init__(self) -> None:
        # Every frame is written twice, 512 rows apart, so that the last 512 always stand together.
        self._rows = np.zeros((2 * WINDOW_FRAMES, len(CHANNELS)), np.float32)
        self._count = 0

    def __len__(self) -> int:
        """Frames held, 0..512."""
        return min(self._count, WINDOW_FRAMES)

    @property
    def is_full(self) -> bool:
        """Whether 5.12 s have been heard."""
        return self._count >= WINDOW_FRAMES

    def push(self, frames: Frames) -> None:
        """Add (k, 34) frames, oldest first; the oldest held ones make room."""
        kept = frames[-WINDOW_FRAMES:]
        places = (self._count + len(frames) - len(kept) + np.arange(len(kept))) % WINDOW_FRAMES
        self._rows[places] = kept
        self._rows[places + WINDOW_FRAMES] = kept
        self._count += len(frames)

    def frames(self) -> Frames:
        """Copy of the frames held, oldest first: float32 (len(self), 34)."""
        start = self._count % WINDOW_FRAMES if self.is_full else 0
        return self._rows[start : start + len(self)].copy()

    def repeat_padded(self) -> Frames:
        """The window as the branch takes it, float32 (512, 34); see the function of this name.

        Raise `ValueError` while no frame is held.
        """
        return repeat_padded(self.frames())

    def clear(self) -> None:
        """Forget all frames."""
        self._count = 0
