"""The room: units, a gateway and a broker in virtual time, event by event, with every step traced and checked.

Everything that happens is drawn from one seed. Keys are made from names; sealing is the product's own, and random by
design, so two runs differ in sealed bytes and in all digests. The trace therefore holds decisions, not bytes: who did
what, when, about which round, session and numbers. No decision depends on a sealed byte.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import Verdict
from device.line.actions import Action, Alert, ClosedRound, Deliver, Gap, Infer, Persist, Publish, Witnessed
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.label import Label, LabelState
from device.messages.link import Entry
from device.publish.outbox import Append, SpillingOutbox, SpillStep
from models.labels import EMOTIONS
from tools.simulate.broker import Broker, Cut, Faults, Retained
from tools.simulate.checks import BROKER, INFER_S, Checks
from tools.simulate.parties import (
    GATEWAY,
    BoxClock,
    Disk,
    PowerCutError,
    SimulatedGateway,
    SimulatedUnit,
    WatchedOutbox,
)
from tools.vectors import room

#: Seconds until a box that lost its power, or a program that died, is back.
_RESTART_S = (0.2, 1.5)
#: A wake-up is never nearer than this, so that rounding of clocks cannot stop time.
_TICK_S = 0.000_1
#: Without a grant for this many periods a unit decides on its own clock (device/unit/service.py).
_OWN_PERIODS = 1.5


@dataclass(frozen=True)
class Machines:
    """What runs on the boxes; tests put broken ones here to see that the checks notice."""

    unit: type[LineUnit] = LineUnit
    gateway: type[LineGateway] = LineGateway


@dataclass
class _Watch:
    """Keeps account of one unit's outbox."""

    line: SimulatedLine
    box: SimulatedUnit

    def pushed(self, entry: Entry) -> None:
        label = self.box.given[entry.session, entry.sequence]
        self.line.checks.pushed(self.box, label, entry)

    def overflowed(self, entry: Entry) -> None:
        self.line.checks.overflowed(self.box, entry)

    def acknowledged(self, entries: tuple[Entry, ...]) -> None:
        self.line.checks.acknowledged(self.box, entries)


