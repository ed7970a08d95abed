"""A second COSE implementation, pycose, on both sides: it verifies what we sign, and we accept what it signs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.headers import ContentType as ContentTypeHeader
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import Sign1Message

from device.errors import RemoteMessageError, Verdict
from device.line.verify import Verifier
from device.messages.envelope import PROTOCOL_VERSION, ContentType, KeySigner, external_aad, seal_envelope
from device.messages.grant import sign_grant
from device.messages.policy import read_policy, sign_policy
from device.messages.roster import read_roster, sign_roster
from tools.fuzz.seeds import policy
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries, grant_7

VECTORS = Path(__file__).parent.parent / "vectors" / "line"
VERIFIER = Verifier(room.roster(), room.LINE, LIMITS)
AUTHORITY = room.signer(room.AUTHORITY)
GATEWAY = room.signer(room.GATEWAY)
DESK_2 = room.signer("desk-2")
ROSTER = room.roster(revoked=frozenset({"desk-4"}))


def _link() -> bytes:
    sealed = SealedEntries(json.loads((VECTORS / "sealed.json").read_text()))
    play = Round(sealed)
    return play.signed(play.good)


@dataclass(frozen=True)
class Kind:
    """An object as we sign it, who signs it and for which line, and how we read it."""

    raw: bytes
    content_type: ContentType
    signer: KeySigner
    line: str
    read: Callable[[bytes], object]


def _read_roster(raw: bytes) -> object:
    return read_roster(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


def _read_policy(raw: bytes) -> object:
    return read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


KINDS = {
    "roster": Kind(sign_roster(ROSTER, AUTHORITY), ContentType.ROSTER, AUTHORITY, "", _read_roster),
    "policy": Kind(sign_policy(policy(), AUTHORITY), ContentType.POLICY, AUTHORITY, "", _read_policy),
    "grant": Kind(sign_grant(grant_7(), GATEWAY), ContentType.GRANT, GATEWAY, room.LINE, VERIFIER.grant),
    "link": Kind(_link(), ContentType.LINK, DESK_2, room.LINE, VERIFIER.link),
}


def holds(raw: bytes, public_key: bytes, *, line: str, where: str = room.ROOM) -> bool:
    """Whether pycose finds the signature good."""
    protected, unprotected, payload, signature = cbor2.loads(raw).value
    message = Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    message.key = OKPKey(crv=Ed25519, x=public_key)
    message.external_aad = external_aad(where, line)
    return bool(message.verify_signature())


def made(kind: Kind, payload: bytes, *, line: str | None = None, signer: KeySigner | None = None) -> bytes:
    """The object as pycose makes it."""
    by = signer or kind.signer
    message = Sign1Message(
        phdr={
            Algorithm: EdDSA,
            ContentTypeHeader: kind.content_type.value,
            KID: kind.signer.key_id.encode(),
            -65537: PROTOCOL_VERSION,
        },
        payload=payload,
        external_aad=external_aad(room.ROOM, kind.line if line is None else line),
        key=OKPKey(crv=Ed25519, x=by.public_key, d=by.private_key.private_bytes_raw()),
    )
    return bytes(message.encode())


@pytest.mark.parametrize("name", KINDS)
def test_it_verifies_our_objects_and_only_with_their_key_and_place(name: str) -> None:
    kind = KINDS[name]
    assert holds(kind.raw, kind.signer.public_key, line=kind.line)
    assert not holds(kind.raw, room.signer("forger").public_key, line=kind.line)
    assert not holds(kind.raw, kind.signer.public_key, line=room.OTHER_LINE)
    assert not holds(kind.raw, kind.signer.public_key, line=kind.line, where="gym")


@pytest.mark.parametrize("name", KINDS)
def test_it_makes_the_same_bytes_and_we_accept_them(name: str) -> None:
    kind = KINDS[name]
    raw = made(kind, cbor2.loads(kind.raw).value[2])
    assert raw == kind.raw
    assert kind.read(raw)


@pytest.mark.parametrize("name", KINDS)
def test_we_refuse_what_it_signs_with_another_key_or_for_another_line(name: str) -> None:
    kind = KINDS[name]
    payload = cbor2.loads(kind.raw).value[2]
    for raw in (made(kind, payload, signer=room.signer("forger")), made(kind, payload, line=room.OTHER_LINE)):
        with pytest.raises(RemoteMessageError) as refused:
            kind.read(raw)
        assert refused.value.verdict is Verdict.BAD_SIGNATURE


def _vectors(kind: str) -> list[dict[str, Any]]:
    stored = [json.loads(path.read_text()) for path in sorted(VECTORS.glob("*.json")) if path.stem != "sealed"]
    return [vector for vector in stored if vector.get("kind") == kind]


@pytest.mark.parametrize("kind", ["link", "grant"])
def test_it_says_of_each_vector_s_signature_what_we_say(kind: str) -> None:
    """Every vector that comes as far as step 5: good at a later step or at none, bad in step 5."""
    judged = [vector for vector in _vectors(kind) if vector["step"] is None or vector["step"] >= 5]
    assert len(judged) >= (4 if kind == "grant" else 25)
    for vector in judged:
        raw = bytes.fromhex(vector["messages"][0])
        signer = cbor2.loads(cbor2.loads(raw).value[0])[4].decode()
        good = holds(raw, room.signer(signer).public_key, line=room.LINE)
        assert good is (vector["verdict"] != Verdict.BAD_SIGNATURE), vector["about"]


def test_it_verifies_every_object_of_a_log() -> None:
    stored = json.loads((VECTORS / "logs" / "good_log.json").read_text())
    objects = [raw for closed in stored["rounds"] for raw in (closed["grant"], *closed["links"])]
    assert len(objects) == 20
    for raw in map(bytes.fromhex, objects):
        signer = cbor2.loads(cbor2.loads(raw).value[0])[4].decode()
        assert holds(raw, room.signer(signer).public_key, line=room.LINE)


def test_the_smallest_object_is_the_same_in_both() -> None:
    kind = KINDS["link"]
    ours = seal_envelope(ContentType.LINK, {1: "lab", 2: b"x"}, DESK_2, room=room.ROOM, line=room.LINE)
    assert made(kind, cbor2.dumps({1: "lab", 2: b"x"})) == ours
