"""Networks as systems: fixed epochs, an observer who changes nothing, nothing learned from the test side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from models.contract import SPEECH_CLASSES
from models.networks.baselines import BaselineShape
from tests.tools.evaluate.made_up import FRAMES, corpus
from tools.evaluate.checks import assert_blind_to_test, check_outcome
from tools.evaluate.splits import leave_one_speaker_out
from tools.evaluate.system import CLASSES, Material
from tools.evaluate.systems import networks, tuning
from tools.evaluate.systems.networks import NetworkSystem, Recipe, learning_rate_curve, system
from tools.evaluate.systems.tuning import inner_split, macro_recall
from tools.training.speech import fit_constants, of_rows
from tools.training.speech_windows import Windows
from tools.training.splits import Split

TINY = Recipe(
    epochs=2,
    learning_rate=1e-2,
    weight_average=0.9,
    shape=BaselineShape(filters=(16, 16, 16), lstm=4, attention=4, dropout=0.1),
)
COUNT = len(CLASSES)


def stretched(windows: Windows) -> Windows:
    """The same windows, 512 frames long."""
    return Windows(np.repeat(windows.frames, 512 // FRAMES, axis=2), windows.contours)


@pytest.fixture(scope="module")
def given() -> Material:
    short = corpus(separation=4.0)
    return replace(short, clean=stretched(short.clean), training=stretched(short.training))


@pytest.fixture(scope="module")
def split(given: Material) -> Split:
    return leave_one_speaker_out(given.clips, 0)[0]


def tiny(kind: str = "cnn", **changes: object) -> NetworkSystem:
    return NetworkSystem(f"tiny_{kind}", kind, (replace(TINY, **changes),))  # type: ignore[arg-type]


class Rehearsal:
    """Takes the place of training and prediction: notes what it is asked for and answers as well as the rate says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learned: list[tuple[Recipe, NDArray[np.int64]]] = []
        self.asked: list[NDArray[np.int64]] = []
        monkeypatch.setattr(networks, "train", self._train)
        monkeypatch.setattr(networks, "predict", self._predict)
        monkeypatch.setattr(tuning, "_CHOICES", {})

    def _train(
        self, kind: str, material: Material, rows: NDArray[np.int64], constants: object, recipe: Recipe, *rest: object
    ) -> float:
        self.learned.append((recipe, rows))
        return recipe.learning_rate

    def _predict(
        self, share: float, material: Material, rows: NDArray[np.int64], constants: object
    ) -> NDArray[np.float32]:
        self.asked.append(rows)
        wrong = np.arange(len(rows)) >= share * len(rows)
        return np.asarray(np.eye(COUNT)[(material.labels[rows] + wrong) % COUNT], np.float32)


def test_every_test_item_gets_log_probabilities(given: Material, split: Split) -> None:
    outcome = tiny("cnn_bilstm_attention", epochs=1).run(given, split, 0)
    check_outcome(outcome, given.labels[split.test], COUNT)
    assert outcome.epochs == () and outcome.training_s > 0


def test_answers_are_blind_to_the_test_side(given: Material, split: Split) -> None:
    assert_blind_to_test(tiny("cnn"), given, split)


def test_an_observer_changes_nothing_of_what_a_seed_learns(given: Material, split: Split) -> None:
    alone = tiny(epochs=12)
    watched = alone.recording()
    assert watched.name != alone.name
    answers, outcome = alone.run(given, split, 1).log_probabilities, watched.run(given, split, 1)
    np.testing.assert_allclose(outcome.log_probabilities, answers, atol=1e-5)
    labels = given.labels[split.test]
    assert macro_recall(answers.argmax(axis=1), labels) > 0.7
    check_outcome(outcome, labels, COUNT)
    assert [epoch.number for epoch in outcome.epochs] == list(range(1, 13))
    last = outcome.epochs[-1]
    assert last.test_loss == pytest.approx(-answers[np.arange(len(labels)), labels].mean(), abs=1e-4)
    assert last.test_uar == pytest.approx(macro_recall(answers.argmax(axis=1), labels))
    assert last.training_loss < outcome.epochs[0].training_loss
    assert last.training_accuracy > outcome.epochs[0].training_accuracy


def test_the_best_recipe_is_chosen_by_a_third_of_the_epochs_and_run_by_all(
    given: Material, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal = Rehearsal(monkeypatch)
    recipes = tuple(replace(TINY, epochs=7, learning_rate=share) for share in (0.3, 0.8, 0.5))
    outcome = NetworkSystem("three", "cnn", recipes).run(given, split, 0)
    assert outcome.chosen == str(recipes[1])
    assert [(recipe.epochs, recipe.learning_rate) for recipe, _ in rehearsal.learned] == [
        (3, 0.3),
        (3, 0.8),
        (3, 0.5),
        (7, 0.8),
    ]
    np.testing.assert_array_equal(rehearsal.learned[-1][1], split.train)


def test_accuracy_over_learning_rate_is_that_of_the_inner_split(
    given: Material, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal = Rehearsal(monkeypatch)
    inner = inner_split(given, split)
    curve = learning_rate_curve(tiny(epochs=8), given, split, (0.2, 0.6))
    assert [rate for rate, _ in curve] == [0.2, 0.6]
    np.testing.assert_allclose([accuracy for _, accuracy in curve], [0.2, 0.6], atol=0.05)
    for recipe, rows in rehearsal.learned:
        assert recipe.epochs == 8
        np.testing.assert_array_equal(rows, inner.train)
    for rows in rehearsal.asked:
        np.testing.assert_array_equal(rows, inner.test)


def test_the_papers_recipe_is_the_papers() -> None:
    for recipe in system("cnn_bilstm_attention_paper").recipes:
        assert (recipe.learning_rate, recipe.batch, recipe.clean_share) == (1e-4, 32, 1.0)
        assert (recipe.label_smoothing, recipe.weight_average, recipe.cosine) == (0.0, None, False)
        assert not recipe.class_weights


def test_without_augmentation_only_the_clean_copy_is_learned(given: Material, split: Split) -> None:
    marked = replace(given, training=Windows(given.training.frames.copy(), given.training.contours))
    for copy in range(3):
        marked.training.frames[:, copy] = copy
    plain = SpeechConstants(
        channel_mean=(0.0,) * 34,
        channel_scale=(1.0,) * 34,
        contour_mean=(0.0,) * 14,
        contour_scale=(1.0,) * 14,
        limit=5.0,
        temperature=1.0,
        prior=(1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES),
    )
    for share, copies in ((1.0, {0}), (0.25, {0, 1, 2}), (0.0, {1, 2})):
        batches = networks._Batches(marked, split.train, plain, replace(TINY, clean_share=share), 0)
        seen = np.concatenate([batches[i][0][:, 0, 0] for i in range(len(batches))])
        assert len(seen) == len(split.train) and set(seen.tolist()) == copies


def test_classes_are_weighted_to_count_alike(given: Material, split: Split) -> None:
    rows = np.concatenate([split.train, split.train[given.labels[split.train] == 0]])
    constants = fit_constants([of_rows(given.clean, split.train)])
    batches = networks._Batches(given, rows, constants, TINY, 0)
    targets, weights = (np.concatenate([batches[i][part] for i in range(len(batches))]) for part in (1, 2))
    np.testing.assert_allclose((targets * weights[:, np.newaxis]).sum(axis=0), len(rows) / COUNT, rtol=1e-5)
