"""What retention deletes leaves a stub, and the chain is verified across it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from device.gateway.store import Store
from device.line.actions import ClosedRound, Persist
from device.messages.envelope import digest
from tests.verify.files import roster_file, some_rounds, verify
from tools.vectors import room

DAY_MS = 86_400_000


def kept_from(folder: Path, first_kept: int, *, steps: tuple[int, ...] = ()) -> tuple[Path, list[ClosedRound]]:
    """A store written by the gateway's own code, one round a day, from which retention deleted all before a round."""
    rounds, line = some_rounds()
    path = folder / "gateway.sqlite"
    with closing(Store(path)) as store:
        for number, closed in enumerate(rounds, start=1):
            following = rounds[number].grant if number < len(rounds) else line.grant()
            store.persist(Persist(room.LINE, closed, following), number * DAY_MS, [], [])
        for days in (*steps, first_kept):
            store.forget(days * DAY_MS)
        assert store.scrub()
    return path, rounds


@pytest.mark.parametrize("steps", [(), (2, 3)], ids=["deleted at once", "deleted bit by bit"])
def test_the_chain_is_verified_across_deleted_rounds(tmp_path: Path, steps: tuple[int, ...]) -> None:
    path, rounds = kept_from(tmp_path, 5, steps=steps)
    ran = verify(path, "--roster", roster_file(tmp_path), "--head", digest(rounds[3].links[-1]).hex())
    (line,) = ran.document["lines"]
    assert ran.code == 0
    assert (line["first_round"], line["last_round"], line["rounds"]) == (5, 8, 4)
    assert {key: line["deleted"][key] for key in ("first_round", "last_round", "links")} == {
        "first_round": 1,
        "last_round": 4,
        "links": 12,
    }


def test_a_log_of_which_everything_was_deleted_is_verified_up_to_its_open_grant(tmp_path: Path) -> None:
    path, rounds = kept_from(tmp_path, 99)
    ran = verify(path, "--roster", roster_file(tmp_path))
    (line,) = ran.document["lines"]
    assert (ran.code, line["rounds"], line["deleted"]["last_round"], line["open_round"]) == (0, 0, 8, 9)
    assert line["head"] == digest(rounds[-1].links[-1]).hex()


def test_a_kept_receipt_shows_that_it_is_the_deleted_span_and_no_other_does(tmp_path: Path) -> None:
    whole, _ = kept_from(tmp_path, 1)
    roster = roster_file(tmp_path)
    receipts = {}
    for first, last in ((1, 4), (1, 3), (2, 4)):
        receipts[first, last] = tmp_path / f"receipt-{first}-{last}"
        arguments = ("--export", receipts[first, last], "--from", first, "--to", last)
        assert verify(whole, "--roster", roster, *arguments).code == 0
    with closing(Store(whole)) as store:
        store.forget(5 * DAY_MS)
    ran = verify(whole, "--roster", roster, "--deleted", receipts[1, 4])
    assert ran.code == 0 and "exactly the rounds that were deleted" in ran.document["notes"][-1]
    for other in ((1, 3), (2, 4)):
        assert verify(whole, "--roster", roster, "--deleted", receipts[other]).finding == ("stub_mismatch", 0, None)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("DELETE FROM stubs", ("start_missing", 5, 0)),
        ("UPDATE stubs SET head = zeroblob(32)", ("stub_mismatch", 5, 0)),
        ("UPDATE stubs SET last_round = 3", ("round_missing", 4, None)),
        ("UPDATE stubs SET last_round = 6", ("round_out_of_order", 5, 0)),
        ("UPDATE stubs SET first_round = 2", ("start_missing", 2, None)),
        ("UPDATE stubs SET prev = randomblob(32)", ("start_missing", 1, None)),
        ("UPDATE stubs SET last_round = 0", ("stub_mismatch", 1, None)),
        ("DELETE FROM rounds WHERE round = 5", ("round_missing", 5, None)),
        ("DELETE FROM rounds", ("cut_at_end", 9, 0)),
    ],
)
def test_a_stub_that_does_not_fit_is_found(tmp_path: Path, change: str, finding: tuple[str, int, int | None]) -> None:
    path, _ = kept_from(tmp_path, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("PRAGMA foreign_keys = ON")
        intruder.execute(change)
    assert verify(path, "--roster", roster_file(tmp_path)).finding == finding


def test_a_grant_of_a_deleted_round_says_nothing_and_that_is_said(tmp_path: Path) -> None:
    path, rounds = kept_from(tmp_path, 5)
    held = tmp_path / "grant-2.cose"
    held.write_bytes(rounds[1].grant)
    ran = verify(path, "--roster", roster_file(tmp_path), "--grant", held)
    assert ran.code == 0 and "it says nothing here" in ran.document["notes"][0]


def test_deleted_rounds_cannot_be_exported(tmp_path: Path) -> None:
    path, _ = kept_from(tmp_path, 5)
    ran = verify(path, "--roster", roster_file(tmp_path), "--export", tmp_path / "r", "--from", 4, "--to", 6)
    assert ran.code == 2 and "it holds 5 to 8" in ran.error
