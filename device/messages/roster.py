"""The roster: which units, lines and gateway belong to a room, as the room authority signed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import (
    DIGEST_BYTES,
    KEY_BYTES,
    ContentType,
    Envelope,
    Signer,
    check_signature,
    is_identifier,
    open_envelope,
    seal_envelope,
)
from device.messages.topics import RESERVED_LINES

#: Largest roster that is read, in bytes.
ROSTER_BYTES: Final = 1 << 20


class SealingSuite(IntEnum):
    """How entries are sealed for the gateway; the number stands in the roster.

    Both are HPKE in base mode with HKDF-SHA256 and ChaCha20-Poly1305. They differ in the KEM: DHKEM(X25519) of RFC 9180
    (0x0020), or the hybrid of ML-KEM-768 and X25519 (0x647A), which holds as long as one of its two halves holds.
    """

    X25519_SHA256_CHACHA20POLY1305 = 1
    MLKEM768_X25519_SHA256_CHACHA20POLY1305 = 2


#: Size of the gateway's public opening key in each suite.
OPENING_KEY_BYTES: Final[Mapping[SealingSuite, int]] = {
    SealingSuite.X25519_SHA256_CHACHA20POLY1305: 32,
    SealingSuite.MLKEM768_X25519_SHA256_CHACHA20POLY1305: 1_184 + 32,
}


@dataclass(frozen=True)
class RosteredUnit:
    """One unit of a line. `key` is its Ed25519 key (32 bytes), `certificate` the SHA-256 of its DER certificate,
    `since` the epoch in which it was enrolled."""

    unit: str
    key: bytes
    certificate: bytes
    since: int


@dataclass(frozen=True)
class RosteredGateway:
    """The room's gateway: Ed25519 signing key (32 bytes), HPKE opening key (`OPENING_KEY_BYTES` of the roster's suite)
    and the certificate's SHA-256."""

    gateway: str
    key: bytes
    opening_key: bytes
    certificate: bytes


@dataclass(frozen=True)
class Roster:
    """`lines` maps a line to its units in desk order; a revoked unit stays listed and is named in `revoked`.

    `epoch` rises by one with every change. `policy` is the SHA-256 of the signed deployment policy in force.
    Raises ValueError when the content contradicts itself.
    """

    room: str
    epoch: int
    lines: Mapping[str, tuple[RosteredUnit, ...]]
    gateway: RosteredGateway
    revoked: frozenset[str]
    policy: bytes
    suite: SealingSuite = SealingSuite.X25519_SHA256_CHACHA20POLY1305

    def __post_init__(self) -> None:
        names = [self.gateway.gateway, *(unit.unit for units in self.lines.values() for unit in units)]
        bad = [name for name in (self.room, *self.lines, *names) if not is_identifier(name)]
        if bad:
            raise ValueError(f"{bad[0]!r} is no identifier")
        taken = RESERVED_LINES & set(self.lines)
        if taken:
            raise ValueError(f"no line may be named {min(taken)!r}: topics of the room begin so")
        if len(set(names)) != len(names):
            raise ValueError("a unit or gateway name stands twice")
        keys = {self.gateway.key, *(unit.key for units in self.lines.values() for unit in units)}
        if len(keys) != len(names):
            raise ValueError("two parties have the same key")
        if not self.revoked <= set(names):
            raise ValueError("a revoked unit is not listed")
        if self.epoch < 1:
            raise ValueError("epochs count from 1")
        wanted, found = OPENING_KEY_BYTES[self.suite], len(self.gateway.opening_key)
        if found != wanted:
            raise ValueError(f"the opening key has {found} bytes, suite {self.suite} takes {wanted}")

    def units_of(self, line: str) -> tuple[RosteredUnit, ...]:
        """The units of a line that may speak, in desk order; empty for an unknown line."""
        return tuple(unit for unit in self.lines.get(line, ()) if unit.unit not in self.revoked)

    def line_of(self, unit: str) -> str | None:
        """The line a unit stands in, revoked or not."""
        return next((line for line, units in self.lines.items() if any(u.unit == unit for u in units)), None)


