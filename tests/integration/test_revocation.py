"""A revoked member at a real mosquitto: out at once, for good, and nobody else notices. Delivery is tested, as ever."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from device.errors import TransportError
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Connected, Disconnected, LastWill, Received
from device.unit.status import REVOKED, RUNNING, UnitStatus, last_will, status_payload
from provisioning import demo_room
from provisioning.boxes import credentials_in
from provisioning.broker import ACCESS_FILE, Member
from provisioning.certificates import Role
from provisioning.eviction import SESSION_S, Evictor
from tests.integration.room_broker import RawClient, RoomBroker, taken, wait_for

ROOM, LINE = "demo", "a"
GRANT = topics.grant(ROOM, LINE)
LINKS = topics.link(ROOM, LINE, "+")
STATUSES = topics.unit_status(ROOM, LINE, "+")
ENDED_WITHIN_S = 2.0
A2 = Member("a2", Role.UNIT, LINE)
READER = Member("reader", Role.CONSUMER)


def link_of(unit: str) -> str:
    return topics.link(ROOM, LINE, unit)


def status_of(unit: str) -> str:
    return topics.unit_status(ROOM, LINE, unit)


def running(unit: str, session: int) -> bytes:
    return status_payload(UnitStatus(unit=unit, line=LINE, session=session, process=RUNNING))


def evictor(broker: RoomBroker) -> Evictor:
    return Evictor(broker.authority().ca, broker.room.broker_address, broker.room.broker, broker.mosquitto.reload)


def strike_off(broker: RoomBroker, *members: Member) -> None:
    """At the authority, and in the broker's files; mosquitto does not know yet."""
    authority = broker.authority()
    for member in members:
        authority.revoke(member.name)
    authority.publish()
    demo_room.write_broker(broker.room, authority)


def revoke(broker: RoomBroker, *members: Member) -> None:
    strike_off(broker, *members)
    evictor(broker).put_out(members)


def received(link: MqttLink, last: bytes) -> list[Received]:
    """All messages up to and with the one whose payload is `last`; nothing else may come in between."""
    got: list[Received] = []
    while not got or got[-1].payload != last:
        event = link.next_event(10)
        assert isinstance(event, Received), f"{event} after {got[-3:]}"
        got.append(event)
    return got


