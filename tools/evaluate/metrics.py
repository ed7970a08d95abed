"""Figures over seeds, and how sure they are: by seeds, by clips and by speakers. Shares and probabilities are 0..1.

An answer set that was made with several seeds is a list of `Answers`, one a seed. A figure is the mean over the seeds.
Its intervals, all 95 %: `seeds` by Student's t over the seeds' values; `clips` by the percentile bootstrap over clips,
within the classes; `speakers` by the percentile bootstrap over whole speakers. The interval of record is the widest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from device.inference.speech_branch import log_softmax
from tools.training import scores

RESAMPLES: Final = 2000
#: For figures that must be computed anew on every resample.
FEWER_RESAMPLES: Final = 200
COVERAGE: Final = 0.8
_ENDS: Final = (0.025, 0.975)

Counts = NDArray[np.float64]
Shares = NDArray[np.float64]
Draws = NDArray[np.float64]
TableStatistic = Callable[[Counts], Shares]
ConfidenceStatistic = Callable[[Shares, NDArray[np.bool_]], float]


@dataclass(frozen=True, eq=False)
class Answers:
    """One seed's answers: `items` names the recording behind each (n,), `labels` (n,), `log_probabilities` (n, k)."""

    items: NDArray[np.str_]
    speakers: NDArray[np.str_]
    labels: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of greatest probability."""
        return np.asarray(self.log_probabilities.argmax(axis=1), np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right."""
        return np.asarray(self.predicted == self.labels, np.bool_)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Answers:
        return Answers(self.items[rows], self.speakers[rows], self.labels[rows], self.log_probabilities[rows])


