"""What is fuzzed: every door through which a peer's bytes come in, and what must hold whatever the bytes.

An input is one byte, the number of a target, and the bytes for that target. Two things must hold: nothing leaves a
target but the errors that its docstring names (`allowed`), and whatever was decoded encodes to the same bytes again,
through the product's own encoder and through a second one (`tools/fuzz/second_encoder.py`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import msgspec

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import ClosedRound, Infer
from device.line.evidence import check_proof
from device.line.gateway import LineGateway
from device.line.log import LogFollower
from device.line.unit import LineUnit
from device.line.verify import Verifier, step_10_open
from device.messages import cbor, topics
from device.messages.continuity import read_continuity, sign_continuity
from device.messages.envelope import DIGEST_BYTES, ContentType, Signer, open_envelope
from device.messages.grant import decode_grant, sign_grant
from device.messages.label import LABEL_BYTES, decode_label, encode_label
from device.messages.link import decode_link, sign_link
from device.messages.policy import read_policy, sign_policy
from device.messages.receipt import encode_receipt, looks_like_receipt, read_receipt
from device.messages.roster import decode_roster, open_roster, read_roster, sign_roster
from device.messages.sealing import SUITES, X25519, Place
from device.messages.succession import read_succession
from device.messages.trust_bundle import decode_bundle, encode_bundle, verify_bundle
from device.publish.outbox import BoundedOutbox
from provisioning.enrolment_messages import EnrolmentRequest, RenewalRequest, check_request, decode, sign_request
from provisioning.refusals import RefusalError
from tools.fuzz import second_encoder
from tools.vectors import room
from tools.vectors.cases import LIMITS, WALL_MS, grant_7
from tools.vectors.hostile import protected_of, sign_bytes

ROSTER: Final = room.roster()
AUTHORITY: Final = room.signer(room.AUTHORITY)
OPENER: Final = room.opener()
PUBLIC_KEY: Final = room.opening_key().public_key()
VERIFIER: Final = Verifier(ROSTER, room.LINE, LIMITS)
GRANT_7: Final = sign_grant(grant_7(), room.signer(room.GATEWAY))
#: Messages that one input brings to a machine, a log or a proof.
_MESSAGES: Final = 12


class Broken(AssertionError):  # noqa: N818 - what it names is the product, not an error of ours
    """Something that must hold does not."""


@dataclass(frozen=True)
class Target:
    """A door: `run` takes the bytes; of the errors that leave it, only `allowed` may."""

    name: str
    run: Callable[[bytes], None]
    allowed: tuple[type[Exception], ...] = (RemoteMessageError,)


def run(data: bytes) -> bool:
    """Bring an input to its target. Returns whether it was taken (True) or refused. Raises whatever must not happen."""
    if not data:
        return False
    target = TARGETS[data[0] % len(TARGETS)]
    try:
        target.run(data[1:])
    except target.allowed:
        return False
    return True


def encoded(name: str, payload: bytes) -> bytes:
    """An input for the target of that name."""
    return bytes([NUMBERS[name]]) + payload


def same(again: bytes, raw: bytes, what: str) -> None:
    """Raises Broken when something decoded encodes to other bytes."""
    if again != raw:
        raise Broken(f"{what} encodes to other bytes than it was decoded from: {again.hex()} and {raw.hex()}")


def framed(messages: Sequence[tuple[int, bytes]]) -> bytes:
    """Several messages in one input: for each its form (`_signed`), two bytes of length, and the bytes."""
    return b"".join(bytes([form]) + len(raw).to_bytes(2, "big") + raw for form, raw in messages)


def unframed(data: bytes) -> list[tuple[int, bytes]]:
    """The messages of an input, at most `_MESSAGES`; the last may be cut short."""
    messages: list[tuple[int, bytes]] = []
    while len(data) >= 3 and len(messages) < _MESSAGES:
        form, size = data[0], int.from_bytes(data[1:3], "big")
        messages.append((form, data[3 : 3 + size]))
        data = data[3 + size :]
    return messages


#: Who signs a payload, by the form's lowest bits; forms above are sent as they are.
_SIGNERS: Final[tuple[tuple[str, ContentType], ...]] = (
    ("desk-1", ContentType.LINK),
    ("desk-2", ContentType.LINK),
    ("desk-3", ContentType.LINK),
    (room.GATEWAY, ContentType.GRANT),
)


_signer = cache(room.signer)


def signed(form: int, raw: bytes) -> bytes:
    """The bytes as they are, or as the payload of an object that somebody rostered signs properly."""
    if form >= len(_SIGNERS):
        return raw
    name, content_type = _SIGNERS[form]
    return sign_bytes(raw, _signer(name), protected=protected_of(name, content_type=content_type))


# --- the encoding ----------------------------------------------------------------------------------------------------


def _cbor(data: bytes) -> None:
    item = cbor.decode(data)
    same(cbor.encode(item), data, "CBOR")
    if second_encoder.speaks(item):
        same(second_encoder.encode(item), data, "CBOR, by the second encoder,")


def _label(data: bytes) -> None:
    same(encode_label(decode_label(data)), data, "A label")


def _label_body(data: bytes) -> None:
    """The same with length and padding put right, so that the fields are reached."""
    body = data[: LABEL_BYTES - 1]
    _label(bytes([len(body)]) + body.ljust(LABEL_BYTES - 1, b"\x00"))


# --- objects, as they come and properly signed -----------------------------------------------------------------------


class _Recorded:
    """Stands in for a signer when an object is encoded again: its signature is the one that was received."""

    def __init__(self, key_id: str, signature: bytes) -> None:
        self.key_id = key_id
        self._signature = signature

    def sign(self, message: bytes) -> bytes:
        """What was received."""
        return self._signature


def _again(raw: bytes, content_type: ContentType) -> Signer:
    envelope = open_envelope(raw, wanted=content_type)
    return _Recorded(envelope.key_id, envelope.signature)


def _link(raw: bytes) -> None:
    """Decoded whoever signed it, and then verified."""
    with suppress(RemoteMessageError):
        link = decode_link(open_envelope(raw, wanted=ContentType.LINK))
        same(sign_link(link, _again(raw, ContentType.LINK)), raw, "A link")
    for entry in VERIFIER.link(raw).body.entries:
        step_10_open(OPENER, VERIFIER.link(raw).body, entry)


def _grant(raw: bytes) -> None:
    with suppress(RemoteMessageError):
        grant = decode_grant(open_envelope(raw, wanted=ContentType.GRANT))
        same(sign_grant(grant, _again(raw, ContentType.GRANT)), raw, "A grant")
    VERIFIER.grant(raw)


def _signed_link(data: bytes) -> None:
    _link(signed(data[0] % 3 if data else 0, data[1:]))


def _signed_grant(data: bytes) -> None:
    _grant(signed(3, data))


def _roster(raw: bytes) -> None:
    read_roster(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


def _signed_roster(data: bytes) -> None:
    headers = protected_of(room.AUTHORITY, content_type=ContentType.ROSTER)
    raw = sign_bytes(data, AUTHORITY, protected=headers, line="")
    roster = decode_roster(open_roster(raw))
    _roster(raw)
    same(sign_roster(roster, AUTHORITY), raw, "A roster")


def _policy(raw: bytes) -> None:
    read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


def _signed_policy(data: bytes) -> None:
    headers = protected_of(room.AUTHORITY, content_type=ContentType.POLICY)
    raw = sign_bytes(data, AUTHORITY, protected=headers, line="")
    same(sign_policy(read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM), AUTHORITY), raw, "A policy")


def _by_authority(data: bytes, content_type: ContentType) -> bytes:
    """The payload, properly signed by the room authority."""
    headers = protected_of(room.AUTHORITY, content_type=content_type)
    return sign_bytes(data, AUTHORITY, protected=headers, line="")


def _succession(raw: bytes) -> None:
    read_succession(raw, room=room.ROOM)


def _signed_succession(data: bytes) -> None:
    _succession(_by_authority(data, ContentType.SUCCESSION))


def _continuity(raw: bytes) -> None:
    read_continuity(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


def _signed_continuity(data: bytes) -> None:
    raw = _by_authority(data, ContentType.CONTINUITY)
    record = read_continuity(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)
    same(sign_continuity(record, AUTHORITY), raw, "A continuity record")


def _trust_bundle(raw: bytes) -> None:
    bundle = decode_bundle(raw)
    same(encode_bundle(bundle), raw, "A trust bundle")
    verify_bundle(bundle, AUTHORITY.public_key, room.ROOM)


def _enrolment(raw: bytes) -> None:
    """What a stranger may send to the registrar, with the stranger's signature, and then properly signed."""
    request = decode(raw, EnrolmentRequest)
    with suppress(RefusalError):
        check_request(request, bytes(DIGEST_BYTES))
    box = _signer("desk-9")
    request = msgspec.structs.replace(request, key=box.public_key, registrar=bytes(DIGEST_BYTES))
    check_request(sign_request(request, box), bytes(DIGEST_BYTES))


