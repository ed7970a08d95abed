"""What the speech recipe says about speakers that it never heard, of every corpus: the fused head learns from it.

The speakers of all corpora are dealt out over a few folds. Each fold teaches both stages on the other speakers, so not
even its sequence network has heard the speakers that it answers. A finished fold is kept and not computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from device.inference.constants import SpeechConstants
from device.inference.speech_branch import normalise_contours, normalise_frames
from models.networks import speech as network_of
from tools.dataset.clips import Clip
from tools.training import batches, speech
from tools.training.recipes import SpeechRecipe, digest_of
from tools.training.speech import Pooled, Pooler, Rows
from tools.training.speech_stream import TICKS, Streams
from tools.training.speech_windows import Windows
from tools.training.splits import Split
from tools.training.voices import Corpus

RIDGE: Final = 1.0


@dataclass(frozen=True, eq=False)
class Voices:
    """All corpora in one row of clips, with the streams of some of them: `streamed` are positions of those clips."""

    corpora: Mapping[str, Corpus]
    streamed: NDArray[np.int64]
    streams: Streams

    @property
    def clips(self) -> list[Clip]:
        """Every corpus's clips, one corpus after the other."""
        return [clip for corpus in self.corpora.values() for clip in corpus.clips]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all clips."""
        return np.concatenate([corpus.labels for corpus in self.corpora.values()])

    def rows_of(self, chosen: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Positions among all clips as positions within each corpus."""
        rows, start = {}, 0
        for key, corpus in self.corpora.items():
            inside = chosen[(chosen >= start) & (chosen < start + len(corpus.clips))]
            rows[key] = inside - start
            start += len(corpus.clips)
        return rows


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold's answers in float32; `test` and `train` are positions among all clips.

    `logits` (n, 8) of the clean test clips; `tokens` positions among the streamed clips, of which `token_logits` and
    `token_embeddings` (m, 16, …) are; `train_embeddings` (k, 64) of the clean training clips.
    """

    test: NDArray[np.int64]
    train: NDArray[np.int64]
    logits: NDArray[np.float32]
    tokens: NDArray[np.int64]
    token_logits: NDArray[np.float32]
    token_embeddings: NDArray[np.float32]
    train_embeddings: NDArray[np.float32]


def run_folds(voices: Voices, splits: Sequence[Split], recipe: SpeechRecipe, folder: Path) -> list[Fold]:
    """Every split's fold, from its file or by training."""
    folder.mkdir(parents=True, exist_ok=True)
    code = (__file__, speech.__file__, network_of.__file__, batches.__file__)
    digest = digest_of([recipe, [clip.digest for clip in voices.clips]], *code)
    return [_fold(voices, split, recipe, folder, digest) for split in tqdm(splits, desc="speaker folds", unit="fold")]


def _fold(voices: Voices, split: Split, recipe: SpeechRecipe, folder: Path, digest: str) -> Fold:
    file = folder / f"fold-{digest}-{split.name}.npz"
    if not file.exists():
        fold = _train_fold(voices, split, recipe, folder)
        unfinished = file.with_suffix(".unfinished.npz")
        np.savez(unfinished, **vars(fold))
        unfinished.rename(file)
    with np.load(file) as stored:
        return Fold(**{name: stored[name] for name in stored.files})


def _train_fold(voices: Voices, split: Split, recipe: SpeechRecipe, folder: Path) -> Fold:
    rows = voices.rows_of(split.train)
    taught = [voices.corpora[key] for key in recipe.sequence.batch]
    sequence = speech.teach_sequence(taught, rows, recipe, recipe.seed, folder)
    pooler = Pooler(sequence, recipe, folder)
    parts = {key: pooled_part(pooler, corpus) for key, corpus in voices.corpora.items()}
    readout = speech.teach_readout(parts, rows, recipe, pooler.widths, recipe.seed)
    network = speech.assembled(sequence, readout, recipe)
    clean = np.concatenate([part.clean for part in parts.values()])
    tokens = np.flatnonzero(np.isin(voices.streamed, split.test))
    embeddings, logits = stream_tokens(network, voices.streams, tokens, sequence.constants)
    fold = Fold(
        test=split.test,
        train=split.train,
        logits=readout.log_scores(clean[split.test]),
        tokens=tokens,
        token_logits=logits,
        token_embeddings=embeddings,
        train_embeddings=embeddings_of(network, voices, split.train, sequence.constants),
    )
    tf.keras.backend.clear_session()
    return fold


def pooled_part(pooler: Pooler, corpus: Corpus) -> Pooled:
    """A corpus's pooled numbers without a file: a fold's are needed once."""
    return Pooled(pooler.of(corpus.clean), pooler.of(corpus.training), corpus.labels)


def embeddings_of(
    network: tf.keras.Model, voices: Voices, chosen: NDArray[np.int64], constants: SpeechConstants
) -> NDArray[np.float32]:
    """Embeddings (n, 64) of the first clean window of some clips."""
    rows: Rows = voices.rows_of(chosen)
    answers = []
    for key, corpus in voices.corpora.items():
        for part in np.array_split(rows[key], max(1, len(rows[key]) // 64)):
            windows = Windows(corpus.clean.frames[part, :1], corpus.clean.contours[part, :1])
            if len(part):
                answers.append(network.predict_on_batch(list(speech.normalised(windows, constants)))[0])
    return np.concatenate(answers)


def stream_tokens(
    network: tf.keras.Model, streams: Streams, rows: NDArray[np.int64], constants: SpeechConstants
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The branch at each of the 16 ticks of some clips' streams: embeddings (n, 16, 64) and logits (n, 16, 8)."""
    embeddings, logits = [], []
    for row in rows:
        frames = normalise_frames(streams.windows(int(row)), constants)
        contours = normalise_contours(streams.contours[row], constants)
        embedding, logit = network.predict_on_batch([frames, contours])
        assert len(logit) == TICKS
        embeddings.append(embedding)
        logits.append(logit)
    return np.stack(embeddings), np.stack(logits)


def out_of_fold(folds: Sequence[Fold], clips: int) -> NDArray[np.float32]:
    """Logits of all folds in the clips' order; every clip must have been tested exactly once."""
    rows = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(rows), np.arange(clips)):
        raise ValueError("the folds do not test every clip exactly once")
    values = np.concatenate([fold.logits for fold in folds])
    return np.asarray(values[np.argsort(rows)], np.float32)


def out_of_fold_tokens(
    folds: Sequence[Fold], shipped: NDArray[np.float32], streamed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Out-of-fold token embeddings (streamed, 16, 64) in the shipped space, and token logits (streamed, 16, 8).

    Each fold's network has a space of its own. A ridge map from the fold's embeddings to the shipped ones
    (`shipped`, (clips, 64)) is fitted on the fold's training clips and applied to the clips that it never heard.
    """
    embeddings = np.empty((streamed, TICKS, shipped.shape[1]), np.float32)
    logits = np.empty((streamed, TICKS, folds[0].token_logits.shape[2]), np.float32)
    for fold in folds:
        matrix = _ridge(fold.train_embeddings, shipped[fold.train])
        carried = np.concatenate([fold.token_embeddings, np.ones((*fold.token_embeddings.shape[:2], 1))], axis=2)
        embeddings[fold.tokens] = np.maximum(carried @ matrix, 0.0)
        logits[fold.tokens] = fold.token_logits
    return embeddings, logits


def _ridge(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    design = np.concatenate([source, np.ones((len(source), 1))], axis=1).astype(np.float64)
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[-1, -1] = 0.0
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.T @ target), np.float64)
