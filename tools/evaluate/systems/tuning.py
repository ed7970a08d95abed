"""The same tuning budget for every system: three configurations, chosen on an inner split of the training side.

The choice is made once for a training side, with seed 0, and serves all seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold

from tools.evaluate.system import Material
from tools.training.scores import fit_temperature
from tools.training.splits import Split

#: A split by speaker is divided by speaker inside, too, from this many training speakers on.
LEAST_SPEAKERS: Final = 4
#: One training speaker in so many, or one training item in so many, is held out by the inner split.
SPEAKERS_TO_ONE: Final = 3
ITEMS_TO_ONE: Final = 5
#: Networks choose with this share of their epochs.
SHARE_OF_EPOCHS: Final = 1 / 3
_SEED: Final = 0


class Tunable(Protocol):
    """A system whose configurations can be tried."""

    @property
    def digest(self) -> str:
        """Short name of code and configuration."""

    @property
    def configurations(self) -> Sequence[str]:
        """What the three are called, in order."""

    def tried(self, material: Material, inner: Split, number: int, seed: int) -> NDArray[np.float32]:
        """Scores (n, 7) of `inner.test` after learning `inner.train` by configuration `number`."""


@dataclass(frozen=True)
class Choice:
    """Which configuration, its macro recall on the inner split beside the others' (0..1), and the temperature that
    makes honest probabilities of its scores there."""

    number: int
    recalls: tuple[float, ...]
    temperature: float


_CHOICES: dict[tuple[str, str], Choice] = {}


def choose(system: Tunable, material: Material, split: Split) -> Choice:
    """The configuration of the greatest inner macro recall; of equals the first."""
    inner = inner_split(material, split)
    key = (system.digest, _side_digest(material, inner))
    if key not in _CHOICES:
        labels = material.labels[inner.test]
        tried = [system.tried(material, inner, number, _SEED) for number in range(len(system.configurations))]
        recalls = tuple(macro_recall(scores.argmax(axis=1), labels) for scores in tried)
        number = int(np.argmax(recalls))
        _CHOICES[key] = Choice(number, recalls, fit_temperature(tried[number], labels))
    return _CHOICES[key]


def inner_split(material: Material, split: Split) -> Split:
    """The training side in two: whole speakers are held out if the split is by speaker, else a stratified fifth.

    Only who stands on the test side is looked at, none of its sound and no label.
    """
    rows = np.sort(split.train)
    speakers = np.array([material.clips[row].speaker for row in rows])
    everyone = np.unique(speakers)
    by_speaker = not np.isin(everyone, [material.clips[row].speaker for row in split.test]).any()
    if by_speaker and len(everyone) >= LEAST_SPEAKERS:
        order = np.random.default_rng(_SEED).permutation(everyone)
        held_out = np.isin(speakers, order[: len(everyone) // SPEAKERS_TO_ONE])
        return Split(f"{split.name}-inner", rows[~held_out], rows[held_out])
    folds = StratifiedKFold(ITEMS_TO_ONE, shuffle=True, random_state=_SEED)
    train, test = next(iter(folds.split(rows, material.labels[rows])))
    return Split(f"{split.name}-inner", rows[train], rows[test])


def _side_digest(material: Material, inner: Split) -> str:
    """SHA-256 of everything on the training side that tells it from others: names, labels, contours and their order."""
    found = hashlib.sha256()
    for rows in (inner.train, inner.test):
        found.update("\n".join(material.clips[row].name for row in rows).encode() + b"\0")
        found.update(material.labels[rows].tobytes() + material.clean.contours[rows].tobytes())
    return found.hexdigest()


def macro_recall(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur, 0..1."""
    occurring = np.unique(labels)
    return float(recall_score(labels, predicted, labels=occurring, average="macro", zero_division=0))


def code_digest(description: str, *files: str) -> str:
    """Short hash of a system's configuration and of the code that carries it out, this file included."""
    code = b"".join(Path(file).read_bytes() for file in (*files, __file__))
    return hashlib.sha256(description.encode() + code).hexdigest()[:12]
