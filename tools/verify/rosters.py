"""The rosters by which a log is judged: read, checked against the room authority's key, sorted by epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from device.errors import ConfigError, RemoteMessageError
from device.messages.envelope import check_signature
from device.messages.roster import ROSTER_BYTES, Roster, decode_roster, open_roster
from device.messages.trust_bundle import BUNDLE_BYTES, authority_keys, decode_bundle

_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_KEY_FILE_BYTES: Final = 16_384


@dataclass
class Rosters:
    """One room's rosters by epoch. `authority` is the room authority's raw key, or None: then they are on trust.

    `authority_keys` are all keys that it has had, each with the first epoch that it signs; empty when there was one.
    `from_file` is set when the only rosters are those that the checked file brought along.
    """

    authority: bytes | None = None
    by_epoch: dict[int, Roster] = field(default_factory=dict)
    raw: dict[int, bytes] = field(default_factory=dict)
    from_file: bool = False
    authority_keys: tuple[tuple[int, bytes], ...] = ()

    @property
    def room(self) -> str:
        """The room of all of them; empty without any."""
        return next((roster.room for roster in self.by_epoch.values()), "")

    def add(self, raw: bytes, origin: str) -> None:
        """Take one roster. Raises ConfigError when it is none, of another room, not by the authority, or when another
        one of its epoch is there already."""
        try:
            envelope = open_roster(raw)
            roster = decode_roster(envelope)
        except RemoteMessageError as error:
            raise ConfigError(f"{origin}: is no roster ({error.what})", next_step=_GIVE_ROSTER) from error
        if self.authority is not None:
            try:
                check_signature(envelope, self._key_at(roster.epoch, self.authority), room=roster.room)
            except RemoteMessageError as error:
                raise ConfigError(
                    f"{origin}: the roster of {roster.room}, epoch {roster.epoch}, is not signed by this authority.",
                    next_step="Get roster and authority key from the same room authority, each on its own way.",
                ) from error
        if self.by_epoch and roster.room != self.room:
            raise ConfigError(
                f"{origin}: is a roster of room {roster.room}, the others are of {self.room}.",
                next_step="Give rosters of one room.",
            )
        if self.raw.get(roster.epoch, raw) != raw:
            raise ConfigError(
                f"{origin}: is another roster of epoch {roster.epoch} than one given before.",
                next_step="There is one roster for each epoch: ask the room authority which one it signed.",
            )
        self.by_epoch[roster.epoch], self.raw[roster.epoch] = roster, raw

    def add_embedded(self, embedded: Iterable[bytes], origin: str) -> None:
        """Take what a receipt brings along, where that can be believed: with the authority's key, or when there is
        nothing else (then the file can only be shown to agree with itself)."""
        if self.authority is None and self.by_epoch:
            return
        self.from_file = self.authority is None
        given = set(self.by_epoch)
        for raw in embedded:
            other = Rosters(self.authority, authority_keys=self.authority_keys)
            other.add(raw, origin)
            if given.isdisjoint(other.by_epoch):
                self.add(raw, origin)

    def _key_at(self, epoch: int, only: bytes) -> bytes:
        """The key that signs rosters of that epoch."""
        return next((key for first, key in reversed(self.authority_keys) if first <= epoch), only)


_GIVE_ROSTER: Final = "Give the room's roster.cose, as the room authority published it."


def load_rosters(paths: Iterable[Path], authority: str | None, trust: Path | None = None) -> Rosters:
    """The given rosters. `trust` is a trust bundle, whose successions lead to the authority's other keys.

    Raises ConfigError naming the file.
    """
    rosters = Rosters(None if authority is None else load_authority(authority))
    if trust is not None:
        if rosters.authority is None:
            raise ConfigError(f"{trust}: follows no key.", next_step="Give --authority, too: one key that you believe.")
        rosters.authority_keys = _keys_in(trust, rosters.authority)
    for path in paths:
        rosters.add(read_file(path, ROSTER_BYTES + 1), str(path))
    return rosters


def _keys_in(path: Path, authority: bytes) -> tuple[tuple[int, bytes], ...]:
    try:
        bundle = decode_bundle(read_file(path, BUNDLE_BYTES + 1))
        room = decode_roster(open_roster(bundle.roster)).room
        return authority_keys(bundle, authority, room)
    except RemoteMessageError as error:
        raise ConfigError(
            f"{path}: does not lead from the given authority to its other keys ({error.what})",
            next_step="Give trust.cbor, as this room authority published it, and one of its keys.",
        ) from error


def load_authority(given: str) -> bytes:
    """The room authority's Ed25519 key, 32 bytes, from a PEM file or 64 hexadecimal digits. Raises ConfigError."""
    if _HEX_KEY.fullmatch(given):
        return bytes.fromhex(given)
    try:
        key = load_pem_public_key(read_file(Path(given), _KEY_FILE_BYTES))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{given}: is no public key in PEM form.", next_step=_GIVE_KEY) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{given}: is not an Ed25519 key.", next_step=_GIVE_KEY)
    return key.public_bytes_raw()


_GIVE_KEY: Final = "Give room-authority.pem, or the key as 64 hexadecimal digits."


def read_file(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file. Raises ConfigError naming it."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", next_step="Check the path.") from error
