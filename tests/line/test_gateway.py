"""The gateway's machine, driven event by event. Guarantees over whole lines: test_guarantees.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import ConfigError, Verdict
from device.line.actions import Action, Alert, Deliver, Notice, Persist, Publish, Witnessed
from device.line.gateway import GatewayState, LineGateway
from device.line.notify import ALERTS_PER_ROUND
from device.messages import topics
from device.messages.envelope import ContentType, digest, open_envelope
from device.messages.grant import NO_PREVIOUS, Grant, decode_grant
from device.messages.label import Label, LabelState
from device.messages.link import Entry, Link, sign_link
from device.messages.roster import Roster, SealingSuite
from device.messages.sealing import Place, Sealer
from tools.vectors import room

LIMITS = LineLimits()
PERIOD = LIMITS.round_period_ms / 1_000
WALL_MS = 1_800_000_000_000
SEALER = Sealer(room.opener().public_key, SealingSuite.X25519_SHA256_CHACHA20POLY1305)


class Driver:
    """A gateway with the clock and the store it needs."""

    def __init__(
        self, *, roster: Roster | None = None, stored: bytes | None = None, recent: Iterable[bytes] = ()
    ) -> None:
        self.machine = LineGateway(
            roster=roster or room.roster(),
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=LIMITS,
            witness_count=2,
            stored_grant=stored,
            recent=recent,
        )
        self.now = 0.0
        self.raw = b""

    def connect(self) -> list[Action]:
        """The broker is there."""
        return self.took(self.machine.connected(self.now, WALL_MS))

    def next_round(self) -> list[Action]:
        """The period ends."""
        self.now += PERIOD
        return self.took(self.machine.tick(self.now, WALL_MS))

    def took(self, actions: list[Action]) -> list[Action]:
        """Remember the newest grant."""
        for action in actions:
            if isinstance(action, Publish):
                self.raw = action.payload
        return actions

    @property
    def grant(self) -> Grant:
        """The newest grant."""
        return decode_grant(open_envelope(self.raw, wanted=ContentType.GRANT))

    def order(self) -> tuple[str, ...]:
        """The order of the newest grant."""
        return self.grant.order

    def entry(self, unit: str, sequence: int, *, session: int = 1, wall_ms: int = WALL_MS) -> Entry:
        """A sealed label of that unit."""
        label = Label(window_end_ms=wall_ms, time_source=TimeSource.NTP, state=LabelState.MUTED)
        return Entry(session, sequence, SEALER.seal(label, Place(room.ROOM, room.LINE, unit, session, sequence)))

    def link(self, unit: str, *entries: Entry, prev: bytes | None = None, session: int = 1) -> bytes:
        """A link on the head."""
        on = self.machine.head if prev is None else prev
        body = Link(room.ROOM, room.LINE, self.grant.epoch, self.grant.round, unit, session, entries, on)
        return sign_link(body, room.signer(unit))

    def receive(self, raw: bytes, unit: str = "desk-1") -> list[Action]:
        """The broker brings a link."""
        return self.machine.received(topics.link(room.ROOM, room.LINE, unit), raw, self.now, WALL_MS)


def alerts(actions: list[Action]) -> list[Alert]:
    """The alerts among some actions."""
    return [action for action in actions if isinstance(action, Alert)]


def test_nothing_is_published_before_it_is_persisted() -> None:
    driver = Driver()
    first = driver.connect()
    driver.receive(driver.link("desk-1", driver.entry("desk-1", 1)))
    second = driver.next_round()
    for actions in (first, second):
        persist, publish = actions[:2]
        assert isinstance(persist, Persist)
        assert isinstance(publish, Publish)
        assert persist.next_grant == publish.payload
        assert publish.retain
    assert isinstance(first[0], Persist)
    assert first[0].closed is None


def test_a_closed_round_holds_what_was_on_the_wire_and_the_next_grant_continues_it() -> None:
    driver = Driver()
    driver.connect()
    opened = driver.raw
    link = driver.link("desk-1", driver.entry("desk-1", 1), driver.entry("desk-1", 2))
    driver.receive(link)
    persist = driver.next_round()[0]
    assert isinstance(persist, Persist)
    assert persist.closed is not None
    assert (persist.closed.grant, persist.closed.links) == (opened, (link,))
    assert driver.grant.prev == digest(link)
    assert driver.grant.accepted["desk-1"].covers(1, 2)


def test_a_label_is_delivered_when_its_link_arrives_not_when_the_round_ends() -> None:
    driver = Driver()
    driver.connect()
    (delivered,) = driver.receive(driver.link("desk-1", driver.entry("desk-1", 1)))
    assert isinstance(delivered, Deliver)
    assert (delivered.unit, delivered.session, delivered.sequence) == ("desk-1", 1, 1)
    assert delivered.label.state is LabelState.MUTED
    assert delivered.time_plausible


def test_a_link_is_witnessed_by_the_links_of_others_after_it() -> None:
    driver = Driver()
    driver.connect()
    first = driver.link("desk-1")
    driver.receive(first)
    counts = [
        (action.count, action.enough)
        for unit in ("desk-2", "desk-3", "desk-4")
        for action in driver.receive(driver.link(unit), unit)
        if isinstance(action, Witnessed) and action.link == digest(first)
    ]
    assert counts == [(1, False), (2, True)]


def test_a_unit_does_not_witness_itself() -> None:
    driver = Driver()
    driver.connect()
    for _ in range(3):
        assert not any(isinstance(action, Witnessed) for action in driver.receive(driver.link("desk-1")))
        driver.next_round()


def test_grants_leave_at_a_steady_pace_though_all_have_signed() -> None:
    driver = Driver()
    driver.connect()
    for unit in room.unit_names(4):
        driver.receive(driver.link(unit), unit)
    assert driver.machine.tick(PERIOD - 0.001, WALL_MS) == []
    assert driver.machine.next_deadline() == pytest.approx(PERIOD)
    driver.next_round()
    assert driver.machine.next_deadline() == pytest.approx(2 * PERIOD)


def test_the_forwarding_right_rotates_by_one_each_round() -> None:
    driver = Driver()
    driver.connect()
    firsts = []
    for _ in range(4):
        firsts.append(driver.grant.order[0])
        for unit in driver.grant.order:
            driver.receive(driver.link(unit), unit)
        driver.next_round()
    assert sorted(firsts) == list(room.unit_names(4))
    assert firsts[1:] == [driver.grant.order[(driver.grant.order.index(unit) + 1) % 4] for unit in firsts[:-1]]


def test_after_a_reconnection_the_same_grant_is_published_and_the_round_is_kept() -> None:
    driver = Driver()
    driver.connect()
    driver.receive(driver.link("desk-1"))
    before = driver.raw
    driver.machine.disconnected(0.1)
    assert driver.machine.state is GatewayState.RESUMED
    assert driver.machine.next_deadline() is None
    assert driver.machine.tick(9.0, WALL_MS) == []
    driver.now = 9.0
    (publish,) = driver.connect()
    assert isinstance(publish, Publish)
    assert publish.payload == before
    persist = driver.next_round()[0]
    assert isinstance(persist, Persist)
    assert persist.closed is not None
    assert len(persist.closed.links) == 1


def test_after_a_restart_round_and_chain_go_on_from_the_stored_grant() -> None:
    driver = Driver()
    driver.connect()
    driver.receive(driver.link("desk-1", driver.entry("desk-1", 1)))
    driver.next_round()
    again = Driver(stored=driver.raw)
    (publish,) = again.connect()
    assert isinstance(publish, Publish)
    assert publish.payload == driver.raw
    again.next_round()
    assert again.grant.round == 3
    assert again.grant.prev == digest(driver.raw)
    assert again.grant.accepted == driver.grant.accepted


def test_under_a_new_epoch_the_old_round_is_closed_and_the_chain_goes_on() -> None:
    driver = Driver()
    driver.connect()
    again = Driver(roster=room.roster(epoch=2, revoked=frozenset({"desk-3"})), stored=driver.raw)
    persist, _ = again.connect()
    assert isinstance(persist, Persist)
    assert persist.closed is not None
    assert persist.closed.grant == driver.raw
    assert (again.grant.epoch, again.grant.round, again.grant.prev) == (2, 2, digest(driver.raw))
    assert "desk-3" not in again.grant.order


@pytest.mark.parametrize("stored", [b"", b"\xd2\x84garbage"])
def test_a_damaged_store_is_told_and_not_overwritten(stored: bytes) -> None:
    with pytest.raises(ConfigError, match="stored grant"):
        Driver(stored=stored)


def test_a_store_from_the_future_or_another_room_is_refused() -> None:
    newer = Driver(roster=room.roster(epoch=2))
    newer.connect()
    with pytest.raises(ConfigError, match="epoch 2"):
        Driver(stored=newer.raw)


def test_a_roster_of_another_gateway_is_refused() -> None:
    roster = room.roster()
    other = replace(roster, gateway=replace(roster.gateway, gateway="gateway-2"))
    with pytest.raises(ConfigError, match="not the gateway"):
        Driver(roster=other)


def test_a_replayed_link_is_refused_and_a_duplicate_in_its_own_round_is_nothing() -> None:
    driver = Driver()
    driver.connect()
    link = driver.link("desk-1", driver.entry("desk-1", 1))
    driver.receive(link)
    assert driver.receive(link) == []
    driver.next_round()
    (alert,) = alerts(driver.receive(link))
    assert (alert.code, alert.peer) == (Verdict.REPLAYED, "desk-1")


def test_two_links_on_one_place_the_first_is_the_branch() -> None:
    driver = Driver()
    driver.connect()
    head, entry = driver.machine.head, driver.entry("desk-2", 1)
    driver.receive(driver.link("desk-1"))
    assert driver.receive(driver.link("desk-2", entry, prev=head), "desk-2") == []
    driver.next_round()
    actions = driver.receive(driver.link("desk-2", entry), "desk-2")
    assert [type(action) for action in actions if not isinstance(action, Witnessed)] == [Deliver]


def test_a_bad_entry_is_told_and_does_not_stop_those_behind_it() -> None:
    driver = Driver()
    driver.connect()
    swapped = Entry(1, 1, driver.entry("desk-2", 1).sealed)
    actions = driver.receive(driver.link("desk-1", swapped, driver.entry("desk-1", 2)))
    assert [alert.code for alert in alerts(actions)] == [Verdict.NOT_OPENABLE]
    assert [action.sequence for action in actions if isinstance(action, Deliver)] == [2]
    driver.next_round()
    assert driver.grant.accepted["desk-1"].covers(1, 2)


def test_a_label_from_next_week_is_delivered_and_marked() -> None:
    driver = Driver()
    driver.connect()
    actions = driver.receive(driver.link("desk-1", driver.entry("desk-1", 1, wall_ms=WALL_MS + 7 * 86_400_000)))
    assert [action.time_plausible for action in actions if isinstance(action, Deliver)] == [False]
    assert [alert.code for alert in alerts(actions)] == [Verdict.IMPLAUSIBLE_TIME]


@pytest.mark.parametrize("remembers", [True, False])
def test_g5_a_restarted_gateway_holds_its_stored_links_against_what_comes_after(remembers: bool) -> None:
    before = Driver()
    before.connect()
    first = before.link("desk-1", before.entry("desk-1", 1))
    before.receive(first)
    before.next_round()
    after = Driver(stored=before.raw, recent=[first] if remembers else [])
    after.connect()
    again = after.link("desk-1", after.entry("desk-1", 1), after.entry("desk-1", 2))
    found = alerts(after.receive(again))
    if remembers:
        assert [(alert.code, alert.proof) for alert in found] == [(Verdict.EQUIVOCATION, (first, again))]
    else:
        assert [alert.code for alert in found] == [Verdict.SEQUENCE_DISORDER]


def test_a_quarantined_unit_is_not_heard_and_has_no_place_in_the_order() -> None:
    driver = Driver()
    driver.connect()
    driver.receive(driver.link("desk-1", driver.entry("desk-1", 1)))
    head = digest(driver.raw)
    (alert,) = alerts(driver.receive(driver.link("desk-1", prev=head)))
    assert alert.code is Verdict.EQUIVOCATION
    assert len(alert.proof) == 2
    driver.next_round()
    assert "desk-1" not in driver.grant.order
    (refused,) = alerts(driver.receive(driver.link("desk-1", driver.entry("desk-1", 2))))
    assert refused.code is Verdict.QUARANTINED


def test_absence_and_return_are_told_once_each() -> None:
    driver = Driver()
    driver.connect()
    told = [alert for _ in range(10) for alert in alerts(driver.next_round())]
    assert sorted(alert.peer for alert in told) == list(room.unit_names(4))
    assert {alert.code for alert in told} == {Notice.UNIT_ABSENT}
    assert driver.order() == ()
    (returned,) = alerts(driver.receive(driver.link("desk-2"), "desk-2"))
    assert (returned.code, returned.peer) == (Notice.UNIT_RETURNED, "desk-2")
    driver.next_round()
    assert driver.order() == ("desk-2",)
    assert driver.machine.live_units == ("desk-2",)


def test_a_flood_of_bad_messages_is_no_flood_of_alerts() -> None:
    driver = Driver()
    driver.connect()
    told = [alert for number in range(1_000) for alert in alerts(driver.receive(b"\x00", f"desk-{number}"))]
    assert len(told) == ALERTS_PER_ROUND
    driver.next_round()
    assert len(alerts(driver.receive(b"\x00", "desk-1"))) == 1


def test_a_flood_hides_neither_a_proof_nor_an_absence() -> None:
    driver = Driver(roster=room.roster(40))
    driver.connect()
    for number in range(100):
        driver.receive(b"\x00", f"desk-{number}")
    head = driver.machine.head
    driver.receive(driver.link("desk-1", prev=head))
    (alert,) = alerts(driver.receive(driver.link("desk-1", driver.entry("desk-1", 1), prev=head)))
    assert alert.code is Verdict.EQUIVOCATION
    told = [alert for _ in range(8) for alert in alerts(driver.next_round())]
    assert len([alert for alert in told if alert.code is Notice.UNIT_ABSENT]) == 40


def test_what_the_broker_delivers_again_after_a_reconnection_is_no_attack() -> None:
    driver = Driver()
    driver.connect()
    link = driver.link("desk-1")
    driver.receive(link)
    driver.next_round()
    driver.machine.disconnected(driver.now)
    driver.connect()
    assert driver.receive(link) == []
    driver.next_round()
    assert [alert.code for alert in alerts(driver.receive(link))] == [Verdict.REPLAYED]


def test_messages_of_other_topics_are_not_looked_at() -> None:
    driver = Driver()
    assert driver.receive(b"\x00") == []
    driver.connect()
    for topic in (topics.link(room.ROOM, "row-9", "desk-1"), topics.grant(room.ROOM, room.LINE), "other"):
        assert driver.machine.received(topic, b"\x00", 0.0, WALL_MS) == []


def test_the_state_can_be_read_before_and_after_the_first_round() -> None:
    driver = Driver()
    assert (driver.machine.round, driver.machine.head) == (0, NO_PREVIOUS)
    first = driver.connect()
    assert driver.connect() == []
    assert len(first) == 2
    assert (driver.machine.round, driver.machine.head) == (1, digest(driver.raw))


def test_a_late_tick_does_not_bunch_rounds_together() -> None:
    driver = Driver()
    driver.connect()
    driver.machine.tick(10.0, WALL_MS)
    due = driver.machine.next_deadline()
    assert due is not None
    assert due >= 10.0 + PERIOD / 2
