"""Out-of-fold answers: every clip exactly once, and embeddings carried without its speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract import CHANNELS, CONTOUR_FEATURES, SPEECH_CLASSES, SPEECH_QUALITY
from models.labels import Emotion
from tests.tools.training.made_up import corpus, fewer_steps
from tools.training import speech
from tools.training.speech_folds import Fold, Voices, out_of_fold, out_of_fold_tokens, run_folds
from tools.training.speech_release import gather
from tools.training.speech_stream import FRAMES, TICKS, Streams
from tools.training.splits import speaker_folds

CLASSES = len(SPEECH_CLASSES)


def fold(test: list[int], train: list[int], shipped: NDArray[np.float32]) -> Fold:
    """A fold whose space is the shipped one, turned and shifted; every clip has a stream."""
    turn = np.roll(np.eye(shipped.shape[1], dtype=np.float32), len(test), axis=1) * 2

    def here(
        values: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        return (values @ turn + 3).astype(np.float32)

    rows = np.array(test)
    return Fold(
        test=rows,
        train=np.array(train),
        logits=rows[:, np.newaxis].astype(np.float32),
        tokens=rows,
        token_logits=np.broadcast_to(rows[:, np.newaxis, np.newaxis], (len(test), TICKS, CLASSES)).astype(np.float32),
        token_embeddings=np.repeat(here(shipped[test])[:, np.newaxis], TICKS, axis=1),
        train_embeddings=here(shipped[train]),
    )


def embeddings(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 4, (count, 5)).astype(np.float32)


def silent_streams(count: int) -> Streams:
    generator = np.random.default_rng(0)
    return Streams(
        generator.standard_normal((count, FRAMES, len(CHANNELS))).astype(np.float16),
        np.zeros((count, TICKS, len(CONTOUR_FEATURES)), np.float32),
        np.zeros((count, TICKS, len(SPEECH_QUALITY)), np.float32),
    )


def voices() -> Voices:
    corpora = {
        "emodb": corpus("emodb", ("03", "08"), (Emotion.ANGER, Emotion.SADNESS), 3),
        "ravdess": corpus("ravdess", ("R02", "R03"), (Emotion.ANGER, Emotion.SURPRISE), 2),
    }
    return Voices(corpora, np.array([0, 3, 5, 6]), silent_streams(4))


def test_answers_come_back_in_the_order_of_the_clips() -> None:
    shipped = embeddings(4)
    folds = [fold([2, 0], [1, 3], shipped), fold([3, 1], [0, 2], shipped)]
    np.testing.assert_array_equal(out_of_fold(folds, 4)[:, 0], [0, 1, 2, 3])


@pytest.mark.parametrize("tests", [([0, 1], [1, 2]), ([0], [1])])
def test_clip_tested_twice_or_never_is_refused(tests: tuple[list[int], list[int]]) -> None:
    shipped = embeddings(3)
    with pytest.raises(ValueError, match="exactly once"):
        out_of_fold([fold(rows, [0, 1, 2], shipped) for rows in tests], 3)


def test_embeddings_of_a_turned_space_are_carried_back() -> None:
    shipped = embeddings(80)
    rows = list(range(80))
    folds = [fold(rows[40:], rows[:40], shipped), fold(rows[:40], rows[40:], shipped)]
    carried, logits = out_of_fold_tokens(folds, shipped, 80)
    assert carried.shape == (80, TICKS, 5)
    np.testing.assert_allclose(carried[:, 0], shipped, atol=0.25)
    np.testing.assert_array_equal(logits[:, 3, 0], rows)


def test_the_map_never_sees_the_test_clips() -> None:
    """Changing the shipped embeddings of the test clips changes nothing of what is carried for them."""
    shipped = embeddings(60)
    rows = list(range(60))
    one = fold(rows[:20], rows[20:], shipped)
    changed = shipped.copy()
    changed[:20] += 5
    (before, _), (after, _) = (out_of_fold_tokens([one], space, 60) for space in (shipped, changed))
    np.testing.assert_array_equal(before[:20], after[:20])


def test_positions_among_all_clips_are_positions_within_their_corpus() -> None:
    some = voices()
    rows = some.rows_of(np.array([0, 3, 4, 7]))
    assert {key: found.tolist() for key, found in rows.items()} == {"emodb": [0, 3], "ravdess": [0, 3]}
    assert [clip.corpus for clip in some.clips] == ["emodb"] * 4 + ["ravdess"] * 4
    assert some.labels.tolist() == [clip.label for clip in some.clips]


def test_every_so_manieth_clip_of_a_speaker_and_emotion_gets_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.training.speech_release.streams", lambda clips, cache: silent_streams(len(clips)))
    corpora = {
        "emodb": corpus("emodb", ("03",), (Emotion.ANGER, Emotion.SADNESS), 2, takes=2),
        "nemo": corpus("nemo", ("EB0",), (Emotion.ANGER, Emotion.SURPRISE), 2, takes=4),
    }
    gathered = gather(corpora, {"emodb": 1, "nemo": 3}, tmp_path)
    assert gathered.streamed.tolist() == [0, 1, 2, 3, 4, 7, 8, 11]


def test_each_fold_teaches_both_stages_without_its_speakers_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = voices()
    splits = speaker_folds(some.clips, 2)
    taught: list[set[str]] = []
    real = speech.teach_sequence

    def watched(corpora, rows, *rest):  # type: ignore[no-untyped-def]
        taught.append({one.clips[row].speaker for one in corpora for row in rows[one.key]})
        return real(corpora, rows, *rest)

    monkeypatch.setattr(speech, "teach_sequence", watched)
    folds = run_folds(some, splits, fewer_steps(2), tmp_path)
    assert taught == [{"R03"}, {"R02"}]
    assert out_of_fold(folds, len(some.clips)).shape == (8, CLASSES)
    assert sorted(np.concatenate([one.tokens for one in folds]).tolist()) == [0, 1, 2, 3]
    for one, split in zip(folds, splits, strict=True):
        assert set(some.streamed[one.tokens]) <= set(split.test)
        assert one.token_embeddings.shape == (len(one.tokens), TICKS, 64)
    monkeypatch.setattr(speech, "teach_sequence", None)
    again = run_folds(some, splits, fewer_steps(2), tmp_path)
    np.testing.assert_array_equal(again[1].logits, folds[1].logits)
