"""A whole line in virtual time: units, a gateway, and a broker that misbehaves as a seed says.

Everything that happens is drawn from one `random.Random(seed)`; only keys and sealed bytes differ between two runs.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from device.clock import TimeSource
from device.config import LineLimits
from device.line.actions import Action, Alert, ClosedRound, Deliver, Gap, Infer, Persist, Publish, Witnessed
from device.line.gateway import LineGateway
from device.line.log import follow_log
from device.line.unit import LineUnit
from device.line.verify import step_10_open
from device.messages import topics
from device.messages.label import Label, LabelState
from device.publish.outbox import BoundedOutbox
from models.labels import EMOTIONS
from tools.vectors import room

EPOCH_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Faults:
    """Chances per delivery, 0..1, and times in seconds. Only `late` ones overtake each other, as in MQTT over TCP."""

    drop: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_by: float = 0.2
    delay: tuple[float, float] = (0.001, 0.004)


@dataclass
class SimulatedUnit:
    """A unit's shell: durable session counter, inference that takes time, memory that a restart loses."""

    name: str
    session: int = 0
    machine: LineUnit | None = None
    outbox: BoundedOutbox = field(default_factory=lambda: BoundedOutbox(7_200))
    given: dict[tuple[int, int], Label] = field(default_factory=dict)
    lost_at_restart: set[tuple[int, int]] = field(default_factory=set)
    alerts: list[Alert] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    labels: int = 0


