"""The roster: only what the authority signed, only for this room, only if it makes sense."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import ContentType, seal_envelope
from device.messages.roster import ROSTER_BYTES, SealingSuite, read_roster, sign_roster
from tools.vectors import hybrid, room

AUTHORITY = room.signer(room.AUTHORITY)


def _read(raw: bytes, where: str = room.ROOM) -> None:
    read_roster(raw, authority_key=AUTHORITY.public_key, room=where)


def test_a_roster_comes_back() -> None:
    roster = room.roster(40, epoch=3, revoked=frozenset({"desk-7"}))
    assert read_roster(sign_roster(roster, AUTHORITY), authority_key=AUTHORITY.public_key, room=room.ROOM) == roster


def test_revoked_units_stay_listed_and_do_not_speak() -> None:
    roster = room.roster(3, revoked=frozenset({"desk-2"}))
    assert [unit.unit for unit in roster.units_of(room.LINE)] == ["desk-1", "desk-3"]
    assert roster.line_of("desk-2") == room.LINE
    assert roster.units_of("nowhere") == ()
    assert roster.line_of("nobody") is None


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        (sign_roster(room.roster(), room.signer("desk-1")), Verdict.BAD_SIGNATURE),
        (sign_roster(room.roster(room="gym"), AUTHORITY), Verdict.BAD_SIGNATURE),
        (b"", Verdict.NOT_DECODABLE),
        (bytes(ROSTER_BYTES + 1), Verdict.TOO_LARGE),
        (seal_envelope(ContentType.POLICY, {1: "lab"}, AUTHORITY, room=room.ROOM), Verdict.WRONG_KIND),
        (seal_envelope(ContentType.ROSTER, {1: "lab"}, AUTHORITY, room=room.ROOM), Verdict.NOT_DECODABLE),
    ],
    ids=["signed by a unit", "another room", "empty", "oversized", "policy", "fields missing"],
)
def test_false_rosters(raw: bytes, verdict: Verdict) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        _read(raw)
    assert refused.value.verdict is verdict


def test_a_roster_that_names_another_room_inside() -> None:
    raw = sign_roster(room.roster(), AUTHORITY)
    other = seal_envelope(
        ContentType.ROSTER,
        {1: "gym", 2: 1, 3: {}, 4: [], 5: [], 6: bytes(32), 7: 1},
        AUTHORITY,
        room=room.ROOM,
    )
    _read(raw)
    with pytest.raises(RemoteMessageError) as refused:
        _read(other)
    assert refused.value.verdict is Verdict.WRONG_ROOM


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (3, {room.LINE: [["desk-1", b"short", bytes(32), 1]]}),
        (4, ["gateway", bytes(32)]),
        (4, ["gateway", bytes(32), bytes(1_216), bytes(32)]),
        (4, ["gateway", bytes(32), bytes(31), bytes(32)]),
        (7, 2),
        (5, ["nobody"]),
    ],
    ids=["unit", "gateway", "opening key of suite 2", "opening key too short", "suite 2, key of suite 1", "revoked"],
)
def test_a_signed_roster_with_a_malformed_row(key: int, value: object) -> None:
    fields: dict[int, object] = {
        1: room.ROOM, 2: 1, 3: {}, 4: ["gateway", bytes(32), bytes(32), bytes(32)], 5: [], 6: bytes(32), 7: 1
    }  # fmt: skip
    _read(seal_envelope(ContentType.ROSTER, fields, AUTHORITY, room=room.ROOM))
    with pytest.raises(RemoteMessageError) as refused:
        _read(seal_envelope(ContentType.ROSTER, {**fields, key: value}, AUTHORITY, room=room.ROOM))
    assert refused.value.verdict is Verdict.NOT_DECODABLE


def test_a_suite_that_this_program_does_not_know() -> None:
    fields: dict[int, object] = {
        1: room.ROOM, 2: 1, 3: {}, 4: ["gateway", bytes(32), bytes(32), bytes(32)], 5: [], 6: bytes(32), 7: 99
    }  # fmt: skip
    with pytest.raises(RemoteMessageError, match="asks for sealing suite 99; this program has 1, 2") as refused:
        _read(seal_envelope(ContentType.ROSTER, fields, AUTHORITY, room=room.ROOM))
    assert refused.value.verdict is Verdict.UNKNOWN_VERSION
    assert refused.value.next_step == "Update the box that runs the older program."


def test_a_roster_of_the_hybrid_suite_comes_back() -> None:
    roster = hybrid.roster(40)
    raw = sign_roster(roster, AUTHORITY)
    assert read_roster(raw, authority_key=AUTHORITY.public_key, room=room.ROOM) == roster
    assert len(raw) - len(sign_roster(room.roster(40), AUTHORITY)) == 1_216 - 32 + 1


def test_rosters_that_contradict_themselves_cannot_be_made() -> None:
    roster = room.roster(2)
    units = roster.lines[room.LINE]
    with pytest.raises(ValueError, match="twice"):
        replace(roster, lines={room.LINE: (*units, units[0])})
    with pytest.raises(ValueError, match="same key"):
        replace(roster, lines={room.LINE: (units[0], replace(units[1], key=units[0].key))})
    with pytest.raises(ValueError, match="revoked"):
        replace(roster, revoked=frozenset({"desk-9"}))
    with pytest.raises(ValueError, match="identifier"):
        replace(roster, lines={"row/1": units})
    with pytest.raises(ValueError, match="no line may be named 'labels'"):
        replace(roster, lines={"labels": units})
    with pytest.raises(ValueError, match="the opening key has 32 bytes, suite 2 takes 1216"):
        replace(roster, suite=SealingSuite.MLKEM768_X25519_SHA256_CHACHA20POLY1305)
    with pytest.raises(ValueError, match="epoch"):
        replace(roster, epoch=0)
