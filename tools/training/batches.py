"""Draws training windows: so many of each corpus a step, rarer classes more often, mostly augmented copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract import SPEECH_CLASSES
from tools.training.recipes import Steps


@dataclass(frozen=True, eq=False)
class Part:
    """What one corpus gives to a step: `labels` (clips,), how many training windows each clip has, how many to draw."""

    labels: NDArray[np.int64]
    windows: int
    count: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """Of each part, positions of clips and of their windows, (count,) each."""

    clips: list[NDArray[np.int64]]
    windows: list[NDArray[np.int64]]


class Draw:
    """A stream of draws from a generator of its own."""

    def __init__(self, parts: Sequence[Part], recipe: Steps, seed: int) -> None:
        self._parts = parts
        self._recipe = recipe
        self._generator = np.random.default_rng(seed)
        self._chances = [_chances(part.labels, recipe.balance) for part in parts]

    def next(self) -> Drawn:
        """The next step's windows. Window 0 of a clip is the clean one."""
        clips, windows = [], []
        for part, chances in zip(self._parts, self._chances, strict=True):
            clips.append(self._generator.choice(len(part.labels), part.count, p=chances))
            window = self._generator.integers(min(1, part.windows - 1), part.windows, part.count)
            window[self._generator.random(part.count) < self._recipe.clean_share] = 0
            windows.append(window)
        return Drawn(clips, windows)


def _chances(labels: NDArray[np.int64], balance: float) -> NDArray[np.float64]:
    weights = np.bincount(labels)[labels] ** -balance
    return np.asarray(weights / weights.sum(), np.float64)


def targets(labels: NDArray[np.int64], smoothing: float) -> NDArray[np.float32]:
    """One-hot rows (n, 8), smoothed (Szegedy et al. 2016)."""
    classes = len(SPEECH_CLASSES)
    return np.asarray(np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes, np.float32)
