"""The room authority: the keys that say who belongs to a room, and the signed statements that they make.

Three keys lie in its folder. One signs roster, deployment policy, successions and continuity records, and lies in no
box. The others are the certificate authority of mutual TLS and the registrar's identity; the registrar has them too
(ADR 7). All can be encrypted with one passphrase. The authority's own book is `room.json`; the roster, the revocation
list, the certificates and the records follow from it, and a step that was cut off is completed by running it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device.errors import ConfigError
from device.messages.continuity import CONTINUITY_BYTES, Continuity, sign_continuity
from device.messages.envelope import KeySigner, digest, is_identifier
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, read_policy, sign_policy
from device.messages.roster import (
    OPENING_KEY_BYTES,
    ROSTER_BYTES,
    Roster,
    RosteredGateway,
    RosteredUnit,
    SealingSuite,
    sign_roster,
)
from device.messages.sealing import X25519
from device.messages.succession import Succession, read_succession, sign_succession
from device.messages.trust_bundle import BUNDLE_BYTES, MAX_SUCCESSIONS, TrustBundle, encode_bundle
from device.system.storage import read, write_durably, write_record
from provisioning import certificates, keys
from provisioning.authority_files import (
    AUTHORITY_KEY,
    CA_CERTIFICATE,
    CA_KEY,
    CERTIFICATES,
    CONTINUITY,
    POLICY_FILE,
    REGISTRAR_KEY,
    REGISTRAR_PUBLIC,
    REVOKED_FILE,
    ROSTER_FILE,
    TRUST_FILE,
    VERIFYING_KEY,
    read_policy_file,
    read_roster_file,
    read_signed,
)
from provisioning.book import BOOK_FILE, Book, Entry, Replacement, locked, read_book
from provisioning.certificates import MEMBER_LIFE, CertificateAuthority, Reads, Role, load_certificate, now_utc

__all__ = [
    "AUTHORITY_KEY",
    "CA_CERTIFICATE",
    "CA_KEY",
    "CERTIFICATES",
    "CONTINUITY",
    "KEY_ID",
    "POLICY_FILE",
    "REGISTRAR_KEY",
    "REGISTRAR_PUBLIC",
    "RENEWED_AFTER",
    "REVOKED_FILE",
    "ROSTER_FILE",
    "TRUST_FILE",
    "VERIFYING_KEY",
    "RoomAuthority",
    "read_policy_file",
    "read_roster_file",
]

KEY_ID: Final = "room-authority"
ROTATED_KEYS: Final = (AUTHORITY_KEY, CA_KEY, REGISTRAR_KEY)
STAGED_SUFFIX: Final = ".next"
REVOCATION_LIST_BYTES: Final = 1_000_000
RENEWED_AFTER: Final = timedelta(days=1)
"""A certificate younger than this is not made again for the same key, so that renewing twice changes nothing."""


class RoomAuthority:
    """One room's authority, opened with its keys. Every change becomes visible by `publish`.

    Each change is made on the book as it stands on the disk, so several programs may have one authority open.
    """

    def __init__(
        self,
        folder: Path,
        book: Book,
        signer: KeySigner,
        ca: CertificateAuthority,
        registrar_key: Ed25519PrivateKey,
        passphrase: bytes | None,
    ) -> None:
        self.folder = folder
        self.ca = ca
        self.registrar_key = registrar_key
        self._book = book
        self._signer = signer
        self._passphrase = passphrase
        self._completed_rotation = False

    @classmethod
    def found(
        cls, folder: Path, room: str, passphrase: bytes | None = None, *, suite: SealingSuite | None = None
    ) -> RoomAuthority:
        """The authority of `room` in that folder; founded first when there is none. Running it twice changes nothing.

        `suite` is how the room's labels are sealed, X25519 unless said otherwise; a room keeps its suite. A rotation
        that was cut off is completed. Raises ConfigError when the folder is another room's, the suite another, the
        passphrase wrong, or a file unusable.
        """
        if not is_identifier(room):
            raise ConfigError(
                f"{room!r} is no room name.", next_step="Use small letters, digits and dashes, at most 32."
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / CERTIFICATES).mkdir(exist_ok=True)
        with locked(folder):
            book = _book_of(folder, room, suite)
            signer = KeySigner(KEY_ID, keys.signing_key(_present(folder, AUTHORITY_KEY, book), passphrase))
            keys.write_verifying_key(folder / VERIFYING_KEY, signer.private_key.public_key())
            ca = _certificate_authority(folder, book, passphrase)
            registrar_key = keys.signing_key(_present(folder, REGISTRAR_KEY, book), passphrase)
            keys.write_verifying_key(folder / REGISTRAR_PUBLIC, registrar_key.public_key())
            made = cls(folder, book, signer, ca, registrar_key, passphrase)
            book.members = [made._completed(entry) for entry in book.members]
            made._save()
            made._complete_rotation()
        return made

    @classmethod
    def open(cls, folder: Path, passphrase: bytes | None = None) -> RoomAuthority:
        """The authority that lies in that folder. Raises ConfigError when there is none."""
        return cls.found(folder, read_book(folder).room, passphrase)

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
        """Everybody that was ever admitted, the units of a line in their turn; revoked ones too."""
        return tuple(read_book(self.folder).members)

    @property
    def verifying_key(self) -> bytes:
        """The room authority's public key, raw, 32 bytes."""
        return self._signer.public_key

    @property
    def registrar_digest(self) -> bytes:
        """What boxes pin: SHA-256 over the registrar's public key (SubjectPublicKeyInfo in DER), 32 bytes."""
        return keys.key_digest(self.registrar_key.public_key())

    def certificate_path(self, name: str) -> Path:
        """Where the authority keeps a member's certificate."""
        return self.folder / CERTIFICATES / f"{name}.pem"

    def admit(
        self,
        name: str,
        role: Role,
        key: Ed25519PublicKey,
        *,
        line: str | None = None,
        desk: str | None = None,
        reads: Reads | None = None,
        opening_key: bytes | None = None,
        hosts: tuple[str, ...] = (),
        life: timedelta = MEMBER_LIFE,
    ) -> Path:
        """Take a member in and return the path of its certificate. The same call again changes nothing, unless the
        certificate is missing or has ended: then there is a new one.

        `desk` names a unit's place for people. `reads` is for consumers; one that says nothing reads all (OPERATOR).
        Raises ConfigError when name, key or desk belongs to somebody else, the name was revoked, or is malformed.
        """
        self._check_opening_key(name, opening_key)
        entry = Entry(
            name=name,
            role=role,
            key=key.public_bytes_raw(),
            line=line,
            opening_key=opening_key,
            desk=desk,
            reads=reads,
        )
        with self._changing():
            known = self._book.known(entry)
            if known is None or not self._is_certified(known):
                self._book.put(self._certify(known or _with_rights(entry), hosts=hosts, life=life))
                self._save()
        return self.certificate_path(name)

    def renew(self, name: str, key: Ed25519PublicKey | None = None, *, life: timedelta = MEMBER_LIFE) -> Path:
        """A new certificate for a member's key, or for a new key in its place; returns the certificate's path.

        For the present key, roster and older certificates stand, and a certificate made within `RENEWED_AFTER` that has
        more than half of its life left is not made again. For a new key the roster changes, and the certificates of the
        old one are revoked. Raises ConfigError for a stranger, a revoked member, a key that is or was somebody's.
        """
        path = self.certificate_path(name)
        with self._changing():
            entry = self._book.living(name)
            raw = entry.key if key is None else key.public_bytes_raw()
            if raw != entry.key:
                entry = self._book.give_up_key(entry, raw)
            elif self._is_certified(entry) and _is_fresh(load_certificate(path)):
                return path
            hosts = certificates.hosts_of(load_certificate(path)) if path.exists() else ()
            self._book.put(self._certify(entry, hosts=hosts, life=life))
            self._save()
        return path

    def move(self, unit: str, *, line: str | None = None, desk: str | None = None) -> None:
        """Put a unit on another line, as its last, or only at another desk; what is None stays.

        The same call again changes nothing. Raises ConfigError for no unit, a revoked one, or a taken desk.
        """
        with self._changing():
            entry = self._book.living(unit, Role.UNIT)
            moved = msgspec.structs.replace(entry, line=line or entry.line, desk=entry.desk if desk is None else desk)
            if moved != entry:
                self._book.check_place(moved)
                self._book.move(entry, moved)
                self._save()

    def replace_unit(
        self, old: str, new: str, key: Ed25519PublicKey, reason: str, *, life: timedelta = MEMBER_LIFE
    ) -> bytes:
        """Revoke unit `old` and put `new` in its place: line, desk and turn. Returns the signed continuity record.

        `new` may have been admitted before, with that key. The same call again changes nothing and returns the same
        record, in which the first reason stands. Raises ConfigError when `old` is no unit or was replaced by another,
        or `new` cannot be admitted.
        """
        raw = key.public_bytes_raw()
        with self._changing():
            standing = self._book.entry(new)
            if standing is not None and standing.replaces is not None:
                _check_same(standing, standing.replaces, old, raw)
                return self._record(standing, standing.replaces)
            leaving = self._book.leaving(old)
            entry = Entry(name=new, role=Role.UNIT, key=raw, line=standing.line if standing else leaving.line)
            entry = self._book.known(entry) or entry
            replacement = Replacement(
                unit=old,
                key=leaving.key,
                line=leaving.line or "",
                desk=leaving.desk or "",
                epoch=self._book.epoch,
                reason=reason,
            )
            entry = msgspec.structs.replace(entry, line=leaving.line, desk=leaving.desk, replaces=replacement)
            _continuity(self.room, entry, replacement)
            self._book.check_place(entry, besides=old)
            if standing is None or not self._is_certified(entry):
                entry = self._certify(entry, life=life)
            self._book.replace(leaving, entry)
            self._save()
            return self._record(entry, replacement)

    def replace_gateway(
        self, name: str, key: Ed25519PublicKey, opening_key: bytes, *, life: timedelta = MEMBER_LIFE
    ) -> Path:
        """Another gateway in the place of the room's; returns the path of its certificate. `name` may stay the same.

        The old one's key and certificates never count again. The same call again changes nothing. Raises ConfigError
        when the room has no gateway, or name or key is or was somebody's.
        """
        self._check_opening_key(name, opening_key)
        raw = key.public_bytes_raw()
        with self._changing():
            gateway = self._book.gateway
            if gateway is None:
                raise ConfigError(f"room {self.room}: has no gateway to replace.", next_step="Admit one.")
            wanted = msgspec.structs.replace(gateway, name=name, opening_key=opening_key)
            if wanted == gateway and raw == gateway.key and self._is_certified(gateway):
                return self.certificate_path(name)
            if name != gateway.name:
                self._book.known(Entry(name=name, role=Role.GATEWAY, key=raw))
            at = self._book.members.index(gateway)
            if raw != gateway.key:
                wanted = msgspec.structs.replace(
                    self._book.give_up_key(gateway, raw), name=name, opening_key=opening_key
                )
            self._book.members[at] = self._certify(wanted, life=life)
            self._save()
        return self.certificate_path(name)

    def learn_certificates(self, issued: Iterable[x509.Certificate]) -> None:
        """Enter certificates that the registrar issued, so that a revocation ends them too.

        Raises ConfigError for one that this room's certificate authority did not sign, or not for a member's key.
        """
        with self._changing():
            for certificate in issued:
                is_ours = certificates.is_issued_by(certificate, self.ca.certificate)
                if not is_ours or not self._book.learn(certificates.key_of(certificate), certificate.serial_number):
                    raise ConfigError(
                        f"Certificate {certificate.serial_number:x}: was not issued to a member of room {self.room}.",
                        next_step="Take the certificates of this room's registrar.",
                    )
            self._save()

    def revoke(self, name: str) -> None:
        """Put a unit or consumer out for good. Raises ConfigError when there is none of that name."""
        with self._changing():
            entry = self._book.entry(name)
            if entry is None or entry.role not in (Role.UNIT, Role.CONSUMER):
                raise ConfigError(
                    f"room {self.room}: {name!r} is no unit or consumer.", next_step="See `moodline-provision show`."
                )
            self._book.put(msgspec.structs.replace(entry, revoked=True))
            self._save()

    def policy(self) -> DeploymentPolicy | None:
        """The signed deployment policy, or None. Raises ConfigError when the file is not one of this room."""
        return read_policy_file(self.folder) if (self.folder / POLICY_FILE).exists() else None

    def standing_policy(self) -> DeploymentPolicy | None:
        """The signed deployment policy; None when there is none, or when it is one that this program does not take."""
        try:
            return self.policy()
        except ConfigError:
            return None

    def set_policy(self, policy: DeploymentPolicy) -> None:
        """Sign and store the deployment policy unless it stands; whatever stood in its place, readable or not, goes.

        Raises ConfigError where the law forbids it.
        """
        with self._changing():
            if self.standing_policy() != policy:
                self._write_policy(policy)

    def publish(self) -> Roster:
        """Sign the roster anew when it has changed, its epoch one higher, and the revocation list when that has.

        Raises ConfigError while there is no policy or no gateway.
        """
        with self._changing():
            standing = read_roster_file(self.folder) if (self.folder / ROSTER_FILE).exists() else None
            return self._publish(standing)

    def successions(self) -> tuple[bytes, ...]:
        """The signed successions of the room authority's keys, oldest first."""
        return tuple(read_book(self.folder).successions)

    def trust_bundle(self) -> bytes:
        """What a box needs to believe the room's state as last published (`device.messages.trust_bundle`).

        Raises ConfigError before the first `publish`, StorageError.
        """
        if not (self.folder / TRUST_FILE).exists():
            raise ConfigError(f"room {self.room}: has no roster yet.", next_step="Publish one first.")
        return read(self.folder / TRUST_FILE, limit=BUNDLE_BYTES)

    def rotate(self, passphrase: bytes | None = None) -> bool:
        """Take a new signing key; the old one signs that the new one follows, and roster and policy are signed anew.

        Boxes that believe the old key follow the succession to the new one, so both count while the bundle spreads. The
        old key's file stays as `room-authority.key.old-N`. With a passphrase, all present keys are encrypted with it.
        A rotation that was cut off is completed, at the latest when the authority is next opened; then the first call
        only says so by False, so that running it again does not rotate twice. Raises ConfigError before `publish`.
        """
        with self._changing():
            if self._completed_rotation:
                self._completed_rotation = False
                return False
            if self.policy() is None or not (self.folder / ROSTER_FILE).exists():
                raise ConfigError(
                    f"room {self.room}: has no roster yet, so no box believes the present key.",
                    next_step="Found the room anew in another folder instead.",
                )
            read_roster_file(self.folder)
            signer = KeySigner(KEY_ID, Ed25519PrivateKey.generate())
            staged = {AUTHORITY_KEY: signer.private_key}
            if passphrase is not None:
                staged |= {CA_KEY: self.ca.key, REGISTRAR_KEY: self.registrar_key}
                self._passphrase = passphrase
            for name, key in staged.items():
                keys.write_signing_key(_staged(self.folder, name), key, self._passphrase)
            succession = Succession(self.room, self._signer.public_key, signer.public_key, self._book.epoch + 1)
            self._book.successions.append(sign_succession(succession, self._signer, signer))
            self._book.rotating = True
            self._save()  # from here on the new key stands
            self._signer = signer
            self._complete_rotation()
            self._completed_rotation = False
            return True

    def _complete_rotation(self) -> None:
        if self._book.rotating:
            self._carry_out_succession()
            self._book.rotating = False
            self._save()
            self._completed_rotation = True
        for name in ROTATED_KEYS:
            _staged(self.folder, name).unlink(missing_ok=True)

    def _carry_out_succession(self) -> None:
        """Put the staged keys in their places and sign anew. Each step may be done twice."""
        kept = self.folder / f"{AUTHORITY_KEY}.old-{len(self._book.successions)}"
        if not kept.exists():
            write_durably(kept, read(self.folder / AUTHORITY_KEY, limit=keys.KEY_FILE_BYTES))
        for name in ROTATED_KEYS:
            staged = _staged(self.folder, name)
            if staged.exists():
                write_durably(self.folder / name, read(staged, limit=keys.KEY_FILE_BYTES))
        keys.write_verifying_key(self.folder / VERIFYING_KEY, self._signer.private_key.public_key())
        succession = read_succession(self._book.successions[-1], room=self.room)
        try:
            standing: Roster | None = read_roster_file(self.folder)
        except ConfigError:  # still the old key's
            standing = None
        old_policy = read_signed(self.folder, POLICY_FILE, POLICY_BYTES, read_policy, either=succession.old_key)
        self._write_policy(old_policy)
        self._publish(standing)

    def _publish(self, standing: Roster | None) -> Roster:
        roster = standing
        if roster is None or roster != self._roster(roster.epoch):
            self._book.epoch += 1
            roster = self._roster(self._book.epoch)
            self._book.members = [
                msgspec.structs.replace(entry, since=entry.since or roster.epoch) for entry in self._book.members
            ]
            self._save()
            write_durably(self.folder / ROSTER_FILE, sign_roster(roster, self._signer), mode=keys.WORLD_READABLE)
        self._publish_revocations()
        for entry in self._book.members:
            if entry.replaces is not None:
                self._record(entry, entry.replaces)
        self._write_bundle()
        return roster

    def _roster(self, epoch: int) -> Roster:
        gateway = self._book.gateway
        policy_path = self.folder / POLICY_FILE
        opening_key = gateway.opening_key if gateway is not None else None
        if gateway is None or opening_key is None or not policy_path.exists():
            raise ConfigError(
                f"room {self.room}: needs exactly one gateway and a deployment policy before it has a roster.",
                next_step="Admit the gateway and sign the policy first.",
            )
        units = [entry for entry in self._book.members if entry.role is Role.UNIT]
        lines = {
            str(line): tuple(
                RosteredUnit(unit.name, unit.key, self._certificate_digest(unit), unit.since or epoch)
                for unit in units
                if unit.line == line
            )
            for line in dict.fromkeys(unit.line for unit in units)
        }
        return Roster(
            room=self.room,
            epoch=epoch,
            lines=lines,
            gateway=RosteredGateway(gateway.name, gateway.key, opening_key, self._certificate_digest(gateway)),
            revoked=frozenset(unit.name for unit in units if unit.revoked),
            policy=digest(read(policy_path, limit=POLICY_BYTES)),
            suite=self.suite,
        )

    def _certificate_digest(self, entry: Entry) -> bytes:
        """The digest of the certificate of ENROLMENT for the member's present key: a renewed certificate for the same
        key changes no roster, because identity is the key and nothing is decided by this digest (ADR 7)."""
        if entry.certificate is None:
            raise ConfigError(
                f"{self.certificate_path(entry.name)}: is missing.", next_step=f"Renew the certificate of {entry.name}."
            )
        return entry.certificate

    def _publish_revocations(self) -> None:
        path = self.folder / REVOKED_FILE
        serials = self._book.dead_serials
        if path.exists():
            standing = x509.load_pem_x509_crl(read(path, limit=REVOCATION_LIST_BYTES))
            if {entry.serial_number for entry in standing} == serials:
                return
        self._book.revocation_lists += 1
        self._save()
        revoked = self.ca.revocation_list(serials, self._book.revocation_lists, now_utc())
        write_durably(path, certificates.pem(revoked), mode=keys.WORLD_READABLE)

    def _write_bundle(self) -> None:
        path = self.folder / TRUST_FILE
        bundle = encode_bundle(
            TrustBundle(
                tuple(self._book.successions[-MAX_SUCCESSIONS:]),
                read(self.folder / ROSTER_FILE, limit=ROSTER_BYTES),
                read(self.folder / POLICY_FILE, limit=POLICY_BYTES),
            )
        )
        if not path.exists() or read(path, limit=BUNDLE_BYTES) != bundle:
            write_durably(path, bundle, mode=keys.WORLD_READABLE)

    def _write_policy(self, policy: DeploymentPolicy) -> None:
        write_durably(self.folder / POLICY_FILE, sign_policy(policy, self._signer), mode=keys.WORLD_READABLE)

    def _record(self, entry: Entry, replacement: Replacement) -> bytes:
        """The continuity record of a unit; signed and stored first when there is none."""
        path = self.folder / CONTINUITY / f"{entry.name}.cose"
        if path.exists():
            return read(path, limit=CONTINUITY_BYTES)
        path.parent.mkdir(exist_ok=True)
        record = sign_continuity(_continuity(self.room, entry, replacement), self._signer)
        write_durably(path, record, mode=keys.WORLD_READABLE)
        return record

    def _certificate(self, entry: Entry) -> x509.Certificate | None:
        """The stored certificate of a member, when it is for the member's present key."""
        path = self.certificate_path(entry.name)
        certificate = load_certificate(path) if path.exists() else None
        return certificate if certificate is not None and certificates.key_of(certificate) == entry.key else None

    def _is_certified(self, entry: Entry) -> bool:
        """Whether the member has a certificate that has not ended."""
        certificate = self._certificate(entry)
        return certificate is not None and now_utc() < certificate.not_valid_after_utc

    def _certify(self, entry: Entry, *, hosts: Iterable[str] = (), life: timedelta) -> Entry:
        """Issue and store a certificate; the entry, which now knows it."""
        key = Ed25519PublicKey.from_public_bytes(entry.key)
        certificate = self.ca.issue(entry.name, entry.role, key, now_utc(), hosts=hosts, life=life)
        write_durably(self.certificate_path(entry.name), certificates.pem(certificate), mode=keys.WORLD_READABLE)
        return _knowing(entry, certificate)

    def _completed(self, entry: Entry) -> Entry:
        """The entry of an older book, or of one whose last step was cut off, with all that is known today."""
        certificate = self._certificate(entry)
        return _with_rights(entry if certificate is None else _knowing(entry, certificate))

    def _check_opening_key(self, name: str, opening_key: bytes | None) -> None:
        if opening_key is not None and len(opening_key) != OPENING_KEY_BYTES[self.suite]:
            raise ConfigError(
                f"{name}: its opening key is not of suite {self.suite:d}, by which the room seals.",
                next_step="Make the gateway's opening key for that suite.",
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self.folder):
            book = read_book(self.folder)
            if book.rotating or len(book.successions) != len(self._book.successions):
                raise ConfigError(
                    f"{self.folder}: the room authority's key was rotated meanwhile.",
                    next_step="Open the authority again.",
                )
            self._book = book
            yield

    def _save(self) -> None:
        write_record(self.folder / BOOK_FILE, self._book)


