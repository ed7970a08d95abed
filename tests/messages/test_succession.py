"""A new room authority key: the old one must have said so, and the new one must be held by somebody."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import ContentType, KeySigner, open_envelope, seal_envelope
from device.messages.succession import SUCCESSION_BYTES, Succession, read_succession, sign_succession
from tools.vectors import room

OLD = room.signer(room.AUTHORITY)
NEW = KeySigner(room.AUTHORITY, room.signer("second-authority").private_key)
STRANGER = KeySigner(room.AUTHORITY, room.signer("stranger").private_key)
SUCCESSION = Succession(room.ROOM, OLD.public_key, NEW.public_key, 7)
GOOD = sign_succession(SUCCESSION, OLD, NEW)


UNREADABLE = {Verdict.NOT_DECODABLE, Verdict.NOT_DETERMINISTIC, Verdict.UNKNOWN_VERSION, Verdict.WRONG_KIND}


def refused(raw: bytes, where: str = room.ROOM) -> Verdict:
    with pytest.raises(RemoteMessageError) as error:
        read_succession(raw, room=where)
    return error.value.verdict


def test_a_succession_comes_back() -> None:
    assert read_succession(GOOD, room=room.ROOM) == SUCCESSION
    assert len(GOOD) < SUCCESSION_BYTES


def test_a_succession_that_the_old_key_did_not_sign_is_refused() -> None:
    assert refused(sign_succession(SUCCESSION, STRANGER, NEW)) is Verdict.BAD_SIGNATURE
    assert refused(sign_succession(SUCCESSION, NEW, NEW)) is Verdict.BAD_SIGNATURE


def test_a_succession_to_a_key_that_nobody_has_shown_to_hold_is_refused() -> None:
    with pytest.raises(RemoteMessageError, match="shown to hold") as error:
        read_succession(sign_succession(SUCCESSION, OLD, STRANGER), room=room.ROOM)
    assert error.value.verdict is Verdict.BAD_SIGNATURE


def test_a_proof_of_possession_from_another_succession_is_refused() -> None:
    possession = open_envelope(GOOD, wanted=ContentType.SUCCESSION)
    other = {1: room.ROOM, 2: OLD.public_key, 3: NEW.public_key, 4: 8}
    fields = {**other, 5: _possession(possession.payload)}
    raw = seal_envelope(ContentType.SUCCESSION, fields, OLD, room=room.ROOM)
    assert refused(raw) is Verdict.BAD_SIGNATURE


def _possession(payload: bytes) -> bytes:
    return payload[-64:]


def test_a_succession_of_another_room_is_refused() -> None:
    assert refused(GOOD, "gym") is Verdict.WRONG_ROOM
    inside = seal_envelope(
        ContentType.SUCCESSION,
        {1: "gym", 2: OLD.public_key, 3: NEW.public_key, 4: 7, 5: bytes(64)},
        OLD,
        room=room.ROOM,
    )
    assert refused(inside) is Verdict.WRONG_ROOM


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (1, "Lab 1"),
        (2, bytes(31)),
        (3, OLD.public_key),
        (3, "key"),
        (4, 0),
        (4, -1),
        (5, bytes(63)),
        (5, [1]),
        (6, 1),
    ],
)
def test_a_signed_succession_with_a_malformed_field_is_refused(key: int, value: object) -> None:
    fields: dict[int, object] = {1: room.ROOM, 2: OLD.public_key, 3: NEW.public_key, 4: 7, 5: bytes(64), key: value}
    raw = seal_envelope(ContentType.SUCCESSION, fields, OLD, room=room.ROOM)
    assert refused(raw) is Verdict.NOT_DECODABLE


def test_other_objects_and_oversized_ones_are_refused() -> None:
    assert refused(seal_envelope(ContentType.POLICY, {1: "lab"}, OLD, room=room.ROOM)) is Verdict.WRONG_KIND
    assert refused(bytes(SUCCESSION_BYTES + 1)) is Verdict.TOO_LARGE
    assert refused(b"") is Verdict.NOT_DECODABLE


def test_a_succession_cut_off_anywhere_is_refused() -> None:
    for length in range(len(GOOD)):
        assert refused(GOOD[:length]) is Verdict.NOT_DECODABLE


@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_no_changed_bit_passes(at: int, bit: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= 1 << bit
    assert refused(bytes(raw)) in UNREADABLE | {Verdict.BAD_SIGNATURE, Verdict.WRONG_ROOM}


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_random_bytes_raise_the_one_family_of_errors(raw: bytes) -> None:
    assert refused(raw) in UNREADABLE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"room": "Lab 1"}, "identifier"),
        ({"old_key": bytes(31)}, "32 bytes"),
        ({"new_key": OLD.public_key}, "follow itself"),
        ({"epoch": 0}, "from 1"),
    ],
)
def test_successions_that_contradict_themselves_cannot_be_made(changes: dict[str, object], why: str) -> None:
    fields: dict[str, object] = {
        "room": room.ROOM, "old_key": OLD.public_key, "new_key": NEW.public_key, "epoch": 7, **changes
    }  # fmt: skip
    with pytest.raises(ValueError, match=why):
        Succession(**fields)  # type: ignore[arg-type]
