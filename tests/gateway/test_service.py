from __future__ import annotations

import json
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.clock import TimeSource
from device.errors import ConfigError
from device.gateway.service import Ending
from device.gateway.store import LabelReader
from device.line.log import follow_log
from device.messages import topics
from device.messages.policy import Mode
from device.publish.ports import Event
from device.system.trusted_time import TIME_FILE
from device.trust import Trusted
from models.labels import Emotion
from tests.gateway import schemas
from tests.gateway.memory_room import DAY_MS, MemoryRoom, a_policy
from tests.gateway.test_store import files_no_larger_than
from tools.vectors import room

STATUS = topics.gateway_status(room.ROOM)
ALERTS = topics.alerts(room.ROOM)
CLASS = topics.class_picture(room.ROOM)


@pytest.fixture
def memory_room(tmp_path: Path) -> Iterator[MemoryRoom]:
    built = MemoryRoom(tmp_path)
    yield built
    built.store.close()


def sequences(memory_room: MemoryRoom, unit: str) -> list[int]:
    return [label.sequence for label in LabelReader(memory_room.store.path).since(unit, 0)]


def test_every_label_is_verified_handed_on_shown_and_stored_without_a_gap(memory_room: MemoryRoom) -> None:
    memory_room.run(5.0)
    for unit in room.unit_names(4):
        sent = memory_room.labels(unit)
        assert {label["label"] for label in sent} == {"happiness"}
        assert sorted({label["sequence"] for label in sent}) == list(range(1, len({x["sequence"] for x in sent}) + 1))
        stored = sequences(memory_room, unit)
        assert stored == list(range(1, len(stored) + 1)) and len(stored) >= 8
        assert memory_room.shown(f"desk/{room.LINE}/{unit}")["sequence"] == sent[-1]["sequence"]
    assert memory_room.published(ALERTS) == []


def test_every_message_to_consumers_agrees_with_its_schema(memory_room: MemoryRoom) -> None:
    memory_room.run(3.0)
    memory_room.broker.deliver(topics.link(room.ROOM, room.LINE, "desk-1"), b"\xff" * 40)
    memory_room.settle()
    kinds = {STATUS: "gateway-status", ALERTS: "alert"}
    kinds |= {topics.labels(room.ROOM, room.LINE, unit): "label" for unit in room.unit_names(4)}
    checked = dict.fromkeys(kinds.values(), 0)
    for topic, payload in memory_room.broker.published:
        if topic in kinds:
            schemas.check(kinds[topic], payload)
            checked[kinds[topic]] += 1
    assert all(checked.values()), checked


def test_labels_become_witnessed_and_the_stored_log_verifies_offline(memory_room: MemoryRoom) -> None:
    memory_room.run(5.0)
    sent = memory_room.labels("desk-1")
    assert [label["status"] for label in sent if label["sequence"] == 3] == ["signed", "witnessed"]
    stored = LabelReader(memory_room.store.path).since("desk-1", 0)
    assert {(label.status, label.witnesses) for label in stored[:-2]} == {("witnessed", 2)}
    log = memory_room.store.rounds(room.LINE, limit=1_000)
    assert len(list(follow_log(log, roster=room.roster(), line=room.LINE, limits=memory_room.limits))) == len(log) > 5


def test_the_line_panel_names_who_opened_the_round_and_who_has_signed(memory_room: MemoryRoom) -> None:
    openers = set()
    for _ in range(8):
        memory_room.run(0.5)
        line = memory_room.shown(f"line/{room.LINE}")
        openers.add(line["opener"])
        assert line["opener"] == line["signed"][0]
        assert set(line["signed"]) == set(line["live"]) == set(room.unit_names(4))
    assert openers == set(room.unit_names(4))


def test_a_forged_and_a_replayed_link_are_refused_in_plain_words_and_deliver_nothing(memory_room: MemoryRoom) -> None:
    memory_room.run(3.0)
    topic = topics.link(room.ROOM, room.LINE, "desk-2")
    genuine = [payload for name, payload in memory_room.broker.published if name == topic]
    before = len(memory_room.labels("desk-2"))
    forged = bytearray(genuine[-1])
    forged[-1] ^= 1
    memory_room.broker.deliver(topic, bytes(forged))
    memory_room.broker.deliver(topic, genuine[2])
    memory_room.service.step()
    memory_room.service.step()
    told = memory_room.published(ALERTS)
    assert [alert["code"] for alert in told] == ["bad_signature", "replayed"]
    assert all(alert["peer"] == "desk-2" and alert["sentence"] and alert["next_step"] for alert in told)
    assert [alert["code"] for alert in memory_room.shown("alerts")] == ["replayed", "bad_signature"]
    assert memory_room.shown(f"line/{room.LINE}")["refused"] == 2
    assert len(memory_room.labels("desk-2")) == before


