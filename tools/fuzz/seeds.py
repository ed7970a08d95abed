"""Where fuzzing begins: the golden vectors, as inputs of every target that can make something of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cbor2
import msgspec

from device.line.actions import ClosedRound
from device.messages.continuity import Continuity, sign_continuity
from device.messages.envelope import KeySigner, digest
from device.messages.label import encode_label
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting, sign_policy
from device.messages.receipt import ReceiptHeader, ReceiptKind, encode_receipt
from device.messages.roster import sign_roster
from device.messages.schedule import MINUTE_MS, Hours, Offset, Schedule, ScheduleKind
from device.messages.succession import Succession, sign_succession
from device.messages.trust_bundle import TrustBundle, encode_bundle
from provisioning.enrolment_messages import EnrolmentRequest, RenewalRequest, sign_request
from tools.fuzz.targets import AUTHORITY, encoded, framed
from tools.vectors import room
from tools.vectors.cases import LIMITS, WALL_MS, abstained, given, presence
from tools.vectors.hostile import parts
from tools.vectors.logs import log_from_json

FOLDER: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "line"
_NO_VECTORS: Final = frozenset({"room", "sealed", "limits"})
#: How a framed message is marked that is sent as it is.
_AS_IT_IS: Final = 4


def seeds() -> list[bytes]:
    """Every input, without doubles, in a fixed order."""
    stored = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.rglob("*.json"))
        if path.stem not in _NO_VECTORS
    ]
    found = dict.fromkeys(each for content in stored for each in _of(content))
    found.update(dict.fromkeys(_authority()))
    found.update(dict.fromkeys(encoded("topic", text) for text in (b"lab/row-1/grant", b"lab/row-1/link/desk-1")))
    return list(found)


def _of(content: dict[str, Any]) -> Iterator[bytes]:
    match content["kind"]:
        case "link" | "grant":
            yield from _message(content["kind"], *map(bytes.fromhex, content["messages"]))
            chain = [*map(bytes.fromhex, content["chain"]), *map(bytes.fromhex, content["messages"])]
            yield encoded("gateway", _frame(chain[1:]))
            yield encoded("unit", _frame(chain))
        case "proof":
            yield encoded("proof", _frame(list(map(bytes.fromhex, content["messages"]))))
        case "log":
            rounds, _ = log_from_json(content)
            yield encoded("log", _frame([raw for closed in rounds[:3] for raw in (closed.grant, *closed.links)]))
            yield encoded("receipt", receipt(rounds))
        case "sequence":
            raws = [bytes.fromhex(step["message"]) for step in content["steps"] if step["message"]]
            yield encoded(content["machine"], _frame(raws))


def _message(kind: str, raw: bytes) -> Iterator[bytes]:
    """A message as it is, and its payload for the one who signs it again; not those that are only large."""
    if len(raw) > LIMITS.message_bytes:
        return
    yield encoded(kind, raw)
    try:
        payload = parts(raw)[2]
    except (cbor2.CBORError, ValueError, TypeError, AttributeError):
        return
    yield encoded("cbor", payload)
    yield encoded("signed link", b"\x01" + payload) if kind == "link" else encoded("signed grant", payload)
    yield encoded("unit", framed([(1 if kind == "link" else 3, payload)]))


def _frame(raws: list[bytes]) -> bytes:
    return framed([(_AS_IT_IS, raw) for raw in raws if len(raw) < 1 << 13])


def receipt(rounds: tuple[ClosedRound, ...]) -> bytes:
    """A receipt of some rounds."""
    objects = [raw for closed in rounds for raw in (closed.grant, *closed.links)]
    roster = sign_roster(room.roster(), AUTHORITY)
    header = ReceiptHeader(ReceiptKind.SPAN, room.ROOM, room.LINE, (roster,), 1, len(rounds), len(objects))
    return b"".join(encode_receipt(header, objects))


def policy() -> DeploymentPolicy:
    """A policy of the vectors' room."""
    return DeploymentPolicy(
        room=room.ROOM,
        purpose=Purpose.DEMONSTRATION,
        setting=Setting.LABORATORY,
        jurisdiction="DE",
        mode=Mode.LABELS,
        min_group=11,
        retention_days=7,
        witness_count=2,
        approved_by="A. Person",
        not_before_ms=WALL_MS,
        not_after_ms=WALL_MS + 1_000,
        capture=Schedule(
            kind=ScheduleKind.SAMPLED,
            zone="Europe/Berlin",
            offsets=(Offset(0, 60), Offset(WALL_MS - WALL_MS % MINUTE_MS, 120)),
            hours=(Hours((0, 1, 2, 3, 4), 480, 780), Hours((1, 3), 840, 900)),
            sessions_per_day=4,
        ),
        updates=Schedule(
            kind=ScheduleKind.HOURS, zone="UTC-03:30", offsets=(Offset(0, -210),), hours=(Hours((5, 6), 0, 300),)
        ),
    )


def _authority() -> Iterator[bytes]:
    roster = sign_roster(room.roster(revoked=frozenset({"desk-2", "desk-3"})), AUTHORITY)
    signed_policy = sign_policy(policy(), AUTHORITY)
    for name, raw in (("roster", roster), ("policy", signed_policy)):
        yield encoded(name, raw)
        yield encoded(f"signed {name}", parts(raw)[2])
    yield from _changes()
    yield from _requests()
    for label in (given(), abstained(), presence()):
        plaintext = encode_label(label)
        yield encoded("label", plaintext)
        yield encoded("label body", plaintext[1 : 1 + plaintext[0]])
        yield encoded("sealed label", plaintext)
    header = ReceiptHeader(ReceiptKind.PROOF, room.ROOM, room.LINE, (roster,), 1, 2, 0)
    yield encoded("receipt header", cbor2.loads(b"".join(encode_receipt(header, ()))))


def _changes() -> Iterator[bytes]:
    """What the authority says of changes: of its own key, and of a unit's place; and a bundle with all of it."""
    successor = KeySigner(room.AUTHORITY, room.signer("next-authority").private_key)
    succession = sign_succession(
        Succession(room.ROOM, AUTHORITY.public_key, successor.public_key, 1), AUTHORITY, successor
    )
    record = Continuity(
        room=room.ROOM,
        line=room.LINE,
        desk="Desk 14",
        old_unit="desk-1",
        old_key=room.signer("desk-1").public_key,
        new_unit="desk-9",
        new_key=room.signer("desk-9").public_key,
        epoch=1,
        reason="a broken box",
    )
    for name, raw in (("succession", succession), ("continuity", sign_continuity(record, AUTHORITY))):
        yield encoded(name, raw)
        yield encoded(f"signed {name}", parts(raw)[2])
    for successions, signer in (((), AUTHORITY), ((succession,), successor)):
        resigned = sign_policy(policy(), signer)
        roster = sign_roster(replace(room.roster(), policy=digest(resigned)), signer)
        yield encoded("trust bundle", encode_bundle(TrustBundle(successions, roster, resigned)))


def _requests() -> Iterator[bytes]:
    """A box's requests to a registrar whose digest is all zeros."""
    box = room.signer("desk-9")
    enrolment = EnrolmentRequest(
        key=box.public_key, serial="0000", model="box", nonce=bytes(16), registrar=bytes(32), room=room.ROOM
    )
    renewal = RenewalRequest(unit="desk-9", key=box.public_key, challenge=bytes(16), registrar=bytes(32))
    yield encoded("enrolment", msgspec.json.encode(sign_request(enrolment, box)))
    yield encoded("renewal", msgspec.json.encode(sign_request(renewal, box)))
