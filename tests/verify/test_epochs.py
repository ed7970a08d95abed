"""A log may span rosters: each object is judged under the roster of its own epoch, and by nothing of today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device.line.actions import ClosedRound
from device.messages.envelope import KeySigner
from device.messages.roster import sign_roster
from device.messages.succession import Succession, sign_succession
from device.messages.trust_bundle import TrustBundle, encode_bundle
from tests.verify.files import AUTHORITY_HEX, UNITS, roster_file, store_file, verify
from tools.vectors import room
from tools.verify.synthetic import SyntheticLine

LATER = room.roster(UNITS, epoch=3, revoked=frozenset({"desk-2"}))


def two_epochs() -> tuple[list[ClosedRound], SyntheticLine]:
    """Four rounds of epoch 1 with three units, four of epoch 3 without desk-2, which was revoked."""
    line = SyntheticLine(UNITS)
    rounds = list(line.rounds(4))
    line.epoch = 3
    line._signers = [signer for signer in line._signers if signer.key_id != "desk-2"]
    return [*rounds, *line.rounds(4)], line


def test_a_unit_that_was_revoked_later_was_good_in_its_time(tmp_path: Path) -> None:
    path = store_file(tmp_path, *two_epochs())
    old, new = roster_file(tmp_path), roster_file(tmp_path, LATER)
    ran = verify(path, "--roster", new, "--roster", old, "--authority", AUTHORITY_HEX)
    assert (ran.code, ran.document["lines"][0]["epochs"]) == (0, [1, 3])
    assert ran.document["rosters"] == "signed by the given authority"


def test_a_log_across_a_change_of_the_authoritys_key_is_judged_by_any_one_of_its_keys(tmp_path: Path) -> None:
    path = store_file(tmp_path, *two_epochs())
    old_key = KeySigner(room.AUTHORITY, room.signer(room.AUTHORITY).private_key)
    new_key = KeySigner(room.AUTHORITY, room.signer("next-authority").private_key)
    succession = Succession(room.ROOM, old_key.public_key, new_key.public_key, 3)
    trust, later = tmp_path / "trust.cbor", tmp_path / "later.cose"
    later.write_bytes(sign_roster(LATER, new_key))
    bundle = TrustBundle((sign_succession(succession, old_key, new_key),), later.read_bytes(), b"")
    trust.write_bytes(encode_bundle(bundle))
    rosters = ("--roster", roster_file(tmp_path), "--roster", later)
    for key in (old_key, new_key):
        ran = verify(path, *rosters, "--trust", trust, "--authority", key.public_key.hex())
        assert (ran.code, ran.document["rosters"]) == (0, "signed by the given authority")
    without = verify(path, *rosters, "--authority", AUTHORITY_HEX)
    assert (without.code, without.document) == (2, {})
    assert "epoch 3, is not signed by this authority" in without.error
    backdated = tmp_path / "backdated.cose"
    backdated.write_bytes(sign_roster(room.roster(UNITS), new_key))
    refused = verify(path, "--roster", backdated, "--trust", trust, "--authority", AUTHORITY_HEX)
    assert (refused.code, refused.document) == (2, {})
    assert "epoch 1, is not signed by this authority" in refused.error
    stranger = verify(path, *rosters, "--trust", trust, "--authority", room.signer("stranger").public_key.hex())
    assert (stranger.code, stranger.document) == (2, {})
    assert "trust.cbor: does not lead from the given authority" in stranger.error
    assert "Give --authority, too" in verify(path, *rosters, "--trust", trust).error


def test_a_revoked_unit_that_signs_on_is_found(tmp_path: Path) -> None:
    line = SyntheticLine(UNITS)
    line.epoch = 3
    ran = verify(store_file(tmp_path, line.rounds(3), line), "--roster", roster_file(tmp_path, LATER))
    assert ran.finding == ("revoked", 1, 2)


@pytest.mark.parametrize(("given", "missing"), [(room.roster(UNITS), 3), (LATER, 1)])
def test_a_missing_roster_is_named_by_its_epoch(tmp_path: Path, given: object, missing: int) -> None:
    path = store_file(tmp_path, *two_epochs())
    ran = verify(path, "--roster", roster_file(tmp_path, given))  # type: ignore[arg-type]
    assert (ran.code, ran.document) == (2, {})
    assert f"no roster of epoch {missing} was given" in ran.error


def test_epochs_never_run_backwards(tmp_path: Path) -> None:
    line = SyntheticLine(UNITS)
    line.epoch = 3
    rounds = list(line.rounds(2))
    line.epoch = 1
    rounds += line.rounds(2)
    rosters = ("--roster", roster_file(tmp_path), "--roster", roster_file(tmp_path, room.roster(UNITS, epoch=3)))
    assert verify(store_file(tmp_path, rounds, line), *rosters).finding == ("stale_epoch", 3, 0)


def test_a_roster_by_somebody_else_is_no_roster(tmp_path: Path) -> None:
    path = store_file(tmp_path, *two_epochs())
    forged = roster_file(tmp_path, by="forger")
    ran = verify(path, "--roster", forged, "--authority", AUTHORITY_HEX)
    assert ran.code == 2 and "not signed by this authority" in ran.error
    pem = tmp_path / "room-authority.pem"
    pem.write_text("-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----\n")
    assert verify(path, "--roster", forged, "--authority", pem).code == 2


def test_without_the_authoritys_key_the_roster_is_said_to_be_on_trust(tmp_path: Path) -> None:
    line = SyntheticLine(UNITS)
    ran = verify(store_file(tmp_path, line.rounds(2), line), "--roster", roster_file(tmp_path))
    assert (ran.code, ran.document["rosters"]) == (0, "on trust")


def test_two_rosters_of_one_epoch_or_of_two_rooms_are_refused(tmp_path: Path) -> None:
    line = SyntheticLine(UNITS)
    path = store_file(tmp_path, line.rounds(2), line)
    other = tmp_path / "other.cose"
    other.write_bytes(sign_roster(room.roster(UNITS + 1), room.signer(room.AUTHORITY)))
    ran = verify(path, "--roster", roster_file(tmp_path), "--roster", other)
    assert ran.code == 2 and "another roster of epoch 1" in ran.error
    other.write_bytes(sign_roster(room.roster(UNITS, epoch=2, room="gym"), room.signer(room.AUTHORITY)))
    ran = verify(path, "--roster", roster_file(tmp_path), "--roster", other)
    assert ran.code == 2 and "of room gym" in ran.error


def test_a_changed_certificate_or_policy_changes_no_verdict(tmp_path: Path) -> None:
    """Certificates expire and policies end; the log of their time stays good."""
    line = SyntheticLine(UNITS)
    roster = room.roster(UNITS)
    units = tuple(replace(unit, certificate=b"\x01" * 32) for unit in roster.lines[room.LINE])
    renewed = replace(roster, lines={room.LINE: units}, policy=b"\x02" * 32)
    assert verify(store_file(tmp_path, line.rounds(2), line), "--roster", roster_file(tmp_path, renewed)).code == 0
