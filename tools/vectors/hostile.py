"""Bytes that no honest program makes: envelopes and payloads built by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cbor2

from device.messages.envelope import PROTOCOL_VERSION, ContentType, Signer, external_aad, sig_structure
from tools.vectors import room

#: Order of the Ed25519 base point (RFC 8032, section 5.1).
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


def protected_of(
    key_id: str, *, content_type: str = ContentType.LINK, version: object = PROTOCOL_VERSION, algorithm: int = -8
) -> bytes:
    """Encoded protected headers."""
    headers = {1: algorithm, 3: str(content_type), 4: key_id.encode(), -65537: version}
    return cbor2.dumps(headers, canonical=True)


def sign_bytes(payload: bytes, signer: Signer, *, protected: bytes | None = None, line: str = room.LINE) -> bytes:
    """A proper signature over an improper payload."""
    headers = protected_of(signer.key_id) if protected is None else protected
    signature = signer.sign(sig_structure(headers, external_aad(room.ROOM, line), payload))
    return cbor2.dumps(cbor2.CBORTag(18, [headers, {}, payload, signature]), canonical=True)


def parts(raw: bytes) -> tuple[bytes, dict[object, object], bytes, bytes]:
    """Protected headers, unprotected headers, payload and signature of an object."""
    protected, unprotected, payload, signature = cbor2.loads(raw).value
    return protected, unprotected, payload, signature


def reassemble(protected: bytes, unprotected: Mapping[object, object], payload: bytes, signature: bytes) -> bytes:
    """The four parts as one object."""
    return cbor2.dumps(cbor2.CBORTag(18, [protected, dict(unprotected), payload, signature]), canonical=True)


def malleate(raw: bytes) -> bytes:
    """The same object with S + L for S in its signature: accepted by careless verifiers (RFC 8032, section 8.4)."""
    protected, unprotected, payload, signature = parts(raw)
    scalar = int.from_bytes(signature[32:], "little") + _ORDER
    return reassemble(protected, unprotected, payload, signature[:32] + scalar.to_bytes(32, "little"))


def nested(depth: int) -> bytes:
    """An array in an array in an array …, with a 0 inside."""
    return b"\x81" * depth + b"\x00"