class SimulatedLine:
    """The room. `run` advances virtual time; afterwards look at `log`, `delivered`, `alerts` and the units."""

    def __init__(
        self, seed: int, *, units: int = 4, faults: Faults | None = None, limits: LineLimits | None = None
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.limits = limits or LineLimits()
        self.roster = room.roster(units)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._retained: dict[str, bytes] = {}
        self.wire: list[tuple[str, bytes]] = []
        self.log: list[ClosedRound] = []
        self.stored_grant: bytes | None = None
        self.delivered: list[Deliver] = []
        self.witnessed: list[Witnessed] = []
        self.gaps: list[Gap] = []
        self.alerts: list[Alert] = []
        self.gateway: LineGateway | None = None
        self.units = {name: SimulatedUnit(name) for name in room.unit_names(units)}
        self._online: set[str] = set()
        self._newest_arrival: dict[str, float] = {}
        self.persists = 0
        self.power_cut_at_persist: int | None = None
        self.muted: set[str] = set()

    # --- time ----------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at a virtual second."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def run(self, seconds: float) -> None:
        """Let time pass, in steps of at most 5 ms for the machines' own deadlines."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.005, *(event[0] for event in self._events[:1]))
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self._tick()

    @property
    def wall_ms(self) -> int:
        """The gateway's wall time."""
        return EPOCH_MS + round(self.now * 1_000)

    def _tick(self) -> None:
        if self.gateway is not None:
            due = self.gateway.next_deadline()
            if due is not None and due <= self.now:
                self._do_gateway(self.gateway.tick(self.now, self.wall_ms))
        for unit in self.units.values():
            due = unit.machine.next_deadline() if unit.machine else None
            if unit.machine and due is not None and due <= self.now:
                self._do_unit(unit, unit.machine.tick(self.now))

    # --- parties -------------------------------------------------------------------------------------------------

    def start_gateway(self) -> None:
        """Start, or start again from what is stored."""
        self.gateway = LineGateway(
            roster=self.roster,
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=self.limits,
            witness_count=2,
            stored_grant=self.stored_grant,
        )
        self._do_gateway(self.gateway.connected(self.now, self.wall_ms))

    def kill_gateway(self) -> None:
        """Gone, with all that was only in memory."""
        self.gateway = None

    def start_unit(self, name: str) -> None:
        """Start with the next session, raised before anything is signed."""
        unit = self.units[name]
        unit.session += 1
        unit.outbox = BoundedOutbox(self.limits.backlog_entries)
        unit.labels = 0
        unit.machine = LineUnit(
            roster=self.roster,
            line=room.LINE,
            session=unit.session,
            signer=room.signer(name),
            outbox=unit.outbox,
            limits=self.limits,
        )
        self.connect_unit(name)

    def kill_unit(self, name: str) -> None:
        """Gone, with the labels that no grant had covered."""
        unit = self.units[name]
        unit.lost_at_restart |= {(entry.session, entry.sequence) for entry in unit.outbox.pending(len(unit.outbox))}
        unit.machine = None
        self._online.discard(name)

    def disconnect_unit(self, name: str) -> None:
        """The cable is pulled; the program goes on."""
        unit = self.units[name]
        assert unit.machine is not None
        self._online.discard(name)
        self._do_unit(unit, unit.machine.disconnected(self.now))

    def connect_unit(self, name: str) -> None:
        """Connected; retained messages come."""
        unit = self.units[name]
        assert unit.machine is not None
        self._online.add(name)
        self._do_unit(unit, unit.machine.connected(self.now))
        for topic, payload in self._retained.items():
            self._deliver(name, topic, payload)

    def start(self) -> SimulatedLine:
        """Gateway and all units."""
        self.start_gateway()
        for name in self.units:
            self.start_unit(name)
        return self

    def give_label(self, name: str) -> None:
        """The unit's inference is through."""
        unit = self.units[name]
        if unit.machine is None or unit.machine.state == "stopped":
            return
        unit.labels += 1
        label = self.make_label(muted=name in self.muted)
        unit.given[unit.session, unit.labels] = label
        self._do_unit(unit, unit.machine.label(label, self.now))

    def make_label(self, *, muted: bool = False) -> Label:
        """Some label, of this moment."""
        if muted:
            return Label(window_end_ms=self.wall_ms, time_source=TimeSource.GATEWAY, state=LabelState.MUTED)
        return Label(
            window_end_ms=self.wall_ms,
            time_source=TimeSource.GATEWAY,
            state=LabelState.GIVEN,
            emotion=self.random.choice(EMOTIONS),
            confidence=self.random.randrange(1_001),
        )

    # --- broker --------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """The broker takes a message, also from an attacker, and passes it on as its faults say."""
        self.wire.append((topic, payload))
        if retain:
            self._retained[topic] = payload
        for name in (*self._online, "gateway"):
            self._deliver(name, topic, payload)

    def inject(self, payload: bytes, *, unit: str = "desk-1") -> None:
        """An attacker publishes on a unit's topic."""
        self.publish(topics.link(room.ROOM, room.LINE, unit), payload)

    def _deliver(self, name: str, topic: str, payload: bytes) -> None:
        faults, dice = self.faults, self.random
        copies = 0 if dice.random() < faults.drop else 2 if dice.random() < faults.duplicate else 1
        for _ in range(copies):
            when = max(self.now + dice.uniform(*faults.delay), self._newest_arrival.get(name, 0.0))
            if dice.random() < faults.late:
                when += faults.late_by
            else:
                self._newest_arrival[name] = when
            self.at(when, lambda: self._arrive(name, topic, payload))

    def _arrive(self, name: str, topic: str, payload: bytes) -> None:
        if name == "gateway":
            if self.gateway is not None:
                self._do_gateway(self.gateway.received(topic, payload, self.now, self.wall_ms))
        elif name in self._online:
            unit = self.units[name]
            assert unit.machine is not None
            self._do_unit(unit, unit.machine.received(topic, payload, self.now))

    # --- actions -------------------------------------------------------------------------------------------------

    def _do_gateway(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Persist():
                    self.persists += 1
                    if self.persists == self.power_cut_at_persist:
                        self.kill_gateway()
                        return
                    if action.closed is not None:
                        self.log.append(action.closed)
                    self.stored_grant = action.next_grant
                case Publish():
                    self.publish(action.topic, action.payload, retain=action.retain)
                case Deliver():
                    self.delivered.append(action)
                case Witnessed():
                    self.witnessed.append(action)
                case Gap():
                    self.gaps.append(action)
                case Alert():
                    self.alerts.append(action)
                case Infer():
                    raise AssertionError("a gateway infers nothing")

    def _do_unit(self, unit: SimulatedUnit, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish():
                    unit.published.append(action.payload)
                    self.publish(action.topic, action.payload, retain=action.retain)
                case Infer():
                    self.at(self.now + self.random.uniform(0.005, 0.03), lambda: self.give_label(unit.name))
                case Alert():
                    unit.alerts.append(action)
                case _:
                    raise AssertionError(f"a unit does not ask for {action}")

    # --- what must hold ------------------------------------------------------------------------------------------

    def logged(self) -> dict[tuple[str, int, int], Label]:
        """Every label of the log, by (unit, session, sequence), after following the log with the roster alone."""
        found: dict[tuple[str, int, int], Label] = {}
        newest: dict[str, tuple[int, int]] = {}
        for view in follow_log(self.log, roster=self.roster, line=room.LINE, limits=self.limits):
            for link in view.links.values():
                for entry in link.body.entries:
                    number = (entry.session, entry.sequence)
                    assert number > newest.get(link.body.unit, (0, 0)), "G2: numbers run upwards"
                    newest[link.body.unit] = number
                    found[link.body.unit, *number] = step_10_open(room.opener(), link.body, entry)
        return found

    def check(self) -> None:
        """G1, G2, G3 over the whole log, and G6 for every label that any unit ever gave."""
        logged = self.logged()
        for (name, session, sequence), label in logged.items():
            assert self.units[name].given[session, sequence] == label, "G1: what is logged was given by that unit"
        for name, unit in self.units.items():
            kept = {(entry.session, entry.sequence) for entry in unit.outbox.pending(len(unit.outbox))}
            holes = {
                (gap.session, number)
                for gap in self.gaps
                if gap.unit == name
                for number in range(gap.first, gap.last + 1)
            }
            there = {(session, sequence) for unit_name, session, sequence in logged if unit_name == name}
            lost = unit.given.keys() - there - kept - unit.lost_at_restart - holes
            assert not lost, f"G6: {name} gave {sorted(lost)}, which are nowhere"
