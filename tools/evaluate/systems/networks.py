"""The networks of models/networks/baselines.py as systems, each by our recipe and by the paper's.

Every training runs a fixed number of epochs and answers with the weights of the last one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from device.inference.constants import SpeechConstants
from device.inference.speech_branch import log_softmax, normalise_frames
from models.networks import baselines
from models.networks.baselines import NETWORKS, BaselineShape
from tools.evaluate.system import CLASSES, Epoch, Material, Outcome
from tools.evaluate.systems.tuning import SHARE_OF_EPOCHS, choose, code_digest, inner_split
from tools.training import scores, speech
from tools.training.speech import fit_constants, of_rows
from tools.training.splits import Split

PAPER: Final = "_paper"
#: Where the cosine schedule ends, as a share of the first learning rate.
_LAST_RATE: Final = 0.02


@dataclass(frozen=True)
class Recipe:
    """Our recipe, as in tools/training/speech.py: one random copy of each clip an epoch (clean with `clean_share`),
    cosine schedule, label smoothing, averaged weights, classes weighted to count alike."""

    epochs: int = 25
    batch: int = 32
    learning_rate: float = 1e-3
    cosine: bool = True
    label_smoothing: float = 0.1
    #: Momentum of the moving average of the weights; None: the last weights themselves.
    weight_average: float | None = 0.97
    class_weights: bool = True
    clean_share: float = 0.25
    shape: BaselineShape = field(default_factory=BaselineShape)

    def __str__(self) -> str:
        return f"learning_rate={self.learning_rate:g} dropout={self.shape.dropout:g} epochs={self.epochs}"


#: The paper's configuration: Adam from 1e-4 on, batches of 32, plain cross-entropy, no augmentation.
PAPER_RECIPE: Final = Recipe(
    learning_rate=1e-4,
    cosine=False,
    label_smoothing=0.0,
    weight_average=None,
    class_weights=False,
    clean_share=1.0,
)
RATES: Final = (1e-3, 3e-3, 1e-2)
DROPOUTS: Final = (0.1, 0.3, 0.5)
#: What fits into about 15 s of one thread: an epoch of the CNN takes less than half as long as one of the BiLSTM.
EPOCHS: Final = {"cnn": 40, "bilstm": 20, "cnn_bilstm": 20, "cnn_bilstm_attention": 20}


@dataclass
class NetworkSystem:
    """A network with the recipes that the inner split chooses from; a single recipe needs no choice.

    With `record_epochs`, an observer answers the test items after every epoch, with the weights that would be the
    answer if training ended there; the outcome is the same to the last bit.
    """

    name: str
    kind: str
    recipes: tuple[Recipe, ...]
    record_epochs: bool = False

    @property
    def digest(self) -> str:
        """Short hash of code and configuration."""
        files = (__file__, baselines.__file__, speech.__file__)
        return code_digest(f"{self.name} {self.kind} {self.recipes!r}", *files)

    @property
    def configurations(self) -> tuple[str, ...]:
        """What the recipes are called."""
        return tuple(str(recipe) for recipe in self.recipes)

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Choose on an inner split, learn `split.train`, answer `split.test`."""
        number = choose(self, material, split).number if len(self.recipes) > 1 else 0
        started = time.perf_counter()
        constants = fit_constants([of_rows(material.clean, split.train)])
        observer = _Observer(material, split.test, constants)
        seen = [observer] if self.record_epochs else []
        network = train(self.kind, material, split.train, constants, self.recipes[number], seed, seen)
        trained = time.perf_counter()
        logits = predict(network, material, split.test, constants)
        return Outcome(
            log_probabilities=log_softmax(logits),
            training_s=trained - started - observer.seconds,
            test_s=time.perf_counter() - trained,
            epochs=tuple(observer.epochs),
            chosen=self.configurations[number],
        )

    def tried(self, material: Material, inner: Split, number: int, seed: int) -> NDArray[np.float32]:
        """Scores of the inner test side after a third of the epochs of one recipe."""
        recipe = self.recipes[number]
        return self._answers(material, inner, replace(recipe, epochs=math.ceil(recipe.epochs * SHARE_OF_EPOCHS)), seed)

    def at_rate(self, learning_rate: float) -> NetworkSystem:
        """The same system by its middle recipe with another initial learning rate, and nothing to choose."""
        recipe = replace(self.recipes[len(self.recipes) // 2], learning_rate=learning_rate)
        return replace(self, name=f"{self.name} learning_rate={learning_rate:g}", recipes=(recipe,))

    def recording(self) -> NetworkSystem:
        """The same system under a name of its own, with a record of its epochs."""
        return replace(self, name=f"{self.name}_epochs", record_epochs=True)

    def inner_accuracy(self, material: Material, split: Split, seed: int = 0) -> float:
        """Share of right answers, 0..1, on the inner test side after all epochs of the middle recipe."""
        inner = inner_split(material, split)
        answers = self._answers(material, inner, self.recipes[len(self.recipes) // 2], seed)
        return float((answers.argmax(axis=1) == material.labels[inner.test]).mean())

    def _answers(self, material: Material, split: Split, recipe: Recipe, seed: int) -> NDArray[np.float32]:
        constants = fit_constants([of_rows(material.clean, split.train)])
        network = train(self.kind, material, split.train, constants, recipe, seed)
        return predict(network, material, split.test, constants)


def learning_rate_curve(
    system: NetworkSystem, material: Material, split: Split, rates: Sequence[float]
) -> list[tuple[float, float]]:
    """(initial learning rate, accuracy on the inner test side) of each rate, after all epochs with seed 0.

    Only the training side of `split` is used.
    """
    return [(rate, system.at_rate(rate).inner_accuracy(material, split)) for rate in rates]


class _Batches(tf.keras.utils.Sequence):  # type: ignore[misc]
    """One copy of every training item an epoch."""

    def __init__(
        self, material: Material, rows: NDArray[np.int64], constants: SpeechConstants, recipe: Recipe, seed: int
    ) -> None:
        super().__init__()
        self._frames = material.training.frames
        self._labels = material.labels
        self._rows = rows
        self._constants = constants
        self._recipe = recipe
        self._generator = np.random.default_rng(seed)
        self._order = self._generator.permutation(rows)
        counts = np.bincount(self._labels[rows], minlength=len(CLASSES))
        alike = len(rows) / (len(CLASSES) * np.maximum(counts, 1))
        self._weight = alike if recipe.class_weights else np.ones(len(CLASSES))

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._recipe.batch)

    def on_epoch_end(self) -> None:
        self._order = self._generator.permutation(self._rows)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        rows = self._order[index * self._recipe.batch : (index + 1) * self._recipe.batch]
        clean = self._generator.random(len(rows)) < self._recipe.clean_share
        copies = np.where(clean, 0, self._generator.integers(min(1, self._last), self._last + 1, len(rows)))
        frames = normalise_frames(self._frames[rows, copies].astype(np.float32), self._constants)
        targets = np.eye(len(CLASSES), dtype=np.float32)[self._labels[rows]]
        return frames, targets, self._weight[self._labels[rows]].astype(np.float32)

    @property
    def _last(self) -> int:
        return int(self._frames.shape[1]) - 1


class _Observer(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Answers the test items after every epoch and puts the weights back. `seconds` is the time that it took."""

    def __init__(self, material: Material, rows: NDArray[np.int64], constants: SpeechConstants) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
        self.seconds = 0.0
        self._asked = (material, rows, constants)
        self._labels = material.labels[rows]

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        ended = time.perf_counter()
        weights = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        asked = time.perf_counter()
        logits = predict(self.model, *self._asked)
        answered = time.perf_counter()
        self.model.set_weights(weights)
        precision, recall, f1, _ = precision_recall_fscore_support(
            self._labels, logits.argmax(axis=1), labels=np.unique(self._labels), average="macro", zero_division=0
        )
        seen = logs or {}
        self.epochs.append(
            Epoch(
                number=epoch + 1,
                training_loss=float(seen["loss"]),
                training_accuracy=float(seen["accuracy"]),
                test_loss=scores.negative_log_likelihood(logits, self._labels),
                test_accuracy=float((logits.argmax(axis=1) == self._labels).mean()),
                test_uar=float(recall),
                test_precision=float(precision),
                test_f1=float(f1),
                training_s=ended - self._started,
                test_s=answered - asked,
            )
        )
        self.seconds += time.perf_counter() - ended


def train(
    kind: str,
    material: Material,
    rows: NDArray[np.int64],
    constants: SpeechConstants,
    recipe: Recipe,
    seed: int,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> tf.keras.Model:
    """A network of NETWORKS after a fixed number of epochs on the items `rows`."""
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    network = NETWORKS[kind](recipe.shape)
    batches = _Batches(material, rows, constants, recipe, seed)
    rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.cosine:
        steps = recipe.epochs * len(batches)
        rate = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps, alpha=_LAST_RATE)
    averaged = {} if recipe.weight_average is None else {"use_ema": True, "ema_momentum": recipe.weight_average}
    optimizer = tf.keras.optimizers.Adam(rate, **averaged)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    network.compile(optimizer, loss, metrics=["accuracy"])
    network.fit(batches, epochs=recipe.epochs, verbose=0, callbacks=list(callbacks))
    optimizer.finalize_variable_values(network.trainable_variables)
    return network


def predict(
    network: tf.keras.Model, material: Material, rows: NDArray[np.int64], constants: SpeechConstants
) -> NDArray[np.float32]:
    """Mean logits over an item's clean windows, (items, 7)."""
    frames = normalise_frames(material.clean.frames[rows].astype(np.float32), constants)
    logits = network.predict(frames.reshape(-1, *frames.shape[2:]), batch_size=64, verbose=0)
    return np.asarray(logits.reshape(*frames.shape[:2], -1).mean(axis=1), np.float32)


def system(name: str) -> NetworkSystem:
    """The system of that name, by the paper's recipe when it ends in `_paper`; KeyError when there is none."""
    kind = name.removesuffix(PAPER)
    if name == kind:
        recipes = tuple(Recipe(epochs=EPOCHS[kind], learning_rate=rate) for rate in RATES)
    else:
        paper = replace(PAPER_RECIPE, epochs=EPOCHS[kind])
        recipes = tuple(replace(paper, shape=BaselineShape(dropout=dropout)) for dropout in DROPOUTS)
    return NetworkSystem(name, kind, recipes)
