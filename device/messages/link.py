"""The link: one unit's contribution to a round, and its signature over everything before it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import DIGEST_BYTES, ContentType, Envelope, Signer, seal_envelope


@dataclass(frozen=True)
class Entry:
    """A sealed label. (unit, session, sequence) names it for ever; sequence numbers count from 1 in each session."""

    session: int
    sequence: int
    sealed: bytes


class LinkFlag(IntFlag):
    """What the whole line may know about a unit. Muting and opting out are not among it.

    SESSION_KNOWN: the grant of this round names the link's session as the unit's newest. Such a grant was made after
    the session began, so nobody can have replayed it from before; ADR 5 says what that is good for.
    """

    NONE = 0
    MORE_BACKLOG = 1
    SESSION_KNOWN = 2


_ALL_FLAGS: Final = LinkFlag.MORE_BACKLOG | LinkFlag.SESSION_KNOWN


@dataclass(frozen=True)
class Link:
    """`prev` is the digest of the signed object (grant or link) that this link continues."""

    room: str
    line: str
    epoch: int
    round: int
    unit: str
    session: int
    entries: tuple[Entry, ...]
    prev: bytes
    flags: LinkFlag = LinkFlag.NONE


class _Key(IntEnum):
    ROOM = 1
    LINE = 2
    EPOCH = 3
    ROUND = 4
    UNIT = 5
    SESSION = 6
    ENTRIES = 7
    PREV = 8
    FLAGS = 9


def sign_link(link: Link, unit: Signer) -> bytes:
    """The link as bytes, signed by its unit."""
    fields: dict[int, object] = {
        _Key.ROOM: link.room,
        _Key.LINE: link.line,
        _Key.EPOCH: link.epoch,
        _Key.ROUND: link.round,
        _Key.UNIT: link.unit,
        _Key.SESSION: link.session,
        _Key.ENTRIES: [[entry.session, entry.sequence, entry.sealed] for entry in link.entries],
        _Key.PREV: link.prev,
        _Key.FLAGS: int(link.flags),
    }
    return seal_envelope(ContentType.LINK, fields, unit, room=link.room, line=link.line)


def decode_link(envelope: Envelope) -> Link:
    """The link in an envelope; its signature is not looked at. Raises RemoteMessageError NOT_DECODABLE or
    NOT_DETERMINISTIC."""
    fields = envelope.fields(_Key)
    flags = fields.unsigned(_Key.FLAGS)
    if flags > _ALL_FLAGS:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "A flag is unknown here.")
    return Link(
        room=fields.text(_Key.ROOM),
        line=fields.text(_Key.LINE),
        epoch=fields.unsigned(_Key.EPOCH),
        round=fields.unsigned(_Key.ROUND),
        unit=fields.text(_Key.UNIT),
        session=fields.unsigned(_Key.SESSION),
        entries=tuple(_entry(row) for row in fields.array(_Key.ENTRIES)),
        prev=fields.octets(_Key.PREV, DIGEST_BYTES),
        flags=LinkFlag(flags),
    )


def _entry(row: object) -> Entry:
    match row:
        case [int(session), int(sequence), bytes(sealed)] if 0 < session < 2**63 and 0 < sequence < 2**63:
            return Entry(session, sequence, sealed)
    raise RemoteMessageError(Verdict.NOT_DECODABLE, "An entry is not session, sequence number and sealed label.")
