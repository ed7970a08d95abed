"""Trains the speech branch and measures it on speakers that it has not heard.

`measure` runs a recipe over splits and keeps each fold's result in a file, so that an interrupted run goes on where it
stopped. The shipped branch is trained by the same recipe on all speakers (`train_shipped`): no held-out figure exists
for that very file, the figure of record is the recipe's leave-one-speaker-out one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from device.inference.speech_branch import normalise_contours, normalise_frames
from models.contract import SPEECH, SPEECH_CLASSES
from models.networks import speech
from tools.training import correction
from tools.training.convert import Batch
from tools.training.emodb import Clip
from tools.training.speech_windows import Windows

LIMIT: Final = 5.0
REPRESENTATIVE: Final = 300


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a training run beside the clips. No epoch is chosen by looking at the test side."""

    shape: speech.SpeechShape = field(default_factory=speech.SpeechShape)
    copies: int = 12
    epochs: int = 60
    batch: int = 32
    learning_rate: float = 2e-3
    l2: float = 1e-4
    label_smoothing: float = 0.1
    clean_share: float = 0.25
    weight_average: float = 0.99
    seed: int = 0

    def digest(self) -> str:
        """Short name of this recipe and of the code that carries it out, for files."""
        code = b"".join(Path(file).read_bytes() for file in (speech.__file__, correction.__file__, __file__))
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode() + code).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Clips with their windows; row i of all three belongs together."""

    clips: Sequence[Clip]
    clean: Windows
    training: Windows

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class positions, (clips,)."""
        return np.array([clip.label for clip in self.clips], np.int64)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of clean clips, mean over a clip's windows: embeddings (n, 64), logits (n, 7)."""

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32]


def fit_constants(windows: Windows, rows: NDArray[np.int64], temperature: float = 1.0) -> SpeechConstants:
    """Normalisation from the windows of the training clips alone; classes are weighted to be equally likely."""
    frames = windows.frames[rows].reshape(-1, windows.frames.shape[-1]).astype(np.float64)
    contours = windows.contours[rows].reshape(-1, windows.contours.shape[-1]).astype(np.float64)
    return SpeechConstants(
        channel_mean=_numbers(frames.mean(axis=0)),
        channel_scale=_numbers(frames.std(axis=0) + 1e-6),
        contour_mean=_numbers(contours.mean(axis=0)),
        contour_scale=_numbers(contours.std(axis=0) + 1e-6),
        limit=LIMIT,
        temperature=temperature,
        prior=(1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES),
    )


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


class _Batches(tf.keras.utils.Sequence):  # type: ignore[misc]
    """One random copy of every training clip an epoch."""

    def __init__(self, corpus: Corpus, rows: NDArray[np.int64], constants: SpeechConstants, recipe: Recipe) -> None:
        super().__init__()
        self._windows = corpus.training
        self._labels = corpus.labels
        self._rows = rows
        self._constants = constants
        self._recipe = recipe
        self._generator = np.random.default_rng(recipe.seed)
        self._order = self._generator.permutation(rows)
        counts = np.bincount(self._labels[rows], minlength=len(SPEECH_CLASSES))
        self._weight = len(rows) / (len(SPEECH_CLASSES) * np.maximum(counts, 1))

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._recipe.batch)

    def on_epoch_end(self) -> None:
        self._order = self._generator.permutation(self._rows)

    def __getitem__(
        self, index: int
    ) -> tuple[dict[str, NDArray[np.float32]], tuple[NDArray[np.float32], ...], tuple[NDArray[np.float32], ...]]:
        rows = self._order[index * self._recipe.batch : (index + 1) * self._recipe.batch]
        copies = self._generator.integers(1, self._recipe.copies, len(rows))
        copies[self._generator.random(len(rows)) < self._recipe.clean_share] = 0
        frames = normalise_frames(self._windows.frames[rows, copies].astype(np.float32), self._constants)
        contours = normalise_contours(self._windows.contours[rows, copies], self._constants)
        targets = np.eye(len(SPEECH_CLASSES), dtype=np.float32)[self._labels[rows]]
        weights = self._weight[self._labels[rows]].astype(np.float32)
        return {"frames": frames, "contours": contours}, (targets, targets), (weights, weights)


def train(corpus: Corpus, rows: NDArray[np.int64], constants: SpeechConstants, recipe: Recipe) -> tf.keras.Model:
    """The branch after a fixed number of epochs, its weights averaged over the last steps."""
    tf.keras.utils.set_random_seed(recipe.seed)
    network = speech.build(recipe.shape, l2=recipe.l2)
    batches = _Batches(corpus, rows, constants, recipe)
    schedule = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * len(batches), alpha=0.02)
    trainable = speech.experts_of(network)
    optimizer = tf.keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=recipe.weight_average)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    trainable.compile(optimizer, [loss, loss])
    trainable.fit(batches, epochs=recipe.epochs, verbose=0)
    optimizer.finalize_variable_values(trainable.trainable_variables)
    return network


def predict(
    network: tf.keras.Model, windows: Windows, rows: NDArray[np.int64], constants: SpeechConstants
) -> Prediction:
    """Float32 outputs, averaged over the windows of each clip."""
    count = windows.frames.shape[1]
    frames = normalise_frames(windows.frames[rows].astype(np.float32), constants).reshape(-1, *windows.frames.shape[2:])
    contours = normalise_contours(windows.contours[rows], constants).reshape(-1, windows.contours.shape[-1])
    embeddings, logits = network.predict([frames, contours], batch_size=64, verbose=0)
    return Prediction(
        embeddings.reshape(len(rows), count, -1).mean(axis=1), logits.reshape(len(rows), count, -1).mean(axis=1)
    )


def representative(corpus: Corpus, rows: NDArray[np.int64], constants: SpeechConstants, seed: int) -> list[Batch]:
    """Training windows, augmented ones among them, that tell the converter the ranges."""
    generator = np.random.default_rng(seed)
    batches: list[Batch] = []
    for row in generator.choice(rows, min(REPRESENTATIVE, len(rows)), replace=False):
        copy = int(generator.integers(corpus.training.frames.shape[1]))
        frames = corpus.training.frames[row, copy].astype(np.float32)
        batches.append(
            {
                "frames": normalise_frames(frames, constants)[np.newaxis],
                "contours": normalise_contours(corpus.training.contours[row, copy], constants)[np.newaxis],
            }
        )
    return batches


def to_int8(
    corpus: Corpus, rows: NDArray[np.int64], network: tf.keras.Model, constants: SpeechConstants, seed: int
) -> bytes:
    """The branch as a full int8 file, its ranges and its bias correction from the training clips `rows`."""
    batches = representative(corpus, rows, constants, seed)
    return correction.to_int8_corrected(network, SPEECH, batches, "statistics_logits")
