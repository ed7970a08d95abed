"""One seed, from its plan to its verdict; and the sweep that cuts the power at every durable write."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from device.config import LineLimits
from device.errors import RemoteMessageError, Verdict
from device.line.actions import Alert
from device.line.log import follow_log
from tools.simulate import cheats
from tools.simulate.broker import Faults
from tools.simulate.checks import BROKER, GuaranteeError
from tools.simulate.faults import Plan, draw_plan, happen
from tools.simulate.line import Machines, SimulatedLine
from tools.simulate.parties import GATEWAY
from tools.vectors import room

Verbose = Callable[[str], None] | None

#: Smallest and largest room, and virtual seconds of trouble, unless somebody asks for others.
UNITS: Final = (2, 40)
SECONDS: Final = 20.0
#: Virtual seconds without faults, after which every backlog must be gone.
TAIL_S: Final = 6.0
#: Virtual seconds in which a lying gateway must be noticed.
LIE_S: Final = 1.5


@dataclass(frozen=True)
class Outcome:
    """What a seed showed. `broken` names the guarantee that does not hold, or is `crash`; empty when all do. `trace` is
    the digest of all decisions."""

    seed: int
    rounds: int
    broken: str
    text: str
    trace: str


def furnish(plan: Plan, *, machines: Machines | None = None, verbose: Verbose = None, labels: int = 0) -> SimulatedLine:
    """The room of a plan, before anything happens in it. `labels` changes what the desks say and nothing else: 1 mutes
    them all."""
    line = SimulatedLine(
        plan.seed,
        units=plan.units,
        machines=machines,
        limits=LineLimits(spill_after_ms=plan.spill_after_ms, backlog_entries=plan.backlog_entries),
        revoked=plan.revoked,
        own_clock=True,
        labels=labels,
        verbose=verbose,
    )
    line.muted = set(line.units) if labels else set(plan.muted)
    line.faults = plan.faults
    line.checks.infer_s += 2 * (plan.faults.delay[1] - Faults().delay[1])
    if plan.faults.duplicate:
        line.checks.explained.add(Verdict.REPLAYED)
    line.box.clock = replace(plan.clocks[GATEWAY])
    for name, unit in line.units.items():
        unit.clock = replace(plan.clocks[name])
    for item in plan.happenings:
        line.at(item.at, partial(happen, line, item))
    return line


def live(line: SimulatedLine, plan: Plan) -> None:
    """Let a plan happen, faults and quiet tail, and check all that was given. Raises GuaranteeError."""
    line.start()
    line.run(plan.seconds)
    line.away = set(plan.away)
    for name in sorted(line.away):
        line.kill_unit(name)
    line.end_faults()
    longest = max((unit.backlog for unit in line.units.values()), default=0)
    line.run(TAIL_S + longest / line.limits.entries_per_link * line.limits.round_period_ms / 1_000)
    line.check()
    line.checks.drained(line.units, line.away)
    line.checks.all_noticed()


def tamper(line: SimulatedLine, how: str) -> None:
    """G3: a closed log that somebody tampered with does not verify. Raises GuaranteeError when it does."""
    full = [at for at in range(1, len(line.log) - 1) if all(len(line.log[at + d].links) > 1 for d in (-1, 0, 1))]
    if not full:
        return
    at = line.random.choice(full)
    log = cheats.TAMPERINGS[how](line.log, at, line)
    try:
        rounds = sum(1 for _ in follow_log(log, roster=line.roster, line=room.LINE, limits=line.limits))
    except RemoteMessageError:
        line.note(f"tampering found: {how}, round {at + 1}")
        return
    raise GuaranteeError("G3", f"{how} at round {at + 1}: all {rounds} rounds verify")


def lie(line: SimulatedLine, how: str) -> None:
    """G8: a gateway that rewrites its history is noticed, with the proof, by a unit that was there."""
    listening = [unit for unit in line.units.values() if line.broker.online.get(unit.box) and not unit.stopped]
    if not listening or len(line.log) < 10 or not cheats.grant_of(line.stored_grant or b"").accepted:
        return
    line.note(f"the gateway lies: {how}")
    line.checks.gateway_lies = True
    line.checks.disturbed(BROKER, until_further_notice=True)
    before = {unit.box: len(unit.alerts) for unit in listening}
    cheats.LIES[how](line)
    line.run(LIE_S)
    codes = (Verdict.GRANT_REWRITTEN, Verdict.ACKNOWLEDGEMENT_WITHDRAWN)
    told: list[Alert] = [
        alert for unit in listening for alert in unit.alerts[before[unit.box] :] if alert.code in codes and alert.proof
    ]
    if not told:
        raise GuaranteeError("G8", f"the gateway did this and no unit noticed: {how}")


def look_twice(plan: Plan, line: SimulatedLine, machines: Machines | None = None) -> int:
    """G4: with other words on every desk, and with all of them muted, the network sees the same. Returns the rounds of
    the second room. Raises GuaranteeError."""
    other = furnish(plan, machines=machines, labels=1)
    live(other, plan)
    if other.wire_trace != line.wire_trace:
        raise GuaranteeError("G4", "moments or sizes on the network depend on what the desks say")
    return other.checks.rounds


def run_seed(
    seed: int,
    *,
    units: tuple[int, int] = UNITS,
    seconds: float = SECONDS,
    machines: Machines | None = None,
    verbose: Verbose = None,
) -> Outcome:
    """Everything about one seed: its plan, then a tampered log and a lying gateway."""
    plan = draw_plan(seed, units=units, seconds=seconds)
    if verbose is not None:
        verbose(plan.describe())
    line = furnish(plan, machines=machines, verbose=verbose)
    more, broken, text = 0, "", ""
    try:
        live(line, plan)
        if plan.look_twice:
            more = look_twice(plan, line, machines)
        tamper(line, plan.tampering)
        lie(line, plan.lie)
    except GuaranteeError as error:
        broken, text = error.guarantee, str(error)
    except Exception as error:
        # Whatever a machine does of its own accord must not stop its box, so it is a finding like the others.
        broken, text = "crash", "".join(traceback.format_exception(error, limit=-3))
    return Outcome(seed, line.checks.rounds + more, broken, text, line.trace)


def power_cuts(
    seed: int, *, units: int = 3, seconds: float = 4.0, keeps: bool = False, machines: Machines | None = None
) -> Iterator[Outcome]:
    """Cut the power at the first durable write of a room, at the second in another run, and so on until a run has fewer
    writes. With `keeps` the write that is cut is on the medium, but nobody knows.

    In the room the gateway is away for a while, so that units write their labels to disk, and a unit starts again.
    """
    for number in range(1, 10_000):
        outcome, writes = _cut_at(number, seed, units=units, seconds=seconds, keeps=keeps, machines=machines)
        yield outcome
        if writes < number:
            return


def _cut_at(
    number: int, seed: int, *, units: int, seconds: float, keeps: bool, machines: Machines | None
) -> tuple[Outcome, int]:
    """One run of the sweep, and how many durable writes it tried while power cuts were possible."""
    limits = LineLimits(spill_after_ms=600)
    line = SimulatedLine(seed, units=units, limits=limits, own_clock=True, machines=machines)
    line.disk.cut_at, line.disk.cut_keeps = number, keeps
    last = room.unit_names(units)[-1]
    line.at(seconds / 4, line.kill_gateway)
    line.at(seconds * 3 / 8, partial(line.kill_unit, last))
    line.at(seconds * 3 / 8 + 0.1, partial(line.start_unit, last))
    line.at(seconds * 5 / 8, line.start_gateway)
    writes = number
    try:
        line.start()
        line.run(seconds)
        writes = line.disk.writes
        line.end_faults()
        line.run(TAIL_S / 2)
        line.check()
        line.checks.drained(line.units, set())
    except GuaranteeError as broken:
        text = f"power cut at write {number}: {broken}"
        return Outcome(seed, line.checks.rounds, broken.guarantee, text, line.trace), writes
    return Outcome(seed, line.checks.rounds, "", "", line.trace), writes
