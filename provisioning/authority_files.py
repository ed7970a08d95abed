"""The files of a room authority's folder: their names, and how the signed ones are read without a private key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages.continuity import CONTINUITY_BYTES, Continuity, read_continuity
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, read_policy
from device.messages.roster import ROSTER_BYTES, Roster, read_roster
from device.messages.succession import Succession, read_succession
from device.system.keys import load_verifying_key
from device.system.storage import read
from provisioning.book import BOOK_FILE, read_book

AUTHORITY_KEY: Final = "room-authority.key"
VERIFYING_KEY: Final = "room-authority.pem"
REGISTRAR_KEY: Final = "registrar.key"
REGISTRAR_PUBLIC: Final = "registrar.pem"
CA_KEY: Final = "certificate-authority.key"
CA_CERTIFICATE: Final = "certificate-authority.pem"
REVOKED_FILE: Final = "revoked.pem"
ROSTER_FILE: Final = "roster.cose"
POLICY_FILE: Final = "policy.cose"
TRUST_FILE: Final = "trust.cbor"
CERTIFICATES: Final = "certificates"
CONTINUITY: Final = "continuity"

Signed_co = TypeVar("Signed_co", covariant=True)


class Reader(Protocol[Signed_co]):
    """Reads one kind of signed file. Raises RemoteMessageError."""

    def __call__(self, raw: bytes, *, authority_key: bytes, room: str) -> Signed_co:
        """The content, when that key signed it for that room."""
        ...


def read_roster_file(folder: Path) -> Roster:
    """The signed roster of an authority's folder, verified; needs no private key. Raises ConfigError."""
    return read_signed(folder, ROSTER_FILE, ROSTER_BYTES, read_roster)


def read_policy_file(folder: Path) -> DeploymentPolicy:
    """The signed policy of an authority's folder, verified; needs no private key. Raises ConfigError."""
    return read_signed(folder, POLICY_FILE, POLICY_BYTES, read_policy)


def read_succession_records(folder: Path) -> tuple[Succession, ...]:
    """The successions of an authority's folder, oldest first, verified up to its present key. Raises ConfigError."""
    book = read_book(folder)
    present = load_verifying_key(folder / VERIFYING_KEY).public_bytes_raw()
    try:
        chain = tuple(read_succession(raw, room=book.room) for raw in book.successions)
    except RemoteMessageError as error:
        raise ConfigError(f"{folder / BOOK_FILE}: {error.what}", next_step="Put the right file back.") from error
    followed = (*(succession.old_key for succession in chain[1:]), present) if chain else ()
    if tuple(succession.new_key for succession in chain) != followed:
        raise ConfigError(
            f"{folder / BOOK_FILE}: its successions do not lead to the key in {VERIFYING_KEY}.",
            next_step="Put the right file back, or complete a rotation that was cut off: moodline-provision rotate",
        )
    return chain


def read_continuity_records(folder: Path) -> tuple[Continuity, ...]:
    """The continuity records of an authority's folder, verified under the key of their time, in order of epoch.

    Raises ConfigError naming the file.
    """
    room = read_book(folder).room
    present = load_verifying_key(folder / VERIFYING_KEY).public_bytes_raw()
    authority_keys = [present, *(succession.old_key for succession in read_succession_records(folder))]
    records = [_read_record(path, authority_keys, room) for path in sorted((folder / CONTINUITY).glob("*.cose"))]
    return tuple(sorted(records, key=lambda record: record.epoch))


def _read_record(path: Path, authority_keys: Iterable[bytes], room: str) -> Continuity:
    raw = read(path, limit=CONTINUITY_BYTES)
    for key in authority_keys:
        try:
            return read_continuity(raw, authority_key=key, room=room)
        except RemoteMessageError as error:
            found = error
    raise ConfigError(f"{path}: {found.what}", next_step="This authority did not sign it: put the right file back.")


def read_signed(
    folder: Path, name: str, limit: int, reader: Reader[Signed_co], *, either: bytes | None = None
) -> Signed_co:
    """A signed file, under the folder's key, or under the older key `either`."""
    authority_key = load_verifying_key(folder / VERIFYING_KEY).public_bytes_raw()
    room = read_book(folder).room
    raw = read(folder / name, limit=limit)
    try:
        return reader(raw, authority_key=authority_key, room=room)
    except RemoteMessageError as error:
        if either is not None and error.verdict is Verdict.BAD_SIGNATURE:
            return reader(raw, authority_key=either, room=room)
        newer = error.verdict is Verdict.UNKNOWN_VERSION
        next_step = error.next_step if newer else "This authority did not sign it: put the right file back."
        raise ConfigError(f"{folder / name}: {error.what}", next_step=next_step) from error
