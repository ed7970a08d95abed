"""Succession: the room authority's key is followed by a new one, as the old key signed it and the new key agreed.

A box that believes the old key believes the new one after reading this, and no longer the old one. Without it, a new
key would mean a visit to every box.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    ContentType,
    Signer,
    check_signature,
    is_identifier,
    open_envelope,
    seal_envelope,
    signature_holds,
)

#: Largest succession that is read, in bytes.
SUCCESSION_BYTES: Final = 1_024
_POSSESSION_DOMAIN: Final = b"moodline succession v1\0"


@dataclass(frozen=True)
class Succession:
    """`new_key` follows `old_key` (raw Ed25519, 32 bytes each); rosters from `epoch` on are signed by the new one.

    Raises ValueError when the content contradicts itself.
    """

    room: str
    old_key: bytes
    new_key: bytes
    epoch: int

    def __post_init__(self) -> None:
        if not is_identifier(self.room):
            raise ValueError(f"{self.room!r} is no identifier")
        if len(self.old_key) != KEY_BYTES or len(self.new_key) != KEY_BYTES:
            raise ValueError(f"a key has not {KEY_BYTES} bytes")
        if self.old_key == self.new_key:
            raise ValueError("a key cannot follow itself")
        if self.epoch < 1:
            raise ValueError("epochs count from 1")


class _Key(IntEnum):
    ROOM = 1
    OLD_KEY = 2
    NEW_KEY = 3
    EPOCH = 4
    POSSESSION = 5


def sign_succession(succession: Succession, old: Signer, new: Signer) -> bytes:
    """The succession as bytes: signed by the old key, with the new key's signature inside as proof of possession."""
    fields: dict[int, object] = {
        _Key.ROOM: succession.room,
        _Key.OLD_KEY: succession.old_key,
        _Key.NEW_KEY: succession.new_key,
        _Key.EPOCH: succession.epoch,
        _Key.POSSESSION: new.sign(_possession_message(succession)),
    }
    return seal_envelope(ContentType.SUCCESSION, fields, old, room=succession.room)


def read_succession(raw: bytes, *, room: str) -> Succession:
    """A succession of `room`, signed by both keys that it names. Raises RemoteMessageError when it is not one.

    Whether its old key is to be believed is for the caller to know.
    """
    if len(raw) > SUCCESSION_BYTES:
        raise RemoteMessageError(
            Verdict.TOO_LARGE, f"A succession of {len(raw)} bytes; at most {SUCCESSION_BYTES} are read."
        )
    envelope = open_envelope(raw, wanted=ContentType.SUCCESSION)
    fields = envelope.fields(_Key)
    try:
        succession = Succession(
            room=fields.text(_Key.ROOM),
            old_key=fields.octets(_Key.OLD_KEY, KEY_BYTES),
            new_key=fields.octets(_Key.NEW_KEY, KEY_BYTES),
            epoch=fields.unsigned(_Key.EPOCH),
        )
    except ValueError as error:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The succession contradicts itself: {error}.") from error
    possession = fields.octets(_Key.POSSESSION, SIGNATURE_BYTES)
    if succession.room != room:
        raise RemoteMessageError(Verdict.WRONG_ROOM, f"The succession is not of room {room}.", peer=envelope.key_id)
    check_signature(envelope, succession.old_key, room=room)
    if not signature_holds(succession.new_key, possession, _possession_message(succession)):
        raise RemoteMessageError(
            Verdict.BAD_SIGNATURE, "Nobody has shown to hold the succession's new key.", peer=envelope.key_id
        )
    return succession


def _possession_message(succession: Succession) -> bytes:
    """What the new key signs: a domain, and the deterministic CBOR of [room, old key, new key, epoch]."""
    return _POSSESSION_DOMAIN + cbor.encode([succession.room, succession.old_key, succession.new_key, succession.epoch])
