"""The room authority: the keys that say who belongs to a room, and the signed statements that they make.

Two keys lie in its folder and in no box: one signs roster and deployment policy, the other is the certificate authority
of mutual TLS. Both can be encrypted with one passphrase. `room.json` is the authority's own book; the roster, the
revocation list and the certificates follow from it, and a step that was cut off is completed by running it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages.envelope import KeySigner, digest, is_identifier
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, read_policy, sign_policy
from device.messages.roster import (
    OPENING_KEY_BYTES,
    ROSTER_BYTES,
    Roster,
    RosteredGateway,
    RosteredUnit,
    SealingSuite,
    read_roster,
    sign_roster,
)
from device.messages.sealing import X25519
from device.messages.topics import RESERVED_LINES
from device.system.keys import load_verifying_key
from device.system.storage import read, read_record, write_durably, write_record
from provisioning import certificates, keys
from provisioning.certificates import CertificateAuthority, Role, now_utc

KEY_ID: Final = "room-authority"
BOOK_FILE: Final = "room.json"
AUTHORITY_KEY: Final = "room-authority.key"
VERIFYING_KEY: Final = "room-authority.pem"
CA_KEY: Final = "certificate-authority.key"
CA_CERTIFICATE: Final = "certificate-authority.pem"
REVOKED_FILE: Final = "revoked.pem"
ROSTER_FILE: Final = "roster.cose"
POLICY_FILE: Final = "policy.cose"


Signed_co = TypeVar("Signed_co", covariant=True)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One member in the authority's book. Keys are raw bytes; `since` is the epoch of enrolment, 0 until published."""

    name: str
    role: Role
    key: bytes
    line: str | None = None
    opening_key: bytes | None = None
    since: int = 0
    revoked: bool = False


