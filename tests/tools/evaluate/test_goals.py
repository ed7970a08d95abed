"""Goals against predictions whose figures are known, and goals of the same protocol on the same items only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.evaluate.goals import Goal, accuracy_difference, agreement, goals
from tools.evaluate.predictions import Row
from tools.evaluate.results import Evidence

CLASSES = ("anger", "fear", "happiness", "sadness")
COUNT = 400
LABELS = np.arange(COUNT) % 4


def scores(predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.log(0.1 + 0.6 * np.eye(4)[predicted]), np.float64)


def right_but(wrong: int) -> NDArray[np.int64]:
    """Answers of which the first so many are wrong."""
    return np.where(np.arange(COUNT) < wrong, (LABELS + 1) % 4, LABELS)


def row(protocol: str, system: str, wrong: int, *, twin: int | None = None, condition: str = "", seed: int = 0) -> Row:
    return Row(
        name=system,
        system=system,
        protocol=protocol,
        classes=CLASSES,
        scores=scores(right_but(wrong)),
        labels=LABELS,
        condition=condition,
        seed=seed,
        groups=np.array([f"actor {i % 10}" for i in range(COUNT)]),
        other=None if twin is None else scores(right_but(twin)),
    )


def found(*rows: Row) -> dict[str, Goal]:
    return {goal.metric: goal for goal in goals(Evidence({}, rows), Path("nowhere"))}


def test_nothing_is_measured_without_predictions() -> None:
    rows = found().values()
    assert {(goal.value, goal.met, goal.seeds) for goal in rows} == {(None, None, None)}
    assert all(goal.note.startswith("not measured") for goal in rows)


@pytest.mark.parametrize(
    ("metric", "goal", "stretch"),
    [
        ("EMO-DB random 5x5-fold accuracy, speech alone, at most 500 KB", 92.0, 94.0),
        ("EMO-DB LOSO UAR, speech alone", 84.0, 87.0),
        ("EMO-DB LOSO UAR, speech alone: worst speaker", 70.0, None),
        ("unseen speaker and sentence UAR", 80.0, 83.0),
        ("margin in macro recall over bilstm", 7.13, None),
        ("FER+ valid accuracy (majority rule), at most 500 K parameters and 30 MMAC", 87.0, 88.5),
        ("FER+ valid accuracy lost by int8", 0.4, None),
        ("fused accuracy, six classes, synthetic pairing by label", 98.75, None),
        ("fused less log-opinion pool, six classes, synthetic pairing by label", 0.5, None),
        ("fused accuracy over the better single branch, truly paired", 6.0, None),
        ("accuracy that a missing face costs against speech alone, truly paired", 1.0, None),
        ("ECE, LOSO", 5.0, None),
        ("risk at 80 % coverage, LOSO", 8.0, None),
        ("int8 and float32 give the same label: the least of the networks", 99.0, None),
        ("cross-corpus UAR, 4 shared classes: the worst target", 50.0, None),
        ("sex gap in UAR (women less men; met too when the interval covers 0)", 4.0, None),
    ],
)
def test_the_goals_are_the_agreed_ones(metric: str, goal: float, stretch: float | None) -> None:
    assert (found()[metric].goal, found()[metric].stretch) == (goal, stretch)


@pytest.mark.parametrize(("wrong", "met"), [(4, True), (6, False)])
def test_a_goal_is_met_or_missed_by_its_value(wrong: int, met: bool) -> None:
    goal = found(row("fused-six", "fused", wrong))["fused accuracy, six classes, synthetic pairing by label"]
    assert goal.value == pytest.approx(100 - wrong / 4)
    assert goal.met is met
    assert goal.low is not None and goal.high is not None and goal.low <= 100 - wrong / 4 <= goal.high


@pytest.mark.parametrize(("pool", "met"), [(3, True), (8, False)])
def test_the_head_must_be_near_the_pool_on_either_side(pool: int, met: bool) -> None:
    metric = "fused less log-opinion pool, six classes, synthetic pairing by label"
    goal = found(row("fused-six", "fused", 4), row("fused-six", "pool", pool))[metric]
    assert goal.value == pytest.approx((pool - 4) / 4)
    assert goal.met is met


def test_the_gain_is_over_the_better_branch() -> None:
    rows = [row("fused-paired", system, wrong) for system, wrong in (("fused", 80), ("speech", 110), ("face", 150))]
    goal = found(*rows)["fused accuracy over the better single branch, truly paired"]
    assert (goal.value, goal.met) == (7.5, True)
    assert "speech 72.5 %" in goal.note


def test_a_missing_face_costs_what_the_head_loses_against_speech() -> None:
    rows = [row("fused-paired", "speech", 100), row("fused-paired", "fused-without-face", 106)]
    goal = found(*rows)["accuracy that a missing face costs against speech alone, truly paired"]
    assert (goal.value, goal.met) == (1.5, False)


def test_int8_agreement_counts_labels_and_the_least_network_decides() -> None:
    rows = [row("int8", system, 40, twin=twin) for system, twin in (("speech", 42), ("face", 40), ("fused", 60))]
    goal = found(*rows)["int8 and float32 give the same label: the least of the networks"]
    assert (goal.value, goal.met) == (95.0, False)
    assert "fused" in goal.note
    assert found(*rows)["int8 and float32 give the same label: speech"].value == 99.5
    assert found(*rows[:2])["int8 and float32 give the same label: the least of the networks"].value is None
    assert agreement([row("int8", "speech", 40)]) is None


def test_what_int8_loses_is_float_less_int8() -> None:
    goal = found(row("ferplus-valid", "face", 50, twin=46))["FER+ valid accuracy lost by int8"]
    assert (goal.value, goal.met) == (1.0, False)


def test_the_worst_corpus_decides_and_all_are_told() -> None:
    rows = [
        row("cross-corpus", "ours", wrong, condition=corpus, seed=seed)
        for corpus, wrong in (("ravdess", 180), ("nemo", 220))
        for seed in range(3)
    ]
    goal = found(*rows)["cross-corpus UAR, 4 shared classes: the worst target"]
    assert (goal.value, goal.met, goal.seeds) == (45.0, False, 3)
    assert "ravdess 55.0 %" in goal.note and "nemo 45.0 %" in goal.note


def test_a_difference_over_other_items_is_refused() -> None:
    other = Row("x", "pool", "fused-six", CLASSES, scores(LABELS), LABELS[::-1].copy())
    with pytest.raises(ValueError, match="same items"):
        accuracy_difference([row("fused-six", "fused", 4)], [other])


def test_a_difference_needs_a_seed_that_both_have() -> None:
    assert accuracy_difference([row("fused-six", "fused", 4, seed=1)], [row("fused-six", "pool", 4)]) is None
