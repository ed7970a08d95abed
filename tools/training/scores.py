"""Figures with their 95 % intervals, and the temperature that makes confidences honest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device.inference.speech_branch import log_softmax

RESAMPLES: Final = 2000
_Z: Final = 1.959964

Labels = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def accuracy(predicted: Labels, labels: Labels) -> Figure:
    """Share of right answers (WA), with Wilson's score interval (Wilson 1927)."""
    right, count = int((predicted == labels).sum()), len(labels)
    share = right / count
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return Figure(share, centre - half, centre + half)


def macro_recall(predicted: Labels, labels: Labels, *, seed: int = 0) -> Figure:
    """Mean recall over the classes that occur (UAR), interval by the percentile bootstrap over items."""
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in classes]
    right = [(predicted[rows] == label).astype(np.float64) for label, rows in zip(classes, members, strict=True)]
    generator = np.random.default_rng(seed)
    draws = np.mean([generator.choice(hits, (RESAMPLES, len(hits))).mean(axis=1) for hits in right], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(float(np.mean([hits.mean() for hits in right])), float(low), float(high))


def confusion(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """Counts, rows true, columns predicted."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def negative_log_likelihood(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Mean -log p of the true class, in nats."""
    return float(-log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def calibration_error(logits: Logits, labels: Labels, temperature: float = 1.0, *, bins: int = 10) -> float:
    """Expected calibration error with bins of equal numbers of items (Nixon et al. 2019, adaptive ECE)."""
    probabilities = np.exp(log_softmax(logits, temperature))
    return confidence_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins=bins)


def confidence_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """As `calibration_error`, from each answer's confidence (n,) and whether it is right (n,)."""
    order = np.argsort(confidence)
    sizes = [len(rows) for rows in np.array_split(order, min(bins, len(order)))]
    starts = np.cumsum([0, *sizes[:-1]])
    gaps = np.add.reduceat(confidence[order].astype(np.float64) - right[order], starts)
    return float(np.abs(gaps).sum() / len(order))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017), by a search over 0.2 to 8."""
    candidates = np.geomspace(0.2, 8.0, 150)
    losses = [negative_log_likelihood(logits, labels, float(t)) for t in candidates]
    return round(float(candidates[int(np.argmin(losses))]), 4)
