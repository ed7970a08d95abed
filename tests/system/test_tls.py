"""The peer's certificate over real TLS connections, with a clock that is set and with one that is not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from device.publish.mqtt import tls_context
from device.system.tls import certificate_begins_ms
from provisioning import certificates, keys
from provisioning.boxes import Credentials
from provisioning.certificates import MEMBER_LIFE, CertificateAuthority, Role, now_utc

NAME = "broker.room"
GREETING = b"hello"


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


class Parties:
    """An authority that was founded long ago, and members whose certificates begin when a test says."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.authority = CertificateAuthority.create(
            "r", keys.signing_key(folder / "ca.key"), now_utc() - MEMBER_LIFE * 2
        )
        (folder / "ca.pem").write_bytes(certificates.pem(self.authority.certificate))

    def credentials(self, name: str, role: Role, issued: datetime) -> Credentials:
        key = keys.signing_key(self.folder / f"{name}.key")
        certificate = self.authority.issue(name, role, key.public_key(), issued)
        (self.folder / f"{name}.pem").write_bytes(certificates.pem(certificate))
        return Credentials(self.folder / f"{name}.key", self.folder / f"{name}.pem", self.folder / "ca.pem")


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    return Parties(tmp_path / "parties")


@contextlib.contextmanager
def serving(own: Credentials) -> Iterator[int]:
    """One TLS connection on a loopback port; keeps no check of its own, so that the client's alone count."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as secured:
                    secured.sendall(GREETING)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def greeted(parties: Parties, server: Credentials, *, floor: datetime | None, name: str = NAME) -> bytes:
    """What a client hears; raises when it refuses the server. `floor` None: its clock is set."""
    client = parties.credentials("u1", Role.UNIT, now_utc())
    context = tls_context(client, server_name=name, floor_ms=None if floor is None else milliseconds(floor))
    with (
        serving(server) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False) as secured,
    ):
        secured.do_handshake()
        return secured.recv(100)


@pytest.mark.parametrize("clock_is_set", [True, False])
def test_a_good_certificate_is_believed(parties: Parties, clock_is_set: bool) -> None:
    server = parties.credentials(NAME, Role.BROKER, now_utc())
    assert greeted(parties, server, floor=None if clock_is_set else now_utc()) == GREETING


def test_one_that_ended_before_the_floor_is_refused_and_one_that_ended_after_it_is_not(parties: Parties) -> None:
    server = parties.credentials(NAME, Role.BROKER, now_utc() - MEMBER_LIFE - timedelta(days=30))
    with pytest.raises(ssl.SSLCertVerificationError, match="before the last time that this box knows of"):
        greeted(parties, server, floor=now_utc())
    assert greeted(parties, server, floor=now_utc() - timedelta(days=31)) == GREETING
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        greeted(parties, server, floor=None)


def test_one_that_has_not_begun_is_taken_only_while_the_clock_is_not_set(parties: Parties) -> None:
    server = parties.credentials(NAME, Role.BROKER, now_utc() + timedelta(days=30))
    assert greeted(parties, server, floor=now_utc()) == GREETING
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        greeted(parties, server, floor=None)


@pytest.mark.parametrize("clock_is_set", [True, False])
def test_a_foreign_authority_is_refused(parties: Parties, tmp_path: Path, clock_is_set: bool) -> None:
    foreign = Parties(tmp_path / "foreign").credentials(NAME, Role.BROKER, now_utc())
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        greeted(parties, foreign, floor=None if clock_is_set else now_utc())


@pytest.mark.parametrize("clock_is_set", [True, False])
def test_a_wrong_name_is_refused(parties: Parties, clock_is_set: bool) -> None:
    server = parties.credentials(NAME, Role.BROKER, now_utc())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        greeted(parties, server, floor=None if clock_is_set else now_utc(), name="other.room")


@pytest.mark.parametrize("clock_is_set", [True, False])
def test_a_members_certificate_is_not_a_brokers(parties: Parties, clock_is_set: bool) -> None:
    server = parties.credentials(NAME, Role.UNIT, now_utc())
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate purpose"):
        greeted(parties, server, floor=None if clock_is_set else now_utc())


def test_the_beginning_of_a_certificate_is_read_and_a_file_without_one_says_nothing(
    parties: Parties, tmp_path: Path
) -> None:
    issued = now_utc()
    own = parties.credentials("u1", Role.UNIT, issued)
    assert certificate_begins_ms(own.certificate) == milliseconds(issued - certificates.BACKDATED)
    assert certificate_begins_ms(own.key) == certificate_begins_ms(tmp_path / "absent") == 0
