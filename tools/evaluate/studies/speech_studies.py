"""The speech branch beside EMO-DB's folds: disturbed test clips, strange corpora, fewer clips, other learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from models.labels import Emotion
from models.networks import speech as network_of
from tools.dataset.clips import Clip
from tools.dataset.corpora import emodb
from tools.evaluate.predictions import Row
from tools.evaluate.studies import disturbances, shelf
from tools.evaluate.studies.disturbances import CLEAN, SOUND_NOTES, SOUNDS, disturbed_windows
from tools.evaluate.studies.pieces import Made, Piece, Study, among, files_of, names
from tools.evaluate.studies.shelf import Shelf
from tools.evaluate.system import CLASSES
from tools.training import augment, batches, speech, speech_windows
from tools.training.speech import Readout
from tools.training.speech_windows import Windows
from tools.training.splits import FIXED_TRAIN, Split, leave_one_speaker_out

FILES: Final = (__file__, *files_of(shelf, speech, network_of, batches, augment, speech_windows))
SHARED: Final = (Emotion.ANGER, Emotion.HAPPINESS, Emotion.NEUTRAL, Emotion.SADNESS)
RATES: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
COUNTS: Final = (60, 120, 240)
LOSO_NOTE: Final = "Leave one speaker out, float32; the other corpora teach on every fold's training side."


def _row(
    protocol: str, condition: str, seed: int, logits: NDArray[np.float32], clips: Sequence[Clip], note: str
) -> Row:
    scores, labels = among(logits, np.array([clip.label for clip in clips]), CLASSES)
    return Row(
        name="speech branch",
        system="ours",
        protocol=protocol,
        classes=names(CLASSES),
        scores=scores,
        labels=labels,
        condition=condition,
        seed=seed,
        note=note,
        groups=np.array([clip.speaker for clip in clips]),
    )


def answered(
    given: Shelf, seed: int, splits: Sequence[Split], readout: Callable[[Split], Readout]
) -> NDArray[np.float32]:
    """Logits (n, 8) of EMO-DB's clean clips, each by the readout of the split that tests it."""
    clean = given.pooled(given.ears(seed), [emodb.KEY])[emodb.KEY].clean
    logits = np.full((len(clean), len(CLASSES) + 1), np.nan, np.float32)
    for split in splits:
        logits[split.test] = readout(split).log_scores(clean[split.test])
        tf.keras.backend.clear_session()
    return logits


# --- disturbed test clips ------------------------------------------------------------------------------------


class Listeners:
    """The ten LOSO readouts of each seed, taught when they are first asked for."""

    def __init__(self, given: Shelf) -> None:
        self._given = given
        self._taught: dict[int, list[tuple[Split, Readout]]] = {}

    def logits(self, seed: int, windows: Windows) -> NDArray[np.float32]:
        """Logits (n, 8) of all EMO-DB clips' windows, by the readouts that did not hear the speaker."""
        if seed not in self._taught:
            splits = leave_one_speaker_out(self._given.corpora[emodb.KEY].clips)
            bar = tqdm(splits, desc=f"readouts of seed {seed}", unit="fold")
            self._taught[seed] = [(split, self._given.readout(seed, split.train)) for split in bar]
        pooled = self._given.ears(seed).pooler.of(windows)
        logits = np.full((len(pooled), len(CLASSES) + 1), np.nan, np.float32)
        for split, readout in self._taught[seed]:
            logits[split.test] = readout.log_scores(pooled[split.test])
        return logits


def windows_under(clips: Sequence[Clip], condition: str, workers: int) -> Windows:
    """Test windows of all clips under one of SOUNDS."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = pool.map(partial(disturbed_windows, condition=condition), clips, chunksize=8)
        every = list(tqdm(results, total=len(clips), desc=condition, unit="clip"))
    return Windows(np.stack([one.frames for one in every]), np.stack([one.contours for one in every]))


def robustness(given: Shelf, seeds: Sequence[int], workers: int) -> Study:
    """EMO-DB's test clips disturbed, training sides as they are."""
    listeners = Listeners(given)

    def make(condition: str) -> Made:
        corpus = given.corpora[emodb.KEY]
        windows = corpus.clean if condition == CLEAN else windows_under(corpus.clips, condition, workers)
        note = f"{LOSO_NOTE} {SOUND_NOTES.get(condition, '')}".strip()
        rows = [
            _row("robustness-speech", condition, seed, listeners.logits(seed, windows), corpus.clips, note)
            for seed in seeds
        ]
        return Made(rows)

    pieces = [
        Piece(condition, partial(make, condition), 0.5 + 2.0 * (condition == CLEAN) * len(seeds), str(list(seeds)))
        for condition in (CLEAN, *SOUNDS)
    ]
    return Study("robustness-speech", pieces, (*FILES, *files_of(disturbances)), given.recipe_mark)


