"""What a real mosquitto lets through under the configuration that we render. Delivery is tested, never the answer."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from device.errors import TransportError
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Connected, Disconnected, LastWill, Received, Refused
from provisioning import boxes, certificates, demo_room, keys
from provisioning.boxes import Credentials, credentials_in
from provisioning.certificates import CertificateAuthority, Role
from tests.integration.room_broker import RoomBroker, taken, wait_for, wait_until

ROOM, LINE = "demo", "a"
GRANT = topics.grant(ROOM, LINE)
LINKS = topics.link(ROOM, LINE, "+")
ROSTER = topics.roster(ROOM)
ALERTS = topics.alerts(ROOM)
GATEWAY_STATUS = topics.gateway_status(ROOM)


def link_of(unit: str) -> str:
    return topics.link(ROOM, LINE, unit)


def status_of(unit: str) -> str:
    return topics.unit_status(ROOM, LINE, unit)


def label_of(unit: str) -> str:
    return topics.labels(ROOM, LINE, unit)


def messages(link: MqttLink, last: bytes) -> list[tuple[str, bytes]]:
    """All messages up to and with the one whose payload is `last`."""
    got: list[tuple[str, bytes]] = []
    while not got or got[-1][1] != last:
        event = wait_for(link, Received)
        got.append((event.topic, event.payload))
    return got


def test_unit_cannot_publish_another_units_link(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    unit = broker.connected("a1")
    unit.publish(link_of("a2"), b"forged", qos=1, retain=True)
    assert wait_for(unit, Refused).reason == "Not authorized"
    unit.publish(link_of("a1"), b"own", qos=1, retain=False)
    assert messages(gateway, b"own") == [(link_of("a1"), b"own")]
    late = broker.connected("a3", subscriptions=[LINKS])
    unit.publish(link_of("a1"), b"later", qos=1, retain=False)
    assert messages(late, b"later") == [(link_of("a1"), b"later")]


@pytest.mark.parametrize(
    ("attacker", "topic", "owner", "observer"),
    [
        ("a1", GRANT, "gateway", "a2"),
        ("a1", ROSTER, "gateway", "a2"),
        ("a1", status_of("a2"), "a2", "gateway"),
        ("a1", label_of("a1"), "gateway", "reader"),
        ("a1", ALERTS, "gateway", "reader"),
        ("a1", GATEWAY_STATUS, "gateway", "reader"),
        ("reader", link_of("a1"), "a1", "gateway"),
        ("reader", GRANT, "gateway", "a2"),
        ("reader", label_of("a1"), "gateway", "reader"),
        ("gateway", link_of("a1"), "a1", "a2"),
        ("gateway", status_of("a1"), "a1", "gateway"),
    ],
)
def test_nobody_publishes_what_is_not_theirs(
    broker: RoomBroker, attacker: str, topic: str, owner: str, observer: str
) -> None:
    forger = broker.connected(attacker, subscriptions=[topic] if observer == attacker else [])
    forger.publish(topic, b"forged", qos=1, retain=True)
    wait_for(forger, Refused)
    watcher = forger if observer == attacker else broker.connected(observer, subscriptions=[topic])
    rightful = watcher if owner == observer else broker.connected(owner)
    rightful.publish(topic, b"rightful", qos=1, retain=False)
    assert messages(watcher, b"rightful") == [(topic, b"rightful")]


@pytest.mark.parametrize("topic", [LINKS, GRANT, ROSTER, status_of("+"), "#", "moodline/#"])
def test_consumer_hears_labels_and_nothing_of_the_line(broker: RoomBroker, topic: str) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS, status_of("+")])
    unit = broker.connected("a1")
    gateway.publish(GRANT, b"retained before", qos=1, retain=True)
    gateway.publish(ROSTER, b"retained before", qos=1, retain=True)
    consumer = broker.connected("reader", subscriptions=[topic, label_of("+")])
    unit.publish(link_of("a1"), b"link", qos=1, retain=False)
    unit.publish(status_of("a1"), b"status", qos=1, retain=True)
    assert len(messages(gateway, b"status")) == 2
    gateway.publish(label_of("a1"), b"label", qos=1, retain=True)
    assert messages(consumer, b"label") == [(label_of("a1"), b"label")]


def test_unit_hears_nothing_of_another_line(broker: RoomBroker, tmp_path: Path) -> None:
    authority = broker.authority()
    boxes.make_unit_key(tmp_path / "b1", authority, "b1", "b")
    authority.publish()
    boxes.write_consumer_box(tmp_path / "b1", authority, "b1", broker.room.broker_address)
    demo_room.write_broker(broker.room, authority)
    broker.restart()
    wanted = [LINKS, GRANT, topics.link(ROOM, "b", "+")]
    foreign = taken(broker.link("b1", subscriptions=wanted, credentials=credentials_in(tmp_path / "b1")))
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    neighbour = broker.connected("a1")
    neighbour.publish(link_of("a1"), b"line a", qos=1, retain=False)
    messages(gateway, b"line a")
    foreign.publish(topics.link(ROOM, "b", "b1"), b"line b", qos=1, retain=False)
    assert messages(foreign, b"line b") == [(topics.link(ROOM, "b", "b1"), b"line b")]


def test_unit_cannot_take_over_another_units_session(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway")
    victim = broker.connected("a2", subscriptions=[GRANT])
    taken(broker.link("a1", client_id="a2", subscriptions=[GRANT]))
    gateway.publish(GRANT, b"for all", qos=1, retain=False)
    assert messages(victim, b"for all") == [(GRANT, b"for all")]
    assert victim.connected
    assert victim.next_event(0) is None


def test_connection_without_a_certificate_is_refused(broker: RoomBroker) -> None:
    context = ssl.create_default_context(cafile=credentials_in(broker.box("a1")).certificate_authority)
    connect = bytes.fromhex("100f00044d5154540502000f0000026131")
    address = (broker.room.plan.host, broker.room.plan.port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
        pytest.raises(OSError, match=r"certificate.required|EOF|reset|[Pp]ipe"),
    ):
        secured.sendall(connect)
        assert secured.recv(16) == b"the broker answered"
        secured.sendall(connect)


def test_certificate_of_another_authority_is_refused(broker: RoomBroker, tmp_path: Path) -> None:
    other = CertificateAuthority.create(ROOM, keys.signing_key(tmp_path / "ca.key"), certificates.now_utc())
    key = keys.signing_key(tmp_path / "a1.key")
    forged = other.issue("a1", Role.UNIT, key.public_key(), certificates.now_utc())
    (tmp_path / "a1.pem").write_bytes(certificates.pem(forged))
    right = credentials_in(broker.box("a1")).certificate_authority
    link = broker.link("a1", credentials=Credentials(tmp_path / "a1.key", tmp_path / "a1.pem", right))
    assert "another room" in wait_for(link, Disconnected).reason
    assert not link.connected


def test_brokers_own_certificate_is_no_ticket(broker: RoomBroker) -> None:
    right = credentials_in(broker.box("a1")).certificate_authority
    stolen = Credentials(broker.room.broker / "key.pem", broker.room.broker / "certificate.pem", right)
    link = broker.link("broker", credentials=stolen)
    assert "before it took us" in wait_for(link, Disconnected).reason
    assert not link.connected


def test_false_broker_is_refused(broker: RoomBroker, tmp_path: Path) -> None:
    other = CertificateAuthority.create(ROOM, keys.signing_key(tmp_path / "ca.key"), certificates.now_utc())
    (tmp_path / "other.pem").write_bytes(certificates.pem(other.certificate))
    own = credentials_in(broker.box("a1"))
    link = broker.link("a1", credentials=Credentials(own.key, own.certificate, tmp_path / "other.pem"))
    assert "certificate verify failed" in wait_for(link, Disconnected).reason
    assert not link.connected


def test_revoked_unit_is_cut_off_at_once_cannot_come_back_and_nobody_else_is_dropped(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    revoked = broker.connected("a2", subscriptions=[GRANT])
    honest = broker.connected("a1", subscriptions=[GRANT])
    authority = broker.authority()
    authority.revoke("a2")
    roster = authority.publish()
    demo_room.write_broker(broker.room, authority)
    broker.mosquitto.reload()
    wait_until_refused(revoked, link_of("a2"))
    gateway.publish(GRANT, b"after", qos=1, retain=False)
    honest.publish(link_of("a1"), b"honest", qos=1, retain=False)
    assert messages(honest, b"after") == [(GRANT, b"after")]
    heard = [message for message in messages(gateway, b"honest") if message[1] != b"before the reload"]
    assert heard == [(link_of("a1"), b"honest")]
    assert roster.revoked == {"a2"}
    revoked.stop()
    again = broker.link("a2")
    assert "revoked" in wait_for(again, Disconnected).reason
    assert not again.connected
    assert honest.connected and gateway.connected
    assert honest.next_event(0) is None


def wait_until_refused(link: MqttLink, topic: str) -> None:
    """Publish until the broker says no: a reload takes effect a moment after the signal."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        link.publish(topic, b"before the reload", qos=1, retain=False)
        event = link.next_event(0.2)
        if isinstance(event, Refused):
            return
    raise AssertionError("the broker still takes what the revoked unit publishes")


