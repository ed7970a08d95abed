"""Figures that every branch is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Standard normal quantile of a 95 % interval.
_Z: Final = 1.959964


@dataclass(frozen=True)
class Proportion:
    """So many of so many, with the 95 % interval of Wilson 1927 (JASA 22, 209-212)."""

    hits: int
    of: int
    value: float
    low: float
    high: float


def proportion(hits: int, of: int) -> Proportion:
    """Raises ValueError when there is nothing to count."""
    if of <= 0:
        raise ValueError("a proportion of nothing")
    share, z2 = hits / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return Proportion(hits, of, share, max(0.0, middle - half), min(1.0, middle + half))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural log-probabilities along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def fitted_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017, section 4), to about 1 %."""
    candidates = np.geomspace(0.2, 5.0, 321)
    rows = np.arange(len(labels))
    losses = [-log_softmax(logits / np.float32(t))[rows, labels].mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def calibration_error(log_probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error over `bins` equal bins of confidence (Guo et al. 2017, equation 5)."""
    confidence = np.exp(log_probabilities.max(axis=1))
    right = log_probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = [abs(confidence[place == b].sum() - right[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))