# --- strange corpora -----------------------------------------------------------------------------------------


def cross_corpus(given: Shelf, seeds: Sequence[int]) -> Study:
    """Both stages taught without the target; its clips of the four shared classes answered among these four."""
    keys = list(given.recipe.copies)

    def make(target: str, seed: int) -> Made:
        ears = given.ears(seed, [key for key in given.recipe.sequence.batch if key != target])
        parts = given.pooled(ears, [key for key in keys if key != target])
        rows = {key: np.arange(len(part.labels)) for key, part in parts.items()}
        readout = speech.teach_readout(parts, rows, given.recipe, ears.pooler.widths, seed)
        corpus = given.corpora[target]
        chosen = np.flatnonzero(np.isin(corpus.labels, [emotion.code for emotion in SHARED]))
        logits = readout.log_scores(ears.pooler.of(speech.of_rows(corpus.clean, chosen)))
        scores, labels = among(logits, corpus.labels[chosen], SHARED)
        row = Row(
            name="speech branch, a corpus it never heard",
            system="ours",
            protocol="cross-corpus",
            classes=names(SHARED),
            scores=scores,
            labels=labels,
            condition=target,
            seed=seed,
            note="Float32; both stages taught on the other two corpora alone, all their classes; answers among four.",
            groups=corpus.speakers[chosen],
        )
        return Made([row])

    pieces = [
        Piece(f"{target} {seed}", partial(make, target, seed), 2.0 if target == emodb.KEY else 5.0)
        for seed in seeds
        for target in keys
    ]
    return Study("cross-corpus", pieces, FILES, given.recipe_mark)


# --- fewer clips, other learning rates -----------------------------------------------------------------------


def fewer(train: NDArray[np.int64], labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` of the training rows at random, every class in its share."""
    kept, _ = train_test_split(train, train_size=count, stratify=labels[train], random_state=seed)
    return np.sort(np.asarray(kept, np.int64))


def sample_count(given: Shelf, seeds: Sequence[int]) -> Study:
    """LOSO with fewer training clips of EMO-DB in every fold."""

    def make(count: int | None, seed: int) -> Made:
        corpus = given.corpora[emodb.KEY]
        splits = leave_one_speaker_out(corpus.clips)

        def readout(split: Split) -> Readout:
            train = split.train if count is None else fewer(split.train, corpus.labels, count, seed)
            return given.readout(seed, train)

        shown = count or round(float(np.mean([len(split.train) for split in splits])))
        note = f"{LOSO_NOTE} The number counts training clips of EMO-DB" + ("." if count else ": all, on average.")
        logits = answered(given, seed, splits, readout)
        return Made([_row("sample-count", str(shown), seed, logits, corpus.clips, note)])

    pieces = [
        Piece(f"{count or 'all'} clips, seed {seed}", partial(make, count, seed), 2.0)
        for seed in seeds
        for count in (*COUNTS, None)
    ]
    return Study("sample-count", pieces, FILES, given.recipe_mark)


def learning_rate(given: Shelf, seeds: Sequence[int]) -> Study:
    """Inner validation: of EMO-DB's six fixed training speakers one is left out after the other, the four fixed test
    speakers are never touched."""

    def make(rate: float, seed: int) -> Made:
        corpus = given.corpora[emodb.KEY]
        inner = np.flatnonzero(np.isin(corpus.speakers, FIXED_TRAIN))
        splits = [
            Split(one, inner[corpus.speakers[inner] != one], inner[corpus.speakers[inner] == one])
            for one in sorted(set(corpus.speakers[inner].tolist()))
        ]
        steps = msgspec.structs.replace(given.recipe.readout, learning_rate=rate)
        recipe = msgspec.structs.replace(given.recipe, readout=steps)
        logits = answered(given, seed, splits, lambda split: given.readout(seed, split.train, recipe))
        note = "One of the fixed split's six training speakers left out after the other; rate of the readout; float32."
        clips = [corpus.clips[row] for row in inner]
        return Made([_row("learning-rate", f"{rate:g}", seed, logits[inner], clips, note)])

    pieces = [Piece(f"rate {rate:g}, seed {seed}", partial(make, rate, seed), 1.0) for seed in seeds for rate in RATES]
    return Study("learning-rate", pieces, FILES, given.recipe_mark)
