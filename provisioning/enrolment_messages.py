"""What a box and the registrar say to each other over HTTPS, and what is signed and computed over it.

JSON by msgspec, at most `BODY_BYTES`; octets are base64. Every request that counts is signed by the box's key over
`signed_part`, which binds the registrar's key digest, so that a man in the middle who relays it is found out. The short
code is a numeric comparison as in Bluetooth's secure simple pairing (Core Specification, Vol 2, Part H, 7.2): the box
commits to key and nonce before it sees the registrar's nonce, so that a man in the middle has one try.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.messages.envelope import Signer
from provisioning.refusals import Refusal, RefusalError

#: Largest JSON body either side reads, in bytes; the trust bundle inside an answer has its own limit.
BODY_BYTES: Final = 16_384
ANSWER_BYTES: Final = 4 << 20
CONTENT_TYPE: Final = "application/json"
REGISTRAR_PORT: Final = 8_884
SERVICE_TYPE: Final = "_moodline._tcp.local."

CLAIMS_PATH: Final = "/v1/claims"
ENROL_PATH: Final = "/v1/enrol"
CHALLENGE_PATH: Final = "/v1/challenge"
RENEW_PATH: Final = "/v1/renew"
TRUST_PATH: Final = "/v1/trust"

_CODE_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_CHARACTERS: Final = 6
_CODE_DOMAIN: Final = b"moodline code v1"
_COMMITMENT_DOMAIN: Final = b"moodline commitment v1"

Octets16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Octets32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Octets64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
ClaimId = Annotated[str, msgspec.Meta(pattern=r"^[a-z2-7]{26}$")]
Token = Annotated[str, msgspec.Meta(pattern=r"^[a-z2-7]{26}$")]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all bodies."""


class Commitment(Message, frozen=True, kw_only=True):
    """Claim window, first step: SHA-256 over the box's key and nonce (`commitment`)."""

    commitment: Octets32


class ClaimOpened(Message, frozen=True, kw_only=True):
    """The registrar's answer: its own nonce, and the claim's name."""

    claim: ClaimId
    nonce: Octets16


class EnrolmentRequest(Message, frozen=True, kw_only=True):
    """A box asks to be enrolled. `key` is its Ed25519 public key, `serial` and `model` are the hardware's as it says,
    `registrar` is the digest of the registrar's key that the box sees, `token` the seed file's or None."""

    kind: Literal["enrol"] = "enrol"
    key: Octets32
    serial: Text
    model: Text
    nonce: Octets16
    registrar: Octets32
    room: Text = ""
    token: Token | None = None
    signature: Octets64 = bytes(64)


class Challenge(Message, frozen=True, kw_only=True):
    """A fresh nonce that a renewal must sign, so that an old request is of no use."""

    challenge: Octets16


class RenewalRequest(Message, frozen=True, kw_only=True):
    """A rostered box asks for a new certificate, for `new_key` when it rotates its key (then `possession` is the new
    key's signature over the same bytes), else for the old one."""

    kind: Literal["renew"] = "renew"
    unit: Text
    key: Octets32
    challenge: Octets16
    registrar: Octets32
    new_key: Octets32 | None = None
    signature: Octets64 = bytes(64)
    possession: Octets64 | None = None


class Renewed(Message, frozen=True, kw_only=True):
    """PEM texts."""

    certificate: str
    certificate_authority: str
    wall_ms: int


class Enrolled(Message, frozen=True, kw_only=True):
    """All that a box needs; PEM texts, and the trust bundle as octets."""

    room: Text
    line: Text
    unit: Text
    desk: Text
    broker_host: Text
    broker_port: int
    broker_name: Text
    certificate: str
    certificate_authority: str
    room_authority: str
    trust: bytes
    wall_ms: int


class EnrolmentAnswer(Message, frozen=True, kw_only=True):
    """`waiting` says for whom: `operator` (accept the code) or `authority` (the room authority is closed)."""

    state: Literal["waiting", "enrolled"]
    code: str = ""
    waiting: Literal["", "operator", "authority"] = ""
    enrolled: Enrolled | None = None


class RefusalBody(Message, frozen=True, kw_only=True):
    """A refusal on the wire."""

    code: str
    sentence: str
    next_step: str
    detail: str = ""


Signed = TypeVar("Signed", EnrolmentRequest, RenewalRequest)
Body = TypeVar("Body", bound=Message)


def signed_part(request: EnrolmentRequest | RenewalRequest) -> bytes:
    """What the box signs: a domain, and the request's JSON with sorted keys and empty signatures."""
    bare: EnrolmentRequest | RenewalRequest = msgspec.structs.replace(request, signature=bytes(64))
    if isinstance(bare, RenewalRequest):
        bare = msgspec.structs.replace(bare, possession=None)
    return b"moodline request v1\0" + msgspec.json.encode(bare, order="sorted")


def sign_request(request: Signed, signer: Signer) -> Signed:
    """The request with the box's signature."""
    return msgspec.structs.replace(request, signature=signer.sign(signed_part(request)))


def check_request(request: EnrolmentRequest | RenewalRequest, registrar: bytes) -> None:
    """Raises RefusalError BAD_SIGNATURE, or OTHER_CHANNEL when the box spoke to another registrar than `registrar`."""
    message = signed_part(request)
    pairs = [(request.key, request.signature)]
    if isinstance(request, RenewalRequest) and request.new_key is not None:
        pairs.append((request.new_key, request.possession or bytes(64)))
    for key, signature in pairs:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise RefusalError(Refusal.BAD_SIGNATURE) from error
    if request.registrar != registrar:
        raise RefusalError(Refusal.OTHER_CHANNEL)


def commitment(key: bytes, nonce: bytes) -> bytes:
    """SHA-256 over a domain, the box's key (32 bytes) and its nonce (16 bytes)."""
    return hashlib.sha256(_COMMITMENT_DOMAIN + key + nonce).digest()


def short_code(key: bytes, registrar: bytes, box_nonce: bytes, registrar_nonce: bytes) -> str:
    """Six characters (30 bits, Crockford's base 32) that box and registrar show, to be compared by a person."""
    found = hashlib.sha256(_CODE_DOMAIN + key + registrar + box_nonce + registrar_nonce).digest()
    number = int.from_bytes(found[:4], "big") >> 2
    return "".join(_CODE_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_CODE_CHARACTERS)))


def readable(text: str, limit: int = 200) -> str:
    """A peer's words as they may stand on a terminal or in a log: printable, and not too many."""
    return "".join(letter for letter in text if letter.isprintable())[:limit]


def decode(raw: bytes, kind: type[Body], *, limit: int = BODY_BYTES) -> Body:
    """A body of that kind. Raises RefusalError MALFORMED, naming the field."""
    if len(raw) > limit:
        raise RefusalError(Refusal.MALFORMED, f"{len(raw)} bytes; at most {limit} are read.")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusalError(Refusal.MALFORMED, readable(str(error))) from error
