"""Synthetic pairs: who is in them, what the control destroys, and when the senses are in conflict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device.inference.decision import DecisionParameters
from device.inference.fusion_head import FACE_MASK, FACE_PART, SPEECH_MASK, OpinionPool
from device.inference.speech_branch import log_softmax
from models.contract import EMBEDDING, FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, Emotion
from tools.evaluate.studies.fused import SIX, Head, Pairs, conflicts, pairs, parity, rows_of
from tools.evaluate.system import CLASSES
from tools.training.episodes import Episodes, FaceTokens, SpeechTokens
from tools.training.fusion import pool_constants

TICKS, COPIES = 12, 2


def said(classes: int, at: NDArray[np.int64], count: int, seed: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    logits = 3 * np.eye(classes)[at] + generator.standard_normal((len(at), classes))
    return np.repeat(log_softmax(logits.astype(np.float32))[:, np.newaxis], count, axis=1)


def speech_of(speaker: int) -> SpeechTokens:
    """One speaker, seven emotions (no surprise), three clips each."""
    labels = np.repeat([emotion.code for emotion in CLASSES], 3)
    return SpeechTokens(
        np.full((len(labels), TICKS, EMBEDDING), speaker, np.float32),
        said(len(SPEECH_CLASSES), labels, TICKS, speaker),
        np.ones((len(labels), TICKS, 2), np.float32),
        labels,
    )


def faces() -> FaceTokens:
    place = np.repeat(np.arange(len(FACE_CLASSES)), 4)
    codes = np.array([emotion.code for emotion in FACE_CLASSES])
    return FaceTokens(
        np.zeros((len(place), COPIES, EMBEDDING), np.float32),
        said(len(FACE_CLASSES), place, COPIES, 9),
        np.ones((len(place), COPIES, 2), np.float32),
        codes[place],
    )


class PoolAlone(Head):
    """A head whose correction is nothing in int8, and a little in float32."""

    def int8(self, given: Episodes) -> NDArray[np.float32]:
        """As a `Head`'s."""
        return self.pool.score(given.evidence)

    def float32(self, given: Episodes) -> NDArray[np.float32]:
        """As a `Head`'s."""
        return self.pool.score(given.evidence) + np.float32(0.01)


def head() -> Head:
    pool = OpinionPool(pool_constants(), (1 / 8,) * 8, (1 / 7,) * 7)
    return PoolAlone(None, Path("nowhere"), pool, 1.5, DecisionParameters())


def dealt(*, differ: bool = False) -> Pairs:
    voices = {"12": speech_of(1), "14": speech_of(2)}
    return pairs(voices, faces(), 150, np.random.default_rng(0), differ=differ)


def test_pairs_have_both_senses_and_name_the_speaker() -> None:
    given = dealt()
    assert Emotion.SURPRISE.code not in given.episodes.labels
    assert (given.episodes.evidence[:, -1, [SPEECH_MASK, FACE_MASK]] == 1).all()
    spoken = given.episodes.speech_embeddings[:, -1, 0]
    assert {(speaker, value) for speaker, value in zip(given.speakers, spoken, strict=True)} == {("12", 1), ("14", 2)}


def test_faces_agree_or_differ_with_the_voice_as_was_asked() -> None:
    shown = {differ: dealt(differ=differ) for differ in (False, True)}
    for differ, given in shown.items():
        chosen = given.of_labels(SIX)
        faces_say = np.array([FACE_CLASSES[i].code for i in chosen.episodes.evidence[:, -1, FACE_PART].argmax(axis=1)])
        agreeing = (faces_say == chosen.episodes.labels).mean()
        assert agreeing < 0.15 if differ else agreeing > 0.8


def test_rows_answer_among_their_classes_alone() -> None:
    six, pool = rows_of(head(), dealt(), "fused-six", SIX, 0, "note")
    seven, _ = rows_of(head(), dealt(), "fused-seven", CLASSES, 0, "note")
    assert (six.system, pool.system, six.classes[-1]) == ("fused", "pool", "sadness")
    assert (six.scores.shape[1], seven.scores.shape[1]) == (6, 7)
    assert len(six.labels) < len(seven.labels)
    np.testing.assert_array_equal(six.scores, pool.scores)
    assert (six.scores.argmax(axis=1) == six.labels).mean() > 0.9
    assert six.groups is not None and set(six.groups) == {"12", "14"}


def test_dealing_faces_anew_takes_their_worth_away_and_nothing_else() -> None:
    given = dealt()
    mixed = given.dealt_anew(np.random.default_rng(1))
    np.testing.assert_array_equal(mixed.episodes.speech_embeddings, given.episodes.speech_embeddings)
    np.testing.assert_array_equal(mixed.episodes.labels, given.episodes.labels)
    before, after = (
        (
            rows_of(head(), one, "fused-six", SIX, 0, "")[0].scores.argmax(axis=1)
            == rows_of(head(), one, "fused-six", SIX, 0, "")[0].labels
        ).mean()
        for one in (given, mixed)
    )
    assert after < before - 0.15


def test_int8_stands_beside_float32_over_the_whole_vocabulary() -> None:
    row = parity(head(), dealt(), 0)
    assert row.classes == tuple(str(emotion) for emotion in EMOTIONS)
    assert row.other is not None
    np.testing.assert_allclose(row.scores, row.other, atol=1e-4)


def test_conflict_is_called_where_labels_differ_and_seldom_where_they_agree() -> None:
    differing, follows, agreeing = conflicts(head(), dealt(), dealt(differ=True))
    assert differing.what == "abstains with conflict, labels differ"
    assert agreeing.what == "abstains with conflict, labels agree"
    assert differing.value > 30 > 10 > agreeing.value
    assert 0 < follows.value < 100
    assert follows.n < differing.n


@pytest.mark.parametrize("classes", [SIX, CLASSES])
def test_choosing_labels_keeps_speakers_with_their_episodes(classes: tuple[Emotion, ...]) -> None:
    chosen = dealt().of_labels(classes)
    assert len(chosen.speakers) == len(chosen.episodes.labels)
    assert ((chosen.speakers == "14") == (chosen.episodes.speech_embeddings[:, -1, 0] == 2)).all()
