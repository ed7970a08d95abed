"""Sealing of labels for the gateway: HPKE (RFC 9180), single shot, base mode, in one of two suites.

`info` binds a sealed label to its place: protocol version, room, line, unit, session and sequence number. Moved to
any other place it does not open.

Suite 2 seals by the hybrid KEM MLKEM768-X25519 of draft-ietf-hpke-pq, which is X-Wing (draft-connolly-cfrg-xwing-kem;
IANA's HPKE KEM 0x647A). Its private key is a seed of 32 bytes, from which SHAKE256 makes the seed of ML-KEM-768 (64
bytes) and the X25519 key (32); its public key is the ML-KEM-768 one (1184 bytes) and the X25519 one (32).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import PROTOCOL_VERSION
from device.messages.label import LABEL_BYTES, Label, decode_label, encode_label
from device.messages.roster import SealingSuite

X25519: Final = SealingSuite.X25519_SHA256_CHACHA20POLY1305
HYBRID: Final = SealingSuite.MLKEM768_X25519_SHA256_CHACHA20POLY1305

#: The library's suite behind each number in the roster.
SUITES: Final = {
    X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
    HYBRID: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
}
#: Bytes that a suite adds: the encapsulated key and the authentication tag.
_OVERHEAD: Final = {X25519: 32 + 16, HYBRID: 1_088 + 32 + 16}
#: Private key of the hybrid KEM, and the first part of its public key.
HYBRID_SEED_BYTES: Final = 32
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1_184


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


def expand_seed(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """The two private keys of suite 2 (X-Wing's expandDecapsulationKey). Raises ConfigError without ML-KEM."""
    assert len(seed) == HYBRID_SEED_BYTES
    expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + 32)
    try:
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
    except UnsupportedAlgorithm as error:
        raise _no_mlkem() from error
    return mlkem, X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])


def _no_mlkem() -> ConfigError:
    return ConfigError(
        f"The room seals by suite {HYBRID:d} (ML-KEM-768 with X25519); the cryptography library of this box has none.",
        next_step="Install `cryptography` as the lock in requirements/ names it, or found the room with suite 1.",
    )


def _public_key(raw: bytes, suite: SealingSuite) -> X25519PublicKey | MLKEM768X25519PublicKey:
    try:
        if suite is X25519:
            return X25519PublicKey.from_public_bytes(raw)
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
        )
    except UnsupportedAlgorithm as error:
        raise _no_mlkem() from error
    except ValueError as error:
        raise ConfigError(
            f"The gateway's opening key on the roster is no key of suite {suite:d}.",
            next_step="Have the room authority publish a roster with the gateway's right opening key.",
        ) from error


class Sealer:
    """Seals labels for one gateway; a unit has one. `opening_key` is the gateway's public key from the roster.

    Raises ConfigError when it is no key of that suite, or the library here lacks the suite.
    """

    def __init__(self, opening_key: bytes, suite: SealingSuite) -> None:
        self._key = _public_key(opening_key, suite)
        self._suite = SUITES[suite]

    def seal(self, label: Label, place: Place) -> bytes:
        """`sealed_bytes` bytes, different at every call."""
        return self._suite.encrypt(encode_label(label), self._key, place.info)


class Opener:
    """Opens labels; only the gateway has one. `key` is the X25519 key of suite 1, or the seed (32 bytes) of suite 2.

    Raises ConfigError when the key is not of the suite, if one is given, or the library here lacks the suite.
    """

    def __init__(self, key: X25519PrivateKey | bytes, suite: SealingSuite | None = None) -> None:
        found = HYBRID if isinstance(key, bytes) else X25519
        if suite is not None and suite is not found:
            raise ConfigError(
                f"The gateway's opening key is of suite {found:d}, the roster asks for suite {suite:d}.",
                next_step="Put the opening key here that the room was founded with, or found the room anew.",
            )
        self._suite = SUITES[found]
        self._key: X25519PrivateKey | MLKEM768X25519PrivateKey
        if isinstance(key, bytes):
            mlkem, x25519 = expand_seed(key)
            self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
            self._public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        else:
            self._key = key
            self._public = key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The opening key as it stands in the roster: 32 bytes, or 1216 of suite 2."""
        return self._public

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
