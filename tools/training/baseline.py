"""Functionals of the channels and contours that the speech branch sees, for the machines that it is held against."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.training.speech_windows import Windows

PERCENTILES: Final = (5, 25, 50, 75, 95)


def functionals(windows: Windows) -> NDArray[np.float64]:
    """Of each clip's first window, (clips, 286): mean, deviation, five percentiles and mean |step| of the 34 channels,
    and the 14 contour features."""
    frames = windows.frames[:, 0].astype(np.float64)
    percentiles = np.percentile(frames, PERCENTILES, axis=1).transpose(1, 0, 2).reshape(len(frames), -1)
    steps = np.abs(np.diff(frames, axis=1)).mean(axis=1)
    kinds = [frames.mean(axis=1), frames.std(axis=1), percentiles, steps, windows.contours[:, 0]]
    return np.concatenate(kinds, axis=1)
