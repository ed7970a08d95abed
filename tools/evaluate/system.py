"""What a system is to the evaluation: it learns from the training side of a split and answers the test side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.labels import EMOTIONS, Emotion
from tools.dataset.clips import Clip
from tools.training.speech_windows import Windows
from tools.training.splits import Split

#: EMO-DB's classes, in the vocabulary's order: it has no surprise.
CLASSES: Final = tuple(emotion for emotion in EMOTIONS if emotion is not Emotion.SURPRISE)


@dataclass(frozen=True, eq=False)
class Material:
    """The same clips, windows and labels for every system; row i of each belongs to item i.

    `clean` (n, 2, 512, 34): an item's first and last 5.12 s, for testing. `training` (n, copies, 512, 34): copy 0 is
    clean, the others are augmented from the item alone. `labels` (n,) are positions in CLASSES. `parents` (n,)
    names the recording that an item was made from: in the leaky rung several items have one parent, else none.
    """

    clips: Sequence[Clip]
    clean: Windows
    training: Windows
    labels: NDArray[np.int64]
    parents: NDArray[np.int64]
    #: The windows are in deviations from the mean of each speaker already (enrolment).
    standardised: bool = False


@dataclass(frozen=True)
class Epoch:
    """One epoch of a network's training, seen by an observer who changes nothing (all shares 0..1)."""

    number: int
    training_loss: float
    training_accuracy: float
    test_loss: float
    test_accuracy: float
    test_uar: float
    test_precision: float
    test_f1: float
    training_s: float
    test_s: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """Natural log-probabilities of the test items, float32 (len(split.test), 7), in CLASSES'
    order, and the seconds that training and testing took."""

    log_probabilities: NDArray[np.float32]
    training_s: float
    test_s: float
    epochs: tuple[Epoch, ...] = field(default=())
    #: The configuration that the inner split chose, for the record.
    chosen: str = ""


class System(Protocol):
    """One row of the tables."""

    name: str

    # A system that needs more than the material, other corpora say, also has
    # `prepare(data: Path, build: Path, of_each: int | None)`, which is called once before its first run.

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Learn from `split.train`, answer `split.test`. Nothing of the test items may be used, not even unlabelled,
        unless the system's name says so."""
