"""The gateway's real program at a real broker: three units' lines, a consumer, a dishonest broker, and kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from device.config import load_gateway, load_unit
from device.gateway.store import LabelReader, Store
from device.gateway.wiring import STORE_FILE
from device.line.log import follow_log
from device.messages import topics
from device.publish.ports import Received
from device.system.clock import SystemClock
from device.trust import load_signer, load_trusted
from tests.gateway import schemas
from tests.gateway.memory_room import Desk
from tests.integration.room_broker import RoomBroker, wait_until

ROOM = "demo"


class GatewayProgram:
    """`python -m device.gateway` on a demo room."""

    def __init__(self, broker: RoomBroker) -> None:
        self.config_path = broker.room.gateway_config
        self.config = load_gateway(self.config_path)
        self.page = ""
        self._program: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and wait until the page's address is printed."""
        command = [sys.executable, "-m", "device.gateway", "--config", str(self.config_path)]
        self._program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line.startswith("The page is at http://127.0.0.1:"), line
        self.page = line.split()[-1]

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit status."""
        assert self._program is not None
        self._program.send_signal(number)
        status = self._program.wait(20)
        assert self._program.stdout is not None
        self._program.stdout.close()
        self._program = None
        return status

    def stop_if_running(self) -> None:
        """For the end of a test."""
        if self._program is not None:
            self.end(signal.SIGKILL)

    def get(self, path: str) -> Any:
        """JSON from the page's interface."""
        with urllib.request.urlopen(self.page + path, timeout=10) as answer:
            return json.load(answer)

    def stored(self, unit: str) -> list[int]:
        """Sequence numbers of a unit's stored labels."""
        return [label.sequence for label in LabelReader(self.config.state / STORE_FILE).since(unit, 0)]


@pytest.fixture
def gateway(broker: RoomBroker) -> Iterator[GatewayProgram]:
    program = GatewayProgram(broker)
    yield program
    program.stop_if_running()


@pytest.fixture
def desks(broker: RoomBroker) -> Iterator[list[Desk]]:
    """The room's three units: real keys, real links, real lines; only their labels are scripted."""
    clock = SystemClock()
    built = []
    for name in broker.room.units:
        config = load_unit(broker.room.unit_config(name))
        roster = load_trusted(config.trust, ROOM, clock).roster
        keys = {unit.unit: unit.key for unit in roster.units_of("a")}
        link = broker.link(name, subscriptions=[topics.grant(ROOM, "a"), topics.link(ROOM, "a", "+")])
        built.append(Desk(roster, "a", load_signer(config.trust, name, keys[name]), link, clock))
    stop = threading.Event()

    def live() -> None:
        while not stop.is_set():
            for desk in built:
                desk.step()
            time.sleep(0.005)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield built
    finally:
        stop.set()
        thread.join()


def heard_by(broker: RoomBroker, *filters: str) -> Callable[[], list[Received]]:
    """What a consumer has received so far, all of it again at each call."""
    link = broker.connected("reader", subscriptions=filters)
    messages: list[Received] = []

    def heard() -> list[Received]:
        while (event := link.next_event(0.0)) is not None:
            if isinstance(event, Received):
                messages.append(event)
        return messages

    return heard


def test_verified_labels_reach_consumers_page_and_store_and_attacks_reach_only_the_alerts(
    broker: RoomBroker, gateway: GatewayProgram, desks: list[Desk]
) -> None:
    heard = heard_by(broker, topics.labels(ROOM, "+", "+"), topics.alerts(ROOM), topics.gateway_status(ROOM))
    intruder = broker.connected("intruder", subscriptions=[topics.link(ROOM, "a", "+")])
    gateway.start()
    wait_until(lambda: all(len(gateway.stored(unit)) > 5 for unit in broker.room.units), "labels are stored")
    genuine = intruder.next_event(5.0)
    assert isinstance(genuine, Received)
    forged = genuine.payload[:-1] + bytes([genuine.payload[-1] ^ 1])
    for payload in (forged, genuine.payload):
        intruder.publish(genuine.topic, payload, qos=1, retain=False)

    def codes() -> set[str]:
        told = [json.loads(message.payload) for message in heard() if message.topic == topics.alerts(ROOM)]
        return {alert["code"] for alert in told if alert["severity"] == "refused"}

    wait_until(lambda: codes() == {"bad_signature", "replayed"}, "both attacks are told")
    kinds = {topics.alerts(ROOM): "alert", topics.gateway_status(ROOM): "gateway-status"}
    for message in heard():
        schemas.check(kinds.get(message.topic, "label"), message.payload)
    state = gateway.get("api/state")
    assert {state[f"desk/a/{unit}"]["label"] for unit in broker.room.units} == {"happiness"}
    assert state["line/a"]["refused"] == 2
    assert gateway.get("healthz")["ok"] is True
    assert gateway.end(signal.SIGTERM) == 0
    wait_until(lambda: _last_status(heard())["state"] == "offline", "the goodbye arrives")
    _check_log(broker, gateway)


def test_after_a_kill_the_last_will_speaks_and_the_next_start_loses_nothing(
    broker: RoomBroker, gateway: GatewayProgram, desks: list[Desk]
) -> None:
    heard = heard_by(broker, topics.gateway_status(ROOM))
    gateway.start()
    wait_until(lambda: all(len(gateway.stored(unit)) > 3 for unit in broker.room.units), "labels are stored")
    assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: _last_status(heard())["state"] == "offline", "the last will speaks")
    before = {unit: len(gateway.stored(unit)) for unit in broker.room.units}
    gateway.start()
    wait_until(lambda: all(len(gateway.stored(u)) > before[u] + 3 for u in broker.room.units), "labels go on")
    assert _last_status(heard())["session"] == 2
    assert gateway.end(signal.SIGTERM) == 0
    for unit in broker.room.units:
        stored = gateway.stored(unit)
        assert stored == list(range(1, len(stored) + 1))
    _check_log(broker, gateway)


def _last_status(messages: list[Received]) -> Any:
    return json.loads(messages[-1].payload) if messages else {"state": "unknown"}


def _check_log(broker: RoomBroker, gateway: GatewayProgram) -> None:
    """The stored log verifies with nothing but the roster, from the first round to the last."""
    roster = load_trusted(gateway.config.trust, ROOM, SystemClock()).roster
    with closing(Store(gateway.config.state / STORE_FILE)) as store:
        log = store.rounds("a", limit=10_000)
    assert len(list(follow_log(log, roster=roster, line="a", limits=gateway.config.limits))) == len(log) > 0
