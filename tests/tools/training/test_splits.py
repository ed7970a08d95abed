"""Splits keep speakers apart, or say that they do not."""

from __future__ import annotations

import numpy as np

from models.labels import EMOTIONS
from tests.tools.training.made_up import clips_of
from tools.training.splits import (
    fixed_split,
    leave_one_speaker_out,
    random_folds,
    shared_speakers,
    speaker_folds,
)

TEN = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


def test_no_speaker_is_on_both_sides() -> None:
    clips = clips_of(TEN, EMOTIONS[:7], takes=5)
    folds = leave_one_speaker_out(clips)
    assert len(folds) == 10
    for split in (*folds, fixed_split(clips)):
        assert not shared_speakers(clips, split)
        assert sorted([*split.train, *split.test]) == list(range(len(clips)))
    assert sorted(i for split in folds for i in split.test) == list(range(len(clips)))
    assert {clips[i].speaker for i in fixed_split(clips).test} == {"12", "14", "15", "16"}


def test_random_folds_share_speakers_and_no_clip() -> None:
    clips = clips_of(("03", "08", "09"), EMOTIONS[:7], takes=5)
    folds = random_folds(clips, folds=5)
    for split in folds:
        assert shared_speakers(clips, split)
        assert not set(split.train) & set(split.test)
        counts = np.bincount([clips[i].label for i in split.test])
        assert counts.max() - counts.min() <= 1
    assert sorted(i for split in folds for i in split.test) == list(range(len(clips)))


def test_speaker_folds_deal_the_speakers_of_every_corpus_out() -> None:
    spoken = clips_of(TEN, EMOTIONS[:2], corpus="emodb") + clips_of(("R02", "R03", "R04"), EMOTIONS, corpus="ravdess")
    folds = speaker_folds(spoken, 3)
    assert sorted(i for split in folds for i in split.test) == list(range(len(spoken)))
    for split in folds:
        assert not shared_speakers(spoken, split)
        assert sorted([*split.train, *split.test]) == list(range(len(spoken)))
        tested = {(spoken[i].corpus, spoken[i].speaker) for i in split.test}
        assert sum(corpus == "ravdess" for corpus, _ in tested) == 1
        assert 3 <= sum(corpus == "emodb" for corpus, _ in tested) <= 4


def test_one_name_in_two_corpora_is_two_speakers() -> None:
    """Dealt out within its corpus, so that the order of another corpus's names changes nothing."""
    spoken = clips_of(("A", "B"), EMOTIONS[:1], corpus="one") + clips_of(("B", "C"), EMOTIONS[:1], corpus="two")
    first, second = speaker_folds(spoken, 2)
    assert [spoken[i].speaker for i in first.test] == ["A", "B"]
    assert [spoken[i].speaker for i in second.test] == ["B", "C"]
