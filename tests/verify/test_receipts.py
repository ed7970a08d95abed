"""Receipts and proofs: written from a verified log, checked off line by the same command."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from device.gateway.store import Store
from device.line.verify import SignedLink
from device.messages.envelope import digest
from device.messages.grant import Accepted, sign_grant
from device.messages.receipt import ReceiptHeader, encode_receipt, read_receipt
from tests.gateway.scripted import an_alert
from tests.verify.files import AUTHORITY_HEX, UNITS, Ran, roster_file, some_rounds, store_file, verify
from tools.attacks import forge_link
from tools.vectors import room
from tools.vectors.cases import Round, SealedEntries, grant_7
from tools.verify.receipts import proof_pieces, write_pieces
from tools.verify.rosters import load_rosters


def exported(folder: Path, first: int, last: int) -> tuple[Path, Path, Ran]:
    """A receipt of some rounds, the roster, and the run that wrote it."""
    rounds, line = some_rounds()
    roster, receipt = roster_file(folder), folder / "receipt"
    store = store_file(folder, rounds, line)
    ran = verify(store, "--roster", roster, "--export", receipt, "--from", first, "--to", last)
    return receipt, roster, ran


def opened(path: Path) -> tuple[ReceiptHeader, list[bytes]]:
    header, objects = read_receipt(io.BytesIO(path.read_bytes()), message_bytes=1 << 16)
    return header, list(objects)


def rewritten(path: Path, objects: list[bytes], **changes: object) -> None:
    header, _ = opened(path)
    changed = replace(header, **{"objects": len(objects), **changes})  # type: ignore[arg-type]
    path.write_bytes(b"".join(encode_receipt(changed, objects)))


@pytest.mark.parametrize(("first", "last"), [(1, 8), (3, 5), (8, 8)])
def test_a_receipt_holds_its_span_the_roster_and_the_grant_that_closes_it(
    tmp_path: Path, first: int, last: int
) -> None:
    receipt, roster, ran = exported(tmp_path, first, last)
    assert ran.code == 0
    header, objects = opened(receipt)
    assert (header.room, header.line, header.first, header.last) == (room.ROOM, room.LINE, first, last)
    assert header.rosters == (roster.read_bytes(),)
    assert len(objects) == (last - first + 1) * (1 + UNITS) + 1
    alone = verify(receipt, "--authority", AUTHORITY_HEX)
    (line,) = alone.document["lines"]
    assert (alone.code, alone.document["kind"]) == (0, "receipt")
    assert (line["first_round"], line["last_round"], line["open_round"]) == (first, last, last + 1)
    begins = [note for note in alone.document["notes"] if note.startswith(f"Begins at round {first}:")]
    assert len(begins) == (first > 1)


def test_a_receipt_of_a_receipt_is_the_same_as_of_the_log(tmp_path: Path) -> None:
    wide, roster, _ = exported(tmp_path, 2, 7)
    narrow = tmp_path / "narrow"
    assert verify(wide, "--roster", roster, "--export", narrow, "--from", 3, "--to", 5).code == 0
    (tmp_path / "direct").mkdir()
    direct, _, _ = exported(tmp_path / "direct", 3, 5)
    assert opened(narrow)[0] == opened(direct)[0]


def test_whom_the_roster_in_a_receipt_is_believed_by(tmp_path: Path) -> None:
    receipt, roster, _ = exported(tmp_path, 3, 5)
    assert verify(receipt).document["rosters"] == "from the file itself, on trust"
    assert verify(receipt, "--roster", roster).document["rosters"] == "on trust"
    assert verify(receipt, "--authority", AUTHORITY_HEX).document["rosters"] == "signed by the given authority"
    forged = verify(receipt, "--authority", room.signer("forger").public_key.hex())
    assert forged.code == 2 and "not signed by this authority" in forged.error
    other = roster_file(tmp_path, room.roster(UNITS, epoch=2))
    missing = verify(receipt, "--roster", other)
    assert missing.code == 2 and "no roster of epoch 1" in missing.error


def test_a_tampered_receipt_is_found(tmp_path: Path) -> None:
    receipt, roster, _ = exported(tmp_path, 3, 5)
    _, objects = opened(receipt)
    whole = receipt.read_bytes()
    found = []
    for changed in (
        [*objects[:2], forge_link(objects[2]), *objects[3:]],
        [*objects[:4], *objects[8:]],
        objects[1:],
        [*objects[:-2], objects[-1]],
        [*objects, objects[-1]],
    ):
        rewritten(receipt, changed)
        found.append(verify(receipt, "--roster", roster).finding)
    receipt.write_bytes(whole[:-40])
    found.append(verify(receipt, "--roster", roster).finding)
    receipt.write_bytes(whole)
    rewritten(receipt, objects, last=9)
    found.append(verify(receipt, "--roster", roster).finding)
    rewritten(receipt, objects[:-5])
    found.append(verify(receipt, "--roster", roster).finding)
    assert found == [
        ("bad_signature", 3, 2),
        ("round_missing", 4, None),
        ("wrong_kind", 0, 0),
        ("wrong_previous", 6, 0),
        ("round_out_of_order", 6, 0),
        ("damaged_file", 0, None),
        ("damaged_file", 6, None),
        ("damaged_file", 4, None),
    ]


def test_without_its_closing_grant_a_receipt_says_what_could_be_missing(tmp_path: Path) -> None:
    receipt, roster, _ = exported(tmp_path, 3, 5)
    _, objects = opened(receipt)
    closing = tmp_path / "grant-6.cose"
    closing.write_bytes(objects[-1])
    rewritten(receipt, objects[:-2])
    ran = verify(receipt, "--roster", roster)
    assert ran.code == 0
    assert any("links at its very end could be missing" in note for note in ran.document["notes"])
    assert verify(receipt, "--roster", roster, "--grant", closing).finding == ("wrong_previous", 6, 0)
    rewritten(receipt, objects[:-1])
    shown = verify(receipt, "--roster", roster, "--grant", closing)
    assert shown.code == 0
    assert any("nothing is missing at its end" in note for note in shown.document["notes"])


@pytest.mark.parametrize(("first", "last"), [(0, 3), (5, 9), (6, 5)])
def test_rounds_that_are_not_there_cannot_be_exported(tmp_path: Path, first: int, last: int) -> None:
    receipt, _, ran = exported(tmp_path, first, last)
    assert ran.code == 2 and "are not all there" in ran.error
    assert not receipt.exists()


def test_nothing_is_exported_from_a_log_that_does_not_hold(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    path = store_file(tmp_path, [*rounds[:6], *rounds[7:]], line)
    receipt = tmp_path / "receipt"
    ran = verify(path, "--roster", roster_file(tmp_path), "--export", receipt, "--from", 1, "--to", 3)
    assert ran.code == 1 and not receipt.exists()


PLAY = Round(SealedEntries({}))
OTHER = replace(PLAY.good, prev=digest(PLAY.grant))
EQUIVOCATION = (PLAY.signed(PLAY.good), PLAY.signed(OTHER))
REWRITTEN = (PLAY.grant, sign_grant(replace(grant_7(), gateway_ms=1), room.signer(room.GATEWAY)))
WITHDRAWN = (
    PLAY.grant,
    sign_grant(
        replace(grant_7(), round=9, accepted={**grant_7().accepted, "desk-2": Accepted(5, 5, 19)}),
        room.signer(room.GATEWAY),
    ),
)
HONEST = (PLAY.signed(PLAY.good), PLAY.signed(replace(PLAY.good, round=8)))


def proof_file(folder: Path, proof: tuple[bytes, bytes]) -> tuple[Path, Path]:
    roster = roster_file(folder, room.roster())
    path = folder / "a.proof"
    write_pieces(path, proof_pieces(proof, load_rosters([roster], None), room.LINE))
    return path, roster


@pytest.mark.parametrize(
    ("proof", "signer", "code", "says"),
    [
        (EQUIVOCATION, "desk-2", "equivocation", "desk-2 signed two links in session 5 for round 7"),
        (REWRITTEN, room.GATEWAY, "grant_rewritten", "A second, different grant for round 7."),
        (WITHDRAWN, room.GATEWAY, "acknowledgement_withdrawn", "Grant 9 acknowledges less of desk-2 than grant 7 did."),
    ],
)
def test_g5_g8_a_proof_file_proves_what_it_proves(
    tmp_path: Path, proof: tuple[bytes, bytes], signer: str, code: str, says: str
) -> None:
    path, roster = proof_file(tmp_path, proof)
    for arguments in (("--roster", roster), ("--authority", AUTHORITY_HEX)):
        ran = verify(path, *arguments)
        assert (ran.code, ran.document["kind"]) == (0, "proof")
        proved = ran.document["proved"]
        assert (proved["signer"], proved["code"], proved["sentence"]) == (signer, code, says)


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        (HONEST, "proves_nothing"),
        ((EQUIVOCATION[0], EQUIVOCATION[0]), "proves_nothing"),
        ((EQUIVOCATION[0], forge_link(EQUIVOCATION[1])), "bad_signature"),
        ((EQUIVOCATION[0], PLAY.grant), "wrong_kind"),
    ],
    ids=["an honest resend", "one link twice", "a forged half", "a link and a grant"],
)
def test_a_file_that_proves_nothing_accuses_nobody(tmp_path: Path, proof: tuple[bytes, bytes], code: str) -> None:
    path, roster = proof_file(tmp_path, proof)
    ran = verify(path, "--roster", roster)
    assert (ran.code, ran.finding[0], ran.document["proved"]) == (1, code, None)


def test_a_proof_of_one_object_proves_nothing(tmp_path: Path) -> None:
    path, roster = proof_file(tmp_path, EQUIVOCATION)
    rewritten(path, [EQUIVOCATION[0]])
    assert verify(path, "--roster", roster).finding[0] == "damaged_file"


def test_the_gateways_stored_proofs_become_files_that_stand_alone(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    path = store_file(tmp_path, rounds, line)
    store = Store(path)
    store.alert(an_alert(1), EQUIVOCATION)
    store.alert(an_alert(2), HONEST)
    store.alert(an_alert(3))
    store.close()
    folder = tmp_path / "proofs"
    ran = verify(path, "--roster", roster_file(tmp_path), "--proofs", folder)
    assert ran.code == 0
    (proof,) = folder.iterdir()
    assert any("Stored proof 2 was left out" in note for note in ran.document["notes"])
    alone = verify(proof, "--authority", AUTHORITY_HEX)
    assert (alone.code, alone.document["proved"]["signer"]) == (0, "desk-2")


def test_the_digest_of_every_object_is_that_of_its_bytes_in_the_file(tmp_path: Path) -> None:
    receipt, roster, _ = exported(tmp_path, 3, 5)
    _, objects = opened(receipt)
    for raw in objects[:-1]:
        assert verify(receipt, "--roster", roster, "--head", digest(raw).hex()).code == 0
    assert isinstance(PLAY.view().links["desk-1"], SignedLink)