def _renewal(raw: bytes) -> None:
    request = decode(raw, RenewalRequest)
    with suppress(RefusalError):
        check_request(request, bytes(DIGEST_BYTES))
    box = _signer("desk-9")
    request = msgspec.structs.replace(request, key=box.public_key, registrar=bytes(DIGEST_BYTES), new_key=None)
    check_request(sign_request(request, box), bytes(DIGEST_BYTES))


# --- what remembers --------------------------------------------------------------------------------------------------


def _log(data: bytes) -> None:
    """Each message is a grant or link of a log: one that says it is a grant opens a round."""
    rounds: list[list[bytes]] = []
    for form, payload in unframed(data):
        raw = signed(form, payload)
        if not rounds or form == 3 or ContentType.GRANT.value.encode() in raw:
            rounds.append([])
        rounds[-1].append(raw)
    follower = LogFollower({1: ROSTER}, room.LINE, LIMITS, from_middle=bool(data and data[0] & 1))
    for number, (grant, *links) in enumerate(rounds, start=1):
        follower.take(ClosedRound(number, 1, grant, tuple(links)))


def _receipt(data: bytes) -> None:
    looks_like_receipt(data[:64])
    header, objects = read_receipt(io.BytesIO(data), message_bytes=LIMITS.message_bytes)
    same(b"".join(encode_receipt(header, list(objects))), data, "A receipt")


