"""The registrar at work: takes a request, steps the machine on the book, makes the book durable, and only then answers.

The book is one file that this program and an operator's commands change in turn, each on what then stands there, under
a lock on the folder. Everything else in the registrar's folder is public or the registrar's own key.
"""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device.clock import Clock
from device.config import CONFIG_BYTES, Identifier, Name, Port, PositiveInt, Section
from device.errors import ConfigError, RemoteMessageError, StorageError
from device.messages.roster import Roster
from device.messages.trust_bundle import BUNDLE_BYTES, decode_bundle, verify_bundle
from device.system.keys import load_signing_key, load_verifying_key
from device.system.storage import Disk, read, read_record, write_durably, write_record
from provisioning import certificates, keys
from provisioning.authority import CA_CERTIFICATE, CA_KEY, REGISTRAR_KEY, RENEWED_AFTER, TRUST_FILE, VERIFYING_KEY
from provisioning.certificates import CERTIFICATE_BYTES, CertificateAuthority, Role
from provisioning.claims import Admit, ClaimLimits, Claims, ClaimsBook, Seat, Step, Wait
from provisioning.door import Challenges, RateGate, check_renewal
from provisioning.enrolment_messages import (
    Challenge,
    ClaimOpened,
    Commitment,
    Enrolled,
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalRequest,
    Renewed,
    decode,
)
from provisioning.office import Office
from provisioning.publication import OWNERS_DISK, Places, hand_over, is_due
from provisioning.refusals import Refusal, RefusalError

LOG: Final = logging.getLogger(__name__)
SETTINGS_FILE: Final = "registrar.toml"
CLAIMS_FILE: Final = "claims.json"
ISSUED: Final = "issued"
NONCE_BYTES: Final = 16
CLAIM_BYTES: Final = 16


class RegistrarSettings(Section, frozen=True, kw_only=True):
    """registrar.toml. An empty `broker_host` is the address under which the box reached the registrar.

    `gateway` and `broker` are the folders of the gateway program and of mosquitto, where the registrar may write to
    them; mosquitto is told to reload by its service, or by the process id in a file.
    """

    room: Identifier
    broker_host: Annotated[str, msgspec.Meta(max_length=64)] = ""
    broker_port: Port = 8_883
    broker_name: Name = "broker"
    certificate_days: PositiveInt = 730
    gateway: Path | None = None
    broker: Path | None = None
    broker_service: Name | None = None
    broker_pid_file: Path | None = None


