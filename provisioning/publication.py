"""Carry what the room authority has published to those who live by it: registrar, gateway program and broker.

Each file is replaced whole and only when it changes, so that a cut-off publication is completed by doing it again.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from device.config import load_gateway
from device.errors import ConfigError, MoodlineError, StorageError, TransportError
from device.messages.trust_bundle import BUNDLE_BYTES
from device.system.storage import OWNER_ONLY, Disk, read, write_durably
from device.trust import staged
from provisioning import certificates, keys, mosquitto
from provisioning.authority import (
    CA_CERTIFICATE,
    POLICY_FILE,
    REVOKED_FILE,
    ROSTER_FILE,
    TRUST_FILE,
    VERIFYING_KEY,
    RoomAuthority,
)
from provisioning.boxes import AUTHORITY_FILE, CERTIFICATE_FILE, GATEWAY_FILE, render
from provisioning.broker import ACCESS_FILE, Member, access_list, check_files
from provisioning.certificates import CertificateAuthority, Role

PID_BYTES: Final = 32


class OwnersDisk(Disk):
    """What root writes into a service's folder belongs to whom the folder belongs, so that the service can read it."""

    def create(self, path: Path, mode: int) -> int:
        """As `Disk.create`."""
        descriptor = super().create(path, mode)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


OWNERS_DISK: Final = OwnersDisk()


def hand_over(path: Path) -> None:
    """What root made in a service's folder belongs to whom the folder belongs."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


class Broker(Protocol):
    """The room's broker, as far as it can be told to read its files again."""

    def reload(self) -> None:
        """Read access list, certificates and revocation list again. Raises ConfigError, TransportError."""
        ...


@dataclass(frozen=True)
class BrokerService:
    """The mosquitto that systemd runs over `folder`."""

    folder: Path
    service: str

    def reload(self) -> None:
        """As `Broker.reload`."""
        mosquitto.reload_service(self.folder, self.service)


@dataclass(frozen=True)
class BrokerProcess:
    """A mosquitto over `folder` whose process id stands in a file."""

    folder: Path
    pid_file: Path

    def reload(self) -> None:
        """As `Broker.reload`."""
        check_files(self.folder)
        try:
            os.kill(int(read(self.pid_file, limit=PID_BYTES)), signal.SIGHUP)
        except (OSError, ValueError, MoodlineError) as error:
            raise TransportError(
                f"{self.pid_file}: names no running broker.", next_step="Start the broker, then publish again."
            ) from error


@dataclass(frozen=True)
class Places:
    """The folders to write to. `gateway` and `broker` are None where somebody else carries the files there."""

    registrar: Path
    gateway: Path | None = None
    broker: Path | None = None


def publish(authority: RoomAuthority, places: Places) -> None:
    """Sign what has changed and write all public files; the broker must be told to reload after it.

    Raises ConfigError, StorageError.
    """
    authority.publish()
    # The bundle leads from the older key to the newer one, so it comes before the key.
    _write(places.registrar / TRUST_FILE, authority.trust_bundle())
    for name in (CA_CERTIFICATE, VERIFYING_KEY):
        _write(places.registrar / name, _public(authority, name))
    if places.gateway is not None:
        _write_gateway(places.gateway, authority)
    if places.broker is not None:
        members = [
            Member(entry.name, entry.role, entry.line, entry.reads) for entry in authority.members if not entry.revoked
        ]
        _write(places.broker / AUTHORITY_FILE, _public(authority, CA_CERTIFICATE))
        _write(places.broker / REVOKED_FILE, _public(authority, REVOKED_FILE))
        _write(places.broker / ACCESS_FILE, access_list(authority.room, members).encode(), mode=0o600)


def _write_gateway(folder: Path, authority: RoomAuthority) -> None:
    """In the order of `device.trust`: what the roster asks for is laid beside first, and counts with the roster. The
    bundle says to the units how the authority's key was succeeded."""
    _write_desks(folder, authority)
    _write(folder / TRUST_FILE, authority.trust_bundle())
    beside = (POLICY_FILE, VERIFYING_KEY)
    for name in beside:
        content = _public(authority, name)
        if not _stands(folder / name, content):
            _write(staged(folder / name), content)
    _write(folder / ROSTER_FILE, _public(authority, ROSTER_FILE))
    for name in (*beside, CA_CERTIFICATE):
        _write(folder / name, _public(authority, name))


def _write_desks(folder: Path, authority: RoomAuthority) -> None:
    """The desks' names for people, into gateway.toml: the gateway reads it with the next roster."""
    path = folder / GATEWAY_FILE
    if not path.exists():
        return
    config = load_gateway(path)
    named = {entry.name: entry.desk for entry in authority.members if entry.desk and not entry.revoked}
    desks = {**config.desks, **named}
    if desks != config.desks:
        text = render(msgspec.structs.replace(config, desks=desks), folder.absolute())
        _write(path, text.encode(), mode=OWNER_ONLY)


def _public(authority: RoomAuthority, name: str) -> bytes:
    return read(authority.folder / name, limit=BUNDLE_BYTES)


def _stands(path: Path, content: bytes) -> bool:
    try:
        return read(path, limit=BUNDLE_BYTES) == content
    except StorageError:
        return False


def _write(path: Path, content: bytes, *, mode: int = keys.WORLD_READABLE) -> None:
    if not _stands(path, content):
        write_durably(path, content, mode=mode, disk=OWNERS_DISK)


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether less than a third of the certificate's life is left, or none."""
    ends = certificate.not_valid_after_utc
    return ends - now < (ends - certificate.not_valid_before_utc) / 3


def renew_own(folder: Path, ca: CertificateAuthority, now: datetime) -> str | None:
    """Renew the certificate of the gateway or broker in its folder when it is due, for the same key, name and hosts.

    Returns whose it was, or None when it was not due. Raises ConfigError when the certificate is not by this room's
    authority or is a unit's, StorageError.
    """
    path = folder / CERTIFICATE_FILE
    certificate = certificates.load_certificate(path)
    name, role = (
        str(certificate.subject.get_attributes_for_oid(oid)[0].value)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    )
    if not certificates.is_issued_by(certificate, ca.certificate) or role not in (Role.GATEWAY, Role.BROKER):
        raise ConfigError(
            f"{path}: is not the certificate of this room's gateway or broker.",
            next_step="Set up the gateway again from the room authority.",
        )
    if not is_due(certificate, now):
        return None
    key = Ed25519PublicKey.from_public_bytes(certificates.key_of(certificate))
    renewed = ca.issue(name, Role(role), key, now, hosts=certificates.hosts_of(certificate))
    write_durably(path, certificates.pem(renewed), mode=keys.WORLD_READABLE, disk=OWNERS_DISK)
    return name
