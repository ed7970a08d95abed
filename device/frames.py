"""Value types that carry sound and pictures between capture and features; they live in RAM only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AudioBlock:
    """Some milliseconds of mono sound.

    `samples` is int16, shape (n,); `first_sample` counts from the source's start, so a jump between blocks is a gap;
    `captured_at` is the monotonic second at which the last sample arrived.
    """

    samples: NDArray[np.int16]
    first_sample: int
    captured_at: float


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One picture: uint8, grey (height, width) or RGB (height, width, 3); `captured_at` in monotonic seconds."""

    pixels: NDArray[np.uint8]
    index: int
    captured_at: float
