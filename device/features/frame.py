"""Framing: overlapping frames of a sample row, and the window family that tapers them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.contract import FRAME_SAMPLES, HOP_SAMPLES

Floats = npt.NDArray[np.float64]

#: α of the window family: 0.46 is Hamming's window, 0.5 Hann's, 0 the rectangle.
WINDOW_ALPHA: Final = 0.46
#: Full scale of 16-bit PCM: samples divided by it lie in -1..1.
FULL_SCALE: Final = 32768.0


def taper(length: int, alpha: float = WINDOW_ALPHA) -> Floats:
    """Window of the Hamming family, shape (length,), no unit.

    w[n] = (1 - α) - α·cos(2πn / (length - 1)) for n = 0..length - 1 (the source paper's Eq. 1-2; Hamming: α = 0.46).
    """
    window: Floats = (1.0 - alpha) - alpha * np.cos(2.0 * np.pi * np.arange(length) / (length - 1))
    return window


def frame_count(samples: int) -> int:
    """How many whole frames `samples` 16 kHz samples hold: frame k covers samples 160·k to 160·k + 399."""
    return max(0, (samples - FRAME_SAMPLES) // HOP_SAMPLES + 1)


def windowed(samples: Floats, length: int, hop: int, count: int) -> Floats:
    """View of `count` overlapping pieces, shape (count, length); piece k starts at sample hop·k."""
    # Ten times cheaper than numpy's sliding_window_view, which matters every 10 ms.
    assert samples.flags.c_contiguous and hop * (count - 1) + length <= len(samples)
    step = samples.itemsize
    return np.ndarray((count, length), samples.dtype, samples, strides=(hop * step, step))


def running_sums(values: Floats) -> Floats:
    """Sums of the first 0, 1, … n values, shape (n + 1,); exact for whole numbers while they stay below 2^53."""
    sums = np.empty(len(values) + 1)
    sums[0] = 0.0
    np.cumsum(values, out=sums[1:])
    return sums


def sums_over(values: Floats, length: int, hop: int, count: int) -> Floats:
    """Sums of `count` overlapping pieces, shape (count,); piece k is values[hop·k : hop·k + length]."""
    sums = running_sums(values)
    last = hop * (count - 1) + 1
    return sums[length : length + last : hop] - sums[:last:hop]
