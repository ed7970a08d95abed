"""The tuning budget is the same for all, and is spent on the training side alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tools.evaluate.made_up import corpus
from tools.evaluate.splits import leave_one_speaker_out, random_folds
from tools.evaluate.system import Material
from tools.evaluate.systems import SYSTEMS, classical, tuning
from tools.evaluate.systems.tuning import choose, inner_split, macro_recall
from tools.training.splits import Split


@dataclass
class Rehearsed:
    """A system whose configuration i answers right with a given share; counts how often it is tried."""

    digest: str = "1"
    shares: tuple[float, ...] = (0.2, 0.9, 0.4)
    tried_seeds: list[int] = field(default_factory=list)

    @property
    def configurations(self) -> tuple[str, ...]:
        return tuple(str(share) for share in self.shares)

    def tried(self, material: Material, inner: Split, number: int, seed: int) -> NDArray[np.float32]:
        self.tried_seeds.append(seed)
        labels = material.labels[inner.test]
        right = np.arange(len(labels)) < self.shares[number] * len(labels)
        return np.asarray(3 * np.eye(7)[np.where(right, labels, (labels + 1) % 7)], np.float32)


@pytest.fixture(autouse=True)
def nothing_chosen_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tuning, "_CHOICES", {})
    yield


def eight_speakers() -> Material:
    given = corpus()
    clips = [replace(clip, speaker=f"{clip.speaker}{i % 2}") for i, clip in enumerate(given.clips)]
    return replace(given, clips=clips)


def speakers(given: Material, rows: NDArray[np.int64]) -> set[str]:
    return {given.clips[row].speaker for row in rows}


def test_inner_split_holds_whole_speakers_out_when_the_split_is_by_speaker() -> None:
    given = eight_speakers()
    for split in leave_one_speaker_out(given.clips, 0):
        inner = inner_split(given, split)
        assert not speakers(given, inner.train) & speakers(given, inner.test)
        assert len(speakers(given, inner.test)) == 2
        assert sorted([*inner.train, *inner.test]) == sorted(split.train)


@pytest.mark.parametrize("given", [corpus(), eight_speakers()], ids=["too few speakers", "speakers seen"])
def test_inner_split_is_else_a_stratified_fifth_of_the_training_side(given: Material) -> None:
    split = (leave_one_speaker_out if len(speakers(given, np.arange(140))) == 4 else random_folds)(given.clips, 0)[0]
    inner = inner_split(given, split)
    assert sorted([*inner.train, *inner.test]) == sorted(split.train)
    counts = np.bincount(given.labels[inner.test], minlength=7)
    assert counts.max() - counts.min() <= 1
    assert abs(len(inner.test) - len(split.train) / 5) <= 1


def test_the_configuration_of_the_greatest_inner_recall_is_chosen_once_for_all_seeds() -> None:
    given = corpus()
    split = leave_one_speaker_out(given.clips, 0)[0]
    system = Rehearsed()
    first, again = choose(system, given, split), choose(system, given, split)
    assert first.number == 1 and again == first
    assert system.tried_seeds == [0, 0, 0]
    np.testing.assert_allclose(first.recalls, [0.2, 0.9, 0.4], atol=0.1)


def test_another_system_split_or_labelling_is_chosen_for_anew() -> None:
    given = corpus()
    one, other = leave_one_speaker_out(given.clips, 0)[:2]
    system = Rehearsed()
    choose(system, given, one)
    choose(system, given, other)
    choose(system, replace(given, labels=given.labels[::-1].copy()), one)
    choose(replace(system, digest="2"), given, one)
    assert len(system.tried_seeds) == 4 * 3


def test_the_choice_does_not_depend_on_the_test_items() -> None:
    given = corpus(separation=0.7)
    split = leave_one_speaker_out(given.clips, 0)[0]
    poisoned = replace(given, labels=given.labels.copy(), clean=replace(given.clean, frames=given.clean.frames.copy()))
    poisoned.labels[split.test] = 0
    poisoned.clean.frames[split.test] = 3e4
    system = classical.system("svm")
    before = choose(system, given, split)
    tuning._CHOICES.clear()
    assert choose(system, poisoned, split) == before


def test_temperature_makes_confidence_meet_the_share_of_right_answers() -> None:
    given = corpus()
    chosen = choose(Rehearsed(shares=(0.5, 0.6, 0.7)), given, leave_one_speaker_out(given.clips, 0)[0])
    confidence = np.exp(3 / chosen.temperature) / (np.exp(3 / chosen.temperature) + 6)
    assert abs(confidence - 0.7) < 0.05


def test_macro_recall_counts_classes_alike_and_only_those_that_occur() -> None:
    labels = np.array([0, 0, 0, 0, 3])
    assert macro_recall(np.array([0, 0, 0, 5, 1]), labels) == pytest.approx((3 / 4 + 0) / 2)


def test_every_system_has_three_configurations() -> None:
    for name in ("svm", "svm_rbf", "elm", "raw", "pca64", "aae64", "cnn", "bilstm_paper", "cnn_bilstm_attention"):
        configurations = SYSTEMS[name]().configurations  # type: ignore[attr-defined]
        assert len(set(configurations)) == 3, name
