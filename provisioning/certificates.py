"""The room's X.509 certificates for mutual TLS (RFC 5280, Ed25519 after RFC 8410).

The certificate authority takes public keys only: a private key stays where it was made. The common name is the member's
id, which the broker uses as MQTT user name; so one id never names two members.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device.errors import ConfigError
from device.system.storage import read

AUTHORITY_LIFE: Final = timedelta(days=3_650)
MEMBER_LIFE: Final = timedelta(days=730)
REVOCATION_LIST_LIFE: Final = timedelta(days=3_650)
CERTIFICATE_BYTES: Final = 65_536
BACKDATED: Final = timedelta(days=1)
"""Certificates begin a day before they are made, for boxes whose clock is somewhat late."""


class Role(StrEnum):
    """What a certificate's holder is in the room; it stands in the subject as organisational unit."""

    BROKER = "broker"
    GATEWAY = "gateway"
    UNIT = "unit"
    CONSUMER = "consumer"


class Reads(StrEnum):
    """What a consumer may read: the class picture alone, every desk's labels too, or all that the room says."""

    CLASS = "class"
    DESK = "desk"
    OPERATOR = "operator"


def pem(certificate: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """PEM text of a certificate or revocation list."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate of a PEM file. Raises ConfigError naming the file, StorageError when it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(read(path, limit=CERTIFICATE_BYTES))
    except ValueError as error:
        raise ConfigError(f"{path}: is not a certificate.", next_step="Put back a whole copy.") from error


def key_of(certificate: x509.Certificate) -> bytes:
    """The raw Ed25519 key (32 bytes) that a certificate of the room is about. Raises ConfigError on any other key."""
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("The certificate's key is no Ed25519 key.", next_step="Put back the room's own certificate.")
    return key.public_bytes_raw()


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The `hosts` for which a certificate was issued: its alternative names but for the first, which is the id."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in names)[1:]


def digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 over the certificate's DER bytes, 32 bytes: the form in which the roster names it."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def _name(common_name: str, unit: str, room: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"Moodline {room}"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class CertificateAuthority:
    """Signs certificates and revocation lists of one room."""

    room: str
    key: Ed25519PrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, room: str, key: Ed25519PrivateKey, now: datetime) -> CertificateAuthority:
        """A new authority with a self-signed certificate that may sign end certificates only."""
        name = _name(f"{room} certificate authority", "certificate authority", room)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, algorithm=None)
        )
        return cls(room, key, certificate)

    def issue(
        self,
        name: str,
        role: Role,
        public_key: Ed25519PublicKey,
        now: datetime,
        *,
        hosts: Iterable[str] = (),
        life: timedelta = MEMBER_LIFE,
    ) -> x509.Certificate:
        """A member's certificate, for TLS as server (broker) or as client (all others), never both.

        `hosts` are the names and addresses under which a server is reached; a client's only alternative name is its id.
        It ends `life` after `now`.
        """
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if role is Role.BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        subject_key = x509.SubjectKeyIdentifier.from_public_key(public_key)
        alternatives = x509.SubjectAlternativeName([_alternative_name(host) for host in (name, *hosts)])
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name, role.value, self.room))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(issuer_key, critical=False)
            .add_extension(subject_key, critical=False)
            .sign(self.key, algorithm=None)
        )

    def revocation_list(self, serials: Iterable[int], number: int, now: datetime) -> x509.CertificateRevocationList:
        """The signed list of certificates that no longer count. `number` rises with each list."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + REVOCATION_LIST_LIFE)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for serial in sorted(serials):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, algorithm=None)


def now_utc() -> datetime:
    """This machine's time, to the second (X.509 knows no finer one)."""
    return datetime.now(UTC).replace(microsecond=0)