def test_random_bytes_on_every_topic_never_stop_the_gateway(memory_room: MemoryRoom) -> None:
    for number, topic in enumerate(
        (topics.link(room.ROOM, room.LINE, "desk-1"), "moodline/v1/lab/row-1/link", "", "a/b")
    ):
        memory_room.broker.deliver(topic, bytes(range(number, 256)) * number)
    memory_room.run(2.0)
    assert sequences(memory_room, "desk-1")


def test_after_a_kill_the_chain_goes_on_and_no_label_is_lost_or_stored_twice(memory_room: MemoryRoom) -> None:
    memory_room.run(3.0)
    memory_room.kill_gateway()
    assert memory_room.published(STATUS)[-1]["state"] == "offline"
    memory_room.clock.advance(0.2)
    memory_room.start_gateway()
    assert memory_room.shown(f"desk/{room.LINE}/desk-1") is not None, "the page shows the stored labels at once"
    memory_room.run(3.0)
    for unit in room.unit_names(4):
        stored = sequences(memory_room, unit)
        assert stored == list(range(1, len(stored) + 1)) and len(stored) > 8
    log = memory_room.store.rounds(room.LINE, limit=1_000)
    assert len(list(follow_log(log, roster=room.roster(), line=room.LINE, limits=memory_room.limits))) == len(log)


def test_while_the_broker_is_away_nothing_is_lost_and_afterwards_the_latest_is_there_again(
    memory_room: MemoryRoom,
) -> None:
    memory_room.run(2.0)
    memory_room.broker.down()
    memory_room.run(1.0)
    assert memory_room.shown("room")["broker"] == "away"
    memory_room.broker.retained.clear()
    memory_room.broker.up()
    memory_room.settle()
    for unit in room.unit_names(4):
        assert topics.labels(room.ROOM, room.LINE, unit) in memory_room.broker.retained
    memory_room.run(2.0)
    assert memory_room.shown("room")["broker"] == "connected"
    stored = sequences(memory_room, "desk-3")
    assert stored == list(range(1, len(stored) + 1))


