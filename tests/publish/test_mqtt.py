"""The broker link against unusable files, an absent broker and a broker that talks nonsense. See also integration."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import MQTTErrorCode

from device.config import Broker
from device.errors import ConfigError, TransportError
from device.publish.mqtt import UNACKNOWLEDGED_MESSAGES, MqttLink, tls_context
from device.publish.ports import Connected, Disconnected, Event, Received, Refused
from provisioning import certificates, keys
from provisioning.boxes import Credentials
from provisioning.certificates import MEMBER_LIFE, CertificateAuthority, Role, now_utc
from provisioning.mosquitto import free_port

CONNACK = bytes.fromhex("2003000000")
TAKES_256_BYTES = bytes.fromhex("2008000005 2700000100")
NOT_AUTHORISED = bytes.fromhex("2003008700")
SUBSCRIPTION_REFUSED = bytes.fromhex("900400010087")
GOOD_MESSAGE = bytes.fromhex("3008000161 00") + b"good"
HANG_UP = b"hang up"
NOT_UTF8 = bytes.fromhex("3005 0001ff 00") + b"x"


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    made = CertificateAuthority.create("r", keys.signing_key(tmp_path / "ca.key"), now_utc())
    (tmp_path / "ca.pem").write_bytes(certificates.pem(made.certificate))
    return made


def credentials(folder: Path, authority: CertificateAuthority, name: str, role: Role) -> Credentials:
    key = keys.signing_key(folder / f"{name}.key")
    certificate = authority.issue(name, role, key.public_key(), now_utc(), hosts=("127.0.0.1",))
    (folder / f"{name}.pem").write_bytes(certificates.pem(certificate))
    return Credentials(folder / f"{name}.key", folder / f"{name}.pem", folder / "ca.pem")


@pytest.fixture
def unit(tmp_path: Path, authority: CertificateAuthority) -> Credentials:
    return credentials(tmp_path, authority, "u1", Role.UNIT)


def link_to(port: int, unit: Credentials) -> MqttLink:
    return MqttLink("u1", Broker(host="127.0.0.1", port=port, reconnect_max_s=1), unit, subscriptions=["a"])


def test_key_that_others_can_read_is_refused_before_anything_is_sent(unit: Credentials) -> None:
    unit.key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        link_to(free_port(), unit).start()


@pytest.mark.parametrize("missing", ["certificate", "certificate_authority"])
def test_missing_or_broken_certificate_is_refused_by_name(unit: Credentials, missing: str) -> None:
    path: Path = getattr(unit, missing)
    path.write_bytes(b"no certificate")
    with pytest.raises(ConfigError, match=f"{path.name}.*cannot be used for TLS"):
        tls_context(unit)
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path.name}.*No such file"):
        tls_context(unit)


def test_key_of_another_certificate_is_refused(
    tmp_path: Path, unit: Credentials, authority: CertificateAuthority
) -> None:
    other = credentials(tmp_path, authority, "u2", Role.UNIT)
    with pytest.raises(ConfigError, match=r"u1.pem with .*u2.key: cannot be used for TLS .*KEY_VALUES_MISMATCH"):
        tls_context(Credentials(other.key, unit.certificate, unit.certificate_authority))


def test_encrypted_key_is_refused_and_nobody_is_asked_for_a_passphrase(
    tmp_path: Path, unit: Credentials, authority: CertificateAuthority
) -> None:
    unit.key.unlink()
    key = keys.signing_key(unit.key, b"a long passphrase")
    unit.certificate.write_bytes(certificates.pem(authority.issue("u1", Role.UNIT, key.public_key(), now_utc())))
    with pytest.raises(ConfigError, match=r"u1.key: cannot be used for TLS"):
        tls_context(unit)


def test_absent_broker_is_reported_and_publishing_says_so(unit: Credentials) -> None:
    link = link_to(free_port(), unit)
    link.start()
    try:
        event = link.next_event(10)
        assert isinstance(event, Disconnected)
        assert "cannot be reached" in event.reason
        with pytest.raises(TransportError, match="the broker is away"):
            link.publish("a", b"x", qos=1, retain=False)
    finally:
        link.stop()
    assert not link.connected


def test_publishing_before_start_is_refused(unit: Credentials) -> None:
    with pytest.raises(TransportError, match="the broker is away"):
        link_to(free_port(), unit).publish("a", b"x", qos=0, retain=False)


class NonsenseBroker:
    """Takes one TLS connection after the other, answers the CONNECT, and says the next of its scripted answers.

    It acknowledges nothing, keeps what it heard per connection, and hangs up when it hears HANG_UP.
    """

    def __init__(self, own: Credentials, answers: list[bytes]) -> None:
        self.address = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.address.getsockname()[1]
        self.heard: list[bytes] = []
        self._answers = answers
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own.certificate_authority)
        self._context.load_cert_chain(own.certificate, own.key)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            plain, _ = self.address.accept()
            with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secured:
                secured.settimeout(10)
                secured.recv(4_096)
                secured.sendall(answer if answer.startswith(CONNACK[:1]) else CONNACK + answer)
                self.heard.append(b"")
                while HANG_UP not in self.heard[-1] and (heard := secured.recv(4_096)):
                    self.heard[-1] += heard

    def close(self) -> None:
        self._thread.join(10)
        self.address.close()


@contextlib.contextmanager
def events_after(answers: list[bytes], folder: Path, authority: CertificateAuthority) -> Iterator[MqttLink]:
    broker = NonsenseBroker(credentials(folder, authority, "broker", Role.BROKER), answers)
    link = link_to(broker.port, credentials(folder, authority, "u1", Role.UNIT))
    link.start()
    try:
        yield link
    finally:
        link.stop(flush_s=0)
        broker.close()


def test_the_certificates_name_may_differ_from_the_address_when_the_configuration_says_so(
    tmp_path: Path, authority: CertificateAuthority, unit: Credentials
) -> None:
    broker = NonsenseBroker(credentials(tmp_path, authority, "broker", Role.BROKER), [GOOD_MESSAGE] * 2)
    for name, refusal in (("elsewhere", "Hostname mismatch"), ("broker", None)):
        address = Broker(host="localhost", port=broker.port, server_name=name, reconnect_max_s=1)
        link = MqttLink("u1", address, unit, subscriptions=["a"])
        link.start()
        seen = until(link, Received if refusal is None else Disconnected)
        link.stop(flush_s=0)
        assert refusal is None or refusal in str(seen[-1])
    broker.close()


def test_each_connection_asks_for_the_floor_anew_and_takes_a_renewed_certificate(
    tmp_path: Path, authority: CertificateAuthority, unit: Credentials
) -> None:
    broker = NonsenseBroker(credentials(tmp_path, authority, "broker", Role.BROKER), [GOOD_MESSAGE] * 2)
    unit.certificate.write_bytes(b"half of a certi")
    far = round((now_utc() + 2 * MEMBER_LIFE).timestamp() * 1_000)
    floors = [far, far, far, 0]
    address = Broker(host="127.0.0.1", port=broker.port, reconnect_max_s=1)
    link = MqttLink("u1", address, unit, subscriptions=["a"], floor=lambda: floors.pop(0) if len(floors) > 1 else 0)
    with pytest.raises(ConfigError):
        link.start()
    key = keys.signing_key(unit.key)
    unit.certificate.write_bytes(certificates.pem(authority.issue("u1", Role.UNIT, key.public_key(), now_utc())))
    link.start()
    seen = until(link, Received)
    link.stop(flush_s=0)
    broker.close()
    assert "before the last time that this box knows of" in str(seen[0])


def test_error_in_the_library_costs_the_connection_and_not_the_program(
    tmp_path: Path,
    authority: CertificateAuthority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    real_loop = paho.Client.loop
    faults = [RuntimeError("a fault of the library")]

    def loop(client: paho.Client, timeout: float = 1.0) -> MQTTErrorCode:
        if client.is_connected() and faults:
            raise faults.pop()
        return real_loop(client, timeout)

    monkeypatch.setattr(paho.Client, "loop", loop)
    with events_after([b"", GOOD_MESSAGE], tmp_path, authority) as link:
        seen = until(link, Received)
    assert Disconnected("The broker's bytes could not be read.") in seen
    assert seen[-1] == Received("a", b"good", retained=False)


def test_refusal_at_the_door_and_of_a_subscription_are_told_with_the_reason(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    with events_after([NOT_AUTHORISED, SUBSCRIPTION_REFUSED], tmp_path, authority) as link:
        seen = until(link, Refused)
    assert seen[0] == Disconnected("The broker refused us: Not authorized.")
    assert seen[-1] == Refused("a", "Not authorized")


def test_publishing_into_a_broker_that_acknowledges_nothing_is_refused_in_the_end(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    with events_after([b""], tmp_path, authority) as link:
        until(link, Connected)
        for number in range(UNACKNOWLEDGED_MESSAGES):
            link.publish("a", b"%d" % number, qos=1, retain=False)
        with pytest.raises(TransportError, match=r"a: not published \(.*queue"):
            link.publish("a", b"one too many", qos=1, retain=False)


def test_a_message_that_the_broker_would_not_take_costs_no_connection(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    with events_after([TAKES_256_BYTES], tmp_path, authority) as link:
        until(link, Connected)
        with pytest.raises(TransportError, match="a: 257 bytes; the broker takes 256"):
            link.publish("a", bytes(256), qos=1, retain=True)
        link.publish("a", bytes(200), qos=1, retain=True)
        assert link.next_event(0.3) is None
        assert link.connected


def test_what_the_last_connection_left_unacknowledged_is_not_sent_again(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    broker = NonsenseBroker(credentials(tmp_path, authority, "broker", Role.BROKER), [GOOD_MESSAGE, GOOD_MESSAGE])
    link = link_to(broker.port, credentials(tmp_path, authority, "u1", Role.UNIT))
    link.start()
    try:
        until(link, Received)
        link.publish("a", HANG_UP, qos=1, retain=True)
        until(link, Disconnected)
        until(link, Received)
        link.publish("a", b"newer", qos=1, retain=True)
    finally:
        link.stop(flush_s=0.2)
        broker.close()
    assert HANG_UP in broker.heard[0]
    assert b"newer" in broker.heard[1]
    assert HANG_UP not in broker.heard[1]


def until(link: MqttLink, kind: type[Event]) -> list[Event]:
    seen: list[Event] = []
    while not seen or not isinstance(seen[-1], kind):
        event = link.next_event(20)
        assert event is not None, f"no {kind.__name__} after {seen}"
        seen.append(event)
    return seen


@pytest.mark.parametrize(
    "nonsense",
    [
        bytes.fromhex("f005ffffffffff"),
        bytes.fromhex("3003ffffff"),
        bytes.fromhex("300100"),
        bytes.fromhex("90020001"),
        bytes.fromhex("4001ff"),
        bytes.fromhex("30ffffffffff01"),
        bytes.fromhex("300600016105ffffff"),
    ],
)
def test_link_comes_back_after_nonsense_from_the_broker(
    tmp_path: Path, authority: CertificateAuthority, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with events_after([nonsense, GOOD_MESSAGE], tmp_path, authority) as link:
        seen = until(link, Received)
    assert seen[-1] == Received("a", b"good", retained=False)
    assert [type(event) for event in seen] == [Connected, Disconnected, Connected, Received]


def test_topic_that_is_not_text_is_dropped_and_counted(tmp_path: Path, authority: CertificateAuthority) -> None:
    with events_after([NOT_UTF8 + GOOD_MESSAGE], tmp_path, authority) as link:
        seen = until(link, Received)
    assert seen == [Connected(session_present=False), Received("a", b"good", retained=False)]
    assert link.dropped == 1
