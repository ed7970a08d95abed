"""Tagged COSE_Sign1 (RFC 9052) with EdDSA over Ed25519: the form of every signed object of a room.

Protected headers: alg (EdDSA), content type, kid (who signs: unit, gateway or room authority) and the protocol
version. Unprotected headers: none. `external_aad` is the deterministic CBOR of [room, line], so that a signature made
for one line says nothing on another; objects of a whole room leave the line empty. The payload is a CBOR map with
integer keys. Everything is checked over the received bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, Protocol

from cbor2 import CBORTag
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor

PROTOCOL_VERSION: Final = 1
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
DIGEST_BYTES: Final = 32

_COSE_SIGN1_TAG: Final = 18
_TAG_BYTE: Final = 0xC0 | _COSE_SIGN1_TAG
_EDDSA: Final = -8
_IDENTIFIER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class ContentType(StrEnum):
    """What a signed object is."""

    ROSTER = "application/moodline-roster+cbor"
    POLICY = "application/moodline-policy+cbor"
    GRANT = "application/moodline-grant+cbor"
    LINK = "application/moodline-link+cbor"
    SUCCESSION = "application/moodline-succession+cbor"
    CONTINUITY = "application/moodline-continuity+cbor"


class _Header(IntEnum):
    """Labels of RFC 9052, section 3.1, and one from the private-use range for the protocol version."""

    ALGORITHM = 1
    CONTENT_TYPE = 3
    KEY_ID = 4
    VERSION = -65537


class Signer(Protocol):
    """Whoever holds a private key: software today, a secure element some day."""

    @property
    def key_id(self) -> str:
        """The name under which the roster knows the key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        ...


@dataclass(frozen=True)
class KeySigner:
    """A signer whose key is in memory."""

    key_id: str
    private_key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature (RFC 8032), 64 bytes."""
        return self.private_key.sign(message)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes, as it stands in the roster."""
        return self.private_key.public_key().public_bytes_raw()


@dataclass(frozen=True)
class Envelope:
    """A decoded signed object whose signature nobody has checked yet. `raw` is exactly what was received."""

    raw: bytes
    content_type: ContentType
    key_id: str
    protected: bytes
    payload: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the received bytes: what the next object of the chain carries as `prev`."""
        return digest(self.raw)

    def fields(self, keys: type[IntEnum]) -> cbor.Fields:
        """The payload's fields. Raises RemoteMessageError NOT_DECODABLE or NOT_DETERMINISTIC."""
        return cbor.Fields(cbor.decode(self.payload), keys=keys)


def digest(raw: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(raw).digest()


def is_identifier(name: str) -> bool:
    """Whether a name follows the rule for rooms, lines, units and gateways: small letters, digits, dashes, 1 to 32."""
    return _IDENTIFIER.fullmatch(name) is not None


def seal_envelope(
    content_type: ContentType, fields: Mapping[int, object], signer: Signer, *, room: str, line: str = ""
) -> bytes:
    """Encode and sign: the bytes to publish."""
    protected = cbor.encode(
        {
            _Header.ALGORITHM: _EDDSA,
            _Header.CONTENT_TYPE: content_type.value,
            _Header.KEY_ID: signer.key_id.encode(),
            _Header.VERSION: PROTOCOL_VERSION,
        }
    )
    payload = cbor.encode(fields)
    signature = signer.sign(sig_structure(protected, external_aad(room, line), payload))
    return cbor.encode(CBORTag(_COSE_SIGN1_TAG, [protected, {}, payload, signature]))


def open_envelope(raw: bytes, *, wanted: ContentType) -> Envelope:
    """Take the bytes apart; nothing is trusted yet.

    Raises RemoteMessageError: NOT_DECODABLE, NOT_DETERMINISTIC, UNKNOWN_VERSION, WRONG_KIND.
    """
    if raw[:1] != bytes([_TAG_BYTE]):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "Not a tagged COSE_Sign1.")
    match cbor.decode(raw[1:]):
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            pass
        case _:
            raise RemoteMessageError(Verdict.NOT_DECODABLE, "Not the four parts of a COSE_Sign1.")
    if unprotected or len(signature) != SIGNATURE_BYTES:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "Unprotected headers, or a signature of another size.")
    content_type, key_id = _read_protected(protected)
    if content_type is not wanted:
        raise RemoteMessageError(
            Verdict.WRONG_KIND, f"A {content_type.value} where a {wanted.value} belongs.", peer=key_id
        )
    return Envelope(raw, content_type, key_id, protected, payload, signature)


@lru_cache(maxsize=256)
def _read_protected(protected: bytes) -> tuple[ContentType, str]:
    headers = cbor.decode(protected)
    if not isinstance(headers, dict):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The protected headers are no map.")
    if headers.get(_Header.VERSION) != PROTOCOL_VERSION:
        raise RemoteMessageError(Verdict.UNKNOWN_VERSION, f"This program speaks protocol version {PROTOCOL_VERSION}.")
    fields = cbor.Fields(headers, keys=_Header)
    key_id = headers[_Header.KEY_ID]
    if headers[_Header.ALGORITHM] != _EDDSA or not isinstance(key_id, bytes) or not key_id.isascii():
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The protected headers are not those of this protocol.")
    name = fields.text(_Header.CONTENT_TYPE)
    if name not in set(ContentType) or not is_identifier(key_id.decode()):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The content type or the key id is unknown here.")
    return ContentType(name), key_id.decode()


def external_aad(room: str, line: str) -> bytes:
    """What a signature is bound to beside its content: deterministic CBOR of [room, line]."""
    return cbor.encode([room, line])


def sig_structure(protected: bytes, aad: bytes, payload: bytes) -> bytes:
    """The bytes that are signed: the Sig_structure of RFC 9052, section 4.4, for COSE_Sign1."""
    return cbor.encode(["Signature1", protected, aad, payload])


def check_signature(envelope: Envelope, public_key: bytes, *, room: str, line: str = "") -> None:
    """Raises RemoteMessageError BAD_SIGNATURE unless that key signed exactly these bytes for that room and line."""
    message = sig_structure(envelope.protected, external_aad(room, line), envelope.payload)
    if not signature_holds(public_key, envelope.signature, message):
        raise RemoteMessageError(
            Verdict.BAD_SIGNATURE, f"The signature is not by the key of {envelope.key_id}.", peer=envelope.key_id
        )


def signature_holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519 verification (RFC 8032, section 5.1.7), strict about the range of S, so not malleable."""
    try:
        _public_key(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
