from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from device.clock import TimeSource
from device.errors import StorageError, TransportError, Verdict
from device.gateway.alerts import AlertBook
from device.gateway.board import Board
from device.gateway.consumers import ClassPicture
from device.gateway.ingest import RETRY_STORING_S, Ingest, LineShell, Outlets
from device.gateway.store import LabelReader, Store
from device.line.actions import Action, Alert, ClosedRound, Deliver, Gap, Infer, Persist, Publish, Witnessed
from device.messages.label import Label, LabelState
from device.messages.policy import Mode
from models.labels import Emotion
from tests.fakes.line import ScriptedLine

WALL_MS = 1_800_000_000_000
PERSIST = Persist("row-1", ClosedRound(1, 1, b"grant 1", (b"link",)), b"grant 2")
NEXT_GRANT = Publish("grant", b"grant 2", retain=True)
LATE_GRANT = Publish("grant", b"grant 3", retain=True)


class FailingStore(Store):
    """Fails as many round writes as `failures` says."""

    failures = 0

    def persist(self, *arguments: Any, **named: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError("gateway.sqlite: storing a round failed.", next_step="Free space on that disk.")
        super().persist(*arguments, **named)


class Room:
    """One scripted line and what came out of it."""

    def __init__(self, store: FailingStore, mode: Mode = Mode.LABELS) -> None:
        self.sent: list[Publish] = []
        self.away = False
        self.machine = ScriptedLine()
        self.store = store
        self.board = Board()
        self.outlets = Outlets(
            room="lab",
            mode=mode,
            desks={"desk-1": "Window left"},
            store=store,
            board=self.board,
            alerts=AlertBook(room="lab", gateway="gateway", session=1, store=store, board=self.board),
            publish=self._publish,
            class_picture=ClassPicture(room="lab", min_group=2),
        )
        self.shell = LineShell("row-1", ("desk-1", "desk-2"), self.machine, self.outlets)

    def _publish(self, message: Publish) -> None:
        if self.away:
            raise TransportError("not published", next_step="It is tried again.")
        self.sent.append(message)

    def do(self, *actions: Action, now: float = 0.0) -> None:
        """The machine asks for these actions."""
        self.machine.script.append(list(actions))
        self.shell.received("topic", b"", now, WALL_MS)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with closing(FailingStore(tmp_path / "gateway.sqlite")) as store:
        yield Room(store)


def deliver(sequence: int = 1, *, session: int = 1, link: bytes = b"link digest", unit: str = "desk-1") -> Deliver:
    label = Label(
        window_end_ms=WALL_MS - 50, time_source=TimeSource.NTP, state=LabelState.GIVEN, emotion=Emotion.HAPPINESS
    )
    return Deliver("row-1", unit, session, sequence, label, 1, 1, link, 0.0, WALL_MS, True)


def witnessed(count: int, *, enough: bool, link: bytes = b"link digest") -> Witnessed:
    return Witnessed("row-1", "desk-1", 1, link, count, enough)


def labels_sent(room: Room) -> list[tuple[str, bool]]:
    return [(f"{b'witnessed' in sent.payload}", sent.retain) for sent in room.sent if "/labels/" in sent.topic]


def test_a_round_that_cannot_be_stored_lets_nothing_later_out_and_is_tried_again(room: Room) -> None:
    room.store.failures = 2
    room.do(deliver(), PERSIST, NEXT_GRANT)
    assert room.shell.stuck and NEXT_GRANT not in room.sent
    assert room.shell.next_deadline() == RETRY_STORING_S
    room.shell.tick(RETRY_STORING_S / 2, WALL_MS)
    assert room.store.failures == 1, "not before its time"
    room.shell.tick(RETRY_STORING_S, WALL_MS)
    assert room.shell.stuck and NEXT_GRANT not in room.sent
    room.shell.tick(2 * RETRY_STORING_S, WALL_MS)
    assert room.sent[-1] == NEXT_GRANT
    assert room.store.open_grant("row-1") == b"grant 2"
    assert [label.sequence for label in LabelReader(room.store.path).since("desk-1", 0)] == [1]


def test_while_it_cannot_store_the_line_takes_nothing_in(room: Room) -> None:
    room.store.failures = 1
    room.do(PERSIST, NEXT_GRANT)
    heard = len(room.machine.events)
    room.do(LATE_GRANT, now=0.5)
    assert len(room.machine.events) == heard
    assert room.sent == []


def test_what_the_machine_asks_for_while_stuck_comes_after_what_waits(room: Room) -> None:
    room.store.failures = 2
    room.do(PERSIST, NEXT_GRANT)
    room.machine.script.append([LATE_GRANT])
    room.shell.connected(0.5, WALL_MS)
    assert room.shell.stuck
    room.shell.tick(2 * RETRY_STORING_S, WALL_MS)
    assert [sent.payload for sent in room.sent if sent.topic == "grant"] == [b"grant 2", b"grant 3"]


def test_a_label_is_stored_with_the_witnesses_it_had_gained_by_then(room: Room) -> None:
    room.do(deliver(), witnessed(1, enough=False), witnessed(2, enough=True), PERSIST)
    stored = LabelReader(room.store.path).since("desk-1", 0)
    assert [(label.status, label.witnesses, label.desk) for label in stored] == [("witnessed", 2, "Window left")]


def test_witnesses_of_the_next_round_reach_the_stored_label(room: Room) -> None:
    room.do(deliver(), PERSIST)
    room.do(witnessed(1, enough=True), Persist("row-1", ClosedRound(2, 1, b"grant 2", ()), b"grant 3"))
    assert [label.status for label in LabelReader(room.store.path).since("desk-1", 0)] == ["witnessed"]


def test_a_label_goes_out_when_signed_and_once_more_when_witnessed(room: Room) -> None:
    room.do(deliver(), witnessed(1, enough=False), witnessed(2, enough=True))
    assert labels_sent(room) == [("False", True), ("True", True)]


def test_witnesses_of_an_unknown_link_change_nothing(room: Room) -> None:
    room.do(deliver(), witnessed(2, enough=True, link=b"another"))
    assert labels_sent(room) == [("False", True)]


def test_a_backlog_goes_out_but_never_replaces_the_latest(room: Room) -> None:
    room.do(deliver(5, session=2), deliver(900, session=1, link=b"old"))
    room.do(witnessed(2, enough=True, link=b"old"))
    assert labels_sent(room) == [("False", True), ("False", False), ("True", False)]
    shown = room.board.since(0).parts["desk/row-1/desk-1"]
    assert b'"sequence":5' in bytes(shown)


def test_a_broker_that_is_away_stops_neither_storing_nor_the_page(room: Room) -> None:
    room.away = True
    room.do(deliver(), PERSIST, NEXT_GRANT)
    assert not room.shell.stuck
    assert LabelReader(room.store.path).since("desk-1", 0)
    assert "desk/row-1/desk-1" in room.board.since(0).parts


def test_a_gap_is_told_with_its_bounds_and_is_no_reason_to_stop(room: Room) -> None:
    room.do(Gap("row-1", "desk-1", 1, 3, 9), deliver(10), PERSIST)
    assert [label.sequence for label in LabelReader(room.store.path).since("desk-1", 0)] == [10]
    (told,) = room.store.newest_alerts(9)
    assert (told.code, told.peer, told.detail) == ("gap", "desk-1", "Numbers 3 to 9 of session 1 will not come.")


def test_an_alert_that_cannot_be_stored_is_told_once_when_it_can(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    stored = room.store.alert

    def fails_once(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StorageError("gateway.sqlite: storing an alert failed.", next_step="Free space on that disk.")
        stored(*arguments)

    monkeypatch.setattr(room.store, "alert", fails_once)
    room.do(Alert(Verdict.EQUIVOCATION, "desk-1", "two links", "row-1", (b"a", b"b")))
    assert room.store.newest_alerts(9) == []
    room.shell.tick(RETRY_STORING_S, WALL_MS)
    assert [alert.code for alert in room.store.newest_alerts(9)] == ["equivocation"]
    assert len([sent for sent in room.sent if sent.topic.endswith("/alerts")]) == 1


def test_a_room_that_is_off_can_have_no_line(room: Room) -> None:
    with pytest.raises(AssertionError, match="off"):
        Room(room.store, Mode.OFF)


def test_an_action_that_is_a_units_is_our_own_fault(room: Room) -> None:
    with pytest.raises(AssertionError, match="Infer"):
        room.do(Infer(1, WALL_MS))


def test_a_message_of_no_line_of_the_room_is_left_alone(room: Room) -> None:
    ingest = Ingest({"row-1": room.shell}, room.outlets, b"roster")
    for topic in ("moodline/v1/lab/row-9/link/desk-1", "moodline/v1/lab", "$SYS/broker", "", "/" * 500):
        ingest.received(topic, b"x", 0.0, WALL_MS)
    assert room.machine.events == []
    ingest.received("moodline/v1/lab/row-1/link/desk-1", b"x", 0.0, WALL_MS)
    assert room.machine.events == ["received"]


def test_the_line_panel_keeps_the_round_before_until_the_open_one_has_a_link(room: Room) -> None:
    def shown() -> tuple[int, list[str]]:
        part = json.loads(bytes(room.board.since(0).parts["line/row-1"]))
        return part["round"], part["signed"]

    room.machine.signed_units = ("desk-2", "desk-1")
    room.do()
    room.machine.round, room.machine.signed_units = 2, ()
    room.do()
    assert shown() == (1, ["desk-2", "desk-1"])
    room.machine.signed_units = ("desk-1",)
    room.do()
    assert shown() == (2, ["desk-1"])
    room.machine.round, room.machine.signed_units = 4, ()
    room.do()
    assert shown() == (4, []), "a whole round without a link is news"


def test_a_units_status_is_shown_and_one_of_a_stranger_or_another_room_is_not(room: Room) -> None:
    ingest = Ingest({"row-1": room.shell}, room.outlets, b"roster")
    payload = b'{"unit": "%s", "session": 1, "process": "running"}'
    for where, unit in (("lab/row-1", b"desk-1"), ("lab/row-1", b"desk-9"), ("other/row-1", b"desk-2")):
        ingest.received(f"moodline/v1/{where}/status/{unit.decode()}", payload % unit, 0.0, WALL_MS)
    assert [name for name in room.board.since(0).parts if name.startswith("box/")] == ["box/row-1/desk-1"]
    assert room.machine.events == []
