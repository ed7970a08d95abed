"""Machines on functionals: honest probabilities, textbook machines, nothing learned from the test side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from device.inference.speech_branch import log_softmax
from tests.tools.evaluate.made_up import corpus
from tools.evaluate.checks import assert_blind_to_test, check_outcome, recall_of_nonsense
from tools.evaluate.splits import leave_one_speaker_out
from tools.evaluate.system import Material
from tools.evaluate.systems import SYSTEMS
from tools.evaluate.systems.classical import (
    HIDDEN,
    RandomLayer,
    Setting,
    _elm,
    clip_functionals,
    probe,
    system,
    windows_functionals,
)
from tools.evaluate.systems.tuning import choose, macro_recall
from tools.training.baseline import functionals
from tools.training.speech_windows import Windows
from tools.training.splits import Split

NAMES = ("svm", "svm_no_nonlinear", "svm_rbf", "elm", "raw", "raw_no_nonlinear", "pca64")


@pytest.fixture(scope="module")
def given() -> Material:
    return corpus(separation=4.0)


@pytest.fixture(scope="module")
def split(given: Material) -> Split:
    return leave_one_speaker_out(given.clips, 0)[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_test_item_gets_log_probabilities_and_a_separable_problem_is_learned(
    given: Material, split: Split, name: str
) -> None:
    outcome = SYSTEMS[name]().run(given, split, 0)
    check_outcome(outcome, given.labels[split.test], 7)
    assert outcome.log_probabilities.dtype == np.float32
    assert outcome.chosen in system(name).configurations
    assert macro_recall(outcome.log_probabilities.argmax(axis=1), given.labels[split.test]) > 0.9
    assert outcome.training_s > 0 and outcome.test_s > 0


@pytest.mark.parametrize("name", ["svm", "svm_rbf", "elm", "raw", "pca64"])
def test_answers_are_blind_to_the_test_side(given: Material, split: Split, name: str) -> None:
    assert_blind_to_test(system(name), given, split)


@pytest.mark.parametrize("name", ["svm", "elm", "raw"])
def test_shuffled_labels_teach_nothing(given: Material, name: str) -> None:
    assert recall_of_nonsense(system(name), given).low < 1 / 7 + 0.08


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_reproduces_its_answers(given: Material, split: Split, name: str) -> None:
    first, again = (system(name).run(given, split, 3).log_probabilities for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_seeds_differ_where_something_is_drawn(given: Material, split: Split) -> None:
    first, other = (system("elm").run(given, split, seed).log_probabilities for seed in (0, 1))
    assert np.abs(first - other).max() > 0.01


def test_elm_is_ridge_regression_behind_a_random_layer(given: Material, split: Split) -> None:
    """Huang et al. 2012, equation 30: beta = (H'WH + aI)^-1 H'WT, with weighted means taken off first."""
    features, labels = clip_functionals(given)[0][:, 0], given.labels
    scaler = StandardScaler().fit(features[split.train])
    layer = RandomLayer(HIDDEN, 5).fit(scaler.transform(features[split.train]))
    hidden = layer.transform(scaler.transform(features[split.train]))
    weight = (len(split.train) / (7 * np.bincount(labels[split.train])))[labels[split.train]]
    targets = 2 * np.eye(7)[labels[split.train]] - 1
    centre, level = np.average(hidden, axis=0, weights=weight), np.average(targets, axis=0, weights=weight)
    weighted = (hidden - centre).T * weight
    beta = np.linalg.solve(weighted @ (hidden - centre) + 10.0 * np.eye(HIDDEN), weighted @ (targets - level))
    expected = (layer.transform(scaler.transform(features[split.test])) - centre) @ beta + level
    machine = _elm(Setting(10.0, 5, len(split.train))).fit(features[split.train], labels[split.train])
    np.testing.assert_allclose(machine.decision_function(features[split.test]), expected, atol=1e-6)


def test_the_random_layer_is_a_sigmoid_of_random_sums() -> None:
    layer = RandomLayer(4, 1).fit(np.zeros((1, 3)))
    features = np.array([[0.5, -1.0, 2.0], [1e9, 1e9, -1e9]])
    sums = features[0] @ layer.weights_ + layer.bias_
    np.testing.assert_allclose(layer.transform(features)[0], 1 / (1 + np.exp(-sums)))
    assert np.isfinite(layer.transform(features)).all()


def test_pca64_is_scikit_learns_pca_before_the_probe(given: Material, split: Split) -> None:
    features, labels = clip_functionals(given)[0], given.labels
    one = system("pca64")
    choice = choose(one, given, split)
    scaler = StandardScaler().fit(features[split.train, 0])
    components = PCA(64).fit(scaler.transform(features[split.train, 0]))
    learned = probe(one.grid[choice.number]).fit(
        components.transform(scaler.transform(features[split.train, 0])), labels[split.train]
    )
    scores = np.mean(
        [
            learned.decision_function(components.transform(scaler.transform(features[split.test, window])))
            for window in (0, 1)
        ],
        axis=0,
    )
    expected = log_softmax(scores.astype(np.float32), choice.temperature)
    np.testing.assert_allclose(one.run(given, split, 0).log_probabilities, expected, atol=1e-3)


def test_pca_of_fewer_clips_than_components_still_answers(given: Material) -> None:
    few = Split("few", np.arange(0, 140, 3), np.arange(1, 140, 3))
    assert len(few.train) < 64
    check_outcome(system("pca64").run(given, few, 0), given.labels[few.test], 7)


@pytest.mark.parametrize("name", ["svm", "raw"])
def test_without_nonlinear_features_the_contours_play_no_part(given: Material, split: Split, name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 9, given.clean.contours.shape).astype(np.float32)
    other = replace(given, clean=Windows(given.clean.frames, noise))
    for suffix, plays in (("", True), ("_no_nonlinear", False)):
        one = system(name + suffix)
        here, there = (one.run(items, split, 0).log_probabilities for items in (given, other))
        assert bool(np.abs(here - there).max() > 0.01) is plays


def test_a_class_that_was_never_learned_comes_out_last(given: Material, split: Split) -> None:
    known = split.train[given.labels[split.train] != 2]
    answers = system("raw").run(given, Split("fewer", known, split.test), 0).log_probabilities
    assert (answers.argmin(axis=1) == 2).all()


def test_functionals_of_both_windows_are_those_of_each(given: Material) -> None:
    both = windows_functionals(given.clean)
    second = Windows(given.clean.frames[:, 1:], given.clean.contours[:, 1:])
    assert both.shape == (140, 2, 286)
    np.testing.assert_array_equal(both[:, 1], functionals(second))
