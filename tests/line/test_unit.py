"""The unit's machine, driven event by event. Guarantees over whole lines: test_guarantees.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import ConfigError, Verdict
from device.line.actions import Action, Alert, Infer, Notice, Publish
from device.line.unit import LineUnit, UnitState
from device.messages import topics
from device.messages.envelope import ContentType, digest, open_envelope
from device.messages.grant import NO_PREVIOUS, Accepted, Grant, sign_grant
from device.messages.label import Label, LabelState
from device.messages.link import Link, LinkFlag, decode_link, sign_link
from device.messages.roster import Roster
from device.publish.outbox import BoundedOutbox
from tools.vectors import room

LIMITS = LineLimits()
HOP = LIMITS.hop_timeout_ms / 1_000
GRANT_TOPIC = topics.grant(room.ROOM, room.LINE)
LABEL = Label(window_end_ms=0, time_source=TimeSource.UNSET, state=LabelState.MUTED)
FIRST = Grant(
    room=room.ROOM,
    line=room.LINE,
    epoch=1,
    round=1,
    order=("desk-1", "desk-2", "desk-3", "desk-4"),
    accepted={},
    prev=NO_PREVIOUS,
    gateway_ms=5,
    deadline_ms=450,
)


def unit(name: str = "desk-1", *, session: int = 3, capacity: int = 100) -> LineUnit:
    """A unit that is connected."""
    made = LineUnit(
        roster=room.roster(),
        line=room.LINE,
        session=session,
        signer=room.signer(name),
        outbox=BoundedOutbox(capacity),
        limits=LIMITS,
    )
    assert made.connected(0.0) == []
    return made


def signed(grant: Grant) -> bytes:
    """A grant by the gateway."""
    return sign_grant(grant, room.signer(room.GATEWAY))


def following(grant: Grant, **changes: object) -> Grant:
    """The grant after one in whose round nobody signed."""
    base = replace(grant, round=grant.round + 1, prev=digest(signed(grant)))
    return replace(base, **changes)  # type: ignore[arg-type]


def grant_arrives(machine: LineUnit, grant: Grant, now: float) -> list[Action]:
    """The broker brings a grant."""
    return machine.received(GRANT_TOPIC, signed(grant), now)


def published(actions: list[Action]) -> list[Link]:
    """The links among some actions."""
    return [
        decode_link(open_envelope(action.payload, wanted=ContentType.LINK))
        for action in actions
        if isinstance(action, Publish)
    ]


def codes(actions: list[Action]) -> list[str]:
    """The codes of the alerts among some actions."""
    return [action.code for action in actions if isinstance(action, Alert)]


def test_a_grant_asks_for_inference_and_the_label_leaves_at_once() -> None:
    machine = unit()
    assert grant_arrives(machine, FIRST, 1.0) == [Infer(1, 5)]
    (link,) = published(machine.label(LABEL, 1.02))
    assert (link.round, link.session, link.prev) == (1, 3, digest(signed(FIRST)))
    assert [(entry.session, entry.sequence) for entry in link.entries] == [(3, 1)]
    assert machine.state is UnitState.SIGNED


def test_without_a_grant_the_outbox_fills_and_nothing_is_signed() -> None:
    machine = unit()
    assert [machine.label(LABEL, float(second)) for second in range(20)] == [[]] * 20
    assert machine.backlog == 20
    (link,) = published(grant_arrives(machine, FIRST, 30.0) + machine.label(LABEL, 30.01))
    assert len(link.entries) == LIMITS.entries_per_link
    assert link.flags == LinkFlag.MORE_BACKLOG


def test_a_label_stays_until_a_grant_covers_it() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    machine.label(LABEL, 0.01)
    assert machine.backlog == 1
    second = following(FIRST, accepted={"desk-1": Accepted(3, 3, 0)})
    grant_arrives(machine, second, 0.5)
    assert machine.backlog == 1
    grant_arrives(machine, following(second, accepted={"desk-1": Accepted(3, 3, 1)}), 1.0)
    assert machine.backlog == 0


def test_one_link_in_a_round_even_over_a_reconnection() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    assert len(published(machine.label(LABEL, 0.01))) == 1
    assert machine.label(LABEL, 0.02) == []
    machine.disconnected(0.03)
    machine.connected(0.04)
    assert grant_arrives(machine, FIRST, 0.05) == []
    assert published(machine.label(LABEL, 0.06)) == []
    assert machine.tick(0.4) == []
    assert machine.state is UnitState.SIGNED


def test_the_retained_grant_again_lets_a_unit_that_had_not_signed_do_so() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    machine.disconnected(0.01)
    assert machine.label(LABEL, 0.02) == []
    machine.connected(5.0)
    assert len(published(grant_arrives(machine, FIRST, 5.1))) == 1


def test_a_unit_waits_one_hop_timeout_for_each_place_it_stands_behind() -> None:
    machine = unit("desk-3")
    grant_arrives(machine, FIRST, 0.0)
    assert machine.label(LABEL, 0.01) == []
    assert machine.next_deadline() == pytest.approx(0.01 + 2 * HOP)
    assert machine.tick(0.01 + 2 * HOP - 0.001) == []
    assert len(published(machine.tick(0.01 + 2 * HOP))) == 1


def test_a_unit_that_decides_slowly_does_not_take_the_others_for_late() -> None:
    machine = unit("desk-2")
    grant_arrives(machine, FIRST, 0.0)
    decided = 3 * HOP
    assert published(machine.label(LABEL, decided)) == []
    assert len(published(machine.tick(decided + HOP))) == 1


def test_a_verified_link_of_another_moves_the_turn_on() -> None:
    machine = unit("desk-3")
    grant_arrives(machine, FIRST, 0.0)
    machine.label(LABEL, 0.01)
    body = Link(room.ROOM, room.LINE, 1, 1, "desk-2", 1, (), digest(signed(FIRST)))
    raw = sign_link(body, room.signer("desk-2"))
    (link,) = published(machine.received(topics.link(room.ROOM, room.LINE, "desk-2"), raw, 0.07))
    assert link.prev == digest(raw)


def test_a_unit_that_comes_back_to_a_long_line_does_not_wait_for_those_who_are_away() -> None:
    machine = LineUnit(
        roster=room.roster(40),
        line=room.LINE,
        session=1,
        signer=room.signer("desk-30"),
        outbox=BoundedOutbox(10),
        limits=LIMITS,
    )
    machine.connected(0.0)
    grant_arrives(machine, replace(FIRST, order=("desk-1", "desk-2")), 0.0)
    assert machine.label(LABEL, 0.01) == []
    assert len(published(machine.tick(0.01 + 2 * HOP))) == 1


def test_queued_grants_are_followed_and_bring_one_label_not_many() -> None:
    machine = unit()
    grant = FIRST
    asked = [action for action in grant_arrives(machine, grant, 0.0) if isinstance(action, Infer)]
    for _ in range(50):
        grant = following(grant)
        actions = grant_arrives(machine, grant, 0.01)
        assert published(actions) == []
        asked += [action for action in actions if isinstance(action, Infer)]
    assert [infer.round for infer in asked] == [1]
    assert machine.round == 51
    assert Infer(52, 5) in grant_arrives(machine, following(grant), 0.51)


def test_after_the_deadline_nobody_appends() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    assert machine.label(LABEL, 0.451) == []
    assert machine.tick(0.5) == []
    assert machine.next_deadline() is None
    assert machine.backlog == 1


def test_a_unit_without_a_label_witnesses_before_the_round_ends() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    due = machine.next_deadline()
    assert due == pytest.approx(0.45 - 2 * HOP)
    (link,) = published(machine.tick(due or 0.0))
    assert link.entries == ()


@pytest.mark.parametrize("accepted_session", [3, 4])
def test_a_restored_backup_notices_by_the_signed_grant_and_does_not_sign(accepted_session: int) -> None:
    machine = unit(session=3)
    machine.label(LABEL, 0.0)
    taken = replace(FIRST, accepted={"desk-1": Accepted(accepted_session, accepted_session, 7)})
    actions = grant_arrives(machine, taken, 0.1)
    assert codes(actions) == [Notice.ENROL_ANEW]
    assert published(actions) == []
    assert machine.state is UnitState.STOPPED
    machine.disconnected(1.0)
    machine.connected(1.1)
    assert machine.label(LABEL, 2.0) == []
    assert grant_arrives(machine, following(taken), 2.1) == []


def test_a_restart_with_a_raised_session_is_no_clone() -> None:
    machine = unit(session=4)
    assert codes(grant_arrives(machine, replace(FIRST, accepted={"desk-1": Accepted(3, 3, 7)}), 0.0)) == []
    assert len(published(machine.label(LABEL, 0.01))) == 1


def test_a_clone_shows_when_more_is_accepted_than_was_made_here() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    machine.label(LABEL, 0.01)
    beyond = following(FIRST, accepted={"desk-1": Accepted(3, 3, 2)})
    assert codes(grant_arrives(machine, beyond, 0.5)) == [Notice.ENROL_ANEW]


def test_a_second_box_with_our_key_stops_us_and_both_links_are_the_proof() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    (own,) = [action for action in machine.label(LABEL, 0.01) if isinstance(action, Publish)]
    other = sign_link(Link(room.ROOM, room.LINE, 1, 1, "desk-1", 3, (), digest(signed(FIRST))), room.signer("desk-1"))
    (alert,) = machine.received(own.topic, other, 0.02)
    assert isinstance(alert, Alert)
    assert (alert.code, alert.proof) == (Notice.ENROL_ANEW, (own.payload, other))


def test_the_echo_of_our_own_link_and_a_duplicate_are_nothing_new() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    (own,) = [action for action in machine.label(LABEL, 0.01) if isinstance(action, Publish)]
    assert machine.received(own.topic, own.payload, 0.02) == []
    assert machine.received(own.topic, own.payload, 0.03) == []
    grant_arrives(machine, following(FIRST), 0.5)
    assert codes(machine.received(own.topic, own.payload, 0.51)) == [Verdict.REPLAYED]
    assert machine.state is UnitState.WAITING
    machine.disconnected(0.6)
    machine.connected(0.7)
    assert machine.received(own.topic, own.payload, 0.71) == []


def test_grants_that_must_not_be_followed() -> None:
    machine = unit()
    second = following(FIRST)
    grant_arrives(machine, FIRST, 0.0)
    grant_arrives(machine, second, 0.5)
    assert grant_arrives(machine, FIRST, 0.6) == []
    forged = sign_grant(following(second), room.signer("desk-2"))
    assert codes(machine.received(GRANT_TOPIC, forged, 0.7)) == [Verdict.UNKNOWN_SIGNER]
    assert codes(grant_arrives(machine, replace(second, gateway_ms=6), 0.8)) == [Verdict.GRANT_REWRITTEN]
    assert codes(grant_arrives(machine, following(second, epoch=2), 0.9)) == [Verdict.UNKNOWN_EPOCH]
    assert machine.round == 2


def test_an_old_unknown_grant_is_refused_without_a_proof() -> None:
    machine = unit()
    grant_arrives(machine, replace(FIRST, round=5), 0.0)
    (alert,) = grant_arrives(machine, replace(FIRST, round=4), 0.1)
    assert isinstance(alert, Alert)
    assert (alert.code, alert.proof) == (Verdict.STALE_ROUND, ())


def test_a_grant_on_a_head_that_was_never_seen_is_followed_and_told() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    actions = grant_arrives(machine, following(FIRST, prev=digest(b"unseen")), 0.5)
    assert codes(actions) == [Verdict.UNSEEN_HEAD]
    assert Infer(2, 5) in actions


def test_a_newcomer_starts_from_the_retained_grant() -> None:
    machine = unit()
    assert codes(grant_arrives(machine, replace(FIRST, round=977, prev=digest(b"long ago")), 0.0)) == []
    assert machine.round == 977


def test_an_overflow_is_told_once() -> None:
    machine = unit(capacity=2)
    actions = [action for second in range(6) for action in machine.label(LABEL, float(second))]
    assert codes(actions) == [Notice.OUTBOX_OVERFLOW]


def test_messages_of_other_lines_and_while_offline_are_not_looked_at() -> None:
    machine = unit()
    assert machine.received(topics.grant(room.ROOM, room.OTHER_LINE), b"\x00", 0.0) == []
    assert machine.received("moodline/v1/lab/roster", b"\x00", 0.0) == []
    assert machine.received(topics.unit_status(room.ROOM, room.LINE, "desk-2"), b"{}", 0.0) == []
    machine.disconnected(0.1)
    assert machine.received(GRANT_TOPIC, b"\x00", 0.2) == []


@pytest.mark.parametrize(
    "roster", [room.roster(revoked=frozenset({"desk-1"})), room.roster(0)], ids=["revoked", "gone"]
)
def test_a_unit_that_may_not_speak_does_not_start(roster: Roster) -> None:
    with pytest.raises(ConfigError, match="desk-1"):
        LineUnit(
            roster=roster,
            line=room.LINE,
            session=1,
            signer=room.signer("desk-1"),
            outbox=BoundedOutbox(1),
            limits=LIMITS,
        )


def test_a_link_says_whether_its_grant_knew_its_session() -> None:
    machine = unit(session=3)
    grant_arrives(machine, replace(FIRST, accepted={"desk-1": Accepted(2, 2, 9)}), 0.0)
    (first,) = published(machine.label(LABEL, 0.01))
    second = following(FIRST, accepted={"desk-1": Accepted(3, 3, 1)})
    grant_arrives(machine, second, 0.5)
    (later,) = published(machine.label(LABEL, 0.51))
    assert (first.flags, later.flags) == (LinkFlag.NONE, LinkFlag.SESSION_KNOWN)


def test_the_first_echo_of_our_own_link_is_no_replay_even_when_it_comes_late() -> None:
    machine = unit()
    grant_arrives(machine, FIRST, 0.0)
    (own,) = [action for action in machine.label(LABEL, 0.01) if isinstance(action, Publish)]
    grant_arrives(machine, following(FIRST), 0.5)
    assert machine.received(own.topic, own.payload, 0.51) == []
    assert codes(machine.received(own.topic, own.payload, 0.52)) == [Verdict.REPLAYED]


def test_a_unit_that_equivocated_is_followed_as_long_as_the_gateway_has_not_heard_of_it() -> None:
    def link_of_second(grant: Grant, **changes: object) -> bytes:
        body = Link(room.ROOM, room.LINE, 1, grant.round, "desk-2", 1, (), digest(signed(grant)))
        return sign_link(replace(body, **changes), room.signer("desk-2"))  # type: ignore[arg-type]

    machine = unit("desk-3")
    topic = topics.link(room.ROOM, room.LINE, "desk-2")
    grant_arrives(machine, FIRST, 0.0)
    machine.received(topic, link_of_second(FIRST), 0.01)
    assert codes(machine.received(topic, link_of_second(FIRST, prev=bytes(32)), 0.02)) == [Verdict.EQUIVOCATION]
    named = following(FIRST)
    grant_arrives(machine, named, 0.5)
    taken = link_of_second(named)
    machine.received(topic, taken, 0.51)
    (link,) = published(machine.label(LABEL, 0.52) + machine.tick(0.8))
    assert link.prev == digest(taken)
    gone = following(named, order=("desk-3", "desk-4"))
    grant_arrives(machine, gone, 1.0)
    assert codes(machine.received(topic, link_of_second(gone), 1.01)) == [Verdict.QUARANTINED]


def test_a_late_echo_from_before_a_restart_is_no_replay_and_an_older_one_is() -> None:
    machine = unit(session=4)
    grant_arrives(machine, replace(FIRST, round=9), 0.0)
    topic = topics.link(room.ROOM, room.LINE, "desk-1")
    found = {}
    for number in (3, 5):
        old = Link(room.ROOM, room.LINE, 1, number, "desk-1", 3, (), bytes(32))
        found[number] = codes(machine.received(topic, sign_link(old, room.signer("desk-1")), 0.1 * number))
    assert found == {3: [Verdict.REPLAYED], 5: []}
    assert machine.state is UnitState.WAITING
