"""G1 to G8 of the line protocol, each over a whole line in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.config import LineLimits
from device.errors import RemoteMessageError, Verdict
from device.line.actions import Alert, ClosedRound, Notice
from device.line.evidence import check_proof
from device.line.log import follow_log
from device.line.verify import Verifier
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.grant import Accepted, decode_grant, sign_grant
from device.messages.label import LabelState
from device.messages.link import Link, decode_link, sign_link
from tests.simulators.line import Faults, SimulatedLine
from tools.attacks import forge_link
from tools.vectors import room

LIMITS = LineLimits()


def link_of(raw: bytes) -> Link:
    """The content of a link."""
    return decode_link(open_envelope(raw, wanted=ContentType.LINK))


def codes(alerts: list[Alert]) -> set[str]:
    """The codes of some alerts."""
    return {alert.code for alert in alerts}


def follow(rounds: list[ClosedRound]) -> int:
    """Rounds that an offline verifier accepts; raises at the first bad object."""
    return sum(1 for _ in follow_log(rounds, roster=room.roster(), line=room.LINE, limits=LIMITS))


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


def test_g2_order_a_gap_is_reported_with_its_bounds() -> None:
    line = SimulatedLine(2, limits=replace_limits(backlog_entries=5)).start()
    line.run(2)
    line.disconnect_unit("desk-2")
    for _ in range(20):
        line.run(0.5)
        line.give_label("desk-2")
    given = line.units["desk-2"].labels
    line.connect_unit("desk-2")
    line.run(3)
    logged = {sequence for name, _, sequence in line.logged() if name == "desk-2"}
    missing = sorted(set(range(1, given + 1)) - logged)
    (gap,) = line.gaps
    assert (gap.unit, gap.session) == ("desk-2", 1)
    assert list(range(gap.first, gap.last + 1)) == missing
    assert gap.last - gap.first + 1 >= 20 - 5
    assert Notice.OUTBOX_OVERFLOW in codes(line.units["desk-2"].alerts)
    line.check()


def replace_limits(**changes: int) -> LineLimits:
    """The default limits with some changes."""
    return LineLimits(**changes)


def _without_first_link(rounds: list[ClosedRound]) -> list[ClosedRound]:
    return [*rounds[:4], replace(rounds[4], links=rounds[4].links[1:]), *rounds[5:]]


def _without_last_link(rounds: list[ClosedRound]) -> list[ClosedRound]:
    return [*rounds[:4], replace(rounds[4], links=rounds[4].links[:-1]), *rounds[5:]]


def _links_swapped(rounds: list[ClosedRound]) -> list[ClosedRound]:
    first, second, *rest = rounds[4].links
    return [*rounds[:4], replace(rounds[4], links=(second, first, *rest)), *rounds[5:]]


def _altered(rounds: list[ClosedRound]) -> list[ClosedRound]:
    raw = bytearray(rounds[4].links[1])
    raw[len(raw) // 2] ^= 1
    return [*rounds[:4], replace(rounds[4], links=(rounds[4].links[0], bytes(raw), *rounds[4].links[2:])), *rounds[5:]]


def _regranted(rounds: list[ClosedRound]) -> list[ClosedRound]:
    grant = decode_grant(open_envelope(rounds[4].grant, wanted=ContentType.GRANT))
    other = sign_grant(replace(grant, gateway_ms=grant.gateway_ms + 1), room.signer(room.GATEWAY))
    return [*rounds[:4], replace(rounds[4], grant=other), *rounds[5:]]


def _link_inserted(rounds: list[ClosedRound]) -> list[ClosedRound]:
    return [*rounds[:4], replace(rounds[4], links=(*rounds[4].links, rounds[3].links[0])), *rounds[5:]]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda rounds: rounds[1:],
        lambda rounds: [*rounds[:4], *rounds[5:]],
        lambda rounds: [*rounds[:4], rounds[5], rounds[4], *rounds[6:]],
        lambda rounds: [*rounds[:4], rounds[4], rounds[4], *rounds[5:]],
        _without_first_link,
        _without_last_link,
        _links_swapped,
        _altered,
        _regranted,
        _link_inserted,
    ],
    ids=[
        "first round dropped",
        "round dropped",
        "rounds reordered",
        "round twice",
        "first link dropped",
        "last link dropped",
        "links swapped",
        "bit altered",
        "grant signed again",
        "old link inserted",
    ],
)
def test_g3_chain_tampering_with_closed_rounds_is_found_offline(tamper) -> None:  # type: ignore[no-untyped-def]
    line = SimulatedLine(3).start()
    line.run(6)
    assert follow(line.log) == len(line.log) >= 10
    with pytest.raises(RemoteMessageError):
        follow(tamper(line.log))


def test_g3_not_covered_a_log_cut_off_at_its_end_shows_only_against_a_newer_grant() -> None:
    line = SimulatedLine(3).start()
    line.run(6)
    assert follow(line.log[:5]) == 5
    newest = line.stored_grant
    assert newest is not None
    held_by_units = decode_grant(open_envelope(newest, wanted=ContentType.GRANT))
    assert held_by_units.round > 5


def test_g4_confidentiality_links_look_alike_whatever_a_desk_says() -> None:
    line = SimulatedLine(4)
    line.muted = {"desk-3"}
    line.start()
    line.run(10)
    links = [link_of(raw) for closed in line.log[2:] for raw in closed.links]
    by_unit = {name: [link for link in links if link.unit == name] for name in line.units}
    assert {len(entry.sealed) for link in links for entry in link.entries} == {112}
    assert {len(link.entries) for sent in by_unit.values() for link in sent} == {1}
    assert {link.flags for link in links} == {0}
    muted = {delivered.unit for delivered in line.delivered if delivered.label.state is LabelState.MUTED}
    assert muted == {"desk-3"}
    sealed = [entry.sealed for link in by_unit["desk-3"] for entry in link.entries]
    assert len(set(sealed)) == len(sealed)


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


def test_g6_no_loss_while_the_gateway_is_away() -> None:
    line = SimulatedLine(6).start()
    line.run(3)
    line.kill_gateway()
    for _ in range(30):
        line.run(0.5)
        for name in line.units:
            line.give_label(name)
    assert all(len(unit.outbox) >= 30 for unit in line.units.values())
    line.start_gateway()
    line.run(8)
    assert all(len(unit.outbox) <= 1 for unit in line.units.values())
    line.check()
    assert line.gaps == []


@pytest.mark.parametrize("persist", range(1, 9))
def test_g6_no_loss_when_the_power_is_cut_at_a_persist(persist: int) -> None:
    line = SimulatedLine(persist)
    line.power_cut_at_persist = persist
    line.start()
    line.run(5)
    assert line.gateway is None
    line.start_gateway()
    line.run(5)
    line.check()
    assert len(line.log) > 8
    assert Verdict.GRANT_REWRITTEN not in {code for unit in line.units.values() for code in codes(unit.alerts)}


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


def test_g7_liveness_an_absent_unit_costs_at_most_one_hop_timeout() -> None:
    line = SimulatedLine(8).start()
    line.run(3)
    line.kill_unit("desk-2")
    start = len(line.delivered)
    line.run(1.4)
    delays = [(d.arrived_wall_ms - d.label.window_end_ms) / 1_000 for d in line.delivered[start:]]
    assert delays
    assert max(delays) < 0.03 + LIMITS.hop_timeout_ms / 1_000 + 0.02


def test_g8_a_gateway_that_rewrites_a_grant_is_proved() -> None:
    line = SimulatedLine(9).start()
    line.run(3)
    stored = line.stored_grant
    assert stored is not None
    grant = decode_grant(open_envelope(stored, wanted=ContentType.GRANT))
    rewritten = sign_grant(replace(grant, prev=bytes(32)), room.signer(room.GATEWAY))
    line.publish(topics.grant(room.ROOM, room.LINE), rewritten)
    line.run(0.1)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.GRANT_REWRITTEN]
        assert alert.proof == (stored, rewritten)


def test_g8_a_gateway_that_takes_back_an_acknowledgement_is_proved() -> None:
    line = SimulatedLine(10).start()
    line.run(3)
    stored = line.stored_grant
    assert stored is not None
    grant = decode_grant(open_envelope(stored, wanted=ContentType.GRANT))
    less = {**grant.accepted, "desk-1": Accepted(1, 1, 1)}
    later = sign_grant(replace(grant, round=grant.round + 1, accepted=less), room.signer(room.GATEWAY))
    line.kill_gateway()
    line.publish(topics.grant(room.ROOM, room.LINE), later)
    line.run(0.1)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.ACKNOWLEDGEMENT_WITHDRAWN]
        assert alert.proof == (stored, later)
        assert unit.machine is not None
        assert unit.machine.round == grant.round


@pytest.mark.parametrize("seed", range(1, 9))
def test_everything_holds_under_a_hostile_broker(seed: int) -> None:
    """Drops, duplicates, late ones, restarts of units and gateway, drawn from the seed. Afterwards nothing is lost."""
    line = SimulatedLine(seed, faults=Faults(drop=0.05, duplicate=0.1, late=0.05)).start()
    for _ in range(12):
        line.run(line.random.uniform(0.2, 1.5))
        name = line.random.choice(list(line.units))
        match line.random.randrange(5):
            case 0:
                line.kill_unit(name)
                line.start_unit(name)
            case 1:
                line.kill_gateway()
                line.run(line.random.uniform(0, 1))
                line.start_gateway()
            case 2:
                line.disconnect_unit(name)
                line.run(line.random.uniform(0, 1))
                line.connect_unit(name)
            case 3:
                line.inject(line.random.choice(line.wire)[1])
            case _:
                line.inject(line.random.randbytes(200))
        line.check()
    line.faults = Faults()
    line.run(6)
    line.check()
    assert all(len(unit.outbox) <= 2 for unit in line.units.values())
    assert Verdict.EQUIVOCATION not in codes(line.alerts)
