"""How long the room's broker takes to read its files again, and whom that costs the connection.

    python -m tools.bench.broker_reload --clients 40

A real mosquitto over mutual TLS with a gateway and units connected, while links and grants flow. At each reload the
access list changes: one more member, not counted among the clients, loses or regains the right to write. Measured are
the time from the signal until its first message gets through again, connections that ended, and messages lost or late.

Exit codes: 0 all well; 1 somebody was dropped or a message was lost; 2 the room could not be built or mosquitto ended.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from tqdm import tqdm

from device.errors import MoodlineError, TransportError
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Disconnected, Received
from device.system.storage import read, write_durably
from provisioning.boxes import credentials_in
from provisioning.broker import ACCESS_FILE, FILE_BYTES
from provisioning.demo_room import INTRUDER, DemoRoom, build
from provisioning.gateway import GATEWAY
from provisioning.mosquitto import Mosquitto
from tools.bench.__main__ import show
from tools.bench.measurement import Measurement
from tools.demo.programs import ProgramError
from tools.evaluate.line_room import room_plan

CLIENTS: Final = 40
RELOADS: Final = 20
BETWEEN_S: Final = 0.5
LINKS_HZ: Final = 80
GRANTS_HZ: Final = 10
LINK_BYTES: Final = 1_000
CONNECT_S: Final = 60.0
SETTLE_S: Final = 10.0
#: How often the member without a right tries; the resolution of the reload's time.
TRY_S: Final = 0.001


@dataclass
class Flow:
    """What was published and what arrived. Payloads begin with number and time (monotonic ns); delays in seconds."""

    sent: int = 0
    due: int = 0
    received: int = 0
    delays_s: list[float] = field(default_factory=list)

    def payload(self, readers: int) -> bytes:
        """The next message, which so many will read."""
        self.sent += 1
        self.due += readers
        return (b"%d %d " % (self.sent, time.monotonic_ns())).ljust(LINK_BYTES)

    def take(self, payload: bytes) -> None:
        """One that arrived."""
        self.received += 1
        self.delays_s.append((time.monotonic_ns() - int(payload.split(b" ", 2)[1])) / 1e9)


class ConnectedRoom:
    """A demo room with its broker, and `clients` links: the gateway and the units."""

    def __init__(self, folder: Path, clients: int, stack: ExitStack) -> None:
        self.room: DemoRoom = build(folder, room_plan(clients - 1))
        plan = self.room.plan
        self.broker = Mosquitto(self.room.broker, plan.host, plan.port)
        self.broker.start()
        stack.callback(self.broker.stop)
        line = topics.link(plan.room, plan.line, "+")
        self.gateway = self._link(GATEWAY, self.room.gateway, line, stack)
        grant = topics.grant(plan.room, plan.line)
        self.units = [self._link(name, self.room.unit(name), grant, stack) for name in self.room.units]
        self.probe = self._link(INTRUDER, self.room.consumer(INTRUDER), None, stack)
        self.links, self.grants = Flow(), Flow()
        self.dropped = 0
        self._turn = 0
        _until(lambda: all(link.subscribed for link in self.everybody), CONNECT_S, "Not everybody is connected.")
        self.collect()

    @property
    def everybody(self) -> list[MqttLink]:
        return [self.gateway, self.probe, *self.units]

    def _link(self, name: str, box: Path, subscription: str | None, stack: ExitStack) -> MqttLink:
        wanted = [subscription] if subscription is not None else []
        link = MqttLink(name, self.room.broker_address, credentials_in(box), subscriptions=wanted)
        link.start()
        stack.callback(link.stop, flush_s=0.0)
        return link

    def speak(self, *, grant: bool) -> None:
        """One unit's link, in turn, and now and then a grant."""
        plan = self.room.plan
        place = self._turn = (self._turn + 1) % len(self.units)
        topic = topics.link(plan.room, plan.line, self.room.units[place])
        _publish(self.units[place], topic, self.links.payload(readers=1))
        if grant:
            topic = topics.grant(plan.room, plan.line)
            _publish(self.gateway, topic, self.grants.payload(readers=len(self.units)))

    def try_to_write(self) -> None:
        """The member whose right comes and goes."""
        plan = self.room.plan
        _publish(self.probe, topics.link(plan.room, plan.line, INTRUDER), b"probe")

    def collect(self) -> float | None:
        """Take in everything that has happened since; when (monotonic) the probe's message was heard, if it was."""
        probed_at = None
        for link in self.everybody:
            while (event := link.next_event(0.0)) is not None:
                if isinstance(event, Disconnected):
                    self.dropped += 1
                elif isinstance(event, Received) and event.payload == b"probe":
                    probed_at = probed_at or time.monotonic()
                elif isinstance(event, Received):
                    (self.links if link is self.gateway else self.grants).take(event.payload)
        return probed_at


