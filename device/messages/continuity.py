"""Continuity record: one unit took another's place at a desk, as the room authority signed it.

It lets somebody who reads a room's log later say that the labels of two keys belong to one desk, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import (
    KEY_BYTES,
    ContentType,
    Signer,
    check_signature,
    is_identifier,
    open_envelope,
    seal_envelope,
)

#: Largest continuity record that is read, in bytes.
CONTINUITY_BYTES: Final = 4_096
DESK_CHARACTERS: Final = 64
REASON_CHARACTERS: Final = 200


def is_plain_text(text: str, characters: int) -> bool:
    """Whether a text for people is on one line, without control characters, and within its length."""
    return len(text) <= characters and (text == "" or text.isprintable())


@dataclass(frozen=True, kw_only=True)
class Continuity:
    """`new_unit` stands where `old_unit` stood: on `line`, at `desk` (a name for people, may be empty).

    Keys are raw Ed25519 (32 bytes). `epoch` is the room's when it was decided: the old unit speaks under no later one.
    Raises ValueError when the content contradicts itself.
    """

    room: str
    line: str
    desk: str
    old_unit: str
    old_key: bytes
    new_unit: str
    new_key: bytes
    epoch: int
    reason: str

    def __post_init__(self) -> None:
        bad = [name for name in (self.room, self.line, self.old_unit, self.new_unit) if not is_identifier(name)]
        if bad:
            raise ValueError(f"{bad[0]!r} is no identifier")
        if self.old_unit == self.new_unit or self.old_key == self.new_key:
            raise ValueError("old and new unit are the same")
        if len(self.old_key) != KEY_BYTES or len(self.new_key) != KEY_BYTES:
            raise ValueError(f"a key has not {KEY_BYTES} bytes")
        if not is_plain_text(self.desk, DESK_CHARACTERS):
            raise ValueError(f"the desk's name is no line of at most {DESK_CHARACTERS} characters")
        if not self.reason or not is_plain_text(self.reason, REASON_CHARACTERS):
            raise ValueError(f"the reason is no line of 1 to {REASON_CHARACTERS} characters")
        if self.epoch < 0:
            raise ValueError("an epoch is not negative")


class _Key(IntEnum):
    ROOM = 1
    LINE = 2
    DESK = 3
    OLD_UNIT = 4
    OLD_KEY = 5
    NEW_UNIT = 6
    NEW_KEY = 7
    EPOCH = 8
    REASON = 9


def sign_continuity(continuity: Continuity, authority: Signer) -> bytes:
    """The record as bytes, signed by the room authority."""
    fields: dict[int, object] = {
        _Key.ROOM: continuity.room,
        _Key.LINE: continuity.line,
        _Key.DESK: continuity.desk,
        _Key.OLD_UNIT: continuity.old_unit,
        _Key.OLD_KEY: continuity.old_key,
        _Key.NEW_UNIT: continuity.new_unit,
        _Key.NEW_KEY: continuity.new_key,
        _Key.EPOCH: continuity.epoch,
        _Key.REASON: continuity.reason,
    }
    return seal_envelope(ContentType.CONTINUITY, fields, authority, room=continuity.room)


def read_continuity(raw: bytes, *, authority_key: bytes, room: str) -> Continuity:
    """A continuity record of `room`. Raises RemoteMessageError when it is not one, or not signed by that key."""
    if len(raw) > CONTINUITY_BYTES:
        raise RemoteMessageError(
            Verdict.TOO_LARGE, f"A continuity record of {len(raw)} bytes; at most {CONTINUITY_BYTES} are read."
        )
    envelope = open_envelope(raw, wanted=ContentType.CONTINUITY)
    check_signature(envelope, authority_key, room=room)
    fields = envelope.fields(_Key)
    if fields.text(_Key.ROOM) != room:
        raise RemoteMessageError(Verdict.WRONG_ROOM, f"The record is not of room {room}.", peer=envelope.key_id)
    try:
        return Continuity(
            room=room,
            line=fields.text(_Key.LINE),
            desk=fields.text(_Key.DESK),
            old_unit=fields.text(_Key.OLD_UNIT),
            old_key=fields.octets(_Key.OLD_KEY, KEY_BYTES),
            new_unit=fields.text(_Key.NEW_UNIT),
            new_key=fields.octets(_Key.NEW_KEY, KEY_BYTES),
            epoch=fields.unsigned(_Key.EPOCH),
            reason=fields.text(_Key.REASON),
        )
    except ValueError as error:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The record contradicts itself: {error}.") from error
