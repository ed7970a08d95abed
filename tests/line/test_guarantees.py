"""G1 to G8 of the line protocol, each over a whole line in virtual time (tools/simulate; docs/simulator.md).

Every room here is watched: each guarantee is checked after every step, whatever the test is about. That these checks
would notice is shown in tests/simulate/test_checks.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.config import LineLimits
from device.errors import RemoteMessageError, Verdict
from device.line.actions import Alert, ClosedRound, Notice
from device.line.evidence import check_proof
from device.line.log import follow_log
from device.line.verify import Verifier
from device.messages.label import LabelState
from device.messages.link import LinkFlag, sign_link
from tests.simulators.line import Faults, SimulatedLine
from tools.attacks import forge_link
from tools.simulate import cheats, seeds
from tools.simulate.broker import Cut, Retained
from tools.simulate.cheats import grant_of, link_of
from tools.simulate.faults import draw_plan
from tools.simulate.line import SimulatedLine as WatchedLine
from tools.vectors import room

LIMITS = LineLimits()
#: Seeds that CI plays; `make simulate` plays thousands. Each once showed a defect, or has what the others lack.
SEEDS = (0, 5, 11, 32, 45, 59, 67, 75)


def codes(alerts: list[Alert]) -> set[str]:
    """The codes of some alerts."""
    return {alert.code for alert in alerts}


def follow(rounds: list[ClosedRound]) -> int:
    """Rounds that an offline verifier accepts; raises at the first bad object."""
    return sum(1 for _ in follow_log(rounds, roster=room.roster(), line=room.LINE, limits=LIMITS))


# --- G1 --------------------------------------------------------------------------------------------------------------


def test_g1_authenticity_only_rostered_units_are_heard() -> None:
    line = SimulatedLine(1).start()
    line.run(3)
    captured = line.units["desk-1"].published[-1]
    line.inject(forge_link(captured))
    line.inject(sign_link(replace(link_of(captured), unit="stranger"), room.signer("stranger")))
    line.run(3)
    assert {Verdict.BAD_SIGNATURE, Verdict.UNKNOWN_SIGNER} <= codes(line.alerts)
    assert {delivered.unit for delivered in line.delivered} == set(line.units)
    line.check()


def test_g1_authenticity_a_revoked_unit_that_continues_the_head_is_not_heard() -> None:
    line = WatchedLine(1, revoked=frozenset({"desk-4"})).start()
    line.run(3)
    for _ in range(5):
        cheats.revoked_speaks(line, "desk-4")
        line.run(0.3)
    assert codes(line.alerts) == {Verdict.REVOKED}
    assert {delivered.unit for delivered in line.delivered} == {"desk-1", "desk-2", "desk-3"}
    line.check()


# --- G2 --------------------------------------------------------------------------------------------------------------


def test_g2_order_a_gap_is_reported_with_its_bounds() -> None:
    line = SimulatedLine(2, limits=LineLimits(backlog_entries=5)).start()
    line.run(2)
    line.disconnect_unit("desk-2")
    for _ in range(20):
        line.run(0.5)
        line.give_label("desk-2")
    given = line.units["desk-2"].labels
    line.connect_unit("desk-2")
    line.run(3)
    logged = {sequence for _, sequence in line.checks.accounts["desk-2"].logged}
    missing = sorted(set(range(1, given + 1)) - logged)
    (gap,) = line.gaps
    assert (gap.unit, gap.session) == ("desk-2", 1)
    assert list(range(gap.first, gap.last + 1)) == missing
    assert gap.last - gap.first + 1 >= 20 - 5
    assert Notice.OUTBOX_OVERFLOW in codes(line.units["desk-2"].alerts)
    line.check()


def test_g2_order_what_comes_a_second_time_after_a_crash_is_the_same() -> None:
    line = SimulatedLine(2, faults=Faults()).start()
    line.run(2.3)
    line.kill_gateway()
    line.start_gateway()
    line.run(3)
    numbers = [(news.unit, news.session, news.sequence) for news in line.delivered]
    twice = {number for number in numbers if numbers.count(number) > 1}
    assert twice
    for number in twice:
        labels = [news.label for news in line.delivered if (news.unit, news.session, news.sequence) == number]
        assert labels == [labels[0]] * 2
    line.check()


# --- G3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", sorted(cheats.TAMPERINGS))
@pytest.mark.parametrize("at", [2, 5])
def test_g3_chain_tampering_with_closed_rounds_is_found_offline(how: str, at: int) -> None:
    line = SimulatedLine(3).start()
    line.run(6)
    assert follow(line.log) == len(line.log) >= 10
    with pytest.raises(RemoteMessageError):
        follow(cheats.TAMPERINGS[how](line.log, at, line))


def test_g3_not_covered_a_log_cut_off_at_its_end_shows_only_against_a_newer_grant() -> None:
    line = SimulatedLine(3).start()
    line.run(6)
    assert follow(line.log[:5]) == 5
    newest = line.stored_grant
    assert newest is not None
    assert grant_of(newest).round > 5


# --- G4 --------------------------------------------------------------------------------------------------------------


def test_g4_confidentiality_links_look_alike_whatever_a_desk_says() -> None:
    line = SimulatedLine(4)
    line.muted = {"desk-3"}
    line.start()
    line.run(10)
    links = [link_of(raw) for closed in line.log[2:] for raw in closed.links]
    by_unit = {name: [link for link in links if link.unit == name] for name in line.units}
    assert {len(entry.sealed) for link in links for entry in link.entries} == {112}
    assert {len(link.entries) for sent in by_unit.values() for link in sent} == {1}
    assert {link.flags for link in links} == {LinkFlag.SESSION_KNOWN}
    muted = {delivered.unit for delivered in line.delivered if delivered.label.state is LabelState.MUTED}
    assert muted == {"desk-3"}
    sealed = [entry.sealed for link in by_unit["desk-3"] for entry in link.entries]
    assert len(set(sealed)) == len(sealed)


@pytest.mark.parametrize("seed", [4, 57])
def test_g4_confidentiality_with_all_desks_muted_the_network_sees_the_same(seed: int) -> None:
    plan = draw_plan(seed, units=(2, 5), seconds=12.0)
    spoken, muted = seeds.furnish(plan), seeds.furnish(plan, labels=1)
    for line in (spoken, muted):
        seeds.live(line, plan)
    states = [{news.label.state for news in line.delivered} for line in (spoken, muted)]
    assert LabelState.GIVEN in states[0]
    assert states[1] == {LabelState.MUTED}
    assert len(spoken.wire) > 50
    assert spoken.wire_trace == muted.wire_trace


# --- G5 --------------------------------------------------------------------------------------------------------------


def test_g5_accountability_two_boxes_with_one_key_are_proved_within_one_round() -> None:
    line = SimulatedLine(5).start()
    line.run(2)
    genuine = link_of(line.units["desk-1"].published[-1])
    line.inject(sign_link(replace(genuine, entries=()), room.signer("desk-1")))
    line.run(1)
    (alert,) = [alert for alert in line.alerts if alert.code is Verdict.EQUIVOCATION]
    assert alert.peer == "desk-1"
    first, second = alert.proof
    verifier = Verifier(room.roster(), room.LINE, LIMITS)
    assert check_proof((first, second), verifier) == (f"desk-1 signed two links in session 1 for round {genuine.round}")
    for peer in ("desk-2", "desk-3", "desk-4"):
        assert Verdict.EQUIVOCATION in codes(line.units[peer].alerts)
    heard = len([delivered for delivered in line.delivered if delivered.unit == "desk-1"])
    line.run(3)
    assert len([delivered for delivered in line.delivered if delivered.unit == "desk-1"]) == heard
    assert line.units["desk-1"].machine is not None
    assert line.units["desk-1"].machine.state == "stopped"
    line.check()


@pytest.mark.parametrize("theft", [cheats.sign_two_links, cheats.give_two_contents, cheats.sign_older_session])
def test_g5_accountability_whatever_a_thief_of_the_key_signs_is_proved_when_it_is_heard(theft) -> None:  # type: ignore[no-untyped-def]
    line = WatchedLine(6).start()
    line.run(2)
    line.kill_unit("desk-2")
    line.start_unit("desk-2")
    line.run(2)
    theft(line, "desk-2")
    line.run(0.1)
    assert line.checks.proved == {"desk-2"}
    assert Verdict.EQUIVOCATION in codes(line.alerts)


@pytest.mark.parametrize("copy", [cheats.copy_while_off, cheats.copy_while_on, cheats.restore_backup])
def test_g5_accountability_a_copied_or_restored_box_is_noticed_within_a_round(copy) -> None:  # type: ignore[no-untyped-def]
    line = WatchedLine(7).start()
    line.run(3.1)
    copy(line, "desk-3")
    assert line.checks.due == {"desk-3"}
    line.run(2 * LIMITS.round_period_ms / 1_000)
    line.checks.all_noticed()
    line.run(3)
    line.check()


@pytest.mark.parametrize("rounds_ago", [1, 3, 6])
def test_g5_accountability_an_old_grant_makes_no_honest_unit_a_cheat(rounds_ago: int) -> None:
    line = WatchedLine(8).start()
    line.run(4.1)
    old = line.log[-rounds_ago].grant
    line.kill_unit("desk-2")
    line.broker.lies["desk-2"] = old
    line.start_unit("desk-2")
    line.run(4)
    newest = link_of(line.units["desk-2"].published[-1])
    assert {link_of(raw).round for raw in line.units["desk-2"].published if link_of(raw).session == 2} >= {
        grant_of(old).round,
        newest.round,
    }
    assert all(len(closed.links) == 4 for closed in line.log[-3:])
    assert not line.units["desk-2"].stopped
    line.check()


def test_g5_accountability_a_broker_from_an_old_image_makes_no_honest_unit_a_cheat() -> None:
    line = WatchedLine(9, own_clock=True).start()
    for _ in range(6):
        line.run(3)
        line.kill_unit("desk-2")
        line.kill_gateway()
        line.stop_broker()
        line.start_broker(Retained.OLD)
        line.start_unit("desk-2")
        line.run(1)
        line.start_gateway()
    line.run(4)
    assert all(len(closed.links) == 4 for closed in line.log[-3:])
    line.check()


# --- G6 --------------------------------------------------------------------------------------------------------------


def test_g6_no_loss_while_the_gateway_is_away() -> None:
    line = SimulatedLine(6).start()
    line.run(3)
    line.kill_gateway()
    for _ in range(30):
        line.run(0.5)
        for name in line.units:
            line.give_label(name)
    assert all(unit.backlog >= 30 for unit in line.units.values())
    line.start_gateway()
    line.run(8)
    assert all(unit.backlog <= 1 for unit in line.units.values())
    line.check()
    assert line.gaps == []


def test_g6_no_loss_of_spilled_labels_over_a_power_cut_at_the_unit() -> None:
    line = SimulatedLine(6).start()
    line.run(3)
    line.kill_gateway()
    for _ in range(30):
        line.run(0.5)
        line.give_label("desk-1")
    spilled = {(entry.session, entry.sequence) for entry in line.units["desk-1"].spilled}
    assert len(spilled) >= 15
    line.kill_unit("desk-1")
    line.start_unit("desk-1")
    line.start_gateway()
    line.run(8)
    assert spilled <= line.checks.accounts["desk-1"].logged.keys()
    assert line.units["desk-1"].spilled == []
    line.check()


@pytest.mark.parametrize("keeps", [False, True], ids=["the write is lost", "the write is kept"])
def test_g6_no_loss_when_the_power_is_cut_at_a_persist(keeps: bool) -> None:
    cut = list(seeds.power_cuts(5, units=3, seconds=4.0, keeps=keeps))
    assert [outcome.text for outcome in cut if outcome.broken] == []
    assert len(cut) > 15


# --- G7 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [("desk-1",), ("desk-2", "desk-3"), ("desk-1", "desk-2", "desk-4")])
def test_g7_liveness_any_live_subset_goes_on(dead: tuple[str, ...]) -> None:
    line = SimulatedLine(7).start()
    line.run(3)
    for name in dead:
        line.kill_unit(name)
    line.run(6)
    closed = line.log[-3:]
    assert all({link_of(raw).unit for raw in round_.links} == set(line.units) - set(dead) for round_ in closed)
    absent = {alert.peer for alert in line.alerts if alert.code is Notice.UNIT_ABSENT}
    assert absent == set(dead)
    for name in dead:
        line.start_unit(name)
    line.run(3)
    assert all(len(round_.links) == 4 for round_ in line.log[-3:])
    line.check()


def test_g7_liveness_three_of_forty_are_enough_and_a_fourth_finds_its_place() -> None:
    line = SimulatedLine(11, units=40)
    line.start_gateway()
    for name in ("desk-3", "desk-17", "desk-40"):
        line.start_unit(name)
    line.run(6)
    assert all(len(closed.links) == 3 for closed in line.log[-3:])
    line.start_unit("desk-30")
    line.run(1.5)
    assert len(line.log[-1].links) == 4
    line.check()


def test_g7_liveness_units_that_come_back_together_all_find_their_place_in_three_rounds() -> None:
    line = SimulatedLine(12, units=12).start()
    line.run(3)
    back = [f"desk-{number}" for number in range(2, 10)]
    for name in back:
        line.kill_unit(name)
    line.run(5)
    for name in back:
        line.start_unit(name)
    line.run(2)
    assert len(line.log[-1].links) == 12


def test_g7_liveness_an_absent_unit_costs_at_most_one_hop_timeout() -> None:
    line = SimulatedLine(8).start()
    line.run(3)
    line.kill_unit("desk-2")
    start = len(line.delivered)
    line.run(1.4)
    delays = [(d.arrived_wall_ms - d.label.window_end_ms) / 1_000 for d in line.delivered[start:]]
    assert delays
    assert max(delays) < 0.03 + LIMITS.hop_timeout_ms / 1_000 + 0.02


@pytest.mark.parametrize("how", list(Cut))
def test_g7_liveness_a_unit_that_was_cut_off_drains_its_backlog(how: Cut) -> None:
    line = WatchedLine(13, own_clock=True).start()
    line.run(3)
    line.cut("desk-2", how)
    line.run(10)
    assert line.units["desk-2"].backlog >= 10
    line.heal("desk-2")
    line.run(3)
    line.checks.drained(line.units, set())
    line.check()


# --- G8 --------------------------------------------------------------------------------------------------------------


def test_g8_a_gateway_that_rewrites_a_grant_is_proved() -> None:
    line = SimulatedLine(9).start()
    line.run(3)
    stored = line.stored_grant
    cheats.rewrite_grant(line)
    rewritten = line.wire[-1][1]
    line.run(0.1)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.GRANT_REWRITTEN]
        assert alert.proof == (stored, rewritten)


def test_g8_a_gateway_that_takes_back_an_acknowledgement_is_proved() -> None:
    line = SimulatedLine(10).start()
    line.run(3)
    stored = line.stored_grant
    assert stored is not None
    cheats.take_back(line)
    less = line.wire[-1][1]
    line.run(0.1)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.ACKNOWLEDGEMENT_WITHDRAWN]
        assert alert.proof == (stored, less)
        assert unit.machine is not None
        assert unit.machine.round == grant_of(stored).round


def test_g8_a_gateway_that_goes_back_to_an_older_image_of_its_disk_is_proved() -> None:
    line = SimulatedLine(10).start()
    line.run(6)
    line.checks.gateway_lies = True
    cheats.roll_back(line)
    line.run(1.5)
    for unit in line.units.values():
        alert = next(alert for alert in unit.alerts if alert.code is Verdict.GRANT_REWRITTEN)
        first, second = map(grant_of, alert.proof)
        assert first.round == second.round
        assert first != second


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds_under_a_hostile_broker(seed: int) -> None:
    outcome = seeds.run_seed(seed, units=(2, 6), seconds=15.0)
    assert outcome.text == ""
    assert outcome.rounds > 20