class SimulatedLine:
    """The room. `run` advances virtual time; afterwards look at `log`, `delivered`, `alerts` and the units.

    `own_clock` lets units decide by themselves while no grant comes, and start again by themselves after a power cut.
    `labels` seeds what the desks say, and nothing else may depend on it. With `anyone_may_cheat` a test drives the room
    by hand and does what it likes: then no alert is held to be a false accusation.
    """

    def __init__(
        self,
        seed: int,
        *,
        units: int = 4,
        faults: Faults | None = None,
        limits: LineLimits | None = None,
        machines: Machines | None = None,
        revoked: frozenset[str] = frozenset(),
        own_clock: bool = False,
        labels: int = 0,
        anyone_may_cheat: bool = False,
        verbose: Callable[[str], None] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self._words = random.Random(f"{seed}/{labels}")
        self.limits = limits or LineLimits()
        self.roster = room.roster(units, revoked=revoked)
        self.machines = machines or Machines()
        self.own_clock = own_clock
        self.checks = Checks(self.roster, room.LINE, self.limits)
        self.checks.anyone_may_cheat = anyone_may_cheat
        self.broker = Broker(self.random, self.at, self._arrive)
        self.disk = Disk()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._wakes: dict[str, float] = {}
        self._verbose = verbose
        self._trace = hashlib.sha256()
        self._wire_trace = hashlib.sha256()
        self.box = SimulatedGateway()
        self.delivered: list[Deliver] = []
        self.witnessed: list[Witnessed] = []
        self.gaps: list[Gap] = []
        self.alerts: list[Alert] = []
        self.units = {name: SimulatedUnit(name, name) for name in room.unit_names(units) if name not in revoked}
        self.muted: set[str] = set()
        self.away: set[str] = set()
        self.faults = faults or Faults()

    # --- what can be looked at ---------------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """What the broker does wrong by chance."""
        return self.broker.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.broker.faults = faults
        self.checks.disturbed(BROKER, until_further_notice=faults.any)

    @property
    def gateway(self) -> LineGateway | None:
        """The gateway's machine; None while it is off."""
        return self.box.machine

    @property
    def log(self) -> list[ClosedRound]:
        """The gateway's durable log."""
        return self.box.log

    @property
    def stored_grant(self) -> bytes | None:
        """The open grant on the gateway's disk."""
        return self.box.stored_grant

    @property
    def wire(self) -> list[tuple[str, bytes]]:
        """Everything that the broker ever took."""
        return self.broker.wire

    @property
    def trace(self) -> str:
        """Digest of every decision so far: the same for every run of one seed."""
        return self._trace.hexdigest()

    @property
    def wire_trace(self) -> str:
        """Digest of what somebody on the network sees, bytes aside: moment, topic and size of every message."""
        return self._wire_trace.hexdigest()

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        text = f"{self.now:11.6f} {what}"
        self._trace.update(text.encode() + b"\n")
        if self._verbose is not None:
            self._verbose(text)

    # --- time --------------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at a virtual second."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            when, _, what = heapq.heappop(self._events)
            self._set_time(max(when, self.now))
            what()
        self._set_time(end)

    def _set_time(self, now: float) -> None:
        self.now = self.broker.now = self.checks.now = now

    def _wake_at(self, box: str, clock: BoxClock, deadline: float | None, what: Callable[[], None]) -> None:
        """Have a machine ticked at its deadline; an earlier wish of the same box is void."""
        if deadline is None:
            self._wakes.pop(box, None)
            return
        when = max(clock.moment(deadline), self.now + _TICK_S)
        if self._wakes.get(box) == when:
            return
        self._wakes[box] = when
        self.at(when, partial(self._wake, box, when, what))

    def _wake(self, box: str, when: float, what: Callable[[], None]) -> None:
        if self._wakes.get(box) == when:
            del self._wakes[box]
            what()

    # --- gateway -----------------------------------------------------------------------------------------------------

    @property
    def wall_ms(self) -> int:
        """The gateway's wall time."""
        return self.box.clock.wall_ms(self.now)

    def start_gateway(self) -> None:
        """Start, or start again from what is stored."""
        if self.box.machine is not None:
            return
        self.box.starts += 1
        self.note(f"gateway starts, {len(self.log)} rounds stored")
        self.box.machine = self.machines.gateway(
            roster=self.roster,
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=self.limits,
            witness_count=2,
            stored_grant=self.box.stored_grant,
            quarantined=self.box.quarantined,
            recent=[link for closed in self.log[-self.limits.rounds_in_memory :] for link in closed.links],
        )
        self.checks.gateway_started()
        self.connect_gateway()

    def kill_gateway(self) -> None:
        """Gone, with all that was only in memory."""
        if self.box.machine is None:
            return
        self.note("gateway dies")
        self.box.machine = None
        self.broker.leave(GATEWAY)
        self._wakes.pop(GATEWAY, None)
        self._disturb(GATEWAY)

    def connect_gateway(self) -> None:
        """The gateway reaches the broker."""
        if self.box.machine is not None and self.broker.up:
            self.broker.subscribe(GATEWAY)
            self._disturb(GATEWAY)
            self._gateway_does(self.box.machine.connected(self._gateway_time(), self.wall_ms))

    def disconnect_gateway(self) -> None:
        """The gateway notices that the broker is gone."""
        self.broker.leave(GATEWAY)
        self._disturb(GATEWAY)
        if self.box.machine is not None:
            self._gateway_does(self.box.machine.disconnected(self._gateway_time()))

    def _gateway_time(self) -> float:
        return self.box.clock.monotonic(self.now)

    def _gateway_ticks(self) -> None:
        if self.box.machine is not None:
            self._gateway_does(self.box.machine.tick(self._gateway_time(), self.wall_ms))

    def _gateway_does(self, actions: list[Action]) -> None:
        try:
            for action in actions:
                self._gateway_act(action)
        except PowerCutError:
            self.note(f"power cut at the gateway, durable write {self.disk.writes}")
            self.kill_gateway()
            if self.own_clock:
                self.at(self.now + self.random.uniform(*_RESTART_S), self.start_gateway)
        if self.box.machine is not None:
            self._wake_at(GATEWAY, self.box.clock, self.box.machine.next_deadline(), self._gateway_ticks)

    def _gateway_act(self, action: Action) -> None:
        match action:
            case Persist():
                self.disk.write(partial(self._store, action))
            case Publish():
                self.note(f"gateway publishes {action.topic}")
                self.checks.grant_published(action.payload)
                self.publish(action.topic, action.payload, retain=action.retain, sender=GATEWAY)
            case Deliver():
                self.note(f"gateway delivers {action.unit} {action.session}/{action.sequence} of round {action.round}")
                self.checks.delivered(action)
                self.delivered.append(action)
            case Witnessed():
                self.note(f"gateway counts {action.count} witnesses of {action.unit} in round {action.round}")
                self.witnessed.append(action)
            case Gap():
                self.note(f"gateway tells a gap of {action.unit} {action.session}/{action.first}-{action.last}")
                self.checks.gap(action)
                self.gaps.append(action)
            case Alert():
                self.note(f"gateway alerts {action.code} about {action.peer}")
                if action.code is Verdict.EQUIVOCATION:
                    self.box.quarantined |= {action.peer}
                self.checks.alert(GATEWAY, action)
                self.alerts.append(action)
            case Infer():
                raise AssertionError("a gateway infers nothing")

    def _store(self, action: Persist) -> None:
        if action.closed is not None:
            self.box.log.append(action.closed)
        self.box.stored_grant = action.next_grant
        signed = len(action.closed.links) if action.closed else 0
        self.note(f"gateway stores round {len(self.log)} with {signed} links")
        self.checks.persisted(action)

    # --- units -------------------------------------------------------------------------------------------------------

    def start_unit(self, box: str) -> None:
        """Start with the next session, raised durably before anything is signed, and with what the disk kept."""
        unit = self.units[box]
        if unit.machine is not None:
            return
        try:
            self.disk.write(partial(self._raise_session, unit))
        except PowerCutError:
            self._unit_loses_power(unit)
            return
        unit.starts += 1
        unit.labels = 0
        unit.outbox = WatchedOutbox(
            self.limits.backlog_entries,
            spill_after_s=self.limits.spill_after_ms / 1_000,
            restored=[entry for entry in unit.spilled if entry.session < unit.session],
            watch=_Watch(self, unit),
        )
        self.note(f"{box} starts in session {unit.session} with {unit.backlog} labels from disk")
        self.checks.started(unit)
        unit.machine = self.machines.unit(
            roster=self.roster,
            line=room.LINE,
            session=unit.session,
            signer=room.signer(unit.name),
            outbox=unit.outbox,
            limits=self.limits,
        )
        unit.next_own_label = self.now + self.limits.round_period_ms / 1_000
        self._own_clock(unit, unit.starts)
        self.connect_unit(box)

    def _raise_session(self, unit: SimulatedUnit) -> None:
        unit.session += 1

    def kill_unit(self, box: str) -> None:
        """Gone, with the labels that were in memory only."""
        unit = self.units[box]
        if unit.machine is None:
            return
        self.note(f"{box} dies")
        self.checks.died(unit)
        unit.machine = None
        unit.outbox = SpillingOutbox(1, spill_after_s=1.0)
        if self.broker.holds(box):
            # What the network holds across a start for longer than an echo takes, the unit tells as a replay: a false
            # alarm that docs/simulator.md names, and that accuses nobody else.
            self.checks.late_echoes.add(unit.name)
        self.broker.leave(box)
        self._wakes.pop(box, None)
        self._disturb(box)

    def disconnect_unit(self, box: str) -> None:
        """The cable is pulled; the program goes on."""
        unit = self.units[box]
        self.broker.leave(box)
        self._disturb(box)
        if unit.machine is not None:
            self._unit_does(unit, unit.machine.disconnected(unit.clock.monotonic(self.now)))

    def connect_unit(self, box: str) -> None:
        """Connected; retained messages come."""
        unit = self.units[box]
        if unit.machine is None or not self.broker.up:
            return
        self._unit_does(unit, unit.machine.connected(unit.clock.monotonic(self.now)))
        self.broker.subscribe(box)
        self._disturb(box)

    def start(self) -> SimulatedLine:
        """Gateway and all units."""
        self.start_gateway()
        for box in self.units:
            self.start_unit(box)
        return self

    def give_label(self, box: str) -> None:
        """The unit's inference is through."""
        unit = self.units[box]
        if unit.machine is None or unit.stopped:
            return
        unit.labels += 1
        unit.next_own_label = self.now + _OWN_PERIODS * self.limits.round_period_ms / 1_000
        label = self.make_label(unit)
        unit.given[unit.session, unit.labels] = label
        self.note(f"{box} gives label {unit.session}/{unit.labels}")
        self._unit_does(unit, unit.machine.label(label, unit.clock.monotonic(self.now)))

    def make_label(self, unit: SimulatedUnit) -> Label:
        """Some label, of this moment by the unit's own clock."""
        when, source = unit.clock.wall_ms(self.now), TimeSource.GATEWAY
        if unit.name in self.muted:
            return Label(window_end_ms=when, time_source=source, state=LabelState.MUTED)
        return Label(
            window_end_ms=when,
            time_source=source,
            state=LabelState.GIVEN,
            emotion=self._words.choice(EMOTIONS),
            confidence=self._words.randrange(1_001),
        )

    def _own_clock(self, unit: SimulatedUnit, starts: int) -> None:
        """While no grant comes, the unit decides by itself."""
        if not self.own_clock or unit.machine is None or unit.starts != starts:
            return
        if self.now >= unit.next_own_label:
            self.give_label(unit.box)
            unit.next_own_label = self.now + self.limits.round_period_ms / 1_000
        self.at(max(unit.next_own_label, self.now + _TICK_S), partial(self._own_clock, unit, starts))

    def _unit_ticks(self, unit: SimulatedUnit) -> None:
        if unit.machine is not None:
            self._unit_does(unit, unit.machine.tick(unit.clock.monotonic(self.now)))

    def _infers(self, unit: SimulatedUnit, starts: int) -> None:
        if unit.starts == starts:
            self.give_label(unit.box)

    def _unit_does(self, unit: SimulatedUnit, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish():
                    unit.published.append(action.payload)
                    self.note(f"{unit.box} publishes {action.topic}")
                    self.checks.link_published(unit, action.payload)
                    self.publish(action.topic, action.payload, retain=action.retain, sender=unit.box)
                case Infer():
                    when = self.now + self.random.uniform(*INFER_S)
                    self.at(when, partial(self._infers, unit, unit.starts))
                case Alert():
                    self.note(f"{unit.box} alerts {action.code} about {action.peer}")
                    self.checks.alert(unit.box, action)
                    unit.alerts.append(action)
                case _:
                    raise AssertionError(f"a unit does not ask for {action}")
        self.checks.after_unit(unit)
        try:
            self._spill(unit)
        except PowerCutError:
            self._unit_loses_power(unit)
        if unit.machine is not None:
            self._wake_at(unit.box, unit.clock, unit.machine.next_deadline(), partial(self._unit_ticks, unit))

    def _spill(self, unit: SimulatedUnit) -> None:
        """Carry out what the outbox wants on the disk, as device/publish/spill.py does."""
        step = None if unit.stopped else unit.outbox.spill_step(unit.clock.monotonic(self.now))
        if step is not None:
            self.disk.write(partial(self._write_spilled, unit, step))
            unit.outbox.spilled(step)

    def _write_spilled(self, unit: SimulatedUnit, step: SpillStep) -> None:
        kept = unit.spilled if isinstance(step, Append) else []
        unit.spilled = [*kept, *step.entries]
        self.note(f"{unit.box} has {len(unit.spilled)} labels on disk")

    def _unit_loses_power(self, unit: SimulatedUnit) -> None:
        self.note(f"power cut at {unit.box}, durable write {self.disk.writes}")
        self.kill_unit(unit.box)
        if self.own_clock:
            self.at(self.now + self.random.uniform(*_RESTART_S), partial(self.start_unit, unit.box))

    # --- broker ------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, sender: str = "attacker") -> None:
        """The broker takes a message, also from an attacker, and passes it on as its faults say."""
        self._wire_trace.update(f"{self.now:.6f} {topic} {len(payload)}\n".encode())
        self.broker.publish(sender, topic, payload, retain=retain)

    def inject(self, payload: bytes, *, unit: str = "desk-1") -> None:
        """An attacker publishes on a unit's topic."""
        self.publish(topics.link(room.ROOM, room.LINE, unit), payload)

    def cut(self, box: str, how: Cut) -> None:
        """Cut a box off without its noticing."""
        self.note(f"{box} is cut off and the network {how}")
        self.broker.cut(box, how)
        self._disturb(box)

    def heal(self, box: str) -> None:
        """End a cut."""
        if box in self.broker.cuts:
            self.note(f"{box} is no longer cut off")
            self.broker.heal(box)
            self._disturb(box)

    def _disturb(self, box: str) -> None:
        """Liveness is not asked of a box that something happens to, nor of one that is off or away."""
        party = self.units[box].name if box in self.units else box
        self.checks.disturbed(party, until_further_notice=not self.broker.reaches(box))

    def stop_broker(self) -> None:
        """Down; every box notices."""
        if not self.broker.up:
            return
        self.note("broker stops")
        self.checks.disturbed(BROKER, until_further_notice=True)
        self.broker.stop()
        self.disconnect_gateway()
        for box in self.units:
            self.disconnect_unit(box)

    def start_broker(self, retained: Retained) -> None:
        """Up again; every box that runs comes back."""
        if self.broker.up:
            return
        self.note(f"broker starts, retained messages {retained}")
        self.broker.start(retained)
        self.checks.disturbed(BROKER, until_further_notice=self.faults.any)
        boxes = [GATEWAY, *self.units]
        self.random.shuffle(boxes)
        for box in boxes:
            reconnect = self.connect_gateway if box == GATEWAY else partial(self.connect_unit, box)
            self.at(self.now + self.random.uniform(0.0, 0.3), reconnect)

    def _arrive(self, box: str, topic: str, payload: bytes) -> None:
        if box == GATEWAY:
            machine = self.box.machine
            if machine is not None:
                cheat = self.checks.gateway_hears(payload, machine.head, machine.round)
                self._gateway_does(machine.received(topic, payload, self._gateway_time(), self.wall_ms))
                self.checks.must_be_proved(cheat)
            return
        unit = self.units[box]
        if unit.machine is not None:
            self._unit_does(unit, unit.machine.received(topic, payload, unit.clock.monotonic(self.now)))

    # --- the end -----------------------------------------------------------------------------------------------------

    def end_faults(self) -> None:
        """From here on everything works again; boxes in `away` stay away."""
        self.note("all faults end")
        self.faults = Faults()
        self.disk.cut_at = None
        self.start_broker(Retained.KEPT)
        for box in (GATEWAY, *self.units):
            self.heal(box)
        self.start_gateway()
        if not self.broker.online.get(GATEWAY):
            self.connect_gateway()
        for box in self.units:
            if box in self.away:
                continue
            self.start_unit(box)
            if not self.broker.online.get(box):
                self.connect_unit(box)

    def check(self) -> None:
        """G2 and G6 over everything that was given so far; the other guarantees were checked at every step."""
        self.checks.finish(self.units)
