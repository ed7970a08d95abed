"""The line's figures for people: a table and a plot beside `results.json`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.bench.line_cells import RECOVERY_S, STILL_LOSSY_S, CellRow, Settings, WireCost
from tools.evaluate.figures import DASHES, OKABE_ITO, svg

PLOT: Final = "line.svg"
PAGE: Final = "README.md"
#: The source paper's bounds, which it gives without packet loss of its own and without a definition of its delay.
PAPER_DELAY_MS: Final = 340.0
PAPER_LOSS_PERCENT: Final = 5.0
PAPER_LEAKAGE_PERCENT: Final = 15.0
_MARKERS: Final = "osDv^P"


def write_page(
    folder: Path,
    rows: Sequence[CellRow],
    settings: Settings,
    command: str,
    machine: Mapping[str, str | int | None],
    wire: WireCost | None,
) -> None:
    """Write README.md and the plot into the folder."""
    (folder / PLOT).write_text(plot(rows) + "\n")
    (folder / PAGE).write_text(page(rows, settings, command, machine, wire))


def plot(rows: Sequence[CellRow]) -> str:
    """Delay p95 and labels lost over rate, one curve a packet loss, as SVG. Hollow: the machine was the limit."""
    ours = [row for row in rows if row.cell.rto_min_ms is not None] or list(rows)
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    delay, lost = figure.subplots(1, 2)
    for number, loss in enumerate(sorted({row.cell.loss_percent for row in ours})):
        curve = sorted((row for row in ours if row.cell.loss_percent == loss), key=lambda row: row.cell.rate_hz)
        rates = [row.cell.rate_hz for row in curve]
        style = {
            "color": OKABE_ITO[number % len(OKABE_ITO)],
            "linestyle": DASHES[number % len(DASHES)],
            "label": f"{loss:g} % of packets",
        }
        delays = [row.line.delay_ms.p95 or float("nan") for row in curve]
        delay.plot(rates, delays, **style)
        _marks(delay, curve, delays, number)
        shares = [100 * row.line.lost / row.line.sent if row.line.sent else float("nan") for row in curve]
        lost.plot(rates, shares, **style)
        _marks(lost, curve, shares, number)
    delay.axhline(PAPER_DELAY_MS, color="0.4", linewidth=0.8)
    delay.annotate("paper: 340 ms", (0.02, PAPER_DELAY_MS), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    delay.set(xscale="log", yscale="log", xlabel="labels/s of a unit", ylabel="delay, p95, ms")
    lost.axhline(PAPER_LOSS_PERCENT, color="0.4", linewidth=0.8)
    lost.annotate("paper: 5 %", (0.02, PAPER_LOSS_PERCENT), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    lost.set(xscale="log", xlabel="labels/s of a unit", ylabel="labels lost after recovery, %")
    lost.set_ylim(bottom=-0.2)
    delay.legend(fontsize=8)
    return svg("line", figure)


def _marks(axes: Axes, curve: Sequence[CellRow], values: Sequence[float], number: int) -> None:
    for row, value in zip(curve, values, strict=True):
        color = OKABE_ITO[number % len(OKABE_ITO)]
        axes.plot(
            [row.cell.rate_hz],
            [value],
            marker=_MARKERS[number % len(_MARKERS)],
            color=color,
            markerfacecolor="white" if row.no_figure else color,
            markersize=5,
        )


def page(
    rows: Sequence[CellRow],
    settings: Settings,
    command: str,
    machine: Mapping[str, str | int | None],
    wire: WireCost | None,
) -> str:
    """README.md"""
    ours = [row for row in rows if row.cell.rto_min_ms is not None]
    kernels = [row for row in rows if row.cell.rto_min_ms is None]
    attempts = sum(row.line.attempts for row in rows)
    won = sum(row.line.readable + row.line.forged_accepted for row in rows)
    parts = [
        _head(rows, settings, command, machine),
        f"![Delay and loss over transmission rate, one curve a packet loss]({PLOT})\n",
        _table(ours or rows),
    ]
    if ours and kernels:
        parts += [_KERNEL, _table(kernels)]
    parts.append(_reading(settings, wire, attempts, won))
    return "\n".join(parts)


def _head(rows: Sequence[CellRow], settings: Settings, command: str, machine: Mapping[str, str | int | None]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    marked = sum(bool(row.no_figure) for row in rows)
    paragraphs = (
        f"Written by `{command}` (`make bench-line`); everything measured is in `results.json`, with what each field"
        " means.",
        f"{settings.units} units, gateway program and mosquitto over mutual TLS, rounds of {settings.round_period_ms}"
        f" ms, {settings.seconds:g} s a cell, seed {settings.seed}. Machine: {about}. {marked} of {len(rows)} cells are"
        " no figures, because the machine was the limit; they are marked ○.",
        f"The 2022 paper's bounds: delay {PAPER_DELAY_MS:g} ms, loss at most {PAPER_LOSS_PERCENT:g} %, leakage at most"
        f" {PAPER_LEAKAGE_PERCENT:g} %. It does not define its delay.",
    )
    text = "\n\n".join(textwrap.fill(each, _WIDTH, break_on_hyphens=False) for each in paragraphs)
    return f"# The line under packet loss\n\n{text}\n"


_COLUMNS: Final = (
    "packet loss",
    "labels/s",
    "made",
    "delay p50",
    "p95",
    "p99 (ms)",
    "transit p95",
    "in 340 ms at p95",
    "lost",
    "untold",
    "recovered (s)",
    "recognition kept",
    "leaked",
    "signed in round",
    "busy",
)


def _table(rows: Sequence[CellRow]) -> str:
    lines = [f"| {' | '.join(_COLUMNS)} |", f"| {' | '.join('---' for _ in _COLUMNS)} |"]
    for row in rows:
        line, delay = row.line, row.line.delay_ms
        within = "" if delay.p95 is None else "yes" if delay.p95 <= PAPER_DELAY_MS else "**no**"
        kept = "" if line.recognition_kept is None else f"{100 * line.recognition_kept:.4g} %"
        cells = (
            f"{row.cell.loss_percent:g} %",
            f"{row.cell.rate_hz:g}{' ○' if row.no_figure else ''}",
            f"{line.achieved_hz:.3g}",
            *(_ms(value) for value in (delay.p50, delay.p95, delay.p99, line.transit_ms.p95)),
            within,
            f"{line.lost} of {line.sent}",
            f"{line.untold}",
            "" if row.recovered_s is None else f"{row.recovered_s:.1f}",
            kept,
            f"{line.readable + line.forged_accepted} of {line.attempts}",
            f"{100 * row.signed_in_round:.3g} %",
            f"{100 * row.machine.busy:.0f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


_KERNEL: Final = """## With the kernel's own time-out

