"""Systems that cheat are found out; one that does not passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.tools.evaluate.made_up import (
    Memory,
    NearestMean,
    by_components_of_everything,
    by_everything,
    corpus,
)
from tools.evaluate.checks import assert_blind_to_test, check_outcome, recall_of_nonsense
from tools.evaluate.splits import PROTOCOLS, SplitError
from tools.evaluate.system import Material, System
from tools.training.splits import Split


@pytest.fixture(scope="module")
def given() -> Material:
    return corpus()


@pytest.fixture(scope="module")
def split(given: Material) -> Split:
    return PROTOCOLS["loso"].splits(given.clips, 0)[0]


@pytest.mark.parametrize("system", [NearestMean(), Memory()], ids=lambda system: system.name)
def test_an_honest_system_is_blind_to_the_test_side(given: Material, split: Split, system: System) -> None:
    assert_blind_to_test(system, given, split)


@pytest.mark.parametrize("scale", [by_everything, by_components_of_everything], ids=lambda scale: scale.__name__)
def test_a_scaler_or_a_code_fitted_on_the_test_side_is_found_out(given: Material, split: Split, scale: object) -> None:
    with pytest.raises(SplitError, match="other test items"):
        assert_blind_to_test(NearestMean(scale=scale), given, split)  # type: ignore[arg-type]


def test_a_system_that_learns_test_labels_is_found_out(given: Material, split: Split) -> None:
    class Peeking(NearestMean):
        def run(self, material: Material, split: Split, seed: int):  # type: ignore[no-untyped-def]
            everything = replace(split, train=np.arange(len(material.labels)))
            return super().run(material, everything, seed)

    with pytest.raises(SplitError, match="other test items"):
        assert_blind_to_test(Peeking(), given, split)


def test_the_check_leaves_the_material_as_it_was(given: Material, split: Split) -> None:
    before = given.clean.frames.copy(), given.labels.copy()
    assert_blind_to_test(NearestMean(), given, split)
    np.testing.assert_array_equal(given.clean.frames, before[0])
    np.testing.assert_array_equal(given.labels, before[1])


def test_the_last_epoch_is_the_score_of_record_even_when_an_earlier_one_was_better(
    given: Material, split: Split
) -> None:
    outcome = NearestMean(earlier=(0.99, 1.0)).run(given, split, 0)
    labels = given.labels[split.test]
    check_outcome(outcome, labels, 7)
    right = float((outcome.log_probabilities.argmax(axis=1) == labels).mean())
    assert right == pytest.approx(outcome.epochs[-1].test_accuracy)
    assert right < outcome.epochs[-2].test_accuracy


def test_the_best_epoch_on_the_test_side_is_refused_as_an_answer(given: Material, split: Split) -> None:
    outcome = NearestMean(earlier=(0.5, 1.0), answer_of_best_epoch=True).run(given, split, 0)
    with pytest.raises(SplitError, match="after the last epoch"):
        check_outcome(outcome, given.labels[split.test], 7)


@pytest.mark.parametrize(
    "answers",
    [np.zeros((34, 7)), np.full((35, 7), np.nan), np.zeros((35, 7))],
    ids=["an item short", "not a number", "no probabilities"],
)
def test_answers_that_are_none_are_refused(given: Material, split: Split, answers: object) -> None:
    outcome = replace(NearestMean().run(given, split, 0), log_probabilities=answers)  # type: ignore[arg-type]
    with pytest.raises(SplitError, match="answers"):
        check_outcome(outcome, given.labels[split.test], 7)


@pytest.mark.parametrize("system", [NearestMean(), Memory()], ids=lambda system: system.name)
def test_shuffled_labels_teach_nothing(given: Material, system: System) -> None:
    figure = recall_of_nonsense(system, given)
    assert figure.low <= 1 / 7 <= figure.high
