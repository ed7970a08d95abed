"""The speech branch as it ships, with the recipe's leave-one-speaker-out figures beside the linear SVM's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from device.inference.manifest import Metric
from models.networks import speech as network_of
from tools.training import baseline, scores
from tools.training.emodb import Clip, Split
from tools.training.scores import Figure
from tools.training.speech import Corpus, Recipe, fit_constants, predict, to_int8, train
from tools.training.speech_folds import Fold, carried_embeddings, out_of_fold, run_folds
from tools.training.speech_stream import Streams, streams
from tools.training.speech_windows import clean_windows, training_windows

LOSO = "EMO-DB, leave one speaker out, 10 folds, fixed epoch count, nothing fitted on the test speaker"


@dataclass(frozen=True, eq=False)
class SpeechRelease:
    """The shipped network (trained on every speaker), and what strangers' folds say about the recipe.

    `token_embeddings` (clips, 16, 64) and `token_logits` (clips, 16, 7) are out of fold, in the shipped space.
    """

    corpus: Corpus
    streams: Streams
    network: tf.keras.Model
    constants: SpeechConstants
    tflite: bytes
    token_embeddings: NDArray[np.float32]
    token_logits: NDArray[np.float32]
    metrics: tuple[Metric, ...]


def release(clips: Sequence[Clip], recipe: Recipe, splits: Sequence[Split], folder: Path) -> SpeechRelease:
    """Fold by fold, then the shipped network; everything finished is kept in `folder` and used again."""
    corpus = Corpus(clips, clean_windows(clips, folder), training_windows(clips, folder, recipe.copies))
    heard = streams(clips, folder)
    folds = run_folds(corpus, heard, splits, recipe, folder)
    logits = out_of_fold(folds, "logits_int8", len(clips))
    temperature = scores.fit_temperature(logits, corpus.labels)
    everyone = np.arange(len(clips))
    constants = fit_constants(corpus.training, everyone, temperature)
    network = _shipped(corpus, constants, recipe, folder)
    embeddings = predict(network, corpus.clean, everyone, constants).embeddings
    return SpeechRelease(
        corpus=corpus,
        streams=heard,
        network=network,
        constants=constants,
        tflite=to_int8(corpus, everyone, network, constants, recipe.seed),
        token_embeddings=carried_embeddings(folds, embeddings),
        token_logits=out_of_fold(folds, "token_logits", len(clips)),
        metrics=_metrics(corpus, splits, folds, recipe, temperature),
    )


def _shipped(corpus: Corpus, constants: SpeechConstants, recipe: Recipe, folder: Path) -> tf.keras.Model:
    file = folder / f"shipped-{recipe.digest()}.weights.h5"
    if file.exists():
        network = network_of.build(recipe.shape, l2=recipe.l2)
        network.load_weights(file)
        return network
    network = train(corpus, np.arange(len(corpus.clips)), constants, recipe)
    network.save_weights(file)
    (folder / "constants.json").write_bytes(msgspec.json.encode(constants))
    return network


def _metrics(
    corpus: Corpus, splits: Sequence[Split], folds: Sequence[Fold], recipe: Recipe, temperature: float
) -> tuple[Metric, ...]:
    labels = corpus.labels
    count = len(labels)
    floats, ints = (out_of_fold(folds, name, count) for name in ("logits", "logits_int8"))
    predictions = {
        "speech, int8": ints.argmax(axis=1),
        "speech, float32": floats.argmax(axis=1),
        "linear SVM on functionals of the same features": baseline.svm_predictions(
            baseline.functionals(corpus.clean), labels, splits
        ),
    }
    protocol = (
        LOSO
        if len(splits) == len({clip.speaker for clip in corpus.clips})
        else f"{len(splits)} folds of speakers, a trial run"
    )

    def row(name: str, figure: Figure, note: str = "") -> Metric:
        return metric(name, figure, count, protocol + note, recipe.seed)

    rows = []
    for name, predicted in predictions.items():
        rows.append(row(f"{name}: accuracy (WA)", scores.accuracy(predicted, labels)))
        rows.append(row(f"{name}: macro recall (UAR)", scores.macro_recall(predicted, labels)))
    rows.append(
        row("speech: int8 and float32 name one class", scores.accuracy(ints.argmax(axis=1), floats.argmax(axis=1)))
    )
    error = scores.calibration_error(ints, labels, temperature)
    note = "; the one temperature is fitted on these answers"
    return (*rows, row("speech, int8: expected calibration error", Figure(error, error, error), note))


def metric(name: str, figure: Figure, items: int, protocol: str, *seeds: int) -> Metric:
    """A figure as the manifest keeps it."""
    low, value, high = (round(number, 5) for number in (figure.low, figure.value, figure.high))
    return Metric(name=name, value=value, low=low, high=high, items=items, protocol=protocol, seeds=seeds)
