"""The audit of a soak run finds what must not be: each check, made to fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

from device.line.verify import OpenRound, SignedGrant, SignedLink
from device.messages.envelope import digest
from device.messages.grant import NO_PREVIOUS, Accepted, Grant, sign_grant
from device.messages.link import Link, sign_link
from tools.demo.programs import Program
from tools.soak.audit import Record, acknowledged, falling_links, falling_sessions, holes
from tools.soak.line import Turn, dead_ahead, pauses
from tools.soak.report import Report, at_most, count
from tools.soak.room import Life
from tools.vectors import room


def grant(number: int, *, gateway_ms: int = 0, **accepted: Accepted) -> Grant:
    """A grant that acknowledges; unit names are written `desk_1`."""
    return Grant(
        room=room.ROOM,
        line=room.LINE,
        epoch=1,
        round=number,
        order=("desk-1", "desk-2", "desk-3"),
        accepted={unit.replace("_", "-"): each for unit, each in accepted.items()},
        prev=NO_PREVIOUS,
        gateway_ms=gateway_ms,
        deadline_ms=450,
    )


def record(*grants: Grant) -> Record:
    return Record(rounds=[], views=[], broken="", grants=list(grants), labels={}, alerts=[])


def test_a_grant_acknowledges_everything_up_to_its_number_within_the_session() -> None:
    found = acknowledged(record(grant(1, desk_1=Accepted(2, 1, 3)), grant(2, desk_1=Accepted(2, 2, 1))))
    assert found == {("desk-1", 1, 1), ("desk-1", 1, 2), ("desk-1", 1, 3), ("desk-1", 2, 1)}


def test_a_session_with_a_number_missing_is_a_hole_and_a_short_one_is_not() -> None:
    assert holes({"a1": {1: [1, 2, 3], 2: [1], 3: [1, 3], 4: [2]}}) == ["a1 session 3", "a1 session 4"]


def life(folder: Path, session: int | None, made: int = 0) -> Life:
    """A life whose log says so."""
    log = folder / f"{len(list(folder.iterdir()))}.txt"
    said = (
        [] if session is None else [f"… INFO device.unit.wiring: Unit a1 (Desk 1), line a, session {session}, bundle x"]
    )
    said += [
        f"… DEBUG device.unit.service: Labels up to ({session}, {n}) made, {n - 1} wait" for n in range(1, made + 1)
    ]
    log.write_text("\n".join(said))
    process = subprocess.Popen(["true"])
    process.wait()
    return Life("a1", Program("a1", process, log), began=0.0)


def test_a_life_is_read_from_its_log(tmp_path: Path) -> None:
    lived = life(tmp_path, 3, made=5)
    assert (lived.session, lived.made, lived.waiting) == (3, 5, 4)
    unborn = life(tmp_path, None)
    assert (unborn.session, unborn.made, unborn.waiting) == (0, 0, None)


def test_a_session_that_comes_twice_or_falls_is_found(tmp_path: Path) -> None:
    assert falling_sessions([life(tmp_path, session) for session in (1, None, 2, 5)]) == []
    assert falling_sessions([life(tmp_path, session) for session in (1, 2, 2, 1)]) == ["a1 session 2", "a1 session 1"]


def link(session: int, number: int) -> Link:
    return Link(room.ROOM, room.LINE, 1, number, "desk-1", session, (), NO_PREVIOUS)


def test_a_link_of_an_older_session_in_a_later_round_is_found_and_a_repeated_one_is_not() -> None:
    assert falling_links([link(1, 1), link(2, 3), link(1, 1), link(2, 4)]) == []
    assert falling_links([link(1, 1), link(2, 3), link(1, 4)]) == ["desk-1 session 1 in round 4"]


def opened(*signers: str) -> OpenRound:
    """A round of three units in order, in whose chain these stand."""
    raw = sign_grant(grant(1), room.signer(room.GATEWAY))
    view = OpenRound(SignedGrant(grant(1), raw, digest(raw)))
    for unit in signers:
        body = Link(room.ROOM, room.LINE, 1, 1, unit, 1, (), view.head)
        signed = sign_link(body, room.signer(unit))
        view.extend(SignedLink(body, signed, digest(signed)))
    return view


def test_dead_ahead_are_units_of_the_order_that_had_not_signed() -> None:
    assert dead_ahead(opened("desk-1", "desk-2", "desk-3")) == {"desk-1": 0, "desk-2": 0, "desk-3": 0}
    assert dead_ahead(opened("desk-3")) == {"desk-3": 2}
    assert dead_ahead(opened("desk-2", "desk-1", "desk-3")) == {"desk-2": 1, "desk-1": 0, "desk-3": 0}
    assert dead_ahead(opened("desk-1", "desk-4")) == {"desk-1": 0, "desk-4": 2}, "not in the order: after all of it"


def test_pauses_are_told_apart_from_the_outage() -> None:
    kept = record(*(grant(n, gateway_ms=at) for n, at in enumerate((0, 500, 1_700, 2_200, 9_000, 9_500), start=1)))
    turns = [Turn("calm", 0, 2_500), Turn("outage", 2_500, 8_000), Turn("dead", 8_000, 9_600)]
    assert pauses(kept, turns) == (1.2, 6.8)


def test_a_report_passes_only_when_every_check_does() -> None:
    good, bad = at_most("pause", 1.0, 1.0, "s"), at_most("pause", 1.1, 1.0, "s")
    assert (good.passed, bad.passed) == (True, False)
    assert Report(run="r", seed=1, seconds=1.0, checks=[good], figures=[]).passed
    assert not Report(run="r", seed=1, seconds=1.0, checks=[good, bad], figures=[]).passed
    found = count("lost", [("a1", 1, 7), ("a1", 1, 2)])
    assert (found.passed, found.found) == (False, "2: ('a1', 1, 2), ('a1', 1, 7)")
