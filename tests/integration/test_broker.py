"""What a real mosquitto lets through under the configuration that we render. Delivery is tested, never the answer."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.errors import ConfigError, TransportError
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Connected, Disconnected, LastWill, Received, Refused
from provisioning import certificates, demo_room, keys
from provisioning.boxes import Credentials, credentials_in
from provisioning.broker import ACCESS_FILE, BrokerSettings
from provisioning.certificates import CertificateAuthority, Role
from provisioning.mosquitto import find_mosquitto
from tests.integration.conftest import TAKE
from tests.integration.room_broker import RawClient, RoomBroker, require_mosquitto, taken, wait_for, wait_until

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


def test_reload_takes_a_revoked_units_rights_in_its_open_session_and_nobody_else_is_dropped(broker: RoomBroker) -> None:
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


def test_reload_takes_up_the_brokers_renewed_certificate_and_key_and_drops_nobody(broker: RoomBroker) -> None:
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    unit = broker.connected("a1")
    folder, ca = broker.room.broker, broker.authority().ca
    (folder / "key.pem").unlink()
    key = keys.signing_key(folder / "key.pem").public_key()
    renewed = ca.issue("broker", Role.BROKER, key, certificates.now_utc(), hosts=("localhost", "127.0.0.1"))
    assert shown_certificate(broker) != certificates.digest(renewed)
    (folder / "certificate.pem").write_bytes(certificates.pem(renewed))
    broker.mosquitto.reload()
    wait_until(
        lambda: shown_certificate(broker) == certificates.digest(renewed), "the broker shows its new certificate"
    )
    unit.publish(link_of("a1"), b"after", qos=1, retain=False)
    assert messages(gateway, b"after") == [(link_of("a1"), b"after")]
    assert unit.next_event(0) is None
    broker.connected("a2")


def shown_certificate(broker: RoomBroker) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = (broker.room.plan.host, broker.room.plan.port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).digest()


def test_reload_takes_up_a_second_authority_and_drops_nobody(broker: RoomBroker, tmp_path: Path) -> None:
    honest = broker.connected("a1", subscriptions=[GRANT])
    folder, now = broker.room.broker, certificates.now_utc()
    other = CertificateAuthority.create(ROOM, keys.signing_key(tmp_path / "ca.key"), now)
    key = keys.signing_key(tmp_path / "a2.key")
    (tmp_path / "a2.pem").write_bytes(certificates.pem(other.issue("a2", Role.UNIT, key.public_key(), now)))
    lists = [(folder / "revoked.pem").read_bytes(), certificates.pem(other.revocation_list([], 1, now))]
    authorities = [(folder / "authority.pem").read_bytes(), certificates.pem(other.certificate)]
    (folder / "revoked.pem").write_bytes(b"".join(lists))
    (folder / "authority.pem").write_bytes(b"".join(authorities))
    broker.mosquitto.reload()
    right = credentials_in(broker.box("a1")).certificate_authority
    taken(broker.link("a2", credentials=Credentials(tmp_path / "a2.key", tmp_path / "a2.pem", right)))
    broker.connected("gateway").publish(GRANT, b"for all", qos=1, retain=False)
    assert messages(honest, b"for all") == [(GRANT, b"for all")]


@pytest.mark.parametrize("ruined", [ACCESS_FILE, "revoked.pem"])
@pytest.mark.parametrize("content", [None, b"rubbish\n"])
def test_ruined_file_is_never_read_and_every_right_stays_as_it_was(
    broker: RoomBroker, ruined: str, content: bytes | None
) -> None:
    authority = broker.authority()
    authority.revoke("a2")
    authority.publish()
    demo_room.write_broker(broker.room, authority)
    broker.mosquitto.reload()
    unit = broker.connected("a1")
    path = broker.room.broker / ruined
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="mosquitto was not told to reload"):
        broker.mosquitto.reload()
    unit.publish(GRANT, b"forged", qos=1, retain=False)
    assert wait_for(unit, Refused).reason == "Not authorized"
    assert "revoked" in wait_for(broker.link("a2"), Disconnected).reason


def test_mosquitto_itself_opens_the_room_when_its_access_list_is_gone(broker: RoomBroker) -> None:
    """Why `check_files` stands before every reload. The day that this fails, mosquitto has become safer."""
    if "version 2.0.11" not in version():
        pytest.skip("found out with 2.0.11")
    neighbour = broker.connected("a2", subscriptions=[GRANT])
    unit = broker.connected("a1")
    (broker.room.broker / ACCESS_FILE).unlink()
    assert broker.mosquitto.pid is not None
    os.kill(broker.mosquitto.pid, signal.SIGHUP)
    wait_until(lambda: b"Unable to open acl_file" in broker.mosquitto.log.read_bytes(), "mosquitto reloads")
    unit.publish(GRANT, b"forged", qos=1, retain=False)
    assert messages(neighbour, b"forged") == [(GRANT, b"forged")]


def version() -> str:
    program = find_mosquitto()
    assert program is not None
    return subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout


SMALL = BrokerSettings(
    port=0,
    packet_bytes=5_000,
    inflight_messages=3,
    queued_messages=50,
    queued_bytes=20_000,
    connections=3,
    keepalive_s=30,
    autosave_s=1,
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RoomBroker]:
    """The same room with small limits."""
    require_mosquitto()
    room_broker = RoomBroker(tmp_path / "room", TAKE)
    room_broker.configure(SMALL)
    room_broker.start()
    try:
        yield room_broker
    finally:
        room_broker.close()


def test_packet_over_the_limit_costs_its_sender_the_connection_and_reaches_nobody(small: RoomBroker) -> None:
    gateway = small.connected("gateway", subscriptions=[LINKS])
    unit = RawClient(small, "a1")
    unit.connect()
    unit.publish(link_of("a1"), b"x" * 6_000)
    assert unit.packet()[:1] in (b"", b"\xe0"), "closed, with or without a DISCONNECT"
    unit.close()
    again = small.connected("a1")
    again.publish(link_of("a1"), b"x" * 4_900, qos=1, retain=False)
    assert messages(gateway, b"x" * 4_900) == [(link_of("a1"), b"x" * 4_900)]


@pytest.mark.parametrize(("size", "kept"), [(10, 50), (1_000, 20)], ids=["by number", "by bytes"])
def test_queue_for_a_sleeping_member_is_bounded(small: RoomBroker, size: int, kept: int) -> None:
    taken(small.link("a2", subscriptions=[LINKS], session_expiry_s=60)).stop()
    unit = small.connected("a1")
    sent = [b"%d" % number for number in range(100)]
    for number in sent:
        unit.publish(link_of("a1"), number.ljust(size), qos=1, retain=False)
    unit.stop()
    woken = taken(small.link("a2", subscriptions=[LINKS], session_expiry_s=60))
    small.connected("a3").publish(link_of("a3"), b"marker", qos=1, retain=False)
    queued = messages(woken, b"marker")[:-1]
    assert [payload.strip() for _, payload in queued] == sent[:kept]


def test_member_that_acknowledges_nothing_is_sent_no_more_than_fits_in_flight(small: RoomBroker) -> None:
    unit = small.connected("a1")
    silent = RawClient(small, "a2")
    silent.connect()
    silent.subscribe(LINKS)
    for number in range(10):
        unit.publish(link_of("a1"), b"%d" % number, qos=1, retain=False)
    for _ in range(SMALL.inflight_messages):
        assert silent.packet()[0] & 0xF0 == 0x30
    with pytest.raises(TimeoutError):
        silent.packet(timeout_s=0.3)
    silent.close()


def test_connection_beyond_the_number_is_refused_and_those_within_stay(small: RoomBroker) -> None:
    within = [small.connected(name) for name in ("gateway", "a1", "a2")]
    beyond = small.link("a3")
    wait_for(beyond, Disconnected)
    assert all(link.connected and link.next_event(0) is None for link in within)
    within[2].stop()
    taken(beyond)


@pytest.mark.parametrize(("asked_s", "told"), [(60_000, b"\x13\x00\x1e"), (0, b"\x13\x00\x1e"), (20, b"")])
def test_keepalive_is_bounded(small: RoomBroker, asked_s: int, told: bytes) -> None:
    client = RawClient(small, "a1")
    connack = client.connect(keepalive_s=asked_s)
    answer, code, properties = connack[0], connack[2], connack[3:]
    assert (answer, code) == (0x20, 0)
    assert told in properties and (told or b"\x13\x00" not in properties)
    client.close()


def test_reload_takes_up_the_number_of_connections_and_a_restart_every_limit(small: RoomBroker) -> None:
    small.configure(BrokerSettings(port=0, packet_bytes=9_000))
    small.mosquitto.reload()
    gateway = small.connected("gateway", subscriptions=[LINKS])
    unit = RawClient(small, "a1")
    unit.connect()
    for name in ("a2", "a3", "reader"):
        small.connected(name)
    unit.publish(link_of("a1"), b"x" * 6_000)
    assert unit.packet()[:1] in (b"", b"\xe0")
    small.restart()
    wait_until(lambda: gateway.subscribed, "the gateway comes back")
    unit = RawClient(small, "a1")
    unit.connect()
    unit.publish(link_of("a1"), b"y" * 6_000)
    wait_for(gateway, Connected)
    assert messages(gateway, b"y" * 6_000) == [(link_of("a1"), b"y" * 6_000)]
    unit.close()


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
    sleeper = taken(broker.link("a2", subscriptions=[LINKS], session_expiry_s=60))
    sleeper.stop()
    unit = broker.connected("a1")
    unit.publish(link_of("a1"), b"while you slept", qos=1, retain=False)
    unit.stop()
    wait_until_saved(broker)
    broker.kill()
    broker.start()
    woken = broker.link("a2", subscriptions=[LINKS], session_expiry_s=60)
    assert wait_for(woken, Connected) == Connected(session_present=True)
    assert messages(woken, b"while you slept") == [(link_of("a1"), b"while you slept")]


def test_reloads_while_members_are_away_do_not_ruin_the_broker(broker: RoomBroker) -> None:
    """mosquitto 2.0.11 puts a sleeping session to sleep again at a reload, and falls over two of them: leave none."""
    gateway = broker.connected("gateway", subscriptions=[LINKS])
    for name in ("a1", "a2", "a3", "a1", "a2"):
        broker.connected(name).stop()
        broker.mosquitto.reload()
    broker.mosquitto.reload()
    unit = broker.connected("a1")
    unit.publish(link_of("a1"), b"still there", qos=1, retain=False)
    assert messages(gateway, b"still there") == [(link_of("a1"), b"still there")]
    told = broker.mosquitto.log.read_text()
    assert "Client a2 disconnected." in told
    assert told.count("Client a2 disconnected.") == 2, "each left once, and no reload put it out again"
    assert "Expiring client" not in told


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
