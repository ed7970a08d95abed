"""The plan of a seed: how large the room is, what is wrong with its clocks and network, and what happens when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from device.errors import Verdict
from tools.simulate import cheats
from tools.simulate.broker import Cut, Faults, Retained
from tools.simulate.line import SimulatedLine
from tools.simulate.parties import EPOCH_MS, GATEWAY, BoxClock
from tools.vectors import room

DAY_MS: Final = 86_400_000
#: Quartz is off by so much, and one box in some rooms is worse.
_QUARTZ: Final = 200e-6
_BAD_CLOCK: Final = 0.03
#: Grants and links that a replay reaches back to.
_REACH: Final = 400


class Kind(StrEnum):
    """What can happen to a room."""

    UNIT_RESTARTS = "unit restarts"
    UNIT_OFF = "unit off"
    UNIT_CABLE = "unit's cable pulled"
    UNIT_CUT_OFF = "unit cut off"
    GATEWAY_OFF = "gateway off"
    GATEWAY_CABLE = "gateway's cable pulled"
    GATEWAY_CUT_OFF = "gateway cut off"
    BROKER_RESTARTS = "broker restarts"
    POWER_CUT = "power cut at a write"
    OLD_MESSAGE = "old message replayed"
    OLD_GRANT = "old grant for a starting unit"
    CLOCK_STEPS = "clock steps"
    STRANGER = "stranger sends"
    REVOKED = "revoked unit sends"
    COPY_OFF = "card copied between starts"
    COPY_ON = "card copied while on"
    BACKUP = "backup restored"
    TWO_LINKS = "thief signs two links"
    TWO_CONTENTS = "thief gives two contents"
    OLDER_SESSION = "thief signs under an older session"


#: Chances against each other. A revoked unit is drawn with the room, and always speaks.
_WEIGHTS: Final[dict[Kind, int]] = {
    Kind.UNIT_RESTARTS: 6,
    Kind.UNIT_OFF: 4,
    Kind.UNIT_CABLE: 4,
    Kind.UNIT_CUT_OFF: 4,
    Kind.GATEWAY_OFF: 5,
    Kind.GATEWAY_CABLE: 2,
    Kind.GATEWAY_CUT_OFF: 3,
    Kind.BROKER_RESTARTS: 4,
    Kind.POWER_CUT: 6,
    Kind.OLD_MESSAGE: 5,
    Kind.OLD_GRANT: 3,
    Kind.CLOCK_STEPS: 3,
    Kind.STRANGER: 3,
    Kind.COPY_OFF: 1,
    Kind.COPY_ON: 1,
    Kind.BACKUP: 1,
    Kind.TWO_LINKS: 1,
    Kind.TWO_CONTENTS: 1,
    Kind.OLDER_SESSION: 1,
}


@dataclass(frozen=True)
class Happening:
    """One fault: at a second, for some seconds, to a unit. `how` says which form it takes."""

    at: float
    kind: Kind
    unit: str
    for_s: float
    how: str = ""
    number: int = 0
    flag: bool = False


@dataclass(frozen=True)
class Plan:
    """All that a seed decides before the room starts; what the broker does by chance is drawn as it runs."""

    seed: int
    units: int
    seconds: float
    faults: Faults
    clocks: dict[str, BoxClock]
    happenings: tuple[Happening, ...]
    revoked: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    away: frozenset[str] = frozenset()
    tampering: str = ""
    lie: str = ""
    look_twice: bool = False
    spill_after_ms: int = 5_000
    backlog_entries: int = 7_200

    def describe(self) -> str:
        """A line for people."""
        what = ", ".join(f"{item.at:.1f} {item.kind}" for item in self.happenings) or "nothing"
        return f"{self.units} units, {self.seconds:.0f} s, broker {self.faults}; {what}"


def draw_plan(seed: int, *, units: tuple[int, int] = (2, 40), seconds: float = 20.0) -> Plan:
    """The plan of a seed. `units` are the smallest and the largest room; small ones are drawn most."""
    dice = random.Random(f"plan {seed}")
    smallest, largest = units
    bound = dice.choices((5, 12, largest), weights=(80, 15, 5))[0]
    count = dice.randint(smallest, max(min(bound, largest), smallest))
    names = room.unit_names(count)
    revoked = frozenset({names[-1]}) if count > 2 and dice.random() < 0.15 else frozenset()
    honest = [name for name in names if name not in revoked]
    happenings = [_draw_happening(dice, honest, seconds) for _ in range(dice.randrange(13))]
    happenings += [Happening(dice.uniform(0.5, seconds), Kind.REVOKED, name, 0.0) for name in sorted(revoked) * 2]
    return Plan(
        seed=seed,
        units=count,
        seconds=seconds,
        faults=_draw_faults(dice),
        clocks={box: _draw_clock(dice) for box in (GATEWAY, *honest)} | _bad_clock(dice, [GATEWAY, *honest]),
        happenings=tuple(sorted(happenings, key=lambda item: item.at)),
        revoked=revoked,
        muted=frozenset(name for name in honest if dice.random() < 0.2),
        away=frozenset(name for name in honest[1:] if dice.random() < 0.1),
        tampering=dice.choice(sorted(cheats.TAMPERINGS)),
        lie=dice.choice(sorted(cheats.LIES)),
        look_twice=dice.random() < 0.1,
        spill_after_ms=dice.choice((600, 5_000)),
        backlog_entries=dice.choice((6, 7_200, 7_200)),
    )


def _draw_faults(dice: random.Random) -> Faults:
    if dice.random() < 0.3:
        return Faults()
    return Faults(
        drop=dice.choice((0.0, 0.01, 0.05, 0.2)),
        duplicate=dice.choice((0.0, 0.05, 0.2)),
        late=dice.choice((0.0, 0.02, 0.1)),
        late_by=dice.choice((0.05, 0.3, 1.0)),
        delay=dice.choice(((0.001, 0.004), (0.002, 0.03))),
    )


def _draw_clock(dice: random.Random) -> BoxClock:
    wall = dice.choice((EPOCH_MS, EPOCH_MS, EPOCH_MS, 0, EPOCH_MS + DAY_MS, EPOCH_MS - DAY_MS, EPOCH_MS + 70 * DAY_MS))
    return BoxClock(dice.uniform(0.0, 1e6), 1.0 + dice.uniform(-_QUARTZ, _QUARTZ), wall)


def _bad_clock(dice: random.Random, boxes: list[str]) -> dict[str, BoxClock]:
    if dice.random() > 0.3:
        return {}
    return {dice.choice(boxes): BoxClock(dice.uniform(0.0, 1e6), 1.0 + dice.choice((-_BAD_CLOCK, _BAD_CLOCK)))}


def _draw_happening(dice: random.Random, honest: list[str], seconds: float) -> Happening:
    kind = dice.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
    unit = dice.choice(honest)
    how = ""
    if kind in (Kind.UNIT_CUT_OFF, Kind.GATEWAY_CUT_OFF):
        how = dice.choice(list(Cut))
    if kind is Kind.BROKER_RESTARTS:
        how = dice.choice(list(Retained))
    if kind is Kind.STRANGER:
        how = dice.choice(sorted(cheats.STRANGERS))
    return Happening(
        at=dice.uniform(0.5, seconds),
        kind=kind,
        unit=unit,
        for_s=dice.choice((0.1, 0.6, 2.0, 6.0)) * dice.uniform(0.5, 1.5),
        how=how,
        number=dice.randint(1, 8),
        flag=dice.random() < 0.5,
    )


# --- making it happen ------------------------------------------------------------------------------------------------


def happen(line: SimulatedLine, item: Happening) -> None:
    """Let one fault happen, and end after its time."""
    line.note(f"fault: {item.kind} {item.unit} {item.how}")
    _HAPPEN[item.kind](line, item)


def _unit_off(line: SimulatedLine, item: Happening) -> None:
    line.kill_unit(item.unit)
    line.at(line.now + item.for_s, partial(line.start_unit, item.unit))


def _unit_restarts(line: SimulatedLine, item: Happening) -> None:
    line.kill_unit(item.unit)
    line.start_unit(item.unit)


def _unit_cable(line: SimulatedLine, item: Happening) -> None:
    line.disconnect_unit(item.unit)
    line.at(line.now + item.for_s, partial(line.connect_unit, item.unit))


def _cut_off(line: SimulatedLine, box: str, item: Happening) -> None:
    if box not in line.broker.cuts:
        line.cut(box, Cut(item.how))
        line.at(line.now + item.for_s, partial(line.heal, box))


def _gateway_off(line: SimulatedLine, item: Happening) -> None:
    line.kill_gateway()
    line.at(line.now + item.for_s, line.start_gateway)


def _gateway_cable(line: SimulatedLine, item: Happening) -> None:
    line.disconnect_gateway()
    line.at(line.now + item.for_s, line.connect_gateway)


def _broker_restarts(line: SimulatedLine, item: Happening) -> None:
    line.stop_broker()
    line.at(line.now + item.for_s, partial(line.start_broker, Retained(item.how)))


def _power_cut(line: SimulatedLine, item: Happening) -> None:
    line.disk.cut_at = line.disk.writes + item.number
    line.disk.cut_keeps = item.flag


def _old_message(line: SimulatedLine, item: Happening) -> None:
    line.checks.explained.add(Verdict.REPLAYED)
    for _ in range(item.number):
        if line.wire:
            topic, payload = line.random.choice(line.wire[-_REACH:])
            line.publish(topic, payload, retain=item.flag and topic == cheats.GRANT_TOPIC)


def _old_grant(line: SimulatedLine, item: Happening) -> None:
    grants = [payload for topic, payload in line.wire if topic == cheats.GRANT_TOPIC]
    if len(grants) > item.number:
        line.kill_unit(item.unit)
        line.broker.lies[item.unit] = grants[-1 - item.number]
        line.start_unit(item.unit)


def _clock_steps(line: SimulatedLine, item: Happening) -> None:
    clock = line.box.clock if item.flag else line.units[item.unit].clock
    steps = (DAY_MS, -DAY_MS, 70 * DAY_MS, -clock.wall_zero_ms)
    clock.wall_zero_ms += line.random.choice(steps)


def _to_unit(what: Callable[[SimulatedLine, str], None]) -> Callable[[SimulatedLine, Happening], None]:
    return lambda line, item: what(line, item.unit)


_HAPPEN: Final[dict[Kind, Callable[[SimulatedLine, Happening], None]]] = {
    Kind.UNIT_RESTARTS: _unit_restarts,
    Kind.UNIT_OFF: _unit_off,
    Kind.UNIT_CABLE: _unit_cable,
    Kind.UNIT_CUT_OFF: lambda line, item: _cut_off(line, item.unit, item),
    Kind.GATEWAY_OFF: _gateway_off,
    Kind.GATEWAY_CABLE: _gateway_cable,
    Kind.GATEWAY_CUT_OFF: lambda line, item: _cut_off(line, GATEWAY, item),
    Kind.BROKER_RESTARTS: _broker_restarts,
    Kind.POWER_CUT: _power_cut,
    Kind.OLD_MESSAGE: _old_message,
    Kind.OLD_GRANT: _old_grant,
    Kind.CLOCK_STEPS: _clock_steps,
    Kind.STRANGER: lambda line, item: cheats.attack(line, item.how),
    Kind.REVOKED: _to_unit(cheats.revoked_speaks),
    Kind.COPY_OFF: _to_unit(cheats.copy_while_off),
    Kind.COPY_ON: _to_unit(cheats.copy_while_on),
    Kind.BACKUP: _to_unit(cheats.restore_backup),
    Kind.TWO_LINKS: _to_unit(cheats.sign_two_links),
    Kind.TWO_CONTENTS: _to_unit(cheats.give_two_contents),
    Kind.OLDER_SESSION: _to_unit(cheats.sign_older_session),
}
