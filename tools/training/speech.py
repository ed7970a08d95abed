"""Trains the speech branch: a sequence network on other corpora, then a small readout on pooled numbers.

The sequence network (`teach_sequence`) sees no clip of EMO-DB and stays as it is, so one of them serves all folds of
EMO-DB. What it and the statistics say of every window is computed once (`pool`); a fold then trains a readout on these
numbers (`teach_readout`) in seconds, and `assemble` puts both stages together as the network that ships. Every training
has a fixed number of steps; nothing is chosen by looking at a test side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from device.inference.speech_branch import normalise_contours, normalise_frames
from device.inference.tflite import TFLiteRuntime
from models.contract import SPEECH, SPEECH_CLASSES
from models.networks import speech
from tools.dataset.clips import set_digest
from tools.training import batches, correction
from tools.training.convert import Batch
from tools.training.recipes import SpeechRecipe, Steps, digest_of
from tools.training.speech_windows import Windows
from tools.training.voices import Corpus

LIMIT: Final = 5.0
REPRESENTATIVE: Final = 300
#: Of the deviations that pooled numbers are divided by: this share of their median is added, so that a number that
#: hardly varies over clips is not blown up, which would leave eight bits no room for the others.
DEVIATION_FLOOR: Final = 0.05

Rows = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class SequenceNetwork:
    """A taught sequence network, and the normalisation of frames and contours that goes with it."""

    classifier: tf.keras.Model
    constants: SpeechConstants
    digest: str


@dataclass(frozen=True, eq=False)
class Pooled:
    """Pooled numbers of a corpus: `clean` (clips, 2, p), `training` (clips, copies, p), float32; `labels` (clips,)."""

    clean: NDArray[np.float32]
    training: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Readout:
    """Taught heads with the standardisation that they were taught with."""

    heads: tf.keras.Model
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def log_scores(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 logits (n, 8) of pooled windows (n, windows, p): the mean over windows and members."""
        flat = self._standard(pooled.reshape(-1, pooled.shape[-1]))
        answers = np.mean([answer.numpy() for answer in self.heads(flat, training=False)], axis=0)
        return np.asarray(answers.reshape(*pooled.shape[:-1], -1).mean(axis=1), np.float32)

    def _standard(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        return standardised(pooled, self.mean, self.deviation)


def standardised(
    pooled: NDArray[np.float32], mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Deviations from the mean, cut at `models.networks.speech.LIMIT`; any shape (..., p)."""
    return np.asarray(np.clip((pooled - mean) / deviation, -speech.LIMIT, speech.LIMIT), np.float32)


def fit_constants(windows: Sequence[Windows], temperature: float = 1.0) -> SpeechConstants:
    """Normalisation from training windows alone, every corpus counting the same; classes equally likely."""
    frames = [one.frames.reshape(-1, one.frames.shape[-1]).astype(np.float64) for one in windows]
    contours = [one.contours.reshape(-1, one.contours.shape[-1]).astype(np.float64) for one in windows]
    channel_mean, channel_scale = _moments(frames)
    contour_mean, contour_scale = _moments(contours)
    return SpeechConstants(
        channel_mean=channel_mean,
        channel_scale=channel_scale,
        contour_mean=contour_mean,
        contour_scale=contour_scale,
        limit=LIMIT,
        temperature=temperature,
        prior=(1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES),
    )


def _moments(parts: Sequence[NDArray[np.float64]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of a mixture in which every part weighs the same."""
    mean = np.mean([part.mean(axis=0) for part in parts], axis=0)
    square = np.mean([(part**2).mean(axis=0) for part in parts], axis=0)
    return _numbers(mean), _numbers(np.sqrt(np.maximum(square - mean**2, 0)) + 1e-6)


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def normalised(windows: Windows, constants: SpeechConstants) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All windows in one row: frames (clips x windows, 512, 34) and contours (clips x windows, 14)."""
    frames = normalise_frames(windows.frames.astype(np.float32), constants)
    contours = normalise_contours(windows.contours, constants)
    return frames.reshape(-1, *frames.shape[-2:]), contours.reshape(-1, contours.shape[-1])


class _Windows(tf.keras.utils.Sequence):  # type: ignore[misc]
    """Steps of whole windows for the sequence network."""

    def __init__(
        self, corpora: Sequence[Corpus], rows: Rows, constants: SpeechConstants, recipe: Steps, seed: int
    ) -> None:
        super().__init__()
        self._corpora = corpora
        self._rows = rows
        self._constants = constants
        self._recipe = recipe
        parts = [
            batches.Part(one.labels[rows[one.key]], one.training.frames.shape[1], recipe.batch[one.key])
            for one in corpora
        ]
        self._draw = batches.Draw(parts, recipe, seed)
        self._shift = np.random.default_rng(seed + 1)

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        drawn = self._draw.next()
        frames, labels = [], []
        for corpus, clips, windows in zip(self._corpora, drawn.clips, drawn.windows, strict=True):
            rows = self._rows[corpus.key][clips]
            frames.append(corpus.training.frames[rows, windows])
            labels.append(corpus.labels[rows])
        together = np.concatenate(frames)
        time = np.arange(together.shape[1])
        turned = (time[np.newaxis] + self._shift.integers(0, len(time), (len(together), 1))) % len(time)
        together = np.take_along_axis(together, turned[..., np.newaxis], axis=1)
        return (
            normalise_frames(together.astype(np.float32), self._constants),
            batches.targets(np.concatenate(labels), self._recipe.label_smoothing),
        )


def teach_sequence(
    corpora: Sequence[Corpus], rows: Rows, recipe: SpeechRecipe, seed: int, folder: Path
) -> SequenceNetwork:
    """The sequence network taught on `rows` of `corpora` (never EMO-DB); kept in `folder` and read when it is there."""
    clips = [one.clips[row] for one in corpora for row in rows[one.key]]
    what = [recipe.sequence, recipe.shape, recipe.copies, seed, set_digest(clips)]
    digest = digest_of(what, speech.__file__, batches.__file__)
    constants = fit_constants([of_rows(one.training, rows[one.key]) for one in corpora])
    tf.keras.utils.set_random_seed(seed)
    classifier = speech.sequence_classifier(recipe.shape, l2=recipe.sequence.l2)
    file = folder / f"sequence-{digest}.weights.h5"
    if file.exists():
        classifier.load_weights(file)
        return SequenceNetwork(classifier, constants, digest)
    optimizer = _optimizer(recipe.sequence)
    classifier.compile(optimizer, tf.keras.losses.CategoricalCrossentropy(from_logits=True))
    classifier.fit(_Windows(corpora, rows, constants, recipe.sequence, seed), epochs=1, shuffle=False, verbose=0)
    optimizer.finalize_variable_values(classifier.trainable_variables)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished-{digest}.weights.h5"
    classifier.save_weights(unfinished)
    unfinished.rename(file)
    return SequenceNetwork(classifier, constants, digest)


def of_rows(windows: Windows, rows: NDArray[np.int64]) -> Windows:
    return Windows(windows.frames[rows], windows.contours[rows])


def _optimizer(recipe: Steps) -> tf.keras.optimizers.Optimizer:
    rate = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.steps, alpha=0.02)
    return tf.keras.optimizers.Adam(rate, use_ema=True, ema_momentum=recipe.weight_average)


class Pooler:
    """Turns windows into pooled numbers by the statistics and one sequence network; keeps what it computed."""

    def __init__(self, sequence: SequenceNetwork, recipe: SpeechRecipe, folder: Path) -> None:
        self._sequence = sequence
        self._network = speech.pooling(recipe.shape)
        self._folder = folder
        speech.adopt_sequence(self._network, sequence.classifier)
        self.widths = {name: int(group.shape[-1]) for name, group in self._network.output.items()}

    def of(self, windows: Windows) -> NDArray[np.float32]:
        """Pooled numbers (clips, windows, p) of raw windows."""
        pooled = np.empty((*windows.contours.shape[:2], sum(self.widths.values())), np.float32)
        for first in range(0, len(pooled), 64):
            part = slice(first, first + 64)
            chosen = Windows(windows.frames[part], windows.contours[part])
            groups = self._network.predict_on_batch(list(normalised(chosen, self._sequence.constants)))
            pooled[part] = np.concatenate([groups[name] for name in self.widths], axis=1).reshape(pooled[part].shape)
        return pooled

    def of_corpus(self, corpus: Corpus) -> Pooled:
        """Both kinds of windows of a corpus, from a file when they were computed before."""
        key = f"{self._sequence.digest} {set_digest(corpus.clips)} {corpus.training.frames.shape}"
        file = self._folder / f"pooled-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f"unfinished-{file.name}")
            np.savez(unfinished, clean=self.of(corpus.clean), training=self.of(corpus.training))
            unfinished.rename(file)
        with np.load(file) as stored:
            return Pooled(stored["clean"], stored["training"], corpus.labels)


class _Numbers(tf.keras.utils.Sequence):  # type: ignore[misc]
    """Steps of pooled numbers for the readout."""

    def __init__(
        self,
        parts: Sequence[Pooled],
        readout: Readout,
        counts: Sequence[int],
        recipe: Steps,
        seed: int,
        opinions: Sequence[NDArray[np.float32]] | None,
    ) -> None:
        super().__init__()
        self._opinions = opinions
        self._parts = [standardised(part.training, readout.mean, readout.deviation) for part in parts]
        self._labels = [part.labels for part in parts]
        drawn_of = [
            batches.Part(part.labels, part.training.shape[1], count) for part, count in zip(parts, counts, strict=True)
        ]
        self._draw = batches.Draw(drawn_of, recipe, seed)
        self._recipe = recipe
        self._members = len(readout.heads.outputs)

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        drawn = self._draw.next()
        numbers = [part[c, w] for part, c, w in zip(self._parts, drawn.clips, drawn.windows, strict=True)]
        labels = [of[clips] for of, clips in zip(self._labels, drawn.clips, strict=True)]
        wanted = batches.targets(np.concatenate(labels), self._recipe.label_smoothing)
        if self._opinions is not None:
            said = [of[c, w] for of, c, w in zip(self._opinions, drawn.clips, drawn.windows, strict=True)]
            wanted = (wanted + np.concatenate(said)) / 2
        return np.concatenate(numbers), [wanted] * self._members


def teach_readout(
    parts: Mapping[str, Pooled],
    rows: Rows,
    recipe: SpeechRecipe,
    widths: Mapping[str, int],
    seed: int,
    opinions: Mapping[str, NDArray[np.float32]] | None = None,
) -> Readout:
    """The heads after a fixed number of steps on `rows` of `parts`; parts that the recipe does not name are not used.

    `opinions`: teachers' probabilities (rows, windows, 8) of the same rows, which count as much as the labels.
    """
    steps = recipe.readout
    used = [key for key, count in steps.batch.items() if count and key in parts]
    chosen = [
        Pooled(parts[key].clean[rows[key]], parts[key].training[rows[key]], parts[key].labels[rows[key]])
        for key in used
    ]
    tf.keras.utils.set_random_seed(seed)
    heads = speech.readout(recipe.shape, widths, l2=steps.l2)
    readout = Readout(heads, *_spread([part.training for part in chosen]))
    optimizer = _optimizer(steps)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    heads.compile(optimizer, [loss] * len(heads.outputs))
    taught = None if opinions is None else [opinions[key] for key in used]
    numbers = _Numbers(chosen, readout, [steps.batch[key] for key in used], steps, seed, taught)
    heads.fit(numbers, epochs=1, shuffle=False, verbose=0)
    optimizer.finalize_variable_values(heads.trainable_variables)
    return readout


def _spread(training: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of pooled numbers, every corpus counting the same."""
    flat = [part.reshape(-1, part.shape[-1]) for part in training]
    mean = np.mean([part.mean(axis=0, dtype=np.float64) for part in flat], axis=0)
    deviation = np.sqrt(np.mean([((part - mean) ** 2).mean(axis=0) for part in flat], axis=0))
    floor = DEVIATION_FLOOR * np.median(deviation)
    return mean.astype(np.float32), (deviation + floor).astype(np.float32)


def assembled(sequence: SequenceNetwork, readout: Readout, recipe: SpeechRecipe) -> tf.keras.Model:
    """Both stages as the network that ships, in float32."""
    return speech.assemble(recipe.shape, sequence.classifier, readout.heads, readout.mean, readout.deviation)


def to_int8(
    network: tf.keras.Model,
    windows: Sequence[Windows],
    constants: SpeechConstants,
    seed: int,
    count: int = REPRESENTATIVE,
) -> bytes:
    """The network as a full int8 file; ranges and bias correction come from `count` of these training windows."""
    return correction.to_int8_corrected(network, SPEECH, representative(windows, constants, seed, count), "logits")


def representative(
    windows: Sequence[Windows], constants: SpeechConstants, seed: int, count: int = REPRESENTATIVE
) -> list[Batch]:
    """Random training windows, of every corpus the same number, augmented ones among them."""
    generator = np.random.default_rng(seed)
    chosen: list[Batch] = []
    for part in windows:
        for _ in range(count // len(windows)):
            row, copy = (int(generator.integers(length)) for length in part.contours.shape[:2])
            frames = normalise_frames(part.frames[row, copy].astype(np.float32), constants)
            contours = normalise_contours(part.contours[row, copy], constants)
            chosen.append({"frames": frames[np.newaxis], "contours": contours[np.newaxis]})
    return chosen


def predict_int8(file: Path, windows: Windows, constants: SpeechConstants) -> NDArray[np.float32]:
    """Logits (clips, 8) by an int8 file in the runtime that boxes use, averaged over each clip's windows."""
    network = TFLiteRuntime("tflite-runtime").load(file, SPEECH)
    frames, contours = normalised(windows, constants)
    answers = [
        network.run({"frames": one[np.newaxis], "contours": other[np.newaxis]})["logits"][0]
        for one, other in zip(frames, contours, strict=True)
    ]
    return np.asarray(np.reshape(answers, (*windows.contours.shape[:2], -1)).mean(axis=1), np.float32)


def with_temperature(constants: SpeechConstants, temperature: float) -> SpeechConstants:
    """The same constants with another temperature."""
    return msgspec.structs.replace(constants, temperature=temperature)
