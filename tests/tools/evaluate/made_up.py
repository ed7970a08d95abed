"""A made-up corpus, and systems that learn it in milliseconds: an honest one, and ones that cheat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.speech_branch import log_softmax
from tools.dataset.clips import Clip
from tools.evaluate.system import CLASSES, Epoch, Material, Outcome
from tools.training.speech_windows import Windows
from tools.training.splits import Split

SPEAKERS: Final = {"03": "male", "08": "female", "09": "female", "10": "male"}
SENTENCES: Final = ("a01", "a02", "a04", "a05", "a07")
FRAMES: Final = 8


def corpus(*, copies: int = 3, separation: float = 2.0) -> Material:
    """140 clips: four speakers with voices of their own say five sentences in seven emotions."""
    generator = np.random.default_rng(0)
    clips, frames = [], []
    emotion_at = separation * generator.standard_normal((len(CLASSES), 34))
    voice = dict(zip(SPEAKERS, generator.standard_normal((len(SPEAKERS), 34)), strict=True))
    for speaker, sentence, emotion in product(SPEAKERS, SENTENCES, CLASSES):
        name = f"{speaker}{sentence}{emotion}"
        clips.append(Clip(name, Path(name), "made-up", speaker, sentence, emotion, SPEAKERS[speaker], f"{name:0>64}"))
        level = emotion_at[emotion.code] + voice[speaker] + 4 * generator.standard_normal(34)
        frames.append(level + 0.1 * generator.standard_normal((2 + copies, FRAMES, 34)))
    every = np.array(frames, np.float16)
    contours = every[:, :, 0, :14].astype(np.float32)
    return Material(
        clips=clips,
        clean=Windows(every[:, :2], contours[:, :2]),
        training=Windows(every[:, 2:], contours[:, 2:]),
        labels=np.array([clip.label for clip in clips], np.int64),
        parents=np.arange(len(clips)),
    )


def features(windows: Windows) -> NDArray[np.float64]:
    """Mean over windows and frames, (n, 34)."""
    return np.asarray(windows.frames.astype(np.float64).mean(axis=(1, 2)), np.float64)


def by_training_side(values: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    """Standardised by the training side, as is right."""
    side = values[split.train]
    return np.asarray((values - side.mean(axis=0)) / side.std(axis=0), np.float64)


def by_everything(values: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    """Standardised by all items, the test side among them."""
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0), np.float64)


def by_components_of_everything(values: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    """A code that was learned without labels from all items, the test side among them."""
    centred = values - values[split.train].mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ components[:8].T, np.float64)


@dataclass
class NearestMean:
    """Softmax of the distances to the classes' means, seen after each of three made-up epochs."""

    name: str = "nearest_mean"
    scale: Callable[[NDArray[np.float64], Split], NDArray[np.float64]] = by_training_side
    digest: str = "1"
    #: Share of right answers after each epoch that the observer claims to have seen, beside the last one's.
    earlier: tuple[float, ...] = (0.2, 0.4)
    answer_of_best_epoch: bool = False

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Learn and answer; the seed adds a little noise."""
        values = self.scale(features(material.clean), split)
        labels = material.labels
        means = [values[split.train][labels[split.train] == label].mean(axis=0) for label in range(len(CLASSES))]
        distance = np.linalg.norm(values[split.test][:, np.newaxis] - np.array(means), axis=2)
        noise = np.random.default_rng(seed).standard_normal((len(labels), len(CLASSES)))[split.test]
        answers = log_softmax((-2 * distance + 0.3 * noise).astype(np.float32))
        right = float((answers.argmax(axis=1) == labels[split.test]).mean())
        shares = (*self.earlier, right)
        epochs = tuple(
            Epoch(i + 1, 2.0 / (i + 1), share, 2.2 / (i + 1), share, share, share, share, 0.1, 0.01)
            for i, share in enumerate(shares)
        )
        if self.answer_of_best_epoch:
            perfect = np.eye(len(CLASSES))[labels[split.test]]
            answers = log_softmax((9 * perfect).astype(np.float32))
        return Outcome(answers, training_s=0.3, test_s=0.03, epochs=epochs, chosen="nothing to choose")


@dataclass
class Memory:
    """Answers the label of the nearest training window: right wherever a copy of the item was learned."""

    name: str = "memory"
    digest: str = "1"

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Learn and answer."""
        values = features(material.clean)
        apart = np.linalg.norm(values[split.test][:, np.newaxis] - values[split.train], axis=2)
        nearest = material.labels[split.train][apart.argmin(axis=1)]
        answers = log_softmax((4 * np.eye(len(CLASSES))[nearest]).astype(np.float32))
        return Outcome(answers, training_s=0.1, test_s=0.1)


def honest(name: str = "nearest_mean") -> NearestMean:
    """An honest system by another name."""
    return replace(NearestMean(), name=name)
