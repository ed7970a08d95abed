"""One line of real units of which any number but all are killed at random, for minutes; broker and gateway once, too.

Time goes in turns: calm (all units there), dead (some were killed and stay away), mending (they start again). What a
dead unit costs the others is the time that their labels take in dead turns beyond what labels take in calm ones; starts
of programs load the machine, so mending turns are checked for loss and pauses, not for delay.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from device.config import LineLimits
from device.gateway.documents import LabelDocument
from device.line.verify import OpenRound
from tools.soak.audit import Record, check_delivered, check_losses, check_record, read_record
from tools.soak.report import Check, Figure, Report, at_most, count
from tools.soak.room import SoakRoom

CALM_S: Final = (4.0, 7.0)
DEAD_S: Final = (4.0, 7.0)
MENDING_S: Final = 5.0
#: A turn's first moments belong to the turn before it.
SETTLE_MS: Final = 300
BROKER_AWAY_S, GATEWAY_AWAY_S, AFTER_OUTAGE_S = 2.0, 2.0, 8.0
UNDISTURBED_AFTER_S: Final = 4.0
DELIVERY_S: Final = 60.0
#: Longest pause between two grants, in round periods, while broker and gateway are there.
PAUSE_PERIODS: Final = 2
#: What calm turns say of labels when nobody is dead: the delay that this share of them keeps.
CALM_SHARE: Final = 0.99
#: Share of labels in dead turns that must keep the bound made of it. As many are beyond it by definition as in calm
#: turns; one more in a hundred is left to the scheduler of the machine that runs all the programs.
WITHIN: Final = 0.98


@dataclass(frozen=True, kw_only=True)
class LinePlan:
    """What to do. The outage of broker and gateway, if any, is in the middle of `seconds`; all turns are `pace` times
    as long as they are by themselves."""

    folder: Path
    units: int = 8
    seconds: float = 300.0
    seed: int = 1
    outage: bool = True
    pace: float = 1.0


@dataclass(frozen=True)
class Turn:
    """A stretch of time in milliseconds since 1970."""

    kind: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Delay:
    """A stored label's way in milliseconds, from its making to its acceptance; how many units of the order that had not
    signed went before its link; and the kind of turn in which it was made."""

    ms: int
    dead_ahead: int
    kind: str


class _Line:
    """A run of turns."""

    def __init__(self, room: SoakRoom, plan: LinePlan, tell: Callable[[float], object]) -> None:
        self.room = room
        self.turns: list[Turn] = []
        self.kills: list[int] = []
        self._draw = random.Random(plan.seed)
        self._plan = plan
        self._tell = tell
        self._ends = time.monotonic() + plan.seconds

    def run(self) -> None:
        for unit in self.room.units:
            self.room.start(unit)
        self._turn("mending", MENDING_S)
        middle = self._ends - self._plan.seconds / 2 if self._plan.outage else math.inf
        while time.monotonic() < self._ends:
            if time.monotonic() >= middle:
                middle = math.inf
                self._outage()
            self._turn("calm", self._draw.uniform(*CALM_S))
            dead = self._draw.sample(self.room.units, self._draw.randint(1, len(self.room.units) - 1))
            for unit in dead:
                self.room.kill(unit, undisturbed_after_s=UNDISTURBED_AFTER_S)
            self.kills.append(len(dead))
            self._turn("dead", self._draw.uniform(*DEAD_S))
            for unit in dead:
                self.room.start(unit)
            self._turn("mending", MENDING_S)

    def _outage(self) -> None:
        """The broker is killed and comes back, and right after it the gateway."""
        began = self.room.clock.wall_ms()
        self.room.kill_broker()
        self._wait(BROKER_AWAY_S)
        self.room.start_broker()
        self._wait(GATEWAY_AWAY_S)
        self.room.kill_gateway()
        self._wait(GATEWAY_AWAY_S)
        self.room.start_gateway()
        self._wait(AFTER_OUTAGE_S)
        self.turns.append(Turn("outage", began, self.room.clock.wall_ms()))

    def _turn(self, kind: str, seconds: float) -> None:
        began = self.room.clock.wall_ms()
        self._wait(seconds * self._plan.pace)
        self.turns.append(Turn(kind, began, self.room.clock.wall_ms()))

    def _wait(self, seconds: float) -> None:
        self.room.listen(seconds)
        self._tell(seconds)


def run_line(plan: LinePlan, tell: Callable[[float], object]) -> Report:
    """Run the line, let everything settle, and report. `tell` hears of the seconds that went by.

    Raises ConfigError, StorageError, or ProgramError when a program ended by itself.
    """
    with SoakRoom(plan.folder, plan.units, LineLimits()) as room:
        line = _Line(room, plan, tell)
        began = time.monotonic()
        line.run()
        seconds = time.monotonic() - began
        delivered = room.wait_until_delivered(DELIVERY_S)
        room.stop_units()
        room.stop_gateway()
        record = read_record(room)
        checks, figures = check_losses(room, record)
        limits = room.gateway_config.limits
        killed = sum(line.kills)
        return Report(
            run=f"line of {plan.units} units, {killed} kills -9 in {len(line.kills)} turns",
            seed=plan.seed,
            seconds=seconds,
            checks=[
                check_delivered(delivered, DELIVERY_S),
                *_check_pauses(record, line.turns, limits, room.room.broker_address.reconnect_max_s),
                *_check_delays(record, line.turns, limits),
                *check_record(room, record),
                *checks,
            ],
            figures=[*_delay_figures(record, line.turns, limits), *figures],
        )


# --- pauses ------------------------------------------------------------------------------------------------------


def pauses(record: Record, turns: Sequence[Turn]) -> tuple[float, float]:
    """Longest seconds from grant to grant by the gateway's time, outside and over the outage, between first and last
    turn. Two grants are one round period apart when all is well."""
    outages = [turn for turn in turns if turn.kind == "outage"]
    longest = {False: 0.0, True: 0.0}
    for one, next_one in pairwise(record.grants):
        if turns[0].from_ms <= one.gateway_ms and next_one.gateway_ms <= turns[-1].to_ms:
            over = any(turn.from_ms <= next_one.gateway_ms and one.gateway_ms <= turn.to_ms for turn in outages)
            longest[over] = max(longest[over], (next_one.gateway_ms - one.gateway_ms) / 1_000)
    return longest[False], longest[True]


def _check_pauses(record: Record, turns: Sequence[Turn], limits: LineLimits, reconnect_s: int) -> list[Check]:
    normal, outage = pauses(record, turns)
    checks = [
        at_most(
            "longest pause between rounds while units die", normal, PAUSE_PERIODS * limits.round_period_ms / 1e3, "s"
        )
    ]
    if any(turn.kind == "outage" for turn in turns):
        limit = BROKER_AWAY_S + 2 * GATEWAY_AWAY_S + reconnect_s
        checks.append(at_most("longest pause over the outage of broker and gateway", outage, limit, "s"))
    return checks


# --- delays ------------------------------------------------------------------------------------------------------


def delays(record: Record, turns: Iterable[Turn]) -> Iterator[Delay]:
    """The way of every label that was made in a turn, its first moments left out."""
    ahead = {(view.grant.body.round, unit): dead for view in record.views for unit, dead in dead_ahead(view).items()}
    turns = list(turns)
    for label in record.labels.values():
        kind = _turn_of(label, turns)
        if kind is not None:
            yield Delay(label.accepted_ms - label.window_end_ms, ahead[label.round, label.unit], kind)


def dead_ahead(view: OpenRound) -> dict[str, int]:
    """For each unit that signed: units of the grant's order that stood before it and had not signed when it did. One
    that the order does not name comes after all of it."""
    order = view.grant.body.order
    found: dict[str, int] = {}
    for unit in view.links:
        before = order[: order.index(unit)] if unit in order else order
        found[unit] = sum(other not in found for other in before)
    return found


def _turn_of(label: LabelDocument, turns: Iterable[Turn]) -> str | None:
    for turn in turns:
        if turn.from_ms + SETTLE_MS <= label.window_end_ms < turn.to_ms:
            return turn.kind
    return None


def _check_delays(record: Record, turns: Sequence[Turn], limits: LineLimits) -> list[Check]:
    """Beyond what labels take in calm turns, each dead unit ahead may cost one hop time-out."""
    found = list(delays(record, turns))
    calm = [delay.ms for delay in found if delay.kind == "calm"]
    dead = [delay for delay in found if delay.kind == "dead"]
    if not calm or not dead:
        return [count("kinds of turns without any label", int(not calm) + int(not dead))]
    usual = float(np.quantile(calm, CALM_SHARE))
    within = sum(delay.ms <= usual + delay.dead_ahead * limits.hop_timeout_ms for delay in dead) / len(dead)
    return [
        at_most(
            f"delay of {CALM_SHARE:.0%} of labels while nobody is dead (more than a round period: this machine is too"
            " busy to judge delays)",
            usual,
            limits.round_period_ms,
            "ms",
        ),
        Check(
            name=f"labels of live units later than that by at most one hop time-out ({limits.hop_timeout_ms} ms) for"
            " each dead unit ahead",
            found=f"{within:.2%} of {len(dead)}",
            wanted=f"at least {WITHIN:.0%}",
            passed=within >= WITHIN,
        ),
    ]


def _delay_figures(record: Record, turns: Sequence[Turn], limits: LineLimits) -> list[Figure]:
    found = list(delays(record, turns))
    figures = []
    for kind in ("calm", "dead"):
        ways = [delay.ms for delay in found if delay.kind == kind]
        if not ways:
            continue
        for name, share in (("median", 0.5), ("99 %", 0.99), ("worst", 1.0)):
            figures.append(
                Figure(
                    name=f"delay of a label in {kind} turns, {name}", value=float(np.quantile(ways, share)), unit="ms"
                )
            )
    beyond = [delay.ms - delay.dead_ahead * limits.hop_timeout_ms for delay in found if delay.kind == "dead"]
    if beyond:
        figures += [
            Figure(
                name="delay in dead turns less one hop time-out for each dead unit ahead, worst",
                value=float(max(beyond)),
                unit="ms",
            ),
            Figure(
                name="dead units ahead of a label, largest",
                value=max(delay.dead_ahead for delay in found if delay.kind == "dead"),
                unit="units",
            ),
        ]
    normal, outage = pauses(record, turns)
    return [
        *figures,
        Figure(name="longest pause between rounds", value=normal, unit="s"),
        Figure(name="longest pause over the outage", value=outage, unit="s"),
    ]
