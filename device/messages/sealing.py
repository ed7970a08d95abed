"""Sealing of labels for the gateway: HPKE (RFC 9180), single shot, base mode.

`info` binds a sealed label to its place: protocol version, room, line, unit, session and sequence number. Moved to
any other place it does not open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import PROTOCOL_VERSION
from device.messages.label import LABEL_BYTES, Label, decode_label, encode_label
from device.messages.roster import SealingSuite

#: The library's suite behind each number in the roster.
SUITES: Final = {
    SealingSuite.X25519_SHA256_CHACHA20POLY1305: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
}
#: Bytes that a suite adds: the encapsulated key and the authentication tag.
_OVERHEAD: Final = {SealingSuite.X25519_SHA256_CHACHA20POLY1305: 32 + 16}


@dataclass(frozen=True)
class Place:
    """Where a label belongs, once and for ever."""

    room: str
    line: str
    unit: str
    session: int
    sequence: int

    @property
    def info(self) -> bytes:
        """The HPKE `info` of this place: deterministic CBOR, so no two places share one."""
        return cbor.encode(
            ["moodline label", PROTOCOL_VERSION, self.room, self.line, self.unit, self.session, self.sequence]
        )


def sealed_bytes(suite: SealingSuite) -> int:
    """Size of every sealed label."""
    return LABEL_BYTES + _OVERHEAD[suite]


class Sealer:
    """Seals labels for one gateway; a unit has one. `opening_key` is the gateway's public key from the roster."""

    def __init__(self, opening_key: bytes, suite: SealingSuite) -> None:
        self._key = X25519PublicKey.from_public_bytes(opening_key)
        self._suite = SUITES[suite]

    def seal(self, label: Label, place: Place) -> bytes:
        """`sealed_bytes` bytes, different at every call."""
        return self._suite.encrypt(encode_label(label), self._key, place.info)


class Opener:
    """Opens labels; only the gateway has one."""

    def __init__(
        self, key: X25519PrivateKey, suite: SealingSuite = SealingSuite.X25519_SHA256_CHACHA20POLY1305
    ) -> None:
        self._key = key
        self._suite = SUITES[suite]

    @property
    def public_key(self) -> bytes:
        """The opening key as it stands in the roster, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, place: Place) -> Label:
        """The label sealed for that place. Raises RemoteMessageError NOT_OPENABLE or BAD_LABEL."""
        try:
            plaintext = self._suite.decrypt(sealed, self._key, place.info)
        except (InvalidTag, ValueError) as error:
            raise RemoteMessageError(
                Verdict.NOT_OPENABLE,
                f"Entry {place.session}/{place.sequence} of {place.unit} does not open.",
                peer=place.unit,
            ) from error
        return decode_label(plaintext)
