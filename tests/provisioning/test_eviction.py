"""Putting a revoked member out: what is written and what is left behind. The broker's part is tested in integration."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device.config import Broker
from device.errors import ConfigError, TransportError
from provisioning import certificates, eviction, keys
from provisioning.broker import ACCESS_FILE, Member, access_list
from provisioning.certificates import CertificateAuthority, Role
from provisioning.eviction import Evictor
from provisioning.mosquitto import free_port

UNIT = Member("a2", Role.UNIT, "a")
OTHERS = [Member("gateway", Role.GATEWAY), Member("a1", Role.UNIT, "a")]


class Reloads:
    """What the access list said at each reload."""

    def __init__(self, path: Path) -> None:
        self.seen: list[str] = []
        self._path = path

    def __call__(self) -> None:
        self.seen.append(self._path.read_text())


@pytest.fixture
def reloads(tmp_path: Path) -> Reloads:
    path = tmp_path / ACCESS_FILE
    path.write_text(access_list("r", OTHERS))
    path.chmod(0o640)
    return Reloads(path)


@pytest.fixture
def evictor(tmp_path: Path, reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> Evictor:
    """At a port where no broker is."""
    monkeypatch.setattr(eviction, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    ca = CertificateAuthority.create("r", keys.signing_key(tmp_path / "ca.key"), certificates.now_utc())
    return Evictor(ca, Broker(host="127.0.0.1", port=free_port()), tmp_path, reloads)


def test_unit_has_its_last_word_for_the_moment_and_nothing_afterwards(
    evictor: Evictor, reloads: Reloads, tmp_path: Path
) -> None:
    before = access_list("r", OTHERS)
    with pytest.raises(TransportError, match="its session at the broker may still be open"):
        evictor.put_out([UNIT])
    assert reloads.seen == [before + "\nuser a2\ntopic readwrite moodline/v1/r/a/status/a2\n", before]
    assert (tmp_path / ACCESS_FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes into another user's folder")
def test_access_list_stays_its_owners(evictor: Evictor, tmp_path: Path) -> None:
    os.chown(tmp_path / ACCESS_FILE, 12_345, 12_346)
    with pytest.raises(TransportError):
        evictor.put_out([UNIT])
    found = (tmp_path / ACCESS_FILE).stat()
    assert (found.st_uid, found.st_gid) == (12_345, 12_346)


def test_consumer_has_no_last_word(evictor: Evictor, reloads: Reloads) -> None:
    with pytest.raises(TransportError, match="reader: its session"):
        evictor.put_out([Member("reader", Role.CONSUMER)])
    assert reloads.seen == [access_list("r", OTHERS)]


def test_member_that_still_has_rights_is_not_put_out(evictor: Evictor, reloads: Reloads) -> None:
    with pytest.raises(ConfigError, match="still gives a1 its rights"):
        evictor.put_out([UNIT, OTHERS[1]])
    assert reloads.seen == []


def test_throw_away_key_is_thrown_away(evictor: Evictor, tmp_path: Path) -> None:
    with pytest.raises(TransportError):
        evictor.put_out([UNIT])
    assert sorted(path.name for path in tmp_path.iterdir()) == [ACCESS_FILE, "ca.key"]


def test_certificate_is_a_clients_in_the_members_name_for_minutes(evictor: Evictor, tmp_path: Path) -> None:
    made = evictor.credentials(tmp_path, UNIT)
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "a2"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc - certificates.now_utc() <= timedelta(minutes=5)
    assert made.key.stat().st_mode & 0o777 == 0o600
