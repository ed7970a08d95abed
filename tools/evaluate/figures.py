"""The report's figures as SVG text: the source paper's Figures 6 to 10 for our data, and what they leave out.

Colours are Okabe and Ito's, which people with any colour vision can tell apart. The same input gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tools.evaluate import metrics
from tools.evaluate.ladder import in_order, ladder, shown
from tools.evaluate.metrics import TableStatistic
from tools.evaluate.predictions import Row
from tools.evaluate.results import NAMES, Evidence, answers_of_row
from tools.evaluate.runs import EPOCH_FIELDS, OBSERVED
from tools.evaluate.splits import LOSO, PROTOCOLS
from tools.training import scores

OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES: Final = ("-", "--", "-.", ":")
PAPER_LOSS: Final = 0.0133
STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
Curves = Mapping[str, NDArray[np.float32]]


def svg(name: str, figure: Figure) -> str:
    """The figure's SVG element. `name` keeps the references inside of it apart from those of other figures."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _panels(rows: int, columns: int, width: float = 4.2, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _line(number: int) -> dict[str, Any]:
    return {
        "color": OKABE_ITO[number % (len(OKABE_ITO) - 1)],
        "linestyle": DASHES[number // (len(OKABE_ITO) - 1) % len(DASHES)],
        "linewidth": 1.6,
    }


def observed_protocol(evidence: Evidence) -> str:
    """The protocol whose epochs are drawn: LOSO if it was observed, else the first one that was."""
    seen = {protocol for one in evidence.systems.values() for protocol, _ in one.epochs}
    return next((name for name in (LOSO, *PROTOCOLS) if name in seen), LOSO)


def curves(evidence: Evidence, protocol: str) -> dict[str, NDArray[np.float32]]:
    """Mean epochs over folds and seeds, (epochs, 10), of every network that was observed by the protocol."""
    found = {}
    for name in in_order(list(evidence.systems)):
        seeds = [rows for (one, _), rows in evidence.systems[name].epochs.items() if one == protocol]
        if seeds:
            length = min(len(rows) for rows in seeds)
            found[name.removesuffix(OBSERVED)] = np.mean([rows[:length] for rows in seeds], axis=0)
    return found


def _column(rows: NDArray[np.float32], field: str) -> NDArray[np.float32]:
    return np.asarray(rows[:, EPOCH_FIELDS.index(field)], np.float32)


def scores_over_epochs(networks: Curves) -> Figure:
    """Figure 6: accuracy, precision, recall and F1 of the test folds after each epoch."""
    figure, axes = _panels(2, 2)
    fields = {
        "accuracy": "test_accuracy",
        "macro precision": "test_precision",
        "macro recall (UAR)": "test_uar",
        "macro F1": "test_f1",
    }
    for ax, (title, field) in zip(axes, fields.items(), strict=True):
        for number, (name, rows) in enumerate(networks.items()):
            ax.plot(_column(rows, "number"), 100 * _column(rows, field), label=name, **_line(number))
        ax.set(title=title, xlabel="epoch", ylabel="%", ylim=(0, 100))
    axes[0].legend(ncols=2)
    return figure


def times_over_epochs(networks: Curves) -> Figure:
    """Figure 7: seconds of training and of testing up to each epoch, mean of a fold."""
    figure, axes = _panels(1, 2)
    for ax, title, field in zip(axes, ("training time", "test time"), ("training_s", "test_s"), strict=True):
        for number, (name, rows) in enumerate(networks.items()):
            ax.plot(_column(rows, "number"), np.cumsum(_column(rows, field)), label=name, **_line(number))
        ax.set(title=title, xlabel="epoch", ylabel="seconds, one fold, sum so far")
    axes[0].legend()
    return figure


def loss_over_epochs(networks: Curves) -> Figure:
    """Figure 8: cross-entropy of training and test folds after each epoch, with the paper's 1.33 %."""
    figure, axes = _panels(1, 2)
    for ax, title, field in zip(axes, ("training", "test"), ("training_loss", "test_loss"), strict=True):
        for number, (name, rows) in enumerate(networks.items()):
            ax.plot(_column(rows, "number"), _column(rows, field), label=name, **_line(number))
        ax.axhline(PAPER_LOSS, color="#555555", linewidth=1, linestyle=":")
        ax.text(1, PAPER_LOSS, "paper: 1.33 % (its protocol)", fontsize=7, va="bottom")
        ax.set(title=title, xlabel="epoch", ylabel="loss (nats)", yscale="log")
    axes[0].legend()
    return figure


def over_condition(
    rows: Sequence[Row], xlabel: str, ylabel: str, statistic: TableStatistic, *, logarithmic: bool
) -> Figure:
    """A figure over numbers: the rows' condition is the number, the value the mean over seeds with its interval."""
    figure, (ax,) = _panels(1, 1, 5.5, 3.2)
    for number, system in enumerate(sorted({row.system for row in rows})):
        mine = [row for row in rows if row.system == system]
        points = sorted({float(row.condition) for row in mine})
        figures = [
            metrics.over_seeds(
                [answers_of_row(row) for row in mine if float(row.condition) == point],
                statistic,
                by_speaker=False,
            )
            for point in points
        ]
        spread = [
            [100 * (one.value - one.low) for one in figures],
            [100 * (one.high - one.value) for one in figures],
        ]
        heights = [100 * one.value for one in figures]
        ax.errorbar(points, heights, yerr=spread, label=system, marker="o", capsize=3, **_line(number))
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if logarithmic else "linear")
    ax.legend()
    return figure