def _book_of(folder: Path, room: str, suite: SealingSuite | None) -> Book:
    """The folder's book, or a new one. Raises ConfigError when it is another room's or seals by another suite."""
    book = read_book(folder) if (folder / BOOK_FILE).exists() else Book(room=room, suite=suite or X25519)
    if suite not in (None, book.suite):
        raise ConfigError(
            f"{folder}: this room seals by suite {book.suite:d}, and a room keeps its suite.",
            next_step="Found another room, in another folder.",
        )
    if book.room != room:
        raise ConfigError(
            f"{folder}: is the authority of room {book.room}, not of {room}.", next_step="Give another folder."
        )
    return book


def _certificate_authority(folder: Path, book: Book, passphrase: bytes | None) -> CertificateAuthority:
    key = keys.signing_key(_present(folder, CA_KEY, book), passphrase)
    path = folder / CA_CERTIFICATE
    if path.exists():
        return CertificateAuthority(book.room, key, load_certificate(path))
    made = CertificateAuthority.create(book.room, key, now_utc())
    write_durably(path, certificates.pem(made.certificate), mode=keys.WORLD_READABLE)
    return made


def _staged(folder: Path, name: str) -> Path:
    return folder / f"{name}{STAGED_SUFFIX}"


def _present(folder: Path, name: str, book: Book) -> Path:
    """A key's file; its staged one while a rotation waits to be completed."""
    staged = _staged(folder, name)
    return staged if book.rotating and staged.exists() else folder / name


