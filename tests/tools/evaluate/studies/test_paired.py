"""Truly paired senses: joined by take, fitted on other actors, pooled by the box's rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import FACE_CLASSES
from models.labels import Emotion
from tools.evaluate.studies.paired import NOTES, Takes, answers, read_faces, rows_of

ACTORS, EACH = 10, 42
HEAD = "take\tactor\temotion\tfold\tangry\tcalm\tdisgust\tfearful\thappy\tneutral\tsad\tsurprised\n"


def takes(*, sharp: float = 1.0) -> Takes:
    """Two independent senses, each right somewhat more often than not; speech knows boredom too."""
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(EACH) % 7, ACTORS)
    codes = np.array([emotion.code for emotion in FACE_CLASSES])

    def said(classes: int, at: NDArray[np.int64]) -> NDArray[np.float32]:
        return (sharp * (1.8 * np.eye(classes)[at] + generator.standard_normal((len(at), classes)))).astype(np.float32)

    actors = np.repeat([f"R{actor:02d}" for actor in range(ACTORS)], EACH)
    folds = np.repeat(np.arange(ACTORS) % 5, EACH)
    return Takes(said(8, codes[labels]), said(7, labels), folds, (folds + 1) % 5, labels, actors)


def right(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def test_two_senses_together_are_better_than_either() -> None:
    given = takes()
    found = {name: right(scores, given.labels) for name, scores in answers(given).items()}
    assert found["fused"] > max(found["speech"], found["face"]) + 0.06
    assert found["fused-without-face"] == found["speech"]


def test_nothing_of_an_actors_folds_is_fitted_on() -> None:
    given, changed = takes(), takes()
    near = (given.speech_fold == 0) | (given.face_fold == 1)
    own = given.actors == "R00"
    changed.speech[near & ~own] *= 9
    changed.face[near & ~own] = 0
    before, after = answers(given), answers(changed)
    for name in NOTES:
        np.testing.assert_array_equal(before[name][own], after[name][own])
    changed.speech[~near] *= 9
    assert np.abs(answers(changed)["speech"][own] - before["speech"][own]).max() > 1e-3


def test_temperatures_undo_overconfidence() -> None:
    calm, loud = takes(), takes(sharp=5.0)
    for name in ("speech", "face"):
        np.testing.assert_allclose(answers(calm)[name], answers(loud)[name], atol=0.2)


def test_rows_name_actors_and_say_how_they_were_made() -> None:
    rows = rows_of(takes(), 0)
    assert [row.system for row in rows] == ["fused", "speech", "face", "fused-without-face"]
    assert all(row.classes == tuple(str(emotion) for emotion in FACE_CLASSES) for row in rows)
    assert all(row.groups is not None and len(set(row.groups)) == ACTORS for row in rows)
    assert "correction is left out" in rows[0].note


def test_faces_are_joined_by_take_and_calm_counts_as_neutral(tmp_path: Path) -> None:
    path = tmp_path / "face_logits.tsv"
    lines = [
        "01-01-02-01-01-01-02\t2\tcalm\t1\t0\t1.0\t0\t0\t0\t1.0\t0\t0\n",
        "01-01-05-01-01-01-03\t3\tangry\t2\t7.5\t0\t0\t0\t0\t0\t0\t0\n",
    ]
    path.write_text(HEAD + "".join(lines))
    logits, folds = read_faces(path, ["03-01-05-01-01-01-03", "03-01-02-01-01-01-02"])
    assert folds.tolist() == [2, 1]
    assert logits[0, FACE_CLASSES.index(Emotion.ANGER)] == 7.5
    assert logits[1, FACE_CLASSES.index(Emotion.NEUTRAL)] == pytest.approx(1 + np.log(2))


@pytest.mark.parametrize("text", [HEAD, "take\n01-x\n", ""], ids=["take missing", "columns missing", "empty"])
def test_a_table_without_a_take_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "face_logits.tsv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"face_logits\.tsv"):
        read_faces(path, ["03-x"])