def _receipt_header(data: bytes) -> None:
    """The same with the head of the header put right, so that its fields are reached."""
    _receipt(cbor.encode(data))


def _proof(data: bytes) -> None:
    messages = [signed(form, payload) for form, payload in unframed(data)][:2]
    if len(messages) < 2:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "Not two messages.")
    check_proof((messages[0], messages[1]), VERIFIER)


def _arrivals(data: bytes) -> list[tuple[str, bytes]]:
    """Topics and messages: a grant comes on the grant's topic, unless the form's highest bit says otherwise."""
    arrivals = []
    for form, payload in unframed(data):
        raw = signed(form & 0x7F, payload)
        is_grant = ((form & 0x7F) == 3 or ContentType.GRANT.value.encode() in raw) != bool(form & 0x80)
        topic = topics.grant(room.ROOM, room.LINE) if is_grant else topics.link(room.ROOM, room.LINE, "desk-1")
        arrivals.append((topic, raw))
    return arrivals


def _unit(data: bytes) -> None:
    """A unit in round 7: nothing at all may leave it, and what it signs is in order."""
    machine = LineUnit(
        roster=ROSTER,
        line=room.LINE,
        session=4,
        signer=_signer("desk-4"),
        outbox=BoundedOutbox(4),
        limits=LIMITS,
    )
    machine.connected(0.0)
    machine.received(topics.grant(room.ROOM, room.LINE), GRANT_7, 0.0)
    for number, (topic, raw) in enumerate(_arrivals(data), start=1):
        for action in machine.received(topic, raw, number * 0.1):
            if isinstance(action, Infer) and action.round < 8:
                raise Broken(f"the unit went back to round {action.round}")
        machine.tick(number * 0.1 + 0.05)


def _gateway(data: bytes) -> None:
    """The gateway in round 7: nothing at all may leave it."""
    machine = LineGateway(
        roster=ROSTER,
        line=room.LINE,
        signer=_signer(room.GATEWAY),
        opener=OPENER,
        limits=LIMITS,
        witness_count=2,
        stored_grant=GRANT_7,
    )
    machine.connected(0.0, WALL_MS)
    for number, (topic, raw) in enumerate(_arrivals(data), start=1):
        machine.received(topic, raw, number * 0.2, WALL_MS)
        machine.tick(number * 0.2, WALL_MS)


def _topic(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    topics.parse_line_topic(text)
    topics.parse_line_topic(f"{topics.ROOT}/{text}")


def _sealed(data: bytes) -> None:
    """As a sealed entry comes, and as the plaintext of a properly sealed one."""
    place = Place(room.ROOM, room.LINE, "desk-1", 1, 1)
    proper = SUITES[X25519].encrypt(data[:200], PUBLIC_KEY, place.info)
    with suppress(RemoteMessageError):
        OPENER.open(data, place)
    OPENER.open(proper, place)


#: The number of a target is its place; new ones are appended, so that kept inputs go on meaning the same.
TARGETS: Final = (
    Target("link", _link),
    Target("grant", _grant),
    Target("signed link", _signed_link),
    Target("signed grant", _signed_grant),
    Target("roster", _roster),
    Target("signed roster", _signed_roster),
    Target("policy", _policy, (RemoteMessageError, ConfigError)),
    Target("signed policy", _signed_policy, (RemoteMessageError, ConfigError)),
    Target("cbor", _cbor),
    Target("label", _label),
    Target("label body", _label_body),
    Target("sealed label", _sealed),
    Target("log", _log, (RemoteMessageError, ConfigError)),
    Target("receipt", _receipt),
    Target("receipt header", _receipt_header),
    Target("proof", _proof),
    Target("unit", _unit, ()),
    Target("gateway", _gateway, ()),
    Target("topic", _topic, ()),
    Target("succession", _succession),
    Target("signed succession", _signed_succession),
    Target("continuity", _continuity),
    Target("signed continuity", _signed_continuity),
    Target("trust bundle", _trust_bundle, (RemoteMessageError, ConfigError)),
    Target("enrolment", _enrolment, (RefusalError,)),
    Target("renewal", _renewal, (RefusalError,)),
)
NUMBERS: Final = {target.name: number for number, target in enumerate(TARGETS)}