def test_open_session_of_a_revoked_unit_ends_at_once_and_it_cannot_come_back(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    revoked = broker.connected("a2", subscriptions=[GRANT])
    began = time.monotonic()
    revoke(broker, A2)
    wait_for(revoked, Disconnected)
    assert time.monotonic() - began < ENDED_WITHIN_S
    assert "revoked" in wait_for(revoked, Disconnected).reason
    with pytest.raises(TransportError, match="the broker is away"):
        revoked.publish(link_of("a2"), b"still here", qos=1, retain=False)
    broker.connected("a1").publish(link_of("a1"), b"honest", qos=1, retain=False)
    assert [message.topic for message in received(gateway, b"honest")] == [link_of("a1")]
    assert not revoked.connected


def test_nobody_else_is_dropped_or_loses_a_message_while_a_unit_is_put_out(broker: RoomBroker) -> None:
    broker.connected("a2", subscriptions=[GRANT])
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    neighbour = broker.connected("a1", subscriptions=[LINKS])
    reader = broker.connected("reader", subscriptions=[topics.class_picture(ROOM)])
    sender = broker.connected("a3")
    strike_off(broker, A2)
    sent = [b"%d" % number for number in range(400)]
    with ThreadPoolExecutor(1) as pool:
        for number, payload in enumerate(sent):
            if number == 100:
                putting_out = pool.submit(evictor(broker).put_out, [A2])
            sender.publish(link_of("a3"), payload, qos=1, retain=False)
            gateway.publish(topics.class_picture(ROOM), payload, qos=1, retain=False)
            time.sleep(0.002)
        putting_out.result()
    for listener in (gateway, neighbour, reader):
        assert [message.payload for message in received(listener, sent[-1])] == sent
    assert sender.next_event(0) is None


def test_retained_status_says_revoked_under_the_units_own_session(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[STATUSES])
    unit = broker.connected("a2", will=LastWill(status_of("a2"), last_will("a2", LINE, 7)))
    unit.publish(status_of("a2"), running("a2", 7), qos=1, retain=True)
    assert received(gateway, running("a2", 7))[-1].topic == status_of("a2")
    revoke(broker, A2)
    latecomer = broker.connected("reader", subscriptions=[STATUSES])
    lost = wait_for(gateway, Received)
    assert lost.payload == last_will("a2", LINE, 7), "its session ended, so its last will was published first"
    for listener, retained in ((gateway, False), (latecomer, True)):
        word = wait_for(listener, Received)
        status = msgspec.json.decode(word.payload, type=UnitStatus)
        assert (status.unit, status.session, status.process) == ("a2", 7, REVOKED)
        assert (word.topic, word.retained) == (status_of("a2"), retained)
        assert listener.next_event(0.2) is None


def test_unit_without_a_status_gets_none(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[STATUSES])
    broker.connected("a2")
    revoke(broker, A2)
    assert gateway.next_event(0.2) is None


def test_unit_that_sleeps_leaves_no_session_behind(broker: RoomBroker) -> None:
    sleeper = broker.connected("a2", subscriptions=[GRANT])
    sleeper.stop()
    gateway = broker.connected("gateway")
    gateway.publish(GRANT, b"queued for it", qos=1, retain=False)
    revoke(broker, A2)
    time.sleep(SESSION_S + 1.5)
    link = broker.link("a2", credentials=evictor(broker).credentials(own_folder(broker), A2))
    assert wait_for(link, Connected) == Connected(session_present=False)


def own_folder(broker: RoomBroker) -> Path:
    folder = broker.room.folder / "evictor"
    folder.mkdir(mode=0o700)
    return folder


def test_evictors_certificate_gives_no_rights(broker: RoomBroker) -> None:
    revoke(broker, A2)
    gateway = broker.connected("gateway", subscriptions=[LINKS, STATUSES])
    name = broker.link("a2", subscriptions=["#"], credentials=evictor(broker).credentials(own_folder(broker), A2))
    taken(name)
    name.publish(link_of("a2"), b"forged", qos=1, retain=False)
    name.publish(status_of("a2"), b"forged", qos=1, retain=True)
    broker.connected("a1").publish(link_of("a1"), b"honest", qos=1, retain=False)
    assert [message.topic for message in received(gateway, b"honest")] == [link_of("a1")]
    gateway.publish(GRANT, b"for the line", qos=1, retain=True)
    watcher = broker.connected("a3", subscriptions=[GRANT])
    received(watcher, b"for the line")
    while (event := name.next_event(0.1)) is not None:
        assert not isinstance(event, Received), event


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_ticket_of_before_does_not_bring_a_revoked_unit_back(broker: RoomBroker, version: ssl.TLSVersion) -> None:
    own = credentials_in(broker.box("a2"))
    context = ssl.create_default_context(cafile=own.certificate_authority)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(own.certificate, own.key)
    first, _ = _connect(broker, context, None)
    assert first is not None and first.has_ticket
    again, reused = _connect(broker, context, first)
    assert again is not None and reused, "the broker takes tickets, so this test says something"
    revoke(broker, A2)
    with pytest.raises(OSError, match=r"revoked|EOF|reset|[Pp]ipe"):
        _connect(broker, context, again)


def _connect(
    broker: RoomBroker, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    """A CONNECT as a2 over a TLS session: the session for the next time, and whether this one was taken up again."""
    address = (broker.room.plan.host, broker.room.plan.port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
    ):
        secured.sendall(bytes.fromhex("100f00044d5154540502000f0000026132"))
        if not secured.recv(64):
            raise ConnectionResetError("the broker closed the connection: EOF")
        return secured.session, bool(secured.session_reused)


def test_revoked_consumer_is_put_out_too(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway")
    reader = broker.connected("reader", subscriptions=[topics.labels(ROOM, "+", "+")])
    revoke(broker, READER)
    wait_for(reader, Disconnected)
    gateway.publish(topics.labels(ROOM, LINE, "a1"), b"label", qos=1, retain=True)
    assert "revoked" in wait_for(reader, Disconnected).reason
    assert gateway.connected


def test_several_are_put_out_in_one_go_and_again_without_effect(broker: RoomBroker) -> None:
    a1 = Member("a1", Role.UNIT, LINE)
    out = [broker.connected(name, subscriptions=[GRANT]) for name in ("a1", "a2")]
    stays = broker.connected("a3", subscriptions=[GRANT])
    revoke(broker, a1, A2)
    for link in out:
        wait_for(link, Disconnected)
    before = (broker.room.broker / ACCESS_FILE).read_bytes()
    evictor(broker).put_out([a1, A2])
    assert (broker.room.broker / ACCESS_FILE).read_bytes() == before
    broker.connected("gateway").publish(GRANT, b"for those who are left", qos=1, retain=False)
    received(stays, b"for those who are left")


def test_broker_that_is_away_leaves_the_access_list_as_it_was(broker: RoomBroker) -> None:
    strike_off(broker, A2)
    before = (broker.room.broker / ACCESS_FILE).read_bytes()
    broker.stop()
    with pytest.raises(TransportError, match="mosquitto is not running"):
        evictor(broker).put_out([A2])
    assert (broker.room.broker / ACCESS_FILE).read_bytes() == before
    broker.start()
    revoked = broker.link("a2")
    assert "revoked" in wait_for(revoked, Disconnected).reason


def test_session_of_a_box_that_says_and_acknowledges_nothing_is_closed(broker: RoomBroker) -> None:
    silent = RawClient(broker, "a2")
    assert silent.connect()[0] == 0x20
    revoke(broker, A2)
    assert silent.packet(ENDED_WITHIN_S) == b""
    silent.close()


def test_connection_without_tls_kept_in_store_from_before_is_refused(broker: RoomBroker) -> None:
    own = credentials_in(broker.box("a2"))
    context = ssl.create_default_context(cafile=own.certificate_authority)
    context.load_cert_chain(own.certificate, own.key)
    with socket.create_connection((broker.room.plan.host, broker.room.plan.port), timeout=10) as plain:
        broker.connected("a1")
        # Such a connection knows both lists, and takes the newer one: X.509 counts whole seconds.
        time.sleep(1.1)
        revoke(broker, A2)
        with (
            pytest.raises(OSError, match=r"revoked|EOF|reset|[Pp]ipe"),
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(bytes.fromhex("100f00044d5154540502000f0000026132"))
            assert secured.recv(16) == b"the broker answered"
            secured.sendall(b"")


def test_connection_kept_in_store_from_before_gives_no_rights_and_is_ended_by_putting_out_again(
    broker: RoomBroker,
) -> None:
    """TLS before the revocation, CONNECT after it: mosquitto has looked at the certificate when it was still good."""
    prepared = RawClient(broker, "a2")
    gateway = broker.connected("gateway", subscriptions=[LINKS, STATUSES])
    neighbour = broker.connected("a1", subscriptions=[GRANT])
    revoke(broker, A2)
    assert prepared.connect()[0] == 0x20
    prepared.subscribe("#")
    prepared.publish(link_of("a2"), b"forged")
    prepared.publish(status_of("a2"), b"forged")
    gateway.publish(GRANT, b"for the line", qos=1, retain=False)
    received(neighbour, b"for the line")
    neighbour.publish(link_of("a1"), b"honest", qos=1, retain=False)
    assert [message.topic for message in received(gateway, b"honest")] == [link_of("a1")]
    with pytest.raises(TimeoutError):
        prepared.packet(0.2)
    evictor(broker).put_out([A2])
    assert prepared.packet(ENDED_WITHIN_S) == b""
    prepared.close()
