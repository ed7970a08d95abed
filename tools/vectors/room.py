"""A room with keys made from names: for vectors, benchmarks and tests only, never for a real room."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.messages.envelope import DIGEST_BYTES, KeySigner
from device.messages.roster import Roster, RosteredGateway, RosteredUnit
from device.messages.sealing import Opener

ROOM: Final = "lab"
LINE: Final = "row-1"
OTHER_LINE: Final = "row-2"
OTHER_UNIT: Final = "desk-99"
GATEWAY: Final = "gateway"
AUTHORITY: Final = "room-authority"


def _seed(name: str) -> bytes:
    return hashlib.sha256(f"moodline test key of {name}".encode()).digest()


def signer(name: str) -> KeySigner:
    """The signer of that name; the same key at every call."""
    return KeySigner(name, Ed25519PrivateKey.from_private_bytes(_seed(name)))


def opener() -> Opener:
    """Who opens labels in this room."""
    return Opener(opening_key())


def opening_key() -> X25519PrivateKey:
    """The gateway's private opening key."""
    return X25519PrivateKey.from_private_bytes(_seed("opening"))


def unit_names(count: int) -> tuple[str, ...]:
    """`desk-1`, `desk-2`, …"""
    return tuple(f"desk-{number}" for number in range(1, count + 1))


def roster(count: int = 4, *, epoch: int = 1, revoked: frozenset[str] = frozenset(), room: str = ROOM) -> Roster:
    """A line of `count` units, and a second line of one."""

    def rows(names: tuple[str, ...]) -> tuple[RosteredUnit, ...]:
        return tuple(RosteredUnit(name, signer(name).public_key, bytes(DIGEST_BYTES), 1) for name in names)

    return Roster(
        room=room,
        epoch=epoch,
        lines={LINE: rows(unit_names(count)), OTHER_LINE: rows((OTHER_UNIT,))},
        gateway=RosteredGateway(GATEWAY, signer(GATEWAY).public_key, opener().public_key, bytes(DIGEST_BYTES)),
        revoked=revoked,
        policy=bytes(DIGEST_BYTES),
    )
