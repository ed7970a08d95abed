"""Units killed (-9) at random, again and again, while the gateway is there, away and just back.

All units are killed in parallel, each at its own random moments: also while it starts, raises its session number, is in
the middle of a link, spills its outbox or empties the spill. Meanwhile gateway and broker are killed in turn, stay away
for some seconds and come back, so that labels have to outlive the units on their disks.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.config import LineLimits
from tools.soak.audit import check_delivered, check_losses, check_record, read_record, spilled_labels
from tools.soak.report import Figure, Report, count
from tools.soak.room import Life, SoakRoom

POLL_S: Final = 0.02
#: Chance that a kill is meant to hit a unit while it starts, and how long after its start that is at most, in seconds.
EARLY_SHARE, EARLY_S = 0.2, 0.8
#: All others come so long after the unit has its session.
LIFE_S: Final = (0.0, 5.0)
THERE_S: Final = (6.0, 10.0)
FIRST_THERE_S: Final = (2.0, 4.0)
AWAY_S: Final = (4.0, 7.0)
#: Broker and gateway count as undisturbed when both have been there for so long.
UNDISTURBED_AFTER_S: Final = 4.0
DELIVERY_S: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class KillPlan:
    """What to do. `spill_after_s` is short, so that short lives come to spill; the default of a room is longer."""

    folder: Path
    kills: int = 500
    units: int = 4
    spill_after_s: float = 1.0
    seed: int = 1


class _Fate:
    """When a unit is killed: some moments after its start, or after it has raised its session."""

    def __init__(self, life: Life, draw: random.Random) -> None:
        self._life = life
        self._early = draw.random() < EARLY_SHARE
        self._after = draw.uniform(0.0, EARLY_S) if self._early else draw.uniform(*LIFE_S)
        self._at = time.monotonic() + self._after if self._early else math.inf

    def has_come(self) -> bool:
        """Whether it is to be killed now."""
        if self._at == math.inf and self._life.session:
            self._at = time.monotonic() + self._after
        return self._at <= time.monotonic()


class _Outages:
    """Gateway and broker, killed in turn."""

    def __init__(self, room: SoakRoom, draw: random.Random) -> None:
        self._room = room
        self._draw = draw
        self._next = time.monotonic() + draw.uniform(*FIRST_THERE_S)
        self._away: str | None = None
        self.counts = {"gateway": 0, "broker": 0}

    def turn(self) -> None:
        if time.monotonic() < self._next:
            return
        if self._away is not None:
            self.end()
            return
        self._away = "gateway" if self.counts["gateway"] <= self.counts["broker"] else "broker"
        self.counts[self._away] += 1
        if self._away == "gateway":
            self._room.kill_gateway()
        else:
            self._room.kill_broker()
        self._next = time.monotonic() + self._draw.uniform(*AWAY_S)

    def end(self) -> None:
        """Bring back what is away."""
        if self._away == "gateway":
            self._room.start_gateway()
        elif self._away == "broker":
            self._room.start_broker()
        self._away = None
        self._next = time.monotonic() + self._draw.uniform(*THERE_S)


def run_kills(plan: KillPlan, tell: Callable[[int], object]) -> Report:
    """Kill, let everything settle, and report. `tell` hears of each kill.

    Raises ConfigError, StorageError, or ProgramError when a program ended by itself.
    """
    draw = random.Random(plan.seed)
    limits = LineLimits(spill_after_ms=round(plan.spill_after_s * 1_000))
    with SoakRoom(plan.folder, plan.units, limits) as room:
        began = time.monotonic()
        outages = _Outages(room, draw)
        fates = {unit: _Fate(room.start(unit), draw) for unit in room.units}
        kills = 0
        while kills < plan.kills:
            room.listen(POLL_S)
            outages.turn()
            for unit in [unit for unit, fate in fates.items() if fate.has_come()][: plan.kills - kills]:
                room.kill(unit, undisturbed_after_s=UNDISTURBED_AFTER_S)
                fates[unit] = _Fate(room.start(unit), draw)
                kills += 1
                tell(1)
        seconds = time.monotonic() - began
        outages.end()
        delivered = room.wait_until_delivered(DELIVERY_S)
        room.stop_units()
        room.stop_gateway()
        return _report(plan, room, seconds, delivered, outages.counts)


def _report(plan: KillPlan, room: SoakRoom, seconds: float, delivered: bool, outages: dict[str, int]) -> Report:
    record = read_record(room)
    checks, figures = check_losses(room, record)
    killed = [life for life in room.lives if life.killed]
    return Report(
        run=f"{plan.kills} kills -9 of {plan.units} units",
        seed=plan.seed,
        seconds=seconds,
        checks=[
            count("kills", len(killed), wanted=plan.kills),
            check_delivered(delivered, DELIVERY_S),
            *check_record(room, record),
            *checks,
        ],
        figures=[
            Figure(name="kills before the unit had raised its session", value=_unborn(room), unit="kills"),
            Figure(name="kills with labels on the unit's disk", value=_spilling(room), unit="kills"),
            Figure(name="labels that outlived a kill on a disk", value=len(spilled_labels(killed)), unit="labels"),
            *(Figure(name=f"times the {name} was killed", value=times, unit="") for name, times in outages.items()),
            *figures,
        ],
    )


def _unborn(room: SoakRoom) -> int:
    return sum(life.killed and not life.session for life in room.lives)


def _spilling(room: SoakRoom) -> int:
    return sum(life.killed and bool(life.spilled) for life in room.lives)
