"""The speech branch as it ships, and what its recipe says about speakers that it never heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from device.inference.manifest import Metric
from tools.training import scores, speech
from tools.training.recipes import SpeechRecipe
from tools.training.scores import Figure
from tools.training.speech import Pooler
from tools.training.speech_folds import Voices, embeddings_of, out_of_fold, out_of_fold_tokens, run_folds
from tools.training.speech_stream import streams
from tools.training.splits import speaker_folds
from tools.training.voices import Corpus

PROTOCOL: Final = (
    "{name}: speakers of all corpora dealt out over {folds} folds, both stages taught without the fold's speakers, "
    "fixed numbers of steps, float32"
)


@dataclass(frozen=True, eq=False)
class SpeechRelease:
    """The shipped network (taught on every speaker), and what the folds say about the recipe.

    `token_embeddings` (streamed, 16, 64) and `token_logits` (streamed, 16, 8) are out of fold, in the shipped space;
    `logits` (clips, 8) are out of fold.
    """

    voices: Voices
    network: tf.keras.Model
    constants: SpeechConstants
    tflite: bytes
    logits: NDArray[np.float32]
    token_embeddings: NDArray[np.float32]
    token_logits: NDArray[np.float32]
    metrics: tuple[Metric, ...]


def gather(corpora: Mapping[str, Corpus], stream_every: Mapping[str, int], folder: Path) -> Voices:
    """All corpora; of each, every so-many-th clip of a speaker and emotion gets a stream for the fused head."""
    chosen, start = [], 0
    for key, corpus in corpora.items():
        seen: dict[tuple[str, int], int] = {}
        for place, clip in enumerate(corpus.clips):
            number = seen[clip.speaker, clip.label] = seen.get((clip.speaker, clip.label), -1) + 1
            if number % stream_every[key] == 0:
                chosen.append(start + place)
        start += len(corpus.clips)
    streamed = np.array(chosen)
    clips = [clip for corpus in corpora.values() for clip in corpus.clips]
    return Voices(corpora, streamed, streams([clips[row] for row in streamed], folder))


def release(voices: Voices, recipe: SpeechRecipe, folds: int, folder: Path) -> SpeechRelease:
    """Fold by fold, then the shipped network; everything finished is kept in `folder` and used again."""
    done = run_folds(voices, speaker_folds(voices.clips, folds), recipe, folder)
    logits = out_of_fold(done, len(voices.clips))
    temperature = scores.fit_temperature(logits, voices.labels)
    rows = {key: np.arange(len(corpus.clips)) for key, corpus in voices.corpora.items()}
    taught = [voices.corpora[key] for key in recipe.sequence.batch]
    sequence = speech.teach_sequence(taught, rows, recipe, recipe.seed, folder)
    pooler = Pooler(sequence, recipe, folder)
    parts = {key: pooler.of_corpus(corpus) for key, corpus in voices.corpora.items()}
    readout = speech.teach_readout(parts, rows, recipe, pooler.widths, recipe.seed)
    network = speech.assembled(sequence, readout, recipe)
    windows = [corpus.training for corpus in voices.corpora.values()]
    everyone = np.arange(len(voices.clips))
    shipped = embeddings_of(network, voices, everyone, sequence.constants)
    token_embeddings, token_logits = out_of_fold_tokens(done, shipped, len(voices.streamed))
    return SpeechRelease(
        voices=voices,
        network=network,
        constants=speech.with_temperature(sequence.constants, temperature),
        tflite=speech.to_int8(network, windows, sequence.constants, recipe.seed),
        logits=logits,
        token_embeddings=token_embeddings,
        token_logits=token_logits,
        metrics=_metrics(voices, logits, folds, recipe.seed),
    )


def _metrics(voices: Voices, logits: NDArray[np.float32], folds: int, seed: int) -> tuple[Metric, ...]:
    rows, start = [], 0
    for key, corpus in voices.corpora.items():
        labels = corpus.labels
        known = np.unique(labels)
        part = logits[start : start + len(labels)][:, known]
        predicted = known[part.argmax(axis=1)]
        protocol = PROTOCOL.format(name=key, folds=folds)
        for name, figure in (
            ("accuracy (WA)", scores.accuracy(predicted, labels)),
            ("macro recall (UAR)", scores.macro_recall(predicted, labels)),
        ):
            rows.append(metric(f"speech, {key}: {name}", figure, len(labels), protocol, seed))
        start += len(labels)
    return tuple(rows)


def metric(name: str, figure: Figure, items: int, protocol: str, *seeds: int) -> Metric:
    """A figure as the manifest keeps it."""
    low, value, high = (round(number, 5) for number in (figure.low, figure.value, figure.high))
    return Metric(name=name, value=value, low=low, high=high, items=items, protocol=protocol, seeds=seeds)
