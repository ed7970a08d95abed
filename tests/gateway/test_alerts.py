from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from device.errors import StorageError, Verdict
from device.gateway.alerts import ALERTS_PER_WINDOW, REPEAT_WINDOW_S, AlertBook
from device.gateway.board import Board
from device.gateway.store import Store
from device.line.actions import Alert, Gap, Notice
from tests.gateway import schemas

WALL_MS = 1_800_000_000_000
FORGED = Alert(Verdict.BAD_SIGNATURE, "desk-1", "signature of desk-1 does not verify", "row-1")
LATE = Alert(Verdict.STALE_ROUND, "desk-2", "A link for round 4; round 5 is open.", "row-1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "gateway.sqlite")) as opened:
        yield opened


def a_book(store: Store, board: Board | None = None, session: int = 1) -> AlertBook:
    return AlertBook(room="lab", gateway="gateway", session=session, store=store, board=board or Board())


def shown(board: Board) -> list[dict[str, object]]:
    part = json.loads(bytes(board.since(0).parts["alerts"]))
    assert isinstance(part, list)
    return part


def test_the_same_finding_is_told_once_and_its_repeats_come_with_the_next_telling(store: Store) -> None:
    book = a_book(store)
    assert book.take(FORGED, 0.0, WALL_MS) is not None
    assert [book.take(FORGED, second, WALL_MS) for second in (0.1, 1.0, 9.0)] == [None, None, None]
    again = book.take(FORGED, REPEAT_WINDOW_S, WALL_MS)
    assert again is not None and again.document.repeats == 3


def test_a_flood_with_ever_new_names_is_held_down(store: Store) -> None:
    book = a_book(store)
    flood = [Alert(Verdict.UNKNOWN_SIGNER, f"ghost-{number}", "not on the roster", "row-1") for number in range(5_000)]
    told = [alert for alert in flood if book.take(alert, 1.0, WALL_MS) is not None]
    assert len(told) == ALERTS_PER_WINDOW


def test_every_gap_is_told_with_its_bounds(store: Store) -> None:
    book = a_book(store)
    gaps = [Gap("row-1", "desk-1", 1, first, first + 1) for first in (1, 5, 9)]
    told = [book.take(gap, 1.0, WALL_MS) for gap in (*gaps, gaps[0])]
    assert [each is not None for each in told] == [True, True, True, False]
    assert told[1] is not None and told[1].document.detail == "Numbers 5 to 6 of session 1 will not come."


def test_a_proof_is_told_even_in_a_flood(store: Store) -> None:
    book = a_book(store)
    for number in range(ALERTS_PER_WINDOW):
        book.take(Alert(Verdict.UNKNOWN_SIGNER, f"ghost-{number}", "not on the roster", "row-1"), 1.0, WALL_MS)
    proved = Alert(Verdict.EQUIVOCATION, "desk-1", "two links", "row-1", (b"one", b"other"))
    told = book.take(proved, 1.0, WALL_MS)
    assert told is not None and told.proof == (b"one", b"other")


def test_what_was_told_is_stored_shown_and_published(store: Store) -> None:
    board = Board()
    book = a_book(store, board)
    told = book.take(FORGED, 0.0, WALL_MS)
    assert told is not None
    message = book.keep(told)
    assert (message.topic, message.retain) == ("moodline/v1/lab/alerts", False)
    schemas.check("alert", message.payload)
    assert store.newest_alerts(1) == [told.document]
    assert [alert["event_id"] for alert in shown(board)] == ["gateway/1/1"]


def test_after_a_restart_the_page_shows_the_stored_alerts_and_numbers_go_on_in_a_new_session(store: Store) -> None:
    first = a_book(store)
    told = first.take(FORGED, 0.0, WALL_MS)
    assert told is not None
    first.keep(told)
    board = Board()
    second = a_book(store, board, session=2)
    again = second.take(FORGED, 0.0, WALL_MS + 1)
    assert again is not None
    second.keep(again)
    assert [alert["event_id"] for alert in shown(board)] == ["gateway/2/1", "gateway/1/1"]


def test_notes_of_a_bad_network_never_push_out_what_was_refused(store: Store) -> None:
    board = Board()
    book = a_book(store, board)
    for number, alert in enumerate([FORGED] + [LATE] * 60):
        told = book.take(alert, number * 2 * REPEAT_WINDOW_S, WALL_MS + number)
        assert told is not None
        book.keep(told)
    severities = [alert["severity"] for alert in shown(board)]
    assert severities.count("refused") == 1
    assert 0 < severities.count("note") < 10


def test_a_fault_of_the_disk_is_shown_once_for_each_line_until_it_is_over(store: Store) -> None:
    board = Board()
    book = a_book(store, board)
    fault = StorageError("gateway.sqlite: storing failed.", next_step="Free space on that disk.")
    book.show_storage_fault("row-1", fault, WALL_MS)
    book.show_storage_fault("row-1", fault, WALL_MS + 1_000)
    assert [(alert["code"], alert["next_step"]) for alert in shown(board)] == [
        ("not_storing", "Free space on that disk.")
    ]
    book.storage_is_back("row-1")
    assert shown(board) == []


def test_a_desk_that_comes_back_is_a_note_and_one_that_leaves_a_warning(store: Store) -> None:
    book = a_book(store)
    found = [
        book.take(Alert(code, "desk-1", "text", "row-1"), 0.0, WALL_MS)
        for code in (Notice.UNIT_RETURNED, Notice.UNIT_ABSENT)
    ]
    assert [told.document.severity for told in found if told] == ["note", "warning"]
