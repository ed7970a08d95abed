"""What the studies of the speech branch teach and test, on made-up corpora."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.labels import Emotion
from tests.tools.training.made_up import RECIPE, corpus
from tools.evaluate.predictions import Row
from tools.evaluate.studies import shelf, speech_studies
from tools.evaluate.studies.pieces import Study
from tools.evaluate.studies.shelf import Shelf
from tools.evaluate.studies.speech_studies import SHARED, answered, cross_corpus, fewer, learning_rate, sample_count
from tools.training import speech
from tools.training.recipes import SpeechRecipe
from tools.training.speech import Pooled, Rows
from tools.training.speech_windows import Windows
from tools.training.splits import FIXED_TEST, FIXED_TRAIN
from tools.training.voices import Corpus

SEVEN = tuple(emotion for emotion in Emotion if emotion is not Emotion.SURPRISE)
SPEAKERS = sorted((*FIXED_TRAIN, *FIXED_TEST))


@pytest.fixture
def given(tmp_path: Path) -> Shelf:
    """All three corpora, small, with a recipe of few steps."""
    steps = msgspec.structs.replace(RECIPE.sequence, batch={"ravdess": 6, "nemo": 6})
    readout = msgspec.structs.replace(RECIPE.readout, steps=60, batch={"emodb": 12, "ravdess": 8, "nemo": 8})
    given = Shelf(tmp_path, tmp_path / "training", tmp_path / "evaluate", tmp_path / "own")
    vars(given)["recipe"] = msgspec.structs.replace(
        RECIPE, copies={"emodb": 2, "ravdess": 2, "nemo": 2}, sequence=steps, readout=readout
    )
    vars(given)["corpora"] = {
        "emodb": corpus("emodb", SPEAKERS, SEVEN, 2),
        "ravdess": corpus("ravdess", ("R02", "R03"), tuple(Emotion), 2),
        "nemo": corpus("nemo", ("EB0",), (Emotion.ANGER, Emotion.FEAR, *SHARED[1:], Emotion.SURPRISE), 2),
    }
    return given


class NearestMean:
    """A readout that answers by the distance to the classes' means."""

    def __init__(self, parts: Mapping[str, Pooled], rows: Rows) -> None:
        numbers = np.concatenate([parts[key].training[rows[key], 0] for key in rows])
        labels = np.concatenate([parts[key].labels[rows[key]] for key in rows])
        self.known = np.unique(labels)
        self.means = np.array([numbers[labels == label].mean(axis=0) for label in self.known])

    def log_scores(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """As a `Readout`'s."""
        scores = np.full((len(pooled), len(Emotion)), -20.0, np.float32)
        scores[:, self.known] = -2 * np.linalg.norm(pooled.mean(axis=1)[:, np.newaxis] - self.means, axis=2)
        return scores


class MeanPooler:
    """Pools windows by their mean over time."""

    widths: ClassVar = {"mean": 34}

    def __init__(self, sequence: object, recipe: object, folder: Path) -> None:
        self.taught_on = sequence

    def of(self, windows: Windows) -> NDArray[np.float32]:
        """As a `Pooler`'s."""
        return np.asarray(windows.frames.mean(axis=2, dtype=np.float32))

    def of_corpus(self, corpus: Corpus) -> Pooled:
        """As a `Pooler`'s."""
        return Pooled(self.of(corpus.clean), self.of(corpus.training), corpus.labels)


class Taught:
    """Stands for the training of both stages, and notes what they were taught with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sequences: list[list[str]] = []
        self.rows: list[Rows] = []
        self.rates: list[float] = []
        monkeypatch.setattr(speech, "teach_sequence", self._sequence)
        monkeypatch.setattr(speech, "teach_readout", self._readout)
        monkeypatch.setattr(shelf, "Pooler", MeanPooler)

    def _sequence(self, corpora: list[Corpus], *others: object) -> object:
        self.sequences.append([one.key for one in corpora])
        return self.sequences[-1]

    def _readout(
        self, parts: Mapping[str, Pooled], rows: Rows, recipe: SpeechRecipe, widths: object, seed: int
    ) -> NearestMean:
        self.rows.append(rows)
        self.rates.append(recipe.readout.learning_rate)
        return NearestMean(parts, rows)


def rows_of(study: Study) -> list[Row]:
    return [row for piece in study.pieces for row in piece.make().rows]


def test_every_target_is_answered_by_stages_that_never_heard_it(given: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Taught(monkeypatch)
    rows = rows_of(cross_corpus(given, [3]))
    assert [(row.condition, row.seed) for row in rows] == [("emodb", 3), ("ravdess", 3), ("nemo", 3)]
    assert taught.sequences == [["ravdess", "nemo"], ["nemo"], ["ravdess"]]
    assert [set(one) for one in taught.rows] == [{"ravdess", "nemo"}, {"emodb", "nemo"}, {"emodb", "ravdess"}]
    assert [len(row.labels) for row in rows] == [40, 8, 4]
    assert all(row.classes == ("anger", "happiness", "neutral", "sadness") for row in rows)
    assert all((row.scores.argmax(axis=1) == row.labels).mean() > 0.6 for row in rows)


def test_fewer_clips_teach_every_fold_and_no_test_speaker(given: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Taught(monkeypatch)
    monkeypatch.setattr(speech_studies, "COUNTS", (21,))
    rows = rows_of(sample_count(given, [0]))
    assert [row.condition for row in rows] == ["21", "63"]
    assert [len(one["emodb"]) for one in taught.rows] == [21] * 10 + [63] * 10
    emodb = given.corpora["emodb"]
    for one, speaker in zip(taught.rows, SPEAKERS * 2, strict=True):
        assert speaker not in emodb.speakers[one["emodb"]]
        assert set(emodb.labels[one["emodb"]]) == set(range(7))
    assert all(len(row.labels) == 70 and row.groups is not None for row in rows)


def test_a_smaller_choice_is_the_same_for_a_seed() -> None:
    train, labels = np.arange(10, 80), np.arange(80) % 7
    first, again, other = (fewer(train, labels, 14, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first.tolist()) <= set(train.tolist())
    assert np.bincount(labels[first]).tolist() == [2] * 7
    assert (first != other).any()


def test_learning_rates_are_tried_on_inner_speakers_alone(given: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Taught(monkeypatch)
    rows = rows_of(learning_rate(given, [0]))
    assert [float(row.condition) for row in rows] == [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    assert taught.rates == [rate for rate in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2) for _ in FIXED_TRAIN]
    speakers = given.corpora["emodb"].speakers
    for one, inner in zip(taught.rows, sorted(FIXED_TRAIN) * 5, strict=True):
        assert set(speakers[one["emodb"]]) == set(FIXED_TRAIN) - {inner}
    for row in rows:
        assert row.groups is not None
        assert set(row.groups) == set(FIXED_TRAIN)
        assert np.isfinite(row.scores).all()


def test_disturbed_clips_are_answered_by_readouts_that_did_not_hear_the_speaker(
    given: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = Taught(monkeypatch)
    emodb = given.corpora["emodb"]
    silence = Windows(np.zeros_like(emodb.clean.frames), np.zeros_like(emodb.clean.contours))
    monkeypatch.setattr(speech_studies, "windows_under", lambda clips, condition, workers: silence)
    monkeypatch.setattr(speech_studies, "SOUNDS", {"noise 0 dB": None})
    clean, noisy = rows_of(speech_studies.robustness(given, [0], 1))
    assert (clean.condition, noisy.condition) == ("clean", "noise 0 dB")
    assert len(taught.rows) == 10
    for one, speaker in zip(taught.rows, SPEAKERS, strict=True):
        assert speaker not in emodb.speakers[one["emodb"]]
    right = [(row.scores.argmax(axis=1) == row.labels).mean() for row in (clean, noisy)]
    assert right[0] > 0.6 > 0.3 > right[1]
    untested = answered(given, 0, [], lambda split: given.readout(0, split.train))
    assert np.isnan(untested).all()