def test_a_full_disk_stops_the_line_visibly_and_no_label_is_lost_once_there_is_space(memory_room: MemoryRoom) -> None:
    memory_room.run(2.0)
    size = memory_room.store.path.with_name("gateway.sqlite-wal").stat().st_size
    with files_no_larger_than(size):
        memory_room.run(2.0)
        line = memory_room.shown(f"line/{room.LINE}")
        alert = memory_room.shown("alerts")[0]
        assert alert["code"] == "not_storing" and alert["next_step"]
        assert not memory_room.service.health().ok
        assert memory_room.published(STATUS)[-1]["storing"] is False
        memory_room.run(1.0)
        assert memory_room.shown(f"line/{room.LINE}")["round"] == line["round"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != size
    memory_room.run(4.0)
    assert [alert["code"] for alert in memory_room.shown("alerts") if alert["severity"] != "note"] == []
    for unit in room.unit_names(4):
        stored = sequences(memory_room, unit)
        assert stored == list(range(1, len(stored) + 1)) and len(stored) > 8
    assert memory_room.published(STATUS)[-1]["storing"] is True


# --- what the policy allows ------------------------------------------------------------------------------------------


def test_in_class_aggregate_mode_no_desk_can_be_seen_anywhere(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path, a_policy(Mode.CLASS_AGGREGATE))
    memory_room.desks[3].feels = None
    memory_room.run(31.0)
    assert not [topic for topic, payload in memory_room.broker.published if "/labels/" in topic and payload]
    assert not [part for part in memory_room.board.since(0).parts if part.startswith("desk/")]
    assert LabelReader(memory_room.store.path).latest() == []
    shown = [document for document in memory_room.published(CLASS) if document["counts"]]
    assert shown and all(document["desks"] == 4 for document in shown)
    assert shown[-1]["counts"]["happiness"] == 3 and shown[-1]["counts"]["unnamed"] == 1
    assert memory_room.shown("class") == memory_room.published(CLASS)[-1]
    memory_room.store.close()


def test_in_class_aggregate_mode_too_few_desks_give_no_count(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path, a_policy(Mode.CLASS_AGGREGATE, min_group=5))
    memory_room.run(31.0)
    assert [document["counts"] for document in memory_room.published(CLASS)] == [None, None, None]
    memory_room.store.close()


def test_labels_that_an_earlier_policy_let_the_broker_keep_are_cleared(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path, a_policy(Mode.CLASS_AGGREGATE))
    kept = topics.labels(room.ROOM, room.LINE, "desk-1")
    memory_room.broker.retained[kept] = b"{}"
    memory_room.settle()
    assert memory_room.broker.retained[kept] == b""
    memory_room.store.close()


def test_when_the_policy_is_off_no_round_is_opened_and_nothing_is_delivered(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path, a_policy(Mode.OFF))
    memory_room.run(3.0)
    sent = {topic for topic, payload in memory_room.broker.published if payload}
    assert sent == {STATUS, topics.roster(room.ROOM), topics.trust(room.ROOM)}
    assert memory_room.shown("room")["policy"]["in_force"] is False
    assert memory_room.store.rounds(room.LINE, limit=9) == []
    memory_room.store.close()


def test_when_the_policy_ends_delivery_ends_and_the_page_says_why(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path)
    memory_room.run(2.0)
    memory_room.clock.step_wall(20 * DAY_MS)
    memory_room.run(1.2)
    delivered = len(memory_room.labels("desk-1"))
    memory_room.run(3.0)
    assert len(memory_room.labels("desk-1")) == delivered
    assert "not in force" in memory_room.shown("room")["policy"]["why_not"]
    assert memory_room.published(STATUS)[-1]["policy_in_force"] is False
    memory_room.clock.step_wall(-20 * DAY_MS)
    memory_room.run(3.0)
    assert len(memory_room.labels("desk-1")) > delivered
    memory_room.store.close()


@pytest.mark.parametrize(
    ("source", "step_days", "delivers"),
    [
        (TimeSource.UNSET, -20_000, True),
        (TimeSource.UNSET, 20, False),
        (TimeSource.NTP, -20, False),
    ],
)
def test_a_clock_that_was_never_set_can_only_show_that_the_policy_has_ended(
    tmp_path: Path, source: TimeSource, step_days: int, delivers: bool
) -> None:
    memory_room = MemoryRoom(tmp_path)
    memory_room.clock.source = source
    memory_room.clock.step_wall(step_days * DAY_MS)
    memory_room.run(2.5)
    assert bool(memory_room.labels("desk-1")) is delivers
    memory_room.store.close()


def test_labels_older_than_the_policy_keeps_are_deleted(memory_room: MemoryRoom) -> None:
    memory_room.run(2.0)
    memory_room.clock.step_wall(8 * DAY_MS)
    memory_room.clock.advance(3_600)
    memory_room.settle()
    memory_room.run(1.0)
    kept = LabelReader(memory_room.store.path).since("desk-1", 0)
    assert all(label.accepted_ms >= memory_room.clock.wall_ms() - 7 * DAY_MS for label in kept)
    log = memory_room.store.rounds(room.LINE, limit=1_000)
    assert [closed.round for closed in log] == list(range(log[0].round, log[0].round + len(log)))


# --- birth and death -------------------------------------------------------------------------------------------------


def test_birth_and_last_will_carry_the_session_and_the_next_start_has_a_higher_one(memory_room: MemoryRoom) -> None:
    memory_room.run(1.0)
    memory_room.kill_gateway()
    memory_room.start_gateway()
    memory_room.settle()
    said = [(status["session"], status["state"]) for status in memory_room.published(STATUS)]
    assert said[0] == (1, "online") and said[-1] == (2, "online")
    assert (1, "offline") in said


def test_an_absent_desk_is_told_in_status_page_and_alert_and_so_is_its_return(memory_room: MemoryRoom) -> None:
    memory_room.run(2.0)
    gone = memory_room.desks.pop(1)
    memory_room.run(4.0)
    assert memory_room.published(STATUS)[-1]["lines"][0]["absent"] == ["desk-2"]
    assert "desk-2" not in memory_room.shown(f"line/{room.LINE}")["live"]
    assert memory_room.published(ALERTS)[-1]["code"] == "unit_absent"
    memory_room.desks.append(gone)
    memory_room.run(3.0)
    assert memory_room.published(STATUS)[-1]["lines"][0]["absent"] == []
    stored = sequences(memory_room, "desk-2")
    assert stored == list(range(1, len(stored) + 1))


def test_a_stop_says_goodbye_once_and_leaves_store_and_page_closed(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path)
    stop = threading.Event()
    memory_room.notifier.ready = stop.set  # type: ignore[method-assign]
    memory_room.run(0.5)
    memory_room.service.run(stop)
    assert memory_room.published(STATUS)[-1]["state"] == "offline"
    assert memory_room.notifier.told[-1] == "stopping"
    memory_room.start_gateway()
    memory_room.store.close()


def test_different_desks_show_their_own_label(memory_room: MemoryRoom) -> None:
    for desk, emotion in zip(memory_room.desks, (Emotion.ANGER, Emotion.FEAR, None, Emotion.SADNESS), strict=True):
        desk.feels = emotion
    memory_room.run(2.0)
    shown = [memory_room.shown(f"desk/{room.LINE}/{unit}") for unit in room.unit_names(4)]
    assert [(each["label"], each["state"]) for each in shown] == [
        ("anger", "given"),
        ("fear", "given"),
        (None, "muted"),
        ("sadness", "given"),
    ]
    assert [each["desk"] for each in shown] == ["Desk 1", "Desk 2", "Desk 3", "Desk 4"]


# --- a newer roster --------------------------------------------------------------------------------------------------


def run_until_it_ends(memory_room: MemoryRoom, seconds: float = 3.0) -> Ending:
    """Let the loop run by itself while time and desks go on; it is stopped after `seconds`."""
    waits, stop = memory_room.link.next_event, threading.Event()
    ends = memory_room.clock.monotonic() + seconds

    def time_passes(timeout_s: float) -> Event | None:
        memory_room.clock.advance(0.01)
        for desk in memory_room.desks:
            desk.step()
        if memory_room.clock.monotonic() >= ends:
            stop.set()
        return waits(timeout_s)

    memory_room.link.next_event = time_passes  # type: ignore[method-assign]
    return memory_room.service.run(stop, memory_room.look)


def newer_roster(*, revoked: frozenset[str] = frozenset()) -> Trusted:
    return Trusted(room.roster(epoch=2, revoked=revoked), b"", a_policy(), b"", bytes(32))


def test_units_hear_of_the_roster_before_they_hear_a_grant(memory_room: MemoryRoom) -> None:
    memory_room.settle()
    said = [topic for topic, _ in memory_room.broker.published]
    assert said.index(topics.trust(room.ROOM)) < said.index(topics.grant(room.ROOM, room.LINE))
    assert memory_room.broker.retained[topics.trust(room.ROOM)] == b"the trust bundle"
    memory_room.broker.down()
    memory_room.broker.up()
    memory_room.settle()
    assert [topic for topic, _ in memory_room.broker.published].count(topics.trust(room.ROOM)) == 2


def test_a_newer_roster_ends_the_loop_closes_everything_and_clears_the_labels_of_who_left(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path)
    memory_room.run(3.0)
    memory_room.watch.found = newer_roster(revoked=frozenset({"desk-2"}))
    assert run_until_it_ends(memory_room) is Ending.NEWER_ROSTER
    kept = {unit: memory_room.broker.retained[topics.labels(room.ROOM, room.LINE, unit)] for unit in room.unit_names(4)}
    assert [unit for unit, label in kept.items() if not label] == ["desk-2"]
    assert memory_room.published(STATUS)[-1]["state"] == "offline"
    assert "stopping" not in memory_room.notifier.told, "the service manager is told of stops alone"
    memory_room.start_gateway()
    memory_room.store.close()


def test_a_roster_that_does_not_count_is_told_as_an_alert_and_the_line_goes_on(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path)
    memory_room.run(2.0)
    memory_room.watch.found = ConfigError("roster.cose: is older.", next_step="Copy the newest.")
    assert run_until_it_ends(memory_room) is Ending.STOPPED
    (alert,) = [alert for alert in memory_room.published(ALERTS) if alert["code"] == "roster_refused"]
    assert alert["detail"] == "roster.cose: is older." and alert["severity"] == "warning"
    schemas.check("alert", json.dumps(alert).encode())
    memory_room.start_gateway()
    memory_room.run(1.0)
    stored = sequences(memory_room, "desk-1")
    assert stored == list(range(1, len(stored) + 1)) and len(stored) > 8
    memory_room.store.close()


def test_whoever_asks_for_a_look_gets_it_at_once(tmp_path: Path) -> None:
    memory_room = MemoryRoom(tmp_path)
    memory_room.look.set()
    assert run_until_it_ends(memory_room, 0.5) is Ending.STOPPED
    assert memory_room.watch.told_to_look == 1
    assert not memory_room.look.is_set()


def test_a_gateway_keeps_the_time_that_ntp_says_for_the_next_start(memory_room: MemoryRoom) -> None:
    memory_room.run(2.0)
    memory_room.clock.step_wall(2 * DAY_MS)
    memory_room.run(2.0)
    assert (
        abs(json.loads((memory_room.state / TIME_FILE).read_text())["floor_ms"] - memory_room.clock.wall_ms()) < 3_000
    )