def _is_fresh(certificate: x509.Certificate) -> bool:
    """Whether a certificate was made within `RENEWED_AFTER` and has more than half of its life left."""
    now, ends = now_utc(), certificate.not_valid_after_utc
    made = certificate.not_valid_before_utc + certificates.BACKDATED
    return now - made < RENEWED_AFTER and ends - now > (ends - made) / 2


def _knowing(entry: Entry, certificate: x509.Certificate) -> Entry:
    """The entry with a certificate's serial number; with its digest, too, when it is the first for the key."""
    serial = f"{certificate.serial_number:x}"
    return msgspec.structs.replace(
        entry,
        certificate=entry.certificate or certificates.digest(certificate),
        serials=entry.serials if serial in entry.serials else (*entry.serials, serial),
    )


def _with_rights(entry: Entry) -> Entry:
    """A consumer of which nothing is said reads all, as all did before there were rights."""
    if entry.role is Role.CONSUMER and entry.reads is None:
        return msgspec.structs.replace(entry, reads=Reads.OPERATOR)
    return entry


def _check_same(standing: Entry, found: Replacement, old: str, key: bytes) -> None:
    if (found.unit, standing.key, standing.revoked) != (old, key, False):
        raise ConfigError(
            f"{standing.name}: has replaced {found.unit} before, with another key, or was revoked.",
            next_step="Give the new unit a name that nobody had.",
        )


def _continuity(room: str, entry: Entry, replacement: Replacement) -> Continuity:
    try:
        return Continuity(
            room=room,
            line=replacement.line,
            desk=replacement.desk,
            old_unit=replacement.unit,
            old_key=replacement.key,
            new_unit=entry.name,
            new_key=entry.key,
            epoch=replacement.epoch,
            reason=replacement.reason,
        )
    except ValueError as error:
        raise ConfigError(
            f"{replacement.unit} cannot be replaced by {entry.name}: {error}.",
            next_step="Give a unit with a key of its own, and a reason of one line.",
        ) from error
