"""The continuity record: only what the authority signed, only for this room, only if it makes sense."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import RemoteMessageError, Verdict
from device.messages.continuity import CONTINUITY_BYTES, Continuity, read_continuity, sign_continuity
from device.messages.envelope import ContentType, seal_envelope
from tools.vectors import room

AUTHORITY = room.signer(room.AUTHORITY)
RECORD = Continuity(
    room=room.ROOM,
    line=room.LINE,
    desk="Desk 14, window",
    old_unit="desk-1",
    old_key=room.signer("desk-1").public_key,
    new_unit="desk-1b",
    new_key=room.signer("desk-1b").public_key,
    epoch=3,
    reason="The microphone is broken.",
)
GOOD = sign_continuity(RECORD, AUTHORITY)
FIELDS: dict[int, object] = {
    1: room.ROOM,
    2: room.LINE,
    3: "",
    4: "desk-1",
    5: bytes(32),
    6: "desk-1b",
    7: bytes([1]) * 32,
    8: 3,
    9: "broken",
}


UNREADABLE = {Verdict.NOT_DECODABLE, Verdict.NOT_DETERMINISTIC, Verdict.UNKNOWN_VERSION, Verdict.WRONG_KIND}


def refused(raw: bytes, where: str = room.ROOM) -> Verdict:
    with pytest.raises(RemoteMessageError) as error:
        read_continuity(raw, authority_key=AUTHORITY.public_key, room=where)
    return error.value.verdict


@pytest.mark.parametrize("desk", ["", "Desk 14, window", "Tisch 3 („Ecke“)"])
def test_a_record_comes_back(desk: str) -> None:
    record = replace(RECORD, desk=desk)
    raw = sign_continuity(record, AUTHORITY)
    assert read_continuity(raw, authority_key=AUTHORITY.public_key, room=room.ROOM) == record


def test_a_record_signed_by_somebody_else_or_for_another_room_is_refused() -> None:
    assert refused(sign_continuity(RECORD, room.signer("desk-1"))) is Verdict.BAD_SIGNATURE
    assert refused(GOOD, "gym") is Verdict.BAD_SIGNATURE
    inside = seal_envelope(ContentType.CONTINUITY, {**FIELDS, 1: "gym"}, AUTHORITY, room=room.ROOM)
    assert refused(inside) is Verdict.WRONG_ROOM


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (2, "row/1"),
        (3, "a\nb"),
        (3, "x" * 65),
        (4, "desk-1b"),
        (5, bytes(31)),
        (6, ""),
        (7, bytes(32)),
        (8, -1),
        (9, ""),
        (9, "x" * 201),
        (9, "\x1b[31m"),
        (10, 1),
    ],
)
def test_a_signed_record_with_a_malformed_field_is_refused(key: int, value: object) -> None:
    good = seal_envelope(ContentType.CONTINUITY, FIELDS, AUTHORITY, room=room.ROOM)
    assert read_continuity(good, authority_key=AUTHORITY.public_key, room=room.ROOM).reason == "broken"
    raw = seal_envelope(ContentType.CONTINUITY, {**FIELDS, key: value}, AUTHORITY, room=room.ROOM)
    assert refused(raw) is Verdict.NOT_DECODABLE


def test_other_objects_and_oversized_ones_are_refused() -> None:
    assert refused(seal_envelope(ContentType.POLICY, {1: "lab"}, AUTHORITY, room=room.ROOM)) is Verdict.WRONG_KIND
    assert refused(bytes(CONTINUITY_BYTES + 1)) is Verdict.TOO_LARGE


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


def test_records_that_contradict_themselves_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="the same"):
        replace(RECORD, new_unit=RECORD.old_unit)
    with pytest.raises(ValueError, match="the same"):
        replace(RECORD, new_key=RECORD.old_key)
    with pytest.raises(ValueError, match="32 bytes"):
        replace(RECORD, new_key=b"short")
    with pytest.raises(ValueError, match="reason"):
        replace(RECORD, reason="")
    with pytest.raises(ValueError, match="desk"):
        replace(RECORD, desk="\x07")
    with pytest.raises(ValueError, match="negative"):
        replace(RECORD, epoch=-1)