class _Key(IntEnum):
    ROOM = 1
    EPOCH = 2
    LINES = 3
    GATEWAY = 4
    REVOKED = 5
    POLICY = 6
    SUITE = 7


def sign_roster(roster: Roster, authority: Signer) -> bytes:
    """The roster as bytes, signed by the room authority."""
    gateway = roster.gateway
    fields: dict[int, object] = {
        _Key.ROOM: roster.room,
        _Key.EPOCH: roster.epoch,
        _Key.LINES: {
            line: [[unit.unit, unit.key, unit.certificate, unit.since] for unit in units]
            for line, units in roster.lines.items()
        },
        _Key.GATEWAY: [gateway.gateway, gateway.key, gateway.opening_key, gateway.certificate],
        _Key.REVOKED: sorted(roster.revoked),
        _Key.POLICY: roster.policy,
        _Key.SUITE: int(roster.suite),
    }
    return seal_envelope(ContentType.ROSTER, fields, authority, room=roster.room)


def read_roster(raw: bytes, *, authority_key: bytes, room: str) -> Roster:
    """The roster of `room`. Raises RemoteMessageError when it is not one, or not signed by the authority's key.

    A suite that this program does not know is UNKNOWN_VERSION: a newer program made the roster.
    """
    envelope = open_roster(raw)
    check_signature(envelope, authority_key, room=room)
    if envelope.fields(_Key).text(_Key.ROOM) != room:
        raise RemoteMessageError(Verdict.WRONG_ROOM, f"The roster is not of room {room}.", peer=envelope.key_id)
    return decode_roster(envelope)


def open_roster(raw: bytes) -> Envelope:
    """The envelope of a roster; nothing is trusted yet. Raises RemoteMessageError."""
    if len(raw) > ROSTER_BYTES:
        raise RemoteMessageError(Verdict.TOO_LARGE, f"A roster of {len(raw)} bytes; at most {ROSTER_BYTES} are read.")
    return open_envelope(raw, wanted=ContentType.ROSTER)


def decode_roster(envelope: Envelope) -> Roster:
    """The roster in an envelope; its signature is not looked at. Raises RemoteMessageError NOT_DECODABLE or
    NOT_DETERMINISTIC."""
    fields = envelope.fields(_Key)
    try:
        return Roster(
            room=fields.text(_Key.ROOM),
            epoch=fields.unsigned(_Key.EPOCH),
            lines={line: tuple(map(_unit, units)) for line, units in fields.table(_Key.LINES).items()},
            gateway=_gateway(fields.array(_Key.GATEWAY)),
            revoked=_revoked(fields.texts(_Key.REVOKED)),
            policy=fields.octets(_Key.POLICY, DIGEST_BYTES),
            suite=_suite(fields.unsigned(_Key.SUITE)),
        )
    except ValueError as error:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The roster contradicts itself: {error}.") from error


def _suite(number: int) -> SealingSuite:
    if number not in set(SealingSuite):
        known = ", ".join(f"{suite:d}" for suite in SealingSuite)
        raise RemoteMessageError(
            Verdict.UNKNOWN_VERSION, f"The roster asks for sealing suite {number}; this program has {known}."
        )
    return SealingSuite(number)


def _revoked(names: tuple[str, ...]) -> frozenset[str]:
    """Each name once, in ascending order: so that a roster has one encoding."""
    if list(names) != sorted(set(names)):
        raise ValueError("the revoked units are not sorted, or one stands twice")
    return frozenset(names)


def _unit(row: object) -> RosteredUnit:
    match row:
        case [str(unit), bytes(key), bytes(certificate), int(since)] if (
            len(key) == KEY_BYTES and len(certificate) == DIGEST_BYTES and since > 0
        ):
            return RosteredUnit(unit, key, certificate, since)
    raise ValueError("a unit's row is malformed")


def _gateway(row: list[object]) -> RosteredGateway:
    match row:
        case [str(gateway), bytes(key), bytes(opening_key), bytes(certificate)] if (
            len(key) == KEY_BYTES and len(certificate) == DIGEST_BYTES
        ):
            return RosteredGateway(gateway, key, opening_key, certificate)
    raise ValueError("the gateway's row is malformed")
