"""A whole room in memory: the gateway's real service, store and line, real units' lines, a fake broker and clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.clock import Clock, TimeSource
from device.config import LineLimits
from device.errors import ConfigError
from device.gateway.alerts import AlertBook
from device.gateway.board import Board
from device.gateway.consumers import ClassPicture
from device.gateway.documents import encode
from device.gateway.ingest import Ingest, LineShell, Outlets
from device.gateway.service import GatewayService, Identity, status_document
from device.gateway.store import LabelReader, Store
from device.gateway.web.app import Health
from device.line.actions import Action, Infer, Publish
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.envelope import Signer
from device.messages.label import Label, LabelState, SenseState
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting
from device.messages.roster import Roster
from device.publish.outbox import BoundedOutbox
from device.publish.ports import Connected, Disconnected, LastWill, Link, Received
from device.system.trusted_time import TIME_FILE, TrustedTime
from device.trust import Trusted
from models.labels import Emotion
from tests.fakes.clock import FakeClock
from tests.fakes.mqtt import FakeBroker, FakeLink
from tools.vectors import room

DAY_MS = 86_400_000


def a_policy(mode: Mode = Mode.LABELS, **changes: Any) -> DeploymentPolicy:
    """A policy in force at the fake clock's time."""
    fields: dict[str, Any] = {
        "room": room.ROOM,
        "purpose": Purpose.DEMONSTRATION,
        "setting": Setting.LABORATORY,
        "jurisdiction": "EU",
        "mode": mode,
        "min_group": 3,
        "retention_days": 7,
        "witness_count": 2,
        "approved_by": "Nobody: a test",
        "not_before_ms": 1_799_000_000_000,
        "not_after_ms": 1_801_000_000_000,
    }
    return DeploymentPolicy(**(fields | changes))


class SilentPage:
    """A page that nobody looks at."""

    address = "http://127.0.0.1:0/"

    def __init__(self, health: Callable[[], Health]) -> None:
        self.health = health
        self.serving = False

    def start(self) -> None:
        self.serving = True

    def stop(self) -> None:
        self.serving = False


class RecordingNotifier:
    """Keeps what the service manager would have been told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self) -> None:
        self.told.append("ready")

    def progressed(self) -> None:
        self.told.append("progressed")

    def status(self, text: str) -> None:
        self.told.append(text)

    def stopping(self) -> None:
        self.told.append("stopping")


class ScriptedWatch:
    """Finds what a test has put there, or refuses it; counts how often it was told to look at once."""

    def __init__(self) -> None:
        self.found: Trusted | ConfigError | None = None
        self.told_to_look = 0

    def poll(self, *, at_once: bool = False) -> Trusted | None:
        self.told_to_look += at_once
        found, self.found = self.found, None
        if isinstance(found, ConfigError):
            raise found
        return found


class Desk:
    """One unit's line over any link; labels are what `feels` says, None means muted."""

    def __init__(self, roster: Roster, line: str, signer: Signer, link: Link, clock: Clock, session: int = 1) -> None:
        self.feels: Emotion | None = Emotion.HAPPINESS
        self.clock = clock
        self.link = link
        limits = LineLimits()
        self.machine = LineUnit(
            roster=roster,
            line=line,
            session=session,
            signer=signer,
            outbox=BoundedOutbox(limits.backlog_entries),
            limits=limits,
        )

    def step(self) -> None:
        """Everything that is due."""
        now = self.clock.monotonic()
        while (event := self.link.next_event(0.0)) is not None:
            match event:
                case Connected():
                    self._do(self.machine.connected(now))
                case Disconnected():
                    self._do(self.machine.disconnected(now))
                case Received(topic, payload, _):
                    self._do(self.machine.received(topic, payload, now))
        self._do(self.machine.tick(now))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Publish) and self.link.connected:
                self.link.publish(action.topic, action.payload, qos=action.qos, retain=action.retain)
            elif isinstance(action, Infer):
                self._do(self.machine.label(self._label(), self.clock.monotonic()))

    def _label(self) -> Label:
        sense = SenseState.PRESENT if self.feels else SenseState.SILENT
        return Label(
            window_end_ms=self.clock.wall_ms(),
            time_source=TimeSource.GATEWAY,
            state=LabelState.GIVEN if self.feels else LabelState.MUTED,
            emotion=self.feels,
            confidence=900 if self.feels else 0,
            speech=sense,
            face=sense,
            bundle="test",
        )


