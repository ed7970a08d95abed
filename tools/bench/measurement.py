"""One number of a benchmark, and how to take it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Literal

import msgspec


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured value beside a named peer or limit of the same run.

    `ratio` says how we stand to the peer (its meaning stands in `goal`); None where no peer exists. `met` is None where
    nothing was promised.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def median_seconds(run: Callable[[], object], *, repetitions: int = 15, warm_up: int = 2) -> float:
    """Median wall seconds of one call."""
    for _ in range(warm_up):
        run()
    taken: list[float] = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


Direction = Literal["at least", "at most"]


def against_limit(name: str, value: float, unit: str, *, limit: float, direction: Direction, peer: str) -> Measurement:
    """A value beside a promised limit; the ratio is value to limit."""
    met = value >= limit if direction == "at least" else value <= limit
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=limit,
        ratio=value / limit,
        goal=f"{direction} {limit:g} {unit}",
        met=met,
    )


def faster_than(name: str, ours_s: float, theirs_s: float, *, peer: str, goal: float) -> Measurement:
    """Our time beside a peer's time of the same run; the ratio says how many times faster we are."""
    ratio = theirs_s / ours_s
    return Measurement(
        name=name,
        value=ours_s * 1e3,
        unit="ms",
        peer=peer,
        peer_value=theirs_s * 1e3,
        ratio=ratio,
        goal=f"at least {goal:g} times faster",
        met=ratio >= goal,
    )
