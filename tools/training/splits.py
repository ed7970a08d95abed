"""Which clips teach and which test. A split is over positions in one list of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.dataset.clips import Clip

#: The speaker split of audEERING's audformat release of EMO-DB (version 1.2.0 and later).
FIXED_TRAIN: Final = ("03", "08", "09", "10", "11", "13")
FIXED_TEST: Final = ("12", "14", "15", "16")


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the training and of the test clips."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def speaker_split(clips: Sequence[Clip], test_speakers: Sequence[str], name: str) -> Split:
    """The named speakers are the test side, all others the training side."""
    is_test = np.array([clip.speaker in test_speakers for clip in clips])
    return Split(name, np.flatnonzero(~is_test), np.flatnonzero(is_test))


def leave_one_speaker_out(clips: Sequence[Clip]) -> list[Split]:
    """One split a speaker."""
    return [speaker_split(clips, [speaker], speaker) for speaker in sorted({clip.speaker for clip in clips})]


def fixed_split(clips: Sequence[Clip]) -> Split:
    """audEERING's: speakers 03 08 09 10 11 13 against 12 14 15 16."""
    return speaker_split(clips, FIXED_TEST, "fixed")


def random_folds(clips: Sequence[Clip], *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Stratified random folds: speakers are on both sides, so the figure is not one for strangers."""
    generator = np.random.default_rng(seed)
    fold_of = np.empty(len(clips), np.int64)
    labels = np.array([clip.label for clip in clips])
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        fold_of[members] = np.arange(len(members)) % folds
    return [Split(f"random-{k}", np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(folds)]


def speaker_folds(clips: Sequence[Clip], folds: int) -> list[Split]:
    """Every speaker is tested in one fold; each corpus deals its speakers out in turn."""
    fold_of: dict[tuple[str, str], int] = {}
    for corpus in sorted({clip.corpus for clip in clips}):
        for place, speaker in enumerate(sorted({clip.speaker for clip in clips if clip.corpus == corpus})):
            fold_of[corpus, speaker] = place % folds
    of_clip = np.array([fold_of[clip.corpus, clip.speaker] for clip in clips])
    return [Split(f"speakers-{k}", np.flatnonzero(of_clip != k), np.flatnonzero(of_clip == k)) for k in range(folds)]


def shared_speakers(clips: Sequence[Clip], split: Split) -> set[str]:
    """Speakers that stand on both sides of a split; empty for a speaker-independent one."""
    return {clips[i].speaker for i in split.train} & {clips[i].speaker for i in split.test}