class MemoryRoom:
    """Four desks on one line and their gateway; `run` lets virtual time pass."""

    def __init__(self, state: Path, policy: DeploymentPolicy | None = None, *, desks: int = 4) -> None:
        self.state = state
        self.policy = policy or a_policy()
        self.clock = FakeClock()
        self.broker = FakeBroker()
        self.limits = LineLimits()
        self.watch = ScriptedWatch()
        self.look = threading.Event()
        self.desks = [self._desk(name) for name in room.unit_names(desks)]
        self.start_gateway()

    def _desk(self, name: str) -> Desk:
        link = self.broker.link([topics.grant(room.ROOM, room.LINE), topics.link(room.ROOM, room.LINE, "+")])
        link.start()
        return Desk(room.roster(), room.LINE, room.signer(name), link, self.clock)

    def start_gateway(self) -> None:
        """Start, or start again from what is stored. Does what `device.gateway.wiring` does, with the fakes."""
        self.store = Store(self.state / "gateway.sqlite")
        self.board = Board()
        self.identity = Identity(
            room=room.ROOM,
            gateway=room.GATEWAY,
            session=self.store.raise_counter("sessions"),
            version="test",
            policy=self.policy,
            roster=room.roster(),
        )
        will = status_document(self.identity, online=False, in_force=False, ingest=None)
        lines = () if self.policy.mode is Mode.OFF else (room.LINE,)
        self.link: FakeLink = self.broker.link(
            [
                topic
                for line in lines
                for topic in (topics.link(room.ROOM, line, "+"), topics.unit_status(room.ROOM, line, "+"))
            ],
            LastWill(topics.gateway_status(room.ROOM), encode(will)),
        )
        alerts = AlertBook(
            room=room.ROOM, gateway=room.GATEWAY, session=self.identity.session, store=self.store, board=self.board
        )
        outlets = Outlets(
            room=room.ROOM,
            mode=self.policy.mode,
            desks={name: f"Desk {name[-1]}" for name in room.unit_names(4)},
            store=self.store,
            board=self.board,
            alerts=alerts,
            publish=lambda sent: self.link.publish(sent.topic, sent.payload, qos=sent.qos, retain=sent.retain),
            class_picture=ClassPicture(room=room.ROOM, min_group=self.policy.min_group),
        )
        shells = {line: LineShell(line, room.unit_names(4), self._machine(), outlets) for line in lines}
        if self.policy.mode is Mode.LABELS:
            for shell in shells.values():
                shell.resume_with(LabelReader(self.store.path).latest())
        self.notifier = RecordingNotifier()
        self.service = GatewayService(
            self.identity,
            clock=self.clock,
            link=self.link,
            ingest=Ingest(shells, outlets, b"the signed roster", b"the trust bundle"),
            store=self.store,
            board=self.board,
            page=SilentPage,
            notifier=self.notifier,
            watch=self.watch,
            time=TrustedTime(self.state / TIME_FILE, self.clock, known_ms=self.clock.wall_ms()),
        )
        self.link.start()

    def _machine(self) -> LineGateway:
        return LineGateway(
            roster=room.roster(),
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=self.limits,
            witness_count=self.policy.witness_count,
            stored_grant=self.store.open_grant(room.LINE),
            quarantined=self.store.quarantined(room.roster(), room.LINE, self.limits),
            recent=self.store.recent_links(room.LINE, rounds=self.limits.rounds_in_memory),
        )

    def kill_gateway(self) -> None:
        """Gone without a word: the broker speaks its last will."""
        self.link.die()
        self.store.close()

    def run(self, seconds: float) -> None:
        """Let time pass in steps of 10 ms."""
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)
            self.settle()

    def settle(self) -> None:
        """Everybody does what is due at this moment."""
        for _ in range(12):
            self.service.step()
            for desk in self.desks:
                desk.step()

    def published(self, topic: str) -> list[dict[str, Any]]:
        """JSON messages on a topic, in order; empty payloads are left out."""
        return [json.loads(payload) for name, payload in self.broker.published if name == topic and payload]

    def labels(self, unit: str) -> list[dict[str, Any]]:
        """What consumers were sent of one unit."""
        return self.published(topics.labels(room.ROOM, room.LINE, unit))

    def shown(self, part: str) -> Any:
        """What the page shows, None when that part is not there."""
        found = self.board.since(0).parts.get(part)
        return None if found is None else json.loads(bytes(found))