Series = Sequence[Answers]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the ends of its interval of record, whose kind is `by`, and all intervals by kind."""

    value: float
    low: float
    high: float
    by: str
    intervals: Mapping[str, tuple[float, float]]
    seeds: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(values: Sequence[float], draws: Mapping[str, Draws], *, least: float = 0.0) -> Estimate:
    """The mean of the seeds' `values`, which are `least` to 1; `draws` are bootstrap means by kind."""
    mean = float(np.mean(values))
    intervals = {}
    if len(values) > 1:
        half = float(student.ppf(_ENDS[1], len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        intervals["seeds"] = (max(least, mean - half), min(1.0, mean + half))
    for kind, drawn in draws.items():
        low, high = np.nanquantile(drawn, _ENDS)
        intervals[kind] = (float(low), float(high))
    by = max(intervals, key=lambda kind: intervals[kind][1] - intervals[kind][0])
    low, high = intervals[by]
    return Estimate(mean, min(low, mean), max(high, mean), by, intervals, len(values))


# --- figures from confusion tables, counts (..., k, k) with true classes as rows -----------------------------


def accuracy(tables: Counts) -> Shares:
    """Share of right answers."""
    return np.asarray(_hits(tables).sum(axis=-1) / tables.sum(axis=(-2, -1)), np.float64)


def recalls(tables: Counts) -> Shares:
    """Recall of each class, (..., k); NaN for a class that does not occur."""
    total = tables.sum(axis=-1)
    return np.where(total > 0, _hits(tables) / np.maximum(total, 1), np.nan)


def uar(tables: Counts) -> Shares:
    """Mean recall over the classes that occur."""
    return np.asarray(np.nanmean(recalls(tables), axis=-1), np.float64)


def macro_precision(tables: Counts) -> Shares:
    """Mean precision over the classes that occur; a class that is never answered counts 0."""
    return _over_occurring(tables, _hits(tables) / np.maximum(tables.sum(axis=-2), 1))


def macro_f1(tables: Counts) -> Shares:
    """Mean over the classes that occur of the harmonic mean of precision and recall."""
    return _over_occurring(tables, 2 * _hits(tables) / np.maximum(tables.sum(axis=-2) + tables.sum(axis=-1), 1))


def _hits(tables: Counts) -> Counts:
    return np.diagonal(tables, axis1=-2, axis2=-1)


def _over_occurring(tables: Counts, values: Shares) -> Shares:
    return np.asarray(np.nanmean(np.where(tables.sum(axis=-1) > 0, values, np.nan), axis=-1), np.float64)


def table_of(answers: Answers) -> Counts:
    """The confusion table, (k, k)."""
    classes = answers.log_probabilities.shape[1]
    return scores.confusion(answers.predicted, answers.labels, classes).astype(np.float64)


# --- figures from confidences (n,) and whether the answers are right (n,) ------------------------------------


def risk_at_coverage(confidence: Shares, right: NDArray[np.bool_], coverage: float = COVERAGE) -> float:
    """Share of wrong answers among the most confident `coverage` of them."""
    order = np.argsort(-confidence, kind="stable")
    return float(1.0 - right[order[: max(1, round(coverage * len(order)))]].mean())


def area_under_risk(confidence: Shares, right: NDArray[np.bool_]) -> float:
    """Mean risk over all coverages 1/n ... 1 (AURC, Geifman and El-Yaniv 2017)."""
    order = np.argsort(-confidence, kind="stable")
    return float((np.cumsum(~right[order]) / np.arange(1, len(order) + 1)).mean())


def cross_fitted(answers: Answers) -> Answers:
    """With a temperature for each speaker that was fitted on the other speakers' out-of-fold answers."""
    scaled = answers.log_probabilities.copy()
    for speaker in np.unique(answers.speakers):
        own = answers.speakers == speaker
        temperature = scores.fit_temperature(answers.log_probabilities[~own], answers.labels[~own])
        scaled[own] = log_softmax(answers.log_probabilities[own], temperature)
    return Answers(answers.items, answers.speakers, answers.labels, scaled)


# --- how sure ------------------------------------------------------------------------------------------------


def table_draws(series: Series, unit: str, statistic: TableStatistic, *, seed: int = 0) -> Draws:
    """Bootstrap means over seeds of a figure of the confusion table, (RESAMPLES,).

    `unit` is "clips" or "speakers". The same draws of units are used for any series over the same units, so that the
    difference of two series' draws is a paired bootstrap.
    """
    every = [answers.items if unit == "clips" else answers.speakers for answers in series]
    units = np.unique(np.concatenate(every))
    classes = series[0].log_probabilities.shape[1]
    strata = _strata(units, every, series) if unit == "clips" else np.zeros(len(units), np.int64)
    weights = _weights(strata.tobytes(), seed)
    means = []
    for answers, of_item in zip(series, every, strict=True):
        counts = np.zeros((len(units), classes * classes))
        place = np.searchsorted(units, of_item)
        np.add.at(counts, (place, answers.labels * classes + answers.predicted), 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any of a split's few items is NaN
            means.append(statistic((weights @ counts).reshape(RESAMPLES, classes, classes)))
    return np.asarray(np.nanmean(means, axis=0), np.float64)


def _strata(units: NDArray[np.str_], every: Sequence[NDArray[np.str_]], series: Series) -> NDArray[np.int64]:
    """The class of each unit, (units,)."""
    label = np.zeros(len(units), np.int64)
    for answers, of_item in zip(series, every, strict=True):
        label[np.searchsorted(units, of_item)] = answers.labels
    return label


@lru_cache(maxsize=32)
def _weights(strata: bytes, seed: int) -> NDArray[np.float64]:
    """How often each unit is drawn, (RESAMPLES, units): within a stratum as many as there are. `strata` are int64."""
    generator = np.random.default_rng(seed)
    label = np.frombuffer(strata, np.int64)
    weights = np.zeros((RESAMPLES, len(label)))
    for one in np.unique(label):
        members = np.flatnonzero(label == one)
        weights[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return weights


def over_seeds(series: Series, statistic: TableStatistic = uar, *, by_speaker: bool) -> Estimate:
    """A figure of the confusion table with its intervals; by speakers too where the protocol has unseen ones."""
    values = [float(statistic(table_of(answers))) for answers in series]
    kinds = ("clips", "speakers") if by_speaker else ("clips",)
    return estimate(values, {kind: table_draws(series, kind, statistic) for kind in kinds})


def of_confidence(series: Series, statistic: ConfidenceStatistic, *, seed: int = 0) -> Estimate:
    """A figure of the confidences, with the intervals by seeds and by clips."""
    generator = np.random.default_rng(seed)
    units = np.unique(np.concatenate([answers.items for answers in series]))
    places = [np.searchsorted(units, answers.items) for answers in series]
    pairs = [(np.exp(one.log_probabilities.max(axis=1).astype(np.float64)), one.right) for one in series]
    draws = []
    for _ in range(FEWER_RESAMPLES):
        times = generator.multinomial(len(units), np.full(len(units), 1 / len(units)))
        values = []
        for (confidence, right), place in zip(pairs, places, strict=True):
            rows = np.repeat(np.arange(len(right)), times[place])
            if len(rows):
                values.append(statistic(confidence[rows], right[rows]))
        draws.append(float(np.mean(values)))
    return estimate([statistic(*pair) for pair in pairs], {"clips": np.array(draws)})


@dataclass(frozen=True)
class Margin:
    """Ours less another's macro recall, with `p`, two-sided, of the bootstrap over clips."""

    difference: Estimate
    p: float


def margin(ours: Series, other: Series, *, by_speaker: bool) -> Margin:
    """Paired by clip: both series have the same seeds, and the same items with each. Raises ValueError if not."""
    for one, two in zip(ours, other, strict=True):
        if not np.array_equal(np.sort(one.items), np.sort(two.items)):
            raise ValueError("margins are between answers on the same items")
    kinds = ("clips", "speakers") if by_speaker else ("clips",)
    draws = {kind: table_draws(ours, kind, uar) - table_draws(other, kind, uar) for kind in kinds}
    values = [float(uar(table_of(one)) - uar(table_of(two))) for one, two in zip(ours, other, strict=True)]
    drawn = draws["clips"]
    below, above = (1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn))
    return Margin(estimate(values, draws, least=-1.0), float(min(1.0, 2 * min(below, above))))


def gap(series: Series, first: Sequence[str], second: Sequence[str], *, seed: int = 0) -> Estimate:
    """Macro recall on the `first` speakers less that on the `second`; bootstrap over the speakers of each side."""
    sides = [[answers[np.isin(answers.speakers, names)] for answers in series] for names in (first, second)]
    draws = [table_draws(side, "speakers", uar, seed=seed + i) for i, side in enumerate(sides)]
    values = [float(uar(table_of(one)) - uar(table_of(two))) for one, two in zip(*sides, strict=True)]
    return estimate(values, {"speakers": draws[0] - draws[1]}, least=-1.0)