def test_last_will_speaks_for_a_killed_client(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[status_of("+")])
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from device.config import Broker
        from device.publish.mqtt import MqttLink
        from device.publish.ports import LastWill
        from provisioning.boxes import credentials_in
        box, host, port, topic = sys.argv[1:]
        broker = Broker(host=host, port=int(port))
        link = MqttLink("a1", broker, credentials_in(Path(box)), will=LastWill(topic, b"died in session 7"))
        link.start()
        print(link.next_event(20), flush=True)
        link.publish(topic, b"born in session 7", qos=1, retain=True)
        time.sleep(60)
        """
    )
    plan = broker.room.plan
    arguments = [str(broker.box("a1")), plan.host, str(plan.port), status_of("a1")]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) as client:
        try:
            assert messages(gateway, b"born in session 7") == [(status_of("a1"), b"born in session 7")]
        finally:
            client.send_signal(signal.SIGKILL)
    assert messages(gateway, b"died in session 7") == [(status_of("a1"), b"died in session 7")]
    late = broker.connected("a1", subscriptions=[])
    late.stop()
    gateway.stop()
    latecomer = broker.connected("gateway", subscriptions=[status_of("+")])
    last = wait_for(latecomer, Received)
    assert (last.payload, last.retained) == (b"died in session 7", True)


def test_clean_stop_leaves_the_last_word_and_no_will(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[status_of("+")])
    unit = broker.connected("a1", will=LastWill(status_of("a1"), b"will"))
    unit.publish(status_of("a1"), b"stopped by hand", qos=1, retain=True)
    unit.stop()
    other = broker.connected("a2")
    other.publish(status_of("a2"), b"marker", qos=1, retain=False)
    assert messages(gateway, b"marker") == [(status_of("a1"), b"stopped by hand"), (status_of("a2"), b"marker")]


def test_session_and_queued_messages_outlive_a_killed_broker(broker: RoomBroker) -> None:
    sleeper = broker.connected("a2", subscriptions=[LINKS])
    sleeper.stop()
    unit = broker.connected("a1")
    unit.publish(link_of("a1"), b"while you slept", qos=1, retain=False)
    unit.stop()
    wait_until_saved(broker)
    broker.kill()
    broker.start()
    woken = broker.link("a2", subscriptions=[LINKS])
    assert wait_for(woken, Connected) == Connected(session_present=True)
    assert messages(woken, b"while you slept") == [(link_of("a1"), b"while you slept")]


def wait_until_saved(broker: RoomBroker) -> None:
    """Return when mosquitto has written its store after this call (its autosave interval is a second here)."""
    store = broker.room.broker / "store" / "mosquitto.db"
    called = time.time()
    wait_until(lambda: store.exists() and store.stat().st_mtime > called, "mosquitto saves its store")


def test_nothing_published_while_the_broker_is_away_is_sent_later(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    unit = broker.connected("a1")
    broker.kill()
    wait_for(unit, Disconnected)
    with pytest.raises(TransportError, match="the broker is away"):
        unit.publish(link_of("a1"), b"lost", qos=1, retain=False)
    broker.start()
    wait_for(unit, Connected)
    taken(gateway)
    unit.publish(link_of("a1"), b"after", qos=1, retain=False)
    assert messages(gateway, b"after") == [(link_of("a1"), b"after")]


def test_retained_grant_comes_again_at_each_connection(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway")
    unit = broker.connected("a1", subscriptions=[GRANT])
    gateway.publish(GRANT, b"round 7", qos=1, retain=True)
    assert not wait_for(unit, Received).retained
    broker.restart()
    assert wait_for(unit, Received) == Received(GRANT, b"round 7", retained=True)


def test_flood_is_dropped_and_counted_but_news_of_the_connection_comes_through(broker: RoomBroker) -> None:
    flooded = broker.link("a2", subscriptions=[LINKS], queue_messages=10)
    taken(flooded)
    unit = broker.connected("a1")
    for number in range(100):
        unit.publish(link_of("a1"), b"%d" % number, qos=1, retain=False)
    wait_until(lambda: flooded.dropped == 90, "90 messages are dropped")
    broker.stop()
    wait_until(lambda: not flooded.connected, "the link sees the broker go")
    kept = [flooded.next_event(0) for _ in range(10)]
    assert kept == [Received(link_of("a1"), b"%d" % number, retained=False) for number in range(10)]
    assert isinstance(flooded.next_event(1), Disconnected)
