"""How far a sense's evidence can be trusted: the quality scalars of a token, 0..1. Pure.

The fused head is trained on what these functions give, so a change here needs a new bundle.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.face_branch import sharpness
from models.contract import CHANNELS

_F0: Final = CHANNELS.index("f0")
_LOG_ENERGY: Final = CHANNELS.index("log_energy")

#: `level` 0 is this many dB under full scale, or quieter.
_LEVEL_FLOOR_DB: Final = 60.0


def speech_quality(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """(voiced_share, level) of feature frames (k, 34), k ≥ 1; float32 (2,).

    voiced_share: share of frames with an F0. level: mean power in dB of full scale, -60 dB → 0, 0 dB → 1.
    """
    power = float(np.mean(np.exp(frames[:, _LOG_ENERGY].astype(np.float64))))
    level = 1.0 + 10.0 * np.log10(max(power, 1e-12)) / _LEVEL_FLOOR_DB
    return np.array([np.mean(frames[:, _F0] > 0.0), np.clip(level, 0.0, 1.0)], np.float32)


def face_quality(detector_score: float, crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """(detector_score, sharpness) of a grey crop (64, 64), 0..255; float32 (2,)."""
    return np.array([np.clip(detector_score, 0.0, 1.0), sharpness(crop)], np.float32)
