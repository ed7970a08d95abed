"""A provisioned demo room with a real mosquitto, and links of its members."""

from __future__ import annotations

import os
import pwd
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pytest

from device.config import Broker
from device.publish.mqtt import Credentials, MqttLink
from device.publish.ports import Connected, Event, LastWill
from provisioning import boxes, demo_room
from provisioning.authority import RoomAuthority
from provisioning.boxes import credentials_in
from provisioning.broker import ACCESS_FILE, CONFIG_FILE, BrokerSettings, Member, access_list, configuration
from provisioning.certificates import Reads
from provisioning.demo_room import DemoPlan, DemoRoom
from provisioning.gateway import GATEWAY
from provisioning.mosquitto import Mosquitto, find_mosquitto, free_port

EVENT_TIMEOUT_S = 20.0
SOME_EVENT = TypeVar("SOME_EVENT", bound=Event)


def require_mosquitto() -> None:
    """Skip the test where mosquitto is not installed; fail it where everything real is required."""
    if find_mosquitto() is None:
        if os.environ.get("MOODLINE_REQUIRE_REAL"):
            pytest.fail("mosquitto is not installed and MOODLINE_REQUIRE_REAL is set", pytrace=False)
        pytest.skip("mosquitto is not installed")


def wait_for(link: MqttLink, kind: type[SOME_EVENT]) -> SOME_EVENT:
    """The next event of that kind; fails with the events seen when none comes."""
    seen: list[Event] = []
    while (event := link.next_event(EVENT_TIMEOUT_S)) is not None:
        if isinstance(event, kind):
            return event
        seen.append(event)
    raise AssertionError(f"no {kind.__name__}; seen: {seen}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fails, saying what did not happen, when it does not in time."""
    deadline = time.monotonic() + EVENT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {EVENT_TIMEOUT_S} s: {what}"
        time.sleep(0.01)


def taken(link: MqttLink) -> MqttLink:
    """The link, once the broker has taken it and has answered its subscriptions."""
    wait_for(link, Connected)
    wait_until(lambda: link.subscribed, "the broker answers the subscriptions")
    return link


class RawClient:
    """An MQTT client that says and acknowledges nothing by itself: TLS and single packets (MQTT 5, chapter 3)."""

    def __init__(self, broker: RoomBroker, name: str) -> None:
        own = credentials_in(broker.box(name))
        context = ssl.create_default_context(cafile=own.certificate_authority)
        context.load_cert_chain(own.certificate, own.key)
        plan = broker.room.plan
        plain = socket.create_connection((plan.host, plan.port), timeout=EVENT_TIMEOUT_S)
        self._name = name
        self._socket = context.wrap_socket(plain, server_hostname="localhost")

    def connect(self, *, keepalive_s: int = 15) -> bytes:
        """CONNECT with a clean start; the broker's answer."""
        self.send(0x10, b"\x00\x04MQTT\x05\x02" + keepalive_s.to_bytes(2) + b"\x00" + _text(self._name))
        return self.packet()

    def send(self, kind: int, body: bytes) -> None:
        """One packet; its length is written in groups of seven bits (section 1.5.5)."""
        length, left = b"", len(body)
        while left >= 128:
            length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
        self._socket.sendall(bytes([kind]) + length + bytes([left]) + body)

    def subscribe(self, topic: str) -> None:
        """With QoS 1; returns when the broker has answered."""
        self.send(0x82, b"\x00\x01\x00" + _text(topic) + b"\x01")
        assert self.packet()[0] == 0x90

    def publish(self, topic: str, payload: bytes) -> None:
        """With QoS 0, so that the broker answers nothing."""
        self.send(0x30, _text(topic) + b"\x00" + payload)

    def packet(self, timeout_s: float = EVENT_TIMEOUT_S) -> bytes:
        """The next packet's first byte and its body; empty when the broker has closed. Raises TimeoutError."""
        self._socket.settimeout(timeout_s)
        try:
            kind = self._socket.recv(1)
        except ConnectionError:
            kind = b""
        if not kind:
            return b""
        length = shift = 0
        more = True
        while more:
            (byte,) = self._socket.recv(1)
            length |= (byte & 0x7F) << shift
            shift, more = shift + 7, byte & 0x80 != 0
        body = b""
        while len(body) < length:
            body += self._socket.recv(length - len(body))
        return kind + body

    def close(self) -> None:
        """Without a word to the broker."""
        self._socket.close()


def _text(text: str) -> bytes:
    return len(text).to_bytes(2) + text.encode()


class RoomBroker:
    """A demo room with units on line `a` with its broker running on a free loopback port.

    `consumers` are named with what they may read.
    """

    def __init__(
        self,
        folder: Path,
        take: Path,
        *,
        units: int = 3,
        consumers: Mapping[str, Reads] = MappingProxyType({"reader": Reads.OPERATOR}),
        muted: bool = False,
    ) -> None:
        self.room: DemoRoom = demo_room.build(
            folder,
            DemoPlan(
                takes=[take],
                units=units,
                port=free_port(),
                web_port=free_port(),
                consumers=tuple(consumers),
                intruder=True,
                muted=muted,
                autosave_s=1,
            ),
        )
        self._reads = consumers
        self.mosquitto = Mosquitto(self.room.broker, self.room.plan.host, self.room.plan.port)
        self._links: list[MqttLink] = []

    def authority(self) -> RoomAuthority:
        """The room's authority, opened."""
        return RoomAuthority.open(self.room.authority)

    def box(self, name: str) -> Path:
        """The folder with a member's key and certificates."""
        if name == GATEWAY:
            return self.room.gateway
        return self.room.unit(name) if self.room.unit(name).exists() else self.room.consumer(name)

    def admit_to_line(self, line: str, name: str) -> Credentials:
        """A unit on another line of the room, in the access list when the broker starts or reloads."""
        authority = self.authority()
        box = self.room.unit(name)
        boxes.make_unit_key(box, authority, name, line)
        authority.publish()
        boxes.write_consumer_box(box, authority, name, self.room.broker_address)
        self.write_access()
        return credentials_in(box)

    def write_access(self) -> None:
        """The access list from the authority's members and from what the consumers may read."""
        authority = self.authority()
        members = [
            Member(entry.name, entry.role, entry.line, self._reads.get(entry.name))
            for entry in authority.members
            if not entry.revoked
        ]
        (self.room.broker / ACCESS_FILE).write_text(access_list(authority.room, members))

    def configure(self, settings: BrokerSettings) -> None:
        """Other limits, from the next start or reload on; port, address and user stay."""
        here = replace(
            settings,
            port=self.room.plan.port,
            address=self.room.plan.host,
            run_as=pwd.getpwuid(os.geteuid()).pw_name,
        )
        (self.room.broker / CONFIG_FILE).write_text(configuration(self.room.broker, here))

    def start(self) -> None:
        """Start the broker."""
        self.mosquitto.start()

    def stop(self) -> None:
        """Stop it cleanly."""
        self.mosquitto.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.mosquitto.kill()

    def restart(self) -> None:
        """Stop it cleanly and start it."""
        self.mosquitto.restart()

    def link(
        self,
        name: str,
        *,
        subscriptions: Sequence[str] = (),
        will: LastWill | None = None,
        client_id: str | None = None,
        credentials: Credentials | None = None,
        queue_messages: int = 2_000,
        session_expiry_s: int = 0,
        message_bytes: int = 32_768,
    ) -> MqttLink:
        """A started link of a member; it is stopped when the test ends."""
        link = MqttLink(
            client_id or name,
            Broker(
                host=self.room.plan.host,
                port=self.room.plan.port,
                queue_messages=queue_messages,
                session_expiry_s=session_expiry_s,
            ),
            credentials or credentials_in(self.box(name)),
            subscriptions=subscriptions,
            will=will,
            message_bytes=message_bytes,
        )
        link.start()
        self._links.append(link)
        return link

    def connected(self, name: str, *, subscriptions: Sequence[str] = (), will: LastWill | None = None) -> MqttLink:
        """A started link of a member whom the broker has taken."""
        return taken(self.link(name, subscriptions=subscriptions, will=will))

    def close(self) -> None:
        """Stop all links, then the broker."""
        for link in self._links:
            link.stop(flush_s=0.1)
        self.stop()