def load_settings(folder: Path) -> RegistrarSettings:
    """registrar.toml of that folder. Raises ConfigError naming the entry."""
    path = folder / SETTINGS_FILE

    def decode_path(wanted: type, value: object) -> object:
        if wanted is Path and isinstance(value, str):
            return folder.absolute() / value
        raise TypeError(f"expected {wanted.__name__}, got {type(value).__name__}")

    try:
        return msgspec.toml.decode(read(path, limit=CONFIG_BYTES), type=RegistrarSettings, dec_hook=decode_path)
    except StorageError as error:
        raise ConfigError(
            f"{folder}: holds no registrar.", next_step="Set up the gateway from the room authority first."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {str(error).rstrip('.')}.", next_step="Correct that entry.") from error


@dataclass(frozen=True)
class _Trust:
    roster: Roster
    bundle: bytes


class RegistrarFolder:
    """What lies in the registrar's folder. Raises ConfigError when a key is missing, open to others or no key."""

    def __init__(self, folder: Path, *, disk: Disk = OWNERS_DISK, limits: ClaimLimits | None = None) -> None:
        self.folder = folder
        self.settings = load_settings(folder)
        self.key: Ed25519PrivateKey = load_signing_key(folder / REGISTRAR_KEY)
        self.digest = keys.key_digest(self.key.public_key())
        self.limits = limits or ClaimLimits()
        self._disk = disk
        self._trust: tuple[tuple[int, int], _Trust] | None = None

    @property
    def places(self) -> Places:
        """Where a publication goes."""
        return Places(self.folder, self.settings.gateway, self.settings.broker)

    def certificate_authority(self) -> CertificateAuthority:
        """The room's certificate authority, as it stands now. Raises ConfigError."""
        key = load_signing_key(self.folder / CA_KEY)
        certificate = certificates.load_certificate(self.folder / CA_CERTIFICATE)
        if certificates.key_of(certificate) != key.public_key().public_bytes_raw():
            raise ConfigError(
                f"{self.folder / CA_CERTIFICATE}: is not the certificate of {CA_KEY}.",
                next_step="Set up the gateway again from the room authority.",
            )
        return CertificateAuthority(self.settings.room, key, certificate)

    def trust(self) -> _Trust:
        """Bundle and roster as last published, verified. Raises ConfigError, StorageError."""
        path = self.folder / TRUST_FILE
        try:
            found = path.stat()
        except OSError as error:
            raise ConfigError(f"{path}: is missing.", next_step="Publish the room's roster first.") from error
        stamp = (found.st_mtime_ns, found.st_ino)
        if self._trust is None or self._trust[0] != stamp:
            bundle = read(path, limit=BUNDLE_BYTES)
            believed = load_verifying_key(self.folder / VERIFYING_KEY).public_bytes_raw()
            try:
                roster = verify_bundle(decode_bundle(bundle), believed, self.settings.room).roster
            except RemoteMessageError as error:
                raise ConfigError(f"{path}: {error.what}", next_step="Publish the room's roster again.") from error
            self._trust = (stamp, _Trust(roster, bundle))
        return self._trust[1]

    @contextmanager
    def claims(self) -> Iterator[Claims]:
        """The machine on the book as it stands; what it changed is durable when this ends without an exception.

        Raises ConfigError, StorageError.
        """
        with self.locked():
            path = self.folder / CLAIMS_FILE
            book = read_record(path, ClaimsBook) if path.exists() else ClaimsBook()
            before = msgspec.json.encode(book)
            yield Claims(book, registrar=self.digest, roster=self.trust().roster, limits=self.limits)
            if msgspec.json.encode(book) != before:
                write_record(path, book, disk=self._disk)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change of the folder at a time, among all threads and programs. Raises StorageError."""
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be opened ({error.strerror}).", next_step="Check the folder."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def issue(self, unit: str, key: bytes, now: datetime) -> tuple[x509.Certificate, x509.Certificate]:
        """A certificate for a rostered key, and its authority's; a fresh one serves again.

        Every one is kept in `issued/`, so that the room authority can revoke it. Raises ConfigError, StorageError.
        """
        ca = self.certificate_authority()
        if now < ca.certificate.not_valid_before_utc:
            raise ConfigError(
                f"This machine's clock says {now:%Y-%m-%d}, which is before the room was founded.",
                next_step="Set the gateway's time (timedatectl, or let it reach an NTP server).",
            )
        with self.locked():
            if not (self.folder / ISSUED).exists():
                (self.folder / ISSUED).mkdir(mode=0o700)
                hand_over(self.folder / ISSUED)
            for path, certificate in self._issued(unit):
                if certificate.not_valid_after_utc <= now:
                    path.unlink()
                    continue
                is_same = certificates.key_of(certificate) == key and certificates.is_issued_by(
                    certificate, ca.certificate
                )
                begins, ends = (
                    certificate.not_valid_before_utc + certificates.BACKDATED,
                    certificate.not_valid_after_utc,
                )
                if is_same and begins <= now < min(begins + RENEWED_AFTER, begins + (ends - begins) / 2):
                    return certificate, ca.certificate
            made = ca.issue(
                unit,
                Role.UNIT,
                Ed25519PublicKey.from_public_bytes(key),
                now,
                life=timedelta(days=self.settings.certificate_days),
            )
            path = self.folder / ISSUED / f"{unit}.{made.serial_number:x}.pem"
            write_durably(path, certificates.pem(made), mode=keys.WORLD_READABLE, disk=self._disk)
        return made, ca.certificate

    def all_issued(self) -> list[x509.Certificate]:
        """Every certificate that the registrar has issued and that was not over when its unit had the next.

        Raises ConfigError, StorageError.
        """
        return [certificates.load_certificate(path) for path in sorted((self.folder / ISSUED).glob("*.pem"))]

    def _issued(self, unit: str) -> list[tuple[Path, x509.Certificate]]:
        paths = sorted((self.folder / ISSUED).glob(f"{unit}.*.pem"))
        return [(path, certificates.load_certificate(path)) for path in paths]

    def public_text(self, name: str) -> str:
        """A public PEM file's text. Raises StorageError."""
        return read(self.folder / name, limit=CERTIFICATE_BYTES).decode()


class Registration:
    """Answers what boxes ask. `address` is the asker's, `reached` our own address under which it reached us.

    `office` is None while the room authority is closed. Every method raises RefusalError for the box's fault, and
    ConfigError or StorageError for ours.
    """

    def __init__(
        self,
        folder: RegistrarFolder,
        clock: Clock,
        office: Office | None = None,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._office = office
        self._random = random
        self._gate = RateGate(folder.limits, clock.monotonic())
        self._challenges = Challenges(folder.limits)

    def enter(self, address: str) -> None:
        """Count a request. Raises RefusalError TOO_MANY."""
        self._gate.enter(address, self._clock.monotonic())

    def announce(self, body: bytes, *, address: str) -> ClaimOpened:
        """POST /v1/claims."""
        commitment = decode(body, Commitment).commitment
        name = base64.b32encode(self._random(CLAIM_BYTES)).decode().rstrip("=").lower()
        with self.folder.claims() as claims:
            return claims.announce(
                commitment,
                claim=name,
                nonce=self._random(NONCE_BYTES),
                address=address,
                wall_ms=self._clock.wall_ms(),
            )

    def reveal(self, claim: str, body: bytes, *, reached: str) -> EnrolmentAnswer:
        """POST /v1/claims/{claim}."""
        request = decode(body, EnrolmentRequest)
        with self.folder.claims() as claims:
            step = claims.reveal(claim, request, wall_ms=self._clock.wall_ms())
        return self._answer(step, reached)

    def enrol(self, body: bytes, *, reached: str) -> EnrolmentAnswer:
        """POST /v1/enrol."""
        request = decode(body, EnrolmentRequest)
        with self.folder.claims() as claims:
            step = claims.enrol(request, wall_ms=self._clock.wall_ms())
        return self._answer(step, reached)

    def challenge(self) -> Challenge:
        """POST /v1/challenge."""
        made = self._random(NONCE_BYTES)
        self._challenges.give(made, self._clock.monotonic())
        return Challenge(challenge=made)

    def renew(self, body: bytes) -> Renewed:
        """POST /v1/renew."""
        request = decode(body, RenewalRequest)
        roster = self.folder.trust().roster
        key = check_renewal(request, registrar=self.folder.digest, roster=roster)
        self._challenges.take(request.challenge, self._clock.monotonic())
        if any(unit.key == key for units in roster.lines.values() for unit in units):
            certificate, authority = self.folder.issue(request.unit, key, self._now())
            text, authority_text = certificates.pem(certificate).decode(), certificates.pem(authority).decode()
        else:
            if self._office is None:
                raise RefusalError(Refusal.AUTHORITY_CLOSED)
            text = self._office.rekey(request.unit, key)
            authority_text = self.folder.public_text(CA_CERTIFICATE)
        if request.new_key is not None:
            with self.folder.claims() as claims:
                claims.rekeyed(request.unit, key, text)
        LOG.info("%s has a new certificate", request.unit)
        return Renewed(certificate=text, certificate_authority=authority_text, wall_ms=self._clock.wall_ms())

    def trust(self) -> bytes:
        """GET /v1/trust."""
        return self.folder.trust().bundle

    def check(self) -> None:
        """Raises ConfigError or StorageError when boxes cannot be answered."""
        self.folder.trust()
        self.folder.certificate_authority()

    def _answer(self, step: Step, reached: str) -> EnrolmentAnswer:
        if isinstance(step, Wait):
            return EnrolmentAnswer(state="waiting", code=step.code, waiting="operator")
        seat = step.seat
        if isinstance(step, Admit):
            if self._office is None:
                return EnrolmentAnswer(state="waiting", code=step.code, waiting="authority")
            seat = admit(self.folder, self._office, seat)
        return EnrolmentAnswer(state="enrolled", code=step.code, enrolled=self._enrolled(seat, reached))

    def _enrolled(self, seat: Seat, reached: str) -> Enrolled:
        trust, settings = self.folder.trust(), self.folder.settings
        certificate = seat.certificate
        if not self._serves(certificate):
            assert seat.key is not None
            certificate = certificates.pem(self.folder.issue(seat.unit, seat.key, self._now())[0]).decode()
        return Enrolled(
            room=settings.room,
            line=trust.roster.line_of(seat.unit) or seat.line,
            unit=seat.unit,
            desk=seat.desk,
            broker_host=settings.broker_host or reached,
            broker_port=settings.broker_port,
            broker_name=settings.broker_name,
            certificate=certificate,
            certificate_authority=self.folder.public_text(CA_CERTIFICATE),
            room_authority=self.folder.public_text(VERIFYING_KEY),
            trust=trust.bundle,
            wall_ms=self._clock.wall_ms(),
        )

    def _serves(self, certificate: str) -> bool:
        """Whether a box can still begin with it: it is not due for renewal, and by the present authority."""
        if not certificate:
            return False
        found = x509.load_pem_x509_certificate(certificate.encode())
        ca = self.folder.certificate_authority()
        return not is_due(found, self._now()) and certificates.is_issued_by(found, ca.certificate)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ms() // 1_000, UTC)


def admit(folder: RegistrarFolder, office: Office, seat: Seat) -> Seat:
    """Have the room authority admit a bound seat, and enter it; doing it again changes nothing. Raises as `Office`."""
    assert seat.key is not None
    certificate = office.admit(seat)
    with folder.claims() as claims:
        admitted = claims.admitted(seat.unit, seat.key, certificate)
    LOG.info("%s is admitted: line %s, %s", seat.unit, seat.line, seat.desk)
    return admitted
