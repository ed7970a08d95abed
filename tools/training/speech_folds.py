"""Runs the speech recipe over splits and keeps what each fold says about the speakers that it never heard.

A finished fold is kept in a file and not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from device.inference.constants import SpeechConstants
from device.inference.speech_branch import normalise_contours, normalise_frames
from device.inference.tflite import TFLiteRuntime
from models.contract import SPEECH
from tools.training.speech import Corpus, Prediction, Recipe, fit_constants, predict, to_int8, train
from tools.training.speech_stream import TICKS, Streams
from tools.training.splits import Split

RIDGE: Final = 1.0


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold's answers; `test` and `train` are positions of clips.

    `logits` (n, 7) and `embeddings` (n, 64) of the clean test clips in float32, `logits_int8` of the same clips by the
    converted file in the shipped runtime; token arrays (n, 16, …) of the test clips' streams; `train_embeddings`
    (m, 64) of the clean training clips.
    """

    test: NDArray[np.int64]
    train: NDArray[np.int64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    logits_int8: NDArray[np.float32]
    token_logits: NDArray[np.float32]
    token_embeddings: NDArray[np.float32]
    train_embeddings: NDArray[np.float32]


def run_folds(corpus: Corpus, streams: Streams, splits: Sequence[Split], recipe: Recipe, folder: Path) -> list[Fold]:
    """Every split's fold, from its file or by training."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_fold(corpus, streams, split, recipe, folder) for split in tqdm(splits, desc="speech folds", unit="fold")]


def _fold(corpus: Corpus, streams: Streams, split: Split, recipe: Recipe, folder: Path) -> Fold:
    file = folder / f"fold-{recipe.digest()}-{split.name}.npz"
    if not file.exists():
        fold = _train_fold(corpus, streams, split, recipe, folder)
        unfinished = file.with_suffix(".unfinished.npz")
        np.savez(unfinished, **vars(fold))
        unfinished.rename(file)
    with np.load(file) as stored:
        return Fold(**{name: stored[name] for name in stored.files})


def _train_fold(corpus: Corpus, streams: Streams, split: Split, recipe: Recipe, folder: Path) -> Fold:
    constants = fit_constants(corpus.training, split.train)
    network = train(corpus, split.train, constants, recipe)
    clean = predict(network, corpus.clean, split.test, constants)
    tokens = [stream_tokens(network, streams, int(row), constants) for row in split.test]
    file = folder / f"fold-{split.name}.tflite"
    file.write_bytes(to_int8(corpus, split.train, network, constants, recipe.seed))
    fold = Fold(
        test=split.test,
        train=split.train,
        logits=clean.logits,
        embeddings=clean.embeddings,
        logits_int8=predict_int8(file, corpus, split.test, constants).logits,
        token_logits=np.stack([token.logits for token in tokens]),
        token_embeddings=np.stack([token.embeddings for token in tokens]),
        train_embeddings=predict(network, corpus.clean, split.train, constants).embeddings,
    )
    tf.keras.backend.clear_session()
    return fold


def stream_tokens(network: tf.keras.Model, streams: Streams, row: int, constants: SpeechConstants) -> Prediction:
    """The branch at each of the 16 ticks of one clip's stream."""
    frames = normalise_frames(streams.windows(row), constants)
    embeddings, logits = network.predict_on_batch([frames, normalise_contours(streams.contours[row], constants)])
    assert len(logits) == TICKS
    return Prediction(embeddings, logits)


def predict_int8(file: Path, corpus: Corpus, rows: NDArray[np.int64], constants: SpeechConstants) -> Prediction:
    """As `speech.predict`, by an int8 file in the runtime that boxes use."""
    network = TFLiteRuntime("tflite-runtime").load(file, SPEECH)
    embeddings, logits = [], []
    for row in rows:
        frames = normalise_frames(corpus.clean.frames[row].astype(np.float32), constants)
        contours = normalise_contours(corpus.clean.contours[row], constants)
        outputs = [
            network.run({"frames": one[np.newaxis], "contours": other[np.newaxis]})
            for one, other in zip(frames, contours, strict=True)
        ]
        embeddings.append(np.mean([output["embedding"][0] for output in outputs], axis=0))
        logits.append(np.mean([output["logits"][0] for output in outputs], axis=0))
    return Prediction(np.stack(embeddings), np.stack(logits))


def out_of_fold(folds: Sequence[Fold], name: str, clips: int) -> NDArray[np.float32]:
    """One array of all folds in the clips' order; every clip must have been tested exactly once."""
    rows = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(rows), np.arange(clips)):
        raise ValueError("the folds do not test every clip exactly once")
    values = np.concatenate([getattr(fold, name) for fold in folds])
    return np.asarray(values[np.argsort(rows)], np.float32)


def carried_embeddings(folds: Sequence[Fold], shipped: NDArray[np.float32]) -> NDArray[np.float32]:
    """Out-of-fold token embeddings (clips, 16, 64) in the shipped branch's space.

    Each fold's network has a space of its own. A ridge map from the fold's embeddings to the shipped ones
    (`shipped`, (clips, 64)) is fitted on the fold's training clips and applied to the clips that it never heard.
    """
    tokens = np.empty((len(shipped), TICKS, shipped.shape[1]), np.float32)
    for fold in folds:
        matrix = _ridge(fold.train_embeddings, shipped[fold.train])
        carried = np.concatenate([fold.token_embeddings, np.ones((*fold.token_embeddings.shape[:2], 1))], axis=2)
        tokens[fold.test] = np.maximum(carried @ matrix, 0.0)
    return tokens


def _ridge(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    design = np.concatenate([source, np.ones((len(source), 1))], axis=1).astype(np.float64)
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[-1, -1] = 0.0
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.T @ target), np.float64)