The same with TCP's least retransmission time-out as Linux comes, 200 ms: longer than a hop time-out, so the next units
go on without the link whose packet was lost, and its labels wait for the next round.
"""


def _reading(settings: Settings, wire: WireCost | None, attempts: int, won: int) -> str:
    cost = ""
    if wire is not None:
        cost = (
            f" The forwarder costs little: a TCP connection is made in {wire.through_forwarder_us:.0f} µs through it,"
            f" in {wire.over_loopback_us:.0f} µs over loopback."
        )
    shared = "Every unit verifies everything itself." if settings.each_verifies else _SHARED
    points = (
        "**Packets** are dropped below TCP, each with the same probability, on the way to the broker and back; what TCP"
        f" does about it is the kernel's own.{cost} Gateway, reader and outsider stand beside the broker and lose"
        " nothing.",
        "**Delay** is from the label's making to its acceptance at the gateway, the wait for the round included, on one"
        " clock. Up to one label a round it is made when the grant comes, as a box does; faster ones wait for the next"
        f" link, up to a whole round of {settings.round_period_ms} ms, whatever the network does.",
        "**Transit** is from the link that first carried the label to its acceptance.",
        "**Lost**: not verified after recovery. Packets are lost for"
        f" {STILL_LOSSY_S:g} s more after the cell's last label, or until all are verified; then the network recovers,"
        f" and {RECOVERY_S:g} s are given. **Recovered**: when the last label was verified, after the last was made."
        " **Untold**: verified and stored by the gateway, but its document did not reach the consumer over MQTT.",
        "**Leaked**: labels opened, and forged or replayed links accepted, over all attempts without the gateway's key;"
        " opening is tried with all keys of all units on labels drawn by chance. Over all cells"
        f" {won} of {attempts} succeeded.",
        f"**{settings.units} boxes on one machine.** The units' lines are real (machine, outbox, keys, MQTT over TLS);"
        " their senses are recorded answers, because capture and inference of so many boxes do not fit."
        f" {shared} A cell in which the machine was nearly busy, or busy with something else, is no figure: ○.",
    )
    lines = [textwrap.fill(f"- {point}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False) for point in points]
    return "## How to read it\n\n" + "\n".join(lines) + "\n"


_WIDTH: Final = 120
_SHARED: Final = (
    "The units of one program share steps 1 to 5 of verification (`--each-verifies` undoes it), for each box has a"
    " processor of its own and this machine has not."
)
