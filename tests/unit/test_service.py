"""The unit's loop with the real line machine and gateway in memory: what a peer, a broker or silence can do to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device.clock import TimeSource
from device.config import LineLimits
from device.inference.decision import Decision
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.label import SenseState
from device.publish.outbox import BoundedOutbox
from device.publish.ports import LastWill
from device.system.systemd import ServiceNotifier
from device.unit.service import Identity, UnitService
from device.unit.status import last_will
from models.labels import AbstainReason, Emotion
from tests.fakes.clock import FakeClock
from tests.gateway.memory_room import MemoryRoom
from tools.vectors import room

UNIT = "desk-1"
STATUS = topics.unit_status(room.ROOM, room.LINE, UNIT)
LABELS = topics.labels(room.ROOM, room.LINE, UNIT)


class ScriptedSenses:
    """Senses that decide what a test says; counts how often they were used."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.label: Emotion | None = Emotion.SADNESS
        self.reason: AbstainReason | None = None
        self.states = {"microphone": "ok", "camera": "ok"}
        self.ticks = 0
        self.open = False
        self.window_end = clock.monotonic()

    def start(self) -> None:
        self.open = True

    def stop(self) -> None:
        self.open = False

    def pump(self) -> None:
        assert self.open

    def tick(self, now: float) -> Decision:
        self.ticks += 1
        self.window_end = now - 0.02
        probabilities = np.full(8, 0.125, np.float32)
        return Decision(
            self.label, self.reason, 0.8, probabilities, 0.4, 0.6, SenseState.PRESENT, SenseState.SEVERAL_FACES
        )

    def sense_states(self) -> dict[str, str]:
        return self.states


class Unit:
    """One unit's real service against the gateway of a `MemoryRoom`."""

    def __init__(self, folder: Path, *, muted: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.room = MemoryRoom(folder, desks=0)
        self.clock = self.room.clock
        self.senses = ScriptedSenses(self.clock)
        limits = LineLimits()
        self.outbox = BoundedOutbox(limits.backlog_entries)
        machine = LineUnit(
            roster=room.roster(),
            line=room.LINE,
            session=3,
            signer=room.signer(UNIT),
            outbox=self.outbox,
            limits=limits,
        )
        self.link = self.room.broker.link(
            [topics.grant(room.ROOM, room.LINE), topics.link(room.ROOM, room.LINE, "+")],
            LastWill(STATUS, last_will(UNIT, room.LINE, 3)),
        )
        self.windows: list[int] = []
        self.service = UnitService(
            Identity(room.ROOM, room.LINE, UNIT, 3, "test-1", "labels"),
            clock=self.clock,
            senses=None if muted else self.senses,
            machine=machine,
            link=self.link,
            status_topic=STATUS,
            notifier=ServiceNotifier({}),
            period_s=0.5,
            on_tick=self.windows.append,
        )
        self.senses.start()
        self.link.start()

    def run(self, seconds: float, *, gateway: bool = True) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            if gateway:
                self.room.service.step()
            self.service.step()

    def labels(self) -> list[dict[str, object]]:
        return [json.loads(payload) for topic, payload in self.room.broker.published if topic == LABELS]

    def statuses(self) -> list[dict[str, object]]:
        return [json.loads(payload) for topic, payload in self.room.broker.published if topic == STATUS]


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


def test_each_grant_brings_one_decision_and_one_verified_label(unit: Unit) -> None:
    unit.run(5.0)
    sequences = {label["sequence"] for label in unit.labels()}
    assert len(sequences) >= 8
    assert sequences == set(range(1, len(sequences) + 1))
    newest = unit.labels()[-1]
    assert (newest["label"], newest["session"], newest["model"]) == ("sadness", 3, "test-1")
    assert newest["senses"] == {"speech": "present", "face": "several_faces"}
    assert newest["shares"] == {"speech": 0.4, "face": 0.6}


def test_an_abstention_says_its_reason(unit: Unit) -> None:
    unit.senses.label, unit.senses.reason = None, AbstainReason.CONFLICT
    unit.run(2.0)
    assert unit.labels()[-1]["state"] == "abstained"
    assert unit.labels()[-1]["abstain_reason"] == "conflict"


def test_a_muted_unit_opens_no_sense_and_sends_as_many_labels(tmp_path: Path) -> None:
    muted = Unit(tmp_path, muted=True)
    muted.run(5.0)
    assert muted.senses.ticks == 0
    assert len({label["sequence"] for label in muted.labels()}) >= 8
    assert {label["state"] for label in muted.labels()} == {"muted"}


def test_the_public_status_of_a_muted_unit_is_that_of_a_speaking_one(tmp_path: Path) -> None:
    said = []
    for muted in (True, False):
        unit = Unit(tmp_path / str(muted), muted=muted)
        unit.run(2.0)
        said.append(unit.statuses())
    assert said[0] == said[1] != []


def test_without_grants_the_unit_goes_on_deciding_and_nothing_is_lost(unit: Unit) -> None:
    unit.run(2.0)
    unit.room.broker.down()
    unit.run(10.0)
    assert len(unit.outbox) >= 18
    unit.room.broker.up()
    unit.run(6.0)
    sequences = {label["sequence"] for label in unit.labels()}
    assert sequences == set(range(1, len(sequences) + 1))
    assert len(unit.outbox) <= 2


def test_random_bytes_on_every_topic_do_not_stop_the_unit(unit: Unit) -> None:
    unit.run(1.0)
    draw = np.random.default_rng(1)
    for size in (0, 1, 17, 400, 40_000):
        for topic in (topics.grant(room.ROOM, room.LINE), topics.link(room.ROOM, room.LINE, "desk-2")):
            unit.room.broker.deliver(topic, draw.bytes(size))
    before = len(unit.labels())
    unit.run(3.0)
    assert len(unit.labels()) > before


def test_status_follows_the_senses_and_is_said_again_after_a_reconnection(unit: Unit) -> None:
    unit.run(1.0)
    assert unit.statuses()[-1]["microphone"] == "ok"
    unit.senses.states = {"microphone": "silent_driver", "camera": "ok"}
    unit.run(1.0)
    assert unit.statuses()[-1]["microphone"] == "silent_driver"
    said = len(unit.statuses())
    unit.room.broker.down()
    unit.run(1.0)
    unit.room.broker.up()
    unit.run(1.0)
    assert len(unit.statuses()) == said + 1


def test_killed_unit_is_said_to_be_lost_by_its_last_will(unit: Unit) -> None:
    unit.run(1.0)
    unit.link.die()
    assert unit.statuses()[-1]["process"] == "lost"
    assert unit.statuses()[-1]["session"] == 3


def test_without_a_set_clock_the_time_comes_from_the_grant(unit: Unit) -> None:
    unit.clock.source = TimeSource.UNSET
    unit.run(3.0)
    newest = unit.labels()[-1]
    assert newest["time_source"] == "gateway"
    assert abs(unit.windows[-1] - unit.clock.wall_ms()) < 1_000