def measure(*, clients: int = CLIENTS, reloads: int = RELOADS) -> list[Measurement]:
    """Reload time, dropped connections, lost and late messages. Raises ConfigError, TransportError, ProgramError."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        room = ConnectedRoom(Path(folder) / "room", clients, stack)
        path = room.room.broker / ACCESS_FILE
        everybody = read(path, limit=FILE_BYTES)
        without = everybody.rpartition(f"\nuser {INTRUDER}\n".encode())[0] + b"\n"
        times_s: list[float] = []
        for _ in tqdm(range(reloads), desc="Reloads", unit="", disable=None):
            for access in (without, everybody):
                _flow(room, BETWEEN_S)
                write_durably(path, access)
                began = time.monotonic()
                room.broker.reload()
                if access is everybody:
                    times_s.append(_until_written(room) - began)
        _flow(room, BETWEEN_S)
        _until(lambda: _arrived(room), SETTLE_S, None)
        return _rows(room, clients, times_s)


def _flow(room: ConnectedRoom, seconds: float) -> None:
    began = time.monotonic()
    said = 0
    while (passed := time.monotonic() - began) < seconds:
        if passed * LINKS_HZ >= said:
            room.speak(grant=said % (LINKS_HZ // GRANTS_HZ) == 0)
            said += 1
        room.collect()
        time.sleep(TRY_S)


def _until_written(room: ConnectedRoom) -> float:
    """The moment (monotonic) at which the member's first message came through."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        room.try_to_write()
        if (probed_at := room.collect()) is not None:
            return probed_at
        time.sleep(TRY_S)
    raise ProgramError("The broker does not take up its access list.", next_step="Read its mosquitto.log.")


def _arrived(room: ConnectedRoom) -> bool:
    room.collect()
    return all(flow.received >= flow.due for flow in (room.links, room.grants))


def _publish(link: MqttLink, topic: str, payload: bytes) -> None:
    """What cannot be handed over counts as lost; the dropped connection is counted by itself."""
    try:
        link.publish(topic, payload, qos=1, retain=False)
    except TransportError:
        return


def _until(condition: Callable[[], bool], seconds: float, otherwise: str | None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            if otherwise is not None:
                raise ProgramError(otherwise, next_step="The machine may be too busy; try again.")
            return
        time.sleep(0.01)


def _rows(room: ConnectedRoom, clients: int, times_s: Sequence[float]) -> list[Measurement]:
    flows = (room.links, room.grants)
    lost = sum(flow.due - flow.received for flow in flows)
    delays_s = [delay for flow in flows for delay in flow.delays_s]
    what = f"{clients} clients, {2 * len(times_s)} reloads"
    return [
        Measurement(name=f"reload to new rights, median, {what}", value=1e3 * statistics.median(times_s), unit="ms"),
        Measurement(name=f"reload to new rights, longest, {what}", value=1e3 * max(times_s), unit="ms"),
        Measurement(
            name=f"connections ended by a reload, {what}",
            value=room.dropped,
            unit="clients",
            goal="0",
            met=room.dropped == 0,
        ),
        Measurement(
            name=f"messages lost, {what}, n = {sum(flow.due for flow in flows)}",
            value=lost,
            unit="messages",
            goal="0",
            met=lost == 0,
        ),
        Measurement(name=f"published to received, longest, {what}", value=1e3 * max(delays_s), unit="ms"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table's rows."""
    about = "Reload time of the room's broker and whom it drops, with a real mosquitto."
    parser = argparse.ArgumentParser(prog="python -m tools.bench.broker_reload", description=about)
    parser.add_argument(
        "--clients", type=int, default=CLIENTS, help="gateway and units, 2 to 41 (default: %(default)s)"
    )
    parser.add_argument("--reloads", type=int, default=RELOADS, help="pairs of reloads (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 2 <= options.clients <= 41 or options.reloads < 1:
        parser.error("--clients from 2 to 41, --reloads from 1")
    try:
        rows = measure(clients=options.clients, reloads=options.reloads)
    except MoodlineError as error:
        print(f"broker_reload: {error}", file=sys.stderr)
        return 2
    show(rows, Console())
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
