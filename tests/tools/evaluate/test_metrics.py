"""Figures and their intervals against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from tools.evaluate import metrics
from tools.evaluate.metrics import Answers
from tools.training.scores import confidence_error


def answers(
    predicted: list[int] | NDArray[np.int64],
    labels: list[int] | NDArray[np.int64],
    *,
    classes: int = 3,
    confidence: float | NDArray[np.float64] = 0.9,
    speakers: int = 2,
) -> Answers:
    count = len(labels)
    rest = (1 - np.broadcast_to(confidence, (count,))) / (classes - 1)
    probabilities = np.repeat(rest[:, np.newaxis], classes, axis=1)
    probabilities[np.arange(count), predicted] = confidence
    items = np.array([f"clip {i:04d}" for i in range(count)])
    who = np.array([f"speaker {i * speakers // count}" for i in range(count)])
    return Answers(items, who, np.asarray(labels, np.int64), np.log(probabilities).astype(np.float32))


def random_answers(seed: int, right: float, count: int = 400) -> Answers:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wrong = (labels + generator.integers(1, 3, count)) % 3
    return answers(np.where(generator.random(count) < right, labels, wrong), labels, speakers=10)


def test_macro_figures_of_a_table_by_hand() -> None:
    """Class 0: 2 of 3 right; class 1: 1 of 1; class 2 is answered once and never true."""
    table = metrics.table_of(answers([0, 0, 2, 1], [0, 0, 0, 1]))
    assert metrics.accuracy(table) == pytest.approx(3 / 4)
    assert metrics.uar(table) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.macro_precision(table) == pytest.approx(1.0)
    assert metrics.macro_f1(table) == pytest.approx((0.8 + 1) / 2)
    np.testing.assert_allclose(metrics.recalls(table), [2 / 3, 1, np.nan])


def test_a_class_that_is_never_answered_has_no_precision() -> None:
    table = metrics.table_of(answers([0, 0], [0, 1]))
    assert metrics.macro_precision(table) == pytest.approx(0.25)
    assert metrics.macro_f1(table) == pytest.approx((2 / 3) / 2)


def test_the_seeds_interval_is_students() -> None:
    values = [0.70, 0.74, 0.73, 0.71, 0.77]
    found = metrics.estimate(values, {})
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(0.73)
    assert (found.by, found.seeds) == ("seeds", 5)


def test_the_widest_interval_is_the_one_of_record() -> None:
    found = metrics.estimate(
        [0.50, 0.51], {"clips": np.linspace(0.1, 0.9, 101), "speakers": np.linspace(0.4, 0.6, 101)}
    )
    assert found.by in ("clips", "seeds")
    widths = {name: high - low for name, (low, high) in found.intervals.items()}
    assert found.high - found.low == pytest.approx(max(widths.values()))
    assert set(widths) == {"seeds", "clips", "speakers"}


def test_an_interval_of_a_share_ends_at_one_and_of_a_difference_does_not_end_at_zero() -> None:
    assert metrics.estimate([0.9, 1.0], {}).high == 1.0
    assert metrics.estimate([-0.1, 0.1], {}, least=-1.0).low < -0.5


def test_the_clips_interval_agrees_with_the_normal_one() -> None:
    series = [random_answers(0, 0.8)]
    found = metrics.over_seeds(series, metrics.accuracy, by_speaker=False)
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 400)
    assert found.intervals["clips"] == pytest.approx((found.value - half, found.value + half), abs=0.01)


def test_the_speakers_interval_is_wider_when_speakers_differ() -> None:
    labels = np.arange(400) % 3
    easy = np.arange(400) < 200
    series = [answers(np.where(easy, labels, (labels + 1) % 3), labels, speakers=10)]
    found = metrics.over_seeds(series, metrics.uar, by_speaker=True)
    clips, speakers = (np.ptp(found.intervals[kind]) for kind in ("clips", "speakers"))
    assert speakers > 2 * clips
    assert found.by == "speakers"


def test_seeds_that_test_other_clips_are_averaged_and_not_pooled() -> None:
    """All right on one seed's two clips, all wrong on the other's six."""
    first = answers([0, 1], [0, 1])
    second = answers([1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1])
    assert metrics.over_seeds([first, second], metrics.uar, by_speaker=False).value == pytest.approx(0.5)


def test_a_margin_is_paired() -> None:
    """Two systems that differ on six clips only: the difference is sure though each share is not."""
    ours = random_answers(0, 0.7)
    labels, predicted = ours.labels, ours.predicted.copy()
    spoiled = np.flatnonzero(ours.right)[:12]
    predicted[spoiled] = (labels[spoiled] + 1) % 3
    other = answers(predicted, labels, speakers=10)
    found = metrics.margin([ours], [other], by_speaker=True)
    assert found.difference.value == pytest.approx(0.03, abs=0.003)
    low, high = found.difference.intervals["clips"]
    assert low > 0
    assert high - low < 0.04
    assert found.p < 0.01
    back = metrics.margin([other], [ours], by_speaker=False)
    assert back.difference.value == pytest.approx(-found.difference.value)
    assert back.p == pytest.approx(found.p, abs=0.002)


def test_no_difference_has_no_small_p() -> None:
    assert metrics.margin([random_answers(0, 0.7)], [random_answers(0, 0.7)], by_speaker=False).p == 1.0
    assert metrics.margin([random_answers(1, 0.7)], [random_answers(2, 0.7)], by_speaker=False).p > 0.05


def test_margins_between_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        metrics.margin([random_answers(0, 0.7)], [random_answers(0, 0.7, count=300)], by_speaker=False)


def test_risk_and_the_area_under_it_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    assert metrics.risk_at_coverage(confidence, right, 0.8) == pytest.approx(1 / 4)
    assert metrics.area_under_risk(confidence, right) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5)


def test_a_speakers_temperature_comes_from_the_others() -> None:
    """Changing one speaker's labels changes every temperature but that speaker's own."""
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=300)
    given = answers(np.where(generator.random(300) < 0.7, labels, (labels + 1) % 3), labels, speakers=3)
    before = metrics.cross_fitted(given)
    spoiled = given.labels.copy()
    own = given.speakers == "speaker 1"
    spoiled[own] = (spoiled[own] + 1) % 3
    after = metrics.cross_fitted(Answers(given.items, given.speakers, spoiled, given.log_probabilities))
    np.testing.assert_array_equal(after.log_probabilities[own], before.log_probabilities[own])
    assert not np.allclose(after.log_probabilities[~own], before.log_probabilities[~own])


def test_cross_fitting_makes_overconfident_answers_honest() -> None:
    given = [random_answers(seed, 0.6, count=900) for seed in range(2)]
    raw, fitted = (
        metrics.of_confidence(series, confidence_error)
        for series in (given, [metrics.cross_fitted(one) for one in given])
    )
    assert raw.value == pytest.approx(0.3, abs=0.05)
    assert fitted.value < 0.06
    assert raw.low <= raw.value <= raw.high


def test_a_gap_between_two_groups_of_speakers() -> None:
    labels = np.arange(400) % 3
    easy = np.arange(400) < 200
    series = [answers(np.where(easy | (np.arange(400) % 2 == 0), labels, (labels + 1) % 3), labels, speakers=10)]
    first, second = ([f"speaker {i}" for i in some] for some in (range(5), range(5, 10)))
    found = metrics.gap(series, first, second)
    assert found.value == pytest.approx(0.5, abs=0.01)
    assert found.low > 0.4
    assert metrics.gap(series, second, first).value == pytest.approx(-found.value)
