from __future__ import annotations

import json
import threading

from device.gateway.board import Board, Change


def read(change: Change) -> dict[str, object]:
    return {name: json.loads(bytes(part)) for name, part in change.parts.items()}


def test_a_newcomer_gets_everything_and_then_only_what_changed() -> None:
    board = Board()
    board.put("room", {"n": 1})
    board.put("line/a", {"round": 1})
    first = board.since(0)
    assert first.whole and read(first) == {"room": {"n": 1}, "line/a": {"round": 1}}
    board.put("line/a", {"round": 2})
    later = board.since(first.revision)
    assert not later.whole and read(later) == {"line/a": {"round": 2}}
    assert read(board.since(later.revision)) == {}


def test_a_slow_reader_skips_what_is_out_of_date_and_nothing_is_queued_for_it() -> None:
    board = Board()
    seen = board.since(0).revision
    for number in range(10_000):
        board.put("line/a", {"round": number})
    board.put("room", {})
    assert read(board.since(seen)) == {"line/a": {"round": 9_999}, "room": {}}


def test_a_document_that_did_not_change_is_no_news() -> None:
    board = Board()
    woken: list[int] = []
    board.wake_with(lambda: woken.append(1))
    board.put("room", {"n": 1})
    board.put("room", {"n": 1})
    assert woken == [1]


def test_a_revision_that_this_board_never_had_gets_everything() -> None:
    board = Board()
    board.put("room", {})
    assert board.since(77).whole


def test_readers_on_other_threads_see_whole_documents() -> None:
    board = Board()
    torn: list[object] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for part in read(board.since(0)).values():
                assert isinstance(part, list)
                if len(set(part)) > 1:
                    torn.append(part)

    reader = threading.Thread(target=watch)
    reader.start()
    for number in range(500):
        board.put("room", [number] * 50)
    stop.set()
    reader.join()
    assert torn == []
