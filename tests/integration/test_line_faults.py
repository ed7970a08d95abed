"""The real programs on a real broker while one after the other is killed: no stored label is missing or doubled.

The units are muted: they capture and infer nothing, but seal, sign and send as always, so no model is needed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from device.errors import StorageError
from device.gateway.documents import AlertDocument, LabelDocument
from device.gateway.store import LabelReader, Store
from device.gateway.wiring import STORE_FILE
from device.messages import topics
from device.publish.ports import Received
from tests.integration.conftest import TAKE
from tests.integration.room_broker import RoomBroker, require_mosquitto, wait_for, wait_until

BROKER_AWAY_S = 2.0


class Programs:
    """Gateway and units of a room as processes."""

    def __init__(self, broker: RoomBroker) -> None:
        self.broker = broker
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start the gateway or a unit."""
        room = self.broker.room
        module, config = ("device.unit", room.unit_config(name))
        if name == "gateway":
            module, config = ("device.gateway", room.gateway_config)
        with (config.parent / "log.txt").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_all(self) -> None:
        """Start everything, and return when every unit has some labels in the store."""
        for name in ("gateway", *self.broker.room.units):
            self.start(name)
        self.wait_for_labels(4)

    def kill(self, name: str) -> None:
        """End it as a power cut would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """End it cleanly."""
        process = self._processes.pop(name)
        process.terminate()
        assert process.wait(20) == 0, (self.broker.box(name) / "log.txt").read_text()

    def stop_all(self) -> None:
        """End the units first, so that the gateway still takes what they send last."""
        for name in sorted(self._processes, key=lambda name: name == "gateway"):
            self.stop(name)

    def close(self) -> None:
        """Leave nothing running, however the test ended."""
        for name in list(self._processes):
            self.kill(name)

    def labels(self, unit: str) -> list[LabelDocument]:
        """What the gateway has stored of a unit, in order; nothing while it is just making its store."""
        store = self.broker.room.gateway / "state" / STORE_FILE
        try:
            return LabelReader(store).since(unit, 0, limit=10_000)
        except StorageError:
            return []

    def wait_for_labels(self, more: int) -> None:
        """Return when every unit has that many more labels in the store than now."""
        for process in self._processes.values():
            assert process.poll() is None
        before = {unit: len(self.labels(unit)) for unit in self.broker.room.units}
        wait_until(
            lambda: all(len(self.labels(unit)) >= count + more for unit, count in before.items()),
            f"{more} more labels of every unit",
        )

    def accusations(self) -> list[AlertDocument]:
        """Alerts that call somebody a cheat; the gateway must have stopped. Faults alone must raise none."""
        with closing(Store(self.broker.room.gateway / "state" / STORE_FILE)) as store:
            return [alert for alert in store.newest_alerts(1_000) if alert.severity == "refused"]

    def sequences(self, unit: str) -> dict[int, list[int]]:
        """Session → stored sequence numbers, sorted."""
        found: dict[int, list[int]] = {}
        for label in self.labels(unit):
            found.setdefault(label.session, []).append(label.sequence)
        return {session: sorted(numbers) for session, numbers in found.items()}


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    require_mosquitto()
    broker = RoomBroker(tmp_path / "room", TAKE, muted=True)
    broker.start()
    started = Programs(broker)
    try:
        yield started
    finally:
        started.close()
        broker.close()


def assert_whole(numbers: list[int]) -> None:
    """No sequence number is missing and none is there twice."""
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.slow
def test_no_label_is_lost_when_the_broker_is_killed_and_comes_back(programs: Programs) -> None:
    programs.start_all()
    programs.broker.kill()
    time.sleep(BROKER_AWAY_S)
    programs.broker.start()
    programs.wait_for_labels(12)
    programs.stop_all()
    assert programs.accusations() == []
    for unit in programs.broker.room.units:
        sessions = programs.sequences(unit)
        assert list(sessions) == [1]
        assert sessions[1][0] == 1
        assert_whole(sessions[1])


@pytest.mark.slow
def test_no_label_is_lost_or_doubled_when_the_gateway_is_killed_and_comes_back(programs: Programs) -> None:
    programs.start_all()
    programs.kill("gateway")
    time.sleep(BROKER_AWAY_S)
    programs.start("gateway")
    programs.wait_for_labels(12)
    programs.stop_all()
    assert programs.accusations() == []
    for unit in programs.broker.room.units:
        sessions = programs.sequences(unit)
        assert list(sessions) == [1]
        assert sessions[1][0] == 1
        assert_whole(sessions[1])


@pytest.mark.slow
def test_killed_unit_comes_back_in_a_new_session_and_the_line_goes_on(programs: Programs) -> None:
    programs.start_all()
    programs.kill("a2")
    programs.start("a2")
    programs.wait_for_labels(6)
    programs.stop_all()
    assert programs.accusations() == []
    sessions = programs.sequences("a2")
    assert list(sessions) == [1, 2]
    assert sessions[2][0] == 1
    for numbers in sessions.values():
        assert_whole(numbers)
    for other in ("a1", "a3"):
        assert list(programs.sequences(other)) == [1]
        assert_whole(programs.sequences(other)[1])


@pytest.mark.slow
def test_status_tells_a_killed_unit_from_one_that_was_stopped(programs: Programs) -> None:
    programs.start_all()
    programs.kill("a2")
    programs.stop_all()
    reader = programs.broker.connected("gateway", subscriptions=[topics.unit_status("demo", "a", "+")])
    said = [wait_for(reader, Received) for _ in programs.broker.room.units]
    statuses = {status["unit"]: (status["process"], status["session"]) for status in map(read_json, said)}
    assert statuses == {"a1": ("stopped", 1), "a2": ("lost", 1), "a3": ("stopped", 1)}
    assert all(status.retained for status in said)


def read_json(received: Received) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(received.payload)
    return document