class Book(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the authority remembers."""

    room: str
    suite: SealingSuite = X25519
    epoch: int = 0
    revocation_lists: int = 0
    members: list[Entry] = []


class RoomAuthority:
    """One room's authority, opened with its keys. Every change becomes visible by `publish`."""

    def __init__(self, folder: Path, book: Book, signer: KeySigner, ca: CertificateAuthority) -> None:
        self.folder = folder
        self.ca = ca
        self._book = book
        self._signer = signer

    @classmethod
    def found(
        cls, folder: Path, room: str, passphrase: bytes | None = None, *, suite: SealingSuite | None = None
    ) -> RoomAuthority:
        """The authority of `room` in that folder; founded first when there is none. Running it twice changes nothing.

        `suite` is how the room's labels are sealed, X25519 unless said otherwise; a room keeps its suite. Raises
        ConfigError when the folder is another room's, the suite another, the passphrase wrong, or a file unusable.
        """
        if not is_identifier(room):
            raise ConfigError(
                f"{room!r} is no room name.", next_step="Use small letters, digits and dashes, at most 32."
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "certificates").mkdir(exist_ok=True)
        book_path = folder / BOOK_FILE
        book = read_record(book_path, Book) if book_path.exists() else Book(room=room, suite=suite or X25519)
        if suite not in (None, book.suite):
            raise ConfigError(
                f"{folder}: this room seals by suite {book.suite:d}, and a room keeps its suite.",
                next_step="Found another room, in another folder.",
            )
        if book.room != room:
            raise ConfigError(
                f"{folder}: is the authority of room {book.room}, not of {room}.", next_step="Give another folder."
            )
        signer = KeySigner(KEY_ID, keys.signing_key(folder / AUTHORITY_KEY, passphrase))
        keys.write_verifying_key(folder / VERIFYING_KEY, signer.private_key.public_key())
        ca_key = keys.signing_key(folder / CA_KEY, passphrase)
        ca_path = folder / CA_CERTIFICATE
        if ca_path.exists():
            ca = CertificateAuthority(room, ca_key, _load_certificate(ca_path))
        else:
            ca = CertificateAuthority.create(room, ca_key, now_utc())
            write_durably(ca_path, certificates.pem(ca.certificate), mode=keys.WORLD_READABLE)
        write_record(book_path, book)
        return cls(folder, book, signer, ca)

    @classmethod
    def open(cls, folder: Path, passphrase: bytes | None = None) -> RoomAuthority:
        """The authority that lies in that folder. Raises ConfigError when there is none."""
        if not (folder / BOOK_FILE).exists():
            raise ConfigError(f"{folder}: holds no room authority.", next_step="Run: moodline-provision init")
        return cls.found(folder, read_record(folder / BOOK_FILE, Book).room, passphrase)

    @property
    def room(self) -> str:
        """The room's name."""
        return self._book.room

    @property
    def suite(self) -> SealingSuite:
        """How the room's labels are sealed for the gateway."""
        return self._book.suite

    @property
    def members(self) -> tuple[Entry, ...]:
        """Everybody that was ever admitted, in order of admission; revoked ones too."""
        return tuple(self._book.members)

    def certificate_path(self, name: str) -> Path:
        """Where the authority keeps a member's certificate."""
        return self.folder / "certificates" / f"{name}.pem"

    def admit(
        self,
        name: str,
        role: Role,
        key: Ed25519PublicKey,
        *,
        line: str | None = None,
        opening_key: bytes | None = None,
        hosts: tuple[str, ...] = (),
    ) -> Path:
        """Take a member in and return the path of its certificate. The same call again changes nothing.

        Raises ConfigError when the name or the key belongs to somebody else, the name was revoked, or is malformed.
        """
        if opening_key is not None and len(opening_key) != OPENING_KEY_BYTES[self.suite]:
            raise ConfigError(
                f"{name}: its opening key is not of suite {self.suite:d}, by which the room seals.",
                next_step="Make the gateway's opening key for that suite.",
            )
        entry = Entry(
            name=name,
            role=role,
            key=key.public_bytes_raw(),
            line=line,
            opening_key=opening_key,
        )
        known = self._known(entry)
        path = self.certificate_path(name)
        if known is None or not path.exists():
            certificate = self.ca.issue(name, role, key, now_utc(), hosts=hosts)
            write_durably(path, certificates.pem(certificate), mode=keys.WORLD_READABLE)
        if known is None:
            self._book.members.append(entry)
            self._save()
        return path

    def revoke(self, name: str) -> None:
        """Put a unit or consumer out for good. Raises ConfigError when there is none of that name."""
        for index, entry in enumerate(self._book.members):
            if entry.name == name and entry.role in (Role.UNIT, Role.CONSUMER):
                self._book.members[index] = msgspec.structs.replace(entry, revoked=True)
                self._save()
                return
        raise ConfigError(
            f"room {self.room}: {name!r} is no unit or consumer.", next_step="See `moodline-provision show`."
        )

    def policy(self) -> DeploymentPolicy | None:
        """The signed deployment policy, or None. Raises ConfigError when the file is not one of this room."""
        return read_policy_file(self.folder) if (self.folder / POLICY_FILE).exists() else None

    def set_policy(self, policy: DeploymentPolicy) -> None:
        """Sign and store the deployment policy unless it stands. Raises ConfigError where the law forbids it."""
        if self.policy() != policy:
            write_durably(self.folder / POLICY_FILE, sign_policy(policy, self._signer), mode=keys.WORLD_READABLE)

    def publish(self) -> Roster:
        """Sign the roster anew when it has changed, its epoch one higher, and the revocation list when that has.

        Raises ConfigError while there is no policy or no gateway.
        """
        roster = read_roster_file(self.folder) if (self.folder / ROSTER_FILE).exists() else None
        if roster is None or roster != self._roster(roster.epoch):
            self._book.epoch += 1
            roster = self._roster(self._book.epoch)
            self._book.members = [
                msgspec.structs.replace(entry, since=entry.since or roster.epoch) for entry in self._book.members
            ]
            self._save()
            write_durably(self.folder / ROSTER_FILE, sign_roster(roster, self._signer), mode=keys.WORLD_READABLE)
        self._publish_revocations()
        return roster

    def _known(self, entry: Entry) -> Entry | None:
        if not is_identifier(entry.name) or (entry.line is not None and not is_identifier(entry.line)):
            raise ConfigError(
                f"{entry.name!r} on line {entry.line!r}: no proper names.",
                next_step="Use small letters, digits and dashes, at most 32.",
            )
        if (entry.line is None) is (entry.role is Role.UNIT) or entry.line in RESERVED_LINES:
            raise ConfigError(
                f"{entry.name}: {entry.line!r} cannot be its line.",
                next_step=f"Units alone stand on a line, and {', '.join(sorted(RESERVED_LINES))} name none.",
            )
        for known in self._book.members:
            if known.revoked and known.name == entry.name:
                raise ConfigError(f"{entry.name}: was revoked.", next_step="Enrol the box anew under another name.")
            if msgspec.structs.replace(known, since=0) == entry:
                return known
            if known.name == entry.name or known.key == entry.key:
                raise ConfigError(
                    f"{entry.name}: name or key already belongs to {known.name} ({known.role.value}).",
                    next_step="Every member has a name and a key of its own.",
                )
        return None

    def _roster(self, epoch: int) -> Roster:
        gateways = [entry for entry in self._book.members if entry.role is Role.GATEWAY]
        policy_path = self.folder / POLICY_FILE
        opening_key = gateways[0].opening_key if len(gateways) == 1 else None
        if opening_key is None or not policy_path.exists():
            raise ConfigError(
                f"room {self.room}: needs exactly one gateway and a deployment policy before it has a roster.",
                next_step="Admit the gateway and sign the policy first.",
            )
        gateway = gateways[0]
        units = [entry for entry in self._book.members if entry.role is Role.UNIT]
        lines = {
            str(line): tuple(
                RosteredUnit(unit.name, unit.key, self._certificate_digest(unit.name), unit.since or epoch)
                for unit in units
                if unit.line == line
            )
            for line in dict.fromkeys(unit.line for unit in units)
        }
        return Roster(
            room=self.room,
            epoch=epoch,
            lines=lines,
            gateway=RosteredGateway(gateway.name, gateway.key, opening_key, self._certificate_digest(gateway.name)),
            revoked=frozenset(unit.name for unit in units if unit.revoked),
            policy=digest(read(policy_path, limit=POLICY_BYTES)),
            suite=self.suite,
        )

    def _certificate_digest(self, name: str) -> bytes:
        return certificates.digest(_load_certificate(self.certificate_path(name)))

    def _publish_revocations(self) -> None:
        path = self.folder / REVOKED_FILE
        serials = {
            _load_certificate(self.certificate_path(entry.name)).serial_number
            for entry in self._book.members
            if entry.revoked
        }
        if path.exists():
            standing = x509.load_pem_x509_crl(read(path, limit=1_000_000))
            if {entry.serial_number for entry in standing} == serials:
                return
        self._book.revocation_lists += 1
        self._save()
        revoked = self.ca.revocation_list(serials, self._book.revocation_lists, now_utc())
        write_durably(path, certificates.pem(revoked), mode=keys.WORLD_READABLE)

    def _save(self) -> None:
        write_record(self.folder / BOOK_FILE, self._book)


def read_roster_file(folder: Path) -> Roster:
    """The signed roster of an authority's folder, verified; needs no private key. Raises ConfigError."""
    return _read_signed(folder, ROSTER_FILE, ROSTER_BYTES, read_roster)


def read_policy_file(folder: Path) -> DeploymentPolicy:
    """The signed policy of an authority's folder, verified; needs no private key. Raises ConfigError."""
    return _read_signed(folder, POLICY_FILE, POLICY_BYTES, read_policy)


class _Reader(Protocol[Signed_co]):
    def __call__(self, raw: bytes, *, authority_key: bytes, room: str) -> Signed_co: ...


def _read_signed(folder: Path, name: str, limit: int, reader: _Reader[Signed_co]) -> Signed_co:
    authority_key = load_verifying_key(folder / VERIFYING_KEY).public_bytes_raw()
    room = read_record(folder / BOOK_FILE, Book).room
    try:
        return reader(read(folder / name, limit=limit), authority_key=authority_key, room=room)
    except RemoteMessageError as error:
        newer = error.verdict is Verdict.UNKNOWN_VERSION
        next_step = error.next_step if newer else "This authority did not sign it: put the right file back."
        raise ConfigError(f"{folder / name}: {error.what}", next_step=next_step) from error


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read(path, limit=65_536))
    except ValueError as error:
        raise ConfigError(f"{path}: is not a certificate.", next_step="Put back a whole copy.") from error