def line_over_rate(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Figure 9: recognition rate, leakage, delay and loss of the running line over its transmission rate."""
    figure, axes = _panels(2, 2)
    rates = [point["rate_hz"] for point in points]

    def plot(ax: Axes, number: int, values: Sequence[float | None], label: str) -> None:
        heights = [np.nan if value is None else value for value in values]
        ax.plot(rates, heights, marker="os^"[number], label=label, **_line(number))

    def paper(ax: Axes, height: float, text: str) -> None:
        ax.axhline(height, color="#555555", linewidth=1, linestyle=":")
        ax.text(min(rates), height, text, fontsize=7, va="bottom")

    def share(name: str, of: str) -> list[float]:
        return [100 * point[name] / max(point[of], 1) for point in points]

    kept = [None if point["recognition_kept"] is None else 100 * point["recognition_kept"] for point in points]
    plot(axes[0], 0, kept, "kept")
    axes[0].set(title="recognition rate kept", ylabel="% of what the boxes decided", ylim=(0, 105))
    plot(axes[1], 0, share("readable", "attempts"), "read by a stranger")
    plot(axes[1], 1, share("forged_accepted", "attempts"), "forged and accepted")
    paper(axes[1], 15, "paper: at most 15 %")
    axes[1].set(title="leakage", ylabel="% of attempts", ylim=(-1, 20))
    for number, name in enumerate(("p50", "p95", "p99")):
        plot(axes[2], number, [point["delay_ms"][name] for point in points], name)
    paper(axes[2], 340, "paper: 340 ms, not defined there")
    axes[2].set(title="delay, label made to verified", ylabel="ms", ylim=(0, None))
    plot(axes[3], 0, share("lost", "sent"), "lost")
    axes[3].set(title="loss", ylabel="% of labels sent", ylim=(-0.2, max(5.0, *share("lost", "sent")) * 1.05))
    for ax in axes:
        ax.set_xlabel("labels a second and unit")
    axes[1].legend()
    axes[2].legend()
    return figure


def recall_by_emotion(summaries: Sequence[Mapping[str, Any]], protocol: str = LOSO) -> Figure:
    """Figure 10: the share of each emotion's clips that is recognised."""
    mine = {one["system"]: one["recall_by_class"] for one in summaries if one["protocol"] == protocol}
    names = shown(list(mine))
    figure, (ax,) = _panels(1, 1, 9.0, 3.4)
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = np.arange(len(NAMES)) + (number - (len(names) - 1) / 2) * width
        heights = [100 * mine[name][emotion] for emotion in NAMES]
        look = {"color": _line(number)["color"], "hatch": ("", "///")[number // (len(OKABE_ITO) - 1) % 2]}
        ax.bar(places, heights, width, label=name, edgecolor="white", linewidth=0.5, **look)
    ax.set(ylabel="% recognised", ylim=(0, 100), title=PROTOCOLS[protocol].title)
    ax.set_xticks(range(len(NAMES)), NAMES)
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def ladder_bars(rungs: Sequence[Mapping[str, Any]], system: str) -> Figure:
    """One system by every protocol, macro recall with its interval; what is no result is hatched."""
    mine = [(rung, rung["systems"][system]["uar"]) for rung in rungs if system in rung["systems"]]
    figure, (ax,) = _panels(1, 1, 7.5, 0.45 * len(mine) + 1.0)
    for place, (rung, uar) in enumerate(mine):
        spread = [[100 * (uar.value - uar.low)], [100 * (uar.high - uar.value)]]
        honest = rung["is_result"]
        ax.barh(
            place,
            100 * uar.value,
            xerr=spread,
            capsize=3,
            color=OKABE_ITO[0] if honest else "white",
            edgecolor=OKABE_ITO[0] if honest else "#555555",
            hatch=None if honest else "///",
        )
    ax.set_yticks(range(len(mine)), [rung["protocol"] + ("" if rung["is_result"] else " *") for rung, _ in mine])
    ax.invert_yaxis()
    ax.set(xlabel="macro recall (%)   * not a result", xlim=(0, 100), title=system)
    return figure


def confusion_matrices(tables: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]]) -> Figure:
    """Rows true, columns answered, in percent of the row. `tables` maps a title to counts and class names."""
    columns = min(2, len(tables))
    figure, axes = _panels(-(-len(tables) // columns), columns, 4.8, 4.4)
    for ax in axes[len(tables) :]:
        ax.set_visible(False)
    for ax, (title, (table, classes)) in zip(axes, tables.items(), strict=False):
        share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        ax.imshow(share, cmap="cividis", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            colour = "white" if value < 55 else "black"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        ax.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        ax.set_yticks(range(len(classes)), classes)
        ax.grid(visible=False)
        ax.set(title=title, xlabel="answered", ylabel="true")
    return figure


def reliability(evidence: Evidence, system: str, protocol: str = LOSO, bins: int = 10) -> Figure:
    """Share of right answers over confidence, in bins of equal numbers of answers, before and after the temperature."""
    figure, (ax,) = _panels(1, 1, 4.4, 4.0)
    raw = list(evidence.series(system, protocol).values())
    kinds = {"as answered": raw, "temperature of other speakers": [metrics.cross_fitted(one) for one in raw]}
    for number, (label, series) in enumerate(kinds.items()):
        confidence = np.exp(np.concatenate([one.log_probabilities.max(axis=1) for one in series]))
        right = np.concatenate([one.right for one in series])
        groups = np.array_split(np.argsort(confidence), bins)
        means = [(100 * confidence[rows].mean(), 100 * right[rows].mean()) for rows in groups]
        ax.plot(*zip(*means, strict=True), marker="o", label=label, **_line(number))
    ax.plot([0, 100], [0, 100], color="#555555", linewidth=1, linestyle=":")
    ax.set(xlabel="confidence (%)", ylabel="right (%)", xlim=(0, 100), ylim=(0, 100), title=system)
    ax.legend(loc="upper left")
    return figure


def confusion_of(evidence: Evidence, system: str, protocol: str = LOSO) -> NDArray[np.int64]:
    """Counts of all seeds together."""
    series = evidence.series(system, protocol).values()
    tables = [scores.confusion(one.predicted, one.labels, len(NAMES)) for one in series]
    return np.asarray(np.sum(tables, axis=0), np.int64)


def all_figures(evidence: Evidence, found: Mapping[str, Any], line: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """SVG by name of every figure that there is evidence for. `found` is what `results.results` gives."""
    with mpl.rc_context(STYLE):
        return {name: svg(name, figure) for name, figure in _drawn(evidence, found, line).items()}


def _drawn(evidence: Evidence, found: Mapping[str, Any], line: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    drawn: dict[str, Figure] = {}
    shipped = evidence.shipped(LOSO)
    rungs = ladder(found["summaries"])
    if any(shipped in rung["systems"] for rung in rungs):
        drawn["ladder"] = ladder_bars(rungs, shipped)
    protocol = observed_protocol(evidence)
    if networks := curves(evidence, protocol):
        drawn["scores-over-epochs"] = scores_over_epochs(networks)
        drawn["times-over-epochs"] = times_over_epochs(networks)
        drawn["loss-over-epochs"] = loss_over_epochs(networks)
        for name in ("scores-over-epochs", "times-over-epochs", "loss-over-epochs"):
            drawn[name].suptitle(PROTOCOLS[protocol].title)
    if rows := evidence.found("learning-rate"):
        drawn["accuracy-over-learning-rate"] = over_condition(
            rows, "learning rate", "accuracy on inner validation speakers (%)", metrics.accuracy, logarithmic=True
        )
    if line:
        drawn["line-over-rate"] = line_over_rate(sorted(line, key=lambda point: point["rate_hz"]))
    if rows := evidence.found("sample-count"):
        drawn["recall-over-samples"] = over_condition(
            rows, "training clips", "unweighted accuracy (UAR), LOSO (%)", metrics.uar, logarithmic=False
        )
    if any(one["protocol"] == LOSO for one in found["summaries"]):
        drawn["recall-by-emotion"] = recall_by_emotion(found["summaries"])
    tables: dict[str, tuple[NDArray[np.int64], Sequence[str]]] = {}
    if evidence.series(shipped, LOSO):
        tables[f"{shipped}, LOSO (%)"] = confusion_of(evidence, shipped), NAMES
        drawn["reliability"] = reliability(evidence, shipped)
    if faces := evidence.found("ferplus-valid", "face"):
        answers = [answers_of_row(row) for row in faces]
        counts = [scores.confusion(one.predicted, one.labels, len(faces[0].classes)) for one in answers]
        tables["face, FER+ valid (%)"] = np.asarray(np.sum(counts, axis=0), np.int64), faces[0].classes
    if tables:
        drawn["confusion"] = confusion_matrices(tables)
    return drawn
