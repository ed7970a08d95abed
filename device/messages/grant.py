"""The grant: the gateway's signed forwarding right, which opens a round and acknowledges what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.messages.cbor import unsigned_items
from device.messages.envelope import DIGEST_BYTES, ContentType, Envelope, Signer, is_identifier, seal_envelope

#: `prev` of the first grant of a line.
NO_PREVIOUS: Final = bytes(DIGEST_BYTES)


@dataclass(frozen=True, order=True)
class Accepted:
    """How far the gateway holds a unit's labels safely.

    `session` is the highest session under which the unit signed an accepted link; every entry up to
    (`entry_session`, `sequence`) is stored, or was reported as a gap. The two sessions differ after a restart, until
    the backlog of the session before it is through.
    """

    session: int
    entry_session: int
    sequence: int

    def covers(self, session: int, sequence: int) -> bool:
        """Whether that entry is acknowledged."""
        return (session, sequence) <= (self.entry_session, self.sequence)


NOTHING_ACCEPTED: Final = Accepted(0, 0, 0)


@dataclass(frozen=True)
class Grant:
    """Opens `round`; `order` names the live units, first one first. `prev` is the digest of the last object that the
    gateway accepted before. `gateway_ms` is its wall time; after `deadline_ms` from receipt nobody appends."""

    room: str
    line: str
    epoch: int
    round: int
    order: tuple[str, ...]
    accepted: Mapping[str, Accepted]
    prev: bytes
    gateway_ms: int
    deadline_ms: int


class _Key(IntEnum):
    ROOM = 1
    LINE = 2
    EPOCH = 3
    ROUND = 4
    ORDER = 5
    ACCEPTED = 6
    PREV = 7
    GATEWAY_MS = 8
    DEADLINE_MS = 9


def sign_grant(grant: Grant, gateway: Signer) -> bytes:
    """The grant as bytes, signed by the gateway."""
    fields: dict[int, object] = {
        _Key.ROOM: grant.room,
        _Key.LINE: grant.line,
        _Key.EPOCH: grant.epoch,
        _Key.ROUND: grant.round,
        _Key.ORDER: list(grant.order),
        _Key.ACCEPTED: {
            unit: [accepted.session, accepted.entry_session, accepted.sequence]
            for unit, accepted in grant.accepted.items()
        },
        _Key.PREV: grant.prev,
        _Key.GATEWAY_MS: grant.gateway_ms,
        _Key.DEADLINE_MS: grant.deadline_ms,
    }
    return seal_envelope(ContentType.GRANT, fields, gateway, room=grant.room, line=grant.line)


def decode_grant(envelope: Envelope) -> Grant:
    """The grant in an envelope; its signature is not looked at. Raises RemoteMessageError NOT_DECODABLE or
    NOT_DETERMINISTIC."""
    fields = envelope.fields(_Key)
    order = fields.texts(_Key.ORDER)
    if len(set(order)) != len(order) or not all(map(is_identifier, order)):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The order names a unit twice, or no unit.")
    return Grant(
        room=fields.text(_Key.ROOM),
        line=fields.text(_Key.LINE),
        epoch=fields.unsigned(_Key.EPOCH),
        round=fields.unsigned(_Key.ROUND),
        order=order,
        accepted={
            unit: Accepted(*unsigned_items(row, 3, _Key.ACCEPTED)) for unit, row in fields.table(_Key.ACCEPTED).items()
        },
        prev=fields.octets(_Key.PREV, DIGEST_BYTES),
        gateway_ms=fields.unsigned(_Key.GATEWAY_MS),
        deadline_ms=fields.unsigned(_Key.DEADLINE_MS),
    )
