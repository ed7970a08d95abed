"""What a certificate of the room lets its holder be, and what it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device.errors import ConfigError
from provisioning.certificates import (
    CertificateAuthority,
    Role,
    digest,
    hosts_of,
    is_issued_by,
    key_of,
    load_certificate,
    pem,
)

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("r2", Ed25519PrivateKey.generate(), NOW)


def issued(authority: CertificateAuthority, role: Role, *hosts: str) -> x509.Certificate:
    return authority.issue("b1", role, Ed25519PrivateKey.generate().public_key(), NOW, hosts=hosts)


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("role", [Role.UNIT, Role.GATEWAY, Role.CONSUMER])
def test_client_cannot_serve_as_broker(authority: CertificateAuthority, role: Role) -> None:
    assert purposes(issued(authority, role)) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_broker_cannot_connect_as_client(authority: CertificateAuthority) -> None:
    assert purposes(issued(authority, Role.BROKER)) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("role", list(Role))
def test_member_cannot_issue_certificates(authority: CertificateAuthority, role: Role) -> None:
    extensions = issued(authority, role).extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (False, False, True)


def test_common_name_is_the_members_id_and_role_stands_beside_it(authority: CertificateAuthority) -> None:
    subject = issued(authority, Role.UNIT).subject
    names = [
        subject.get_attributes_for_oid(oid)[0].value
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    ]
    assert names == ["b1", "unit", "Moodline r2"]


def test_broker_is_known_by_its_names_and_addresses(authority: CertificateAuthority) -> None:
    certificate = issued(authority, Role.BROKER, "gateway.local", "192.168.7.1")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b1", "gateway.local"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.168.7.1"]


def test_certificate_of_another_authority_does_not_verify(authority: CertificateAuthority) -> None:
    other = CertificateAuthority.create("r2", Ed25519PrivateKey.generate(), NOW)
    certificate = issued(other, Role.UNIT)
    certificate.verify_directly_issued_by(other.certificate)
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(authority.certificate)


def test_late_clock_of_a_day_is_borne_and_a_school_year_outlasted(authority: CertificateAuthority) -> None:
    certificate = issued(authority, Role.UNIT)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=500)
    assert certificate.not_valid_after_utc < authority.certificate.not_valid_after_utc


def test_revocation_list_names_the_serials_and_is_signed(authority: CertificateAuthority) -> None:
    gone = issued(authority, Role.UNIT)
    revoked = authority.revocation_list([gone.serial_number], 3, NOW)
    assert [entry.serial_number for entry in revoked] == [gone.serial_number]
    assert revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert revoked.is_signature_valid(authority.key.public_key())


def test_every_certificate_has_its_own_digest(authority: CertificateAuthority) -> None:
    assert len({digest(issued(authority, Role.UNIT)) for _ in range(3)}) == 3


def test_a_certificate_can_be_made_for_a_short_life(authority: CertificateAuthority) -> None:
    key = Ed25519PrivateKey.generate().public_key()
    certificate = authority.issue("b1", Role.UNIT, key, NOW, life=timedelta(minutes=5))
    assert certificate.not_valid_after_utc == NOW + timedelta(minutes=5)
    assert key_of(certificate) == key.public_bytes_raw()


def test_whose_certificate_it_is_can_be_told(authority: CertificateAuthority) -> None:
    other = CertificateAuthority.create("r2", Ed25519PrivateKey.generate(), NOW)
    certificate = issued(authority, Role.BROKER, "gateway.local", "192.168.7.1")
    assert is_issued_by(certificate, authority.certificate)
    assert not is_issued_by(certificate, other.certificate)
    assert hosts_of(certificate) == ("gateway.local", "192.168.7.1")
    assert hosts_of(issued(authority, Role.UNIT)) == ()


def test_a_certificate_file_comes_back_and_a_damaged_one_is_refused_by_name(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    path = tmp_path / "b1.pem"
    certificate = issued(authority, Role.UNIT)
    path.write_bytes(pem(certificate))
    assert load_certificate(path) == certificate
    path.write_bytes(pem(certificate)[:-40])
    with pytest.raises(ConfigError, match=r"b1.pem: is not a certificate"):
        load_certificate(path)


def test_a_certificate_for_a_key_of_another_kind_is_refused(authority: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        key_of(builder.sign(authority.key, algorithm=None))
