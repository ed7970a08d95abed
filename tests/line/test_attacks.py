"""Every attack of docs/attacks.md against running machines: the verdict, who is told, and what is left behind.

The room is simulated (tools/simulate), the machines are those that ship. A test over several attacks has their names
as its ids; the page names them so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from device.config import LineLimits
from device.errors import VERDICTS, Verdict
from device.line.actions import Alert, ClosedRound, Notice
from device.line.evidence import check_proof
from device.line.log import LogFinding
from device.line.verify import Verifier
from device.messages import topics
from device.messages.envelope import KeySigner, digest
from device.messages.grant import NO_PREVIOUS, sign_grant
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.receipt import ReceiptHeader, ReceiptKind, encode_receipt
from device.messages.roster import sign_roster
from device.messages.sealing import Place, Sealer
from tests.simulators.line import SimulatedLine
from tests.verify.files import verify
from tools.attacks import forge_link
from tools.simulate import cheats
from tools.simulate.cheats import grant_of, link_of
from tools.simulate.line import SimulatedLine as WatchedLine
from tools.vectors import room
from tools.vectors.cases import given
from tools.vectors.hostile import malleate, nested, parts, sign_bytes
from tools.vectors.logs import first_failing, other_key, resealed

LIMITS = LineLimits()
PERIOD_S = LIMITS.round_period_ms / 1_000
GRANT_TOPIC = topics.grant(room.ROOM, room.LINE)
VERIFIER = Verifier(room.roster(), room.LINE, LIMITS)


def started(seed: int = 1, *, without: str = "") -> SimulatedLine:
    """A room that has worked for three seconds, every round of it full; perhaps with one unit switched off."""
    line = SimulatedLine(seed)
    line.start_gateway()
    for name in line.units:
        if name != without:
            line.start_unit(name)
    line.run(3.1)
    assert line.alerts == [] or without
    line.alerts.clear()
    return line


def told(line: WatchedLine) -> dict[str, list[str]]:
    """Who has been told what: the gateway, and each box that runs."""
    boxes = {name: unit.alerts for name, unit in line.units.items() if unit.machine is not None}
    parties = {room.GATEWAY: line.alerts, **boxes}
    return {name: [alert.code.value for alert in alerts] for name, alerts in parties.items()}


def everybody(line: WatchedLine, *codes: Verdict) -> dict[str, list[str]]:
    """What `told` says when every running party was told the same."""
    return {name: [code.value for code in codes] for name in told(line)}


def only_genuine(line: WatchedLine, *, signing: int = 4) -> None:
    """Nothing is left of an attack: the log verifies and holds links that boxes published, rounds are full, nothing was
    delivered that no desk said, and nothing waits anywhere."""
    line.check()
    assert first_failing(line.log, line.stored_grant, rosters={1: line.roster}) is None
    published = {raw for unit in line.units.values() for raw in unit.published}
    assert {raw for closed in line.log for raw in closed.links} <= published
    assert all(len(closed.links) == signing for closed in line.log[-4:])
    assert {news.unit for news in line.delivered} <= set(line.units)
    running = [unit for unit in line.units.values() if unit.machine is not None and not unit.stopped]
    assert all(unit.backlog <= 1 for unit in running)


# --- somebody on the network ---------------------------------------------------------------------------------------


def at_head(watched: WatchedLine, unit: str, session: int = 1, **changes: Any) -> Link:
    """A link that continues the head, with a label that opens: all is as it should be, whoever signs it."""
    machine = watched.gateway
    assert machine is not None
    place = Place(room.ROOM, room.LINE, unit, session, 1_000)
    sealer = Sealer(watched.roster.gateway.opening_key, watched.roster.suite)
    entries = (Entry(session, 1_000, sealer.seal(given(), place)),)
    link = Link(room.ROOM, room.LINE, 1, machine.round, unit, session, entries, machine.head)
    return replace(link, **changes)


def _by(signer: str, unit: str = "", **changes: Any) -> Callable[[WatchedLine], bytes]:
    return lambda line: sign_link(at_head(line, unit or signer, **changes), room.signer(signer))


def _payload(line: WatchedLine, old: bytes, new: bytes) -> bytes:
    """desk-1's own signature over a payload with some bytes in it changed."""
    payload = parts(line.units["desk-1"].published[-1])[2]
    assert old in payload
    return sign_bytes(payload.replace(old, new, 1), room.signer("desk-1"))


def _newest(line: WatchedLine) -> bytes:
    return line.units["desk-1"].published[-1]


FORGER = KeySigner("desk-1", room.signer("forger").private_key)
#: What a stranger sends, or somebody with the key of a box that is not of this line, or a box that speaks badly.
STRANGERS: dict[str, tuple[Callable[[WatchedLine], bytes], Verdict]] = {
    "forged_signature": (lambda line: sign_link(at_head(line, "desk-1"), FORGER), Verdict.BAD_SIGNATURE),
    "forged_link_of_the_next_round": (lambda line: forge_link(_newest(line)), Verdict.BAD_SIGNATURE),
    "malleable_signature": (lambda line: malleate(_newest(line)), Verdict.BAD_SIGNATURE),
    "altered_after_signing": (
        lambda line: _newest(line).replace(b"desk-1", b"desk-2"),
        Verdict.BAD_SIGNATURE,
    ),
    "signed_for_another_line": (
        lambda line: sign_bytes(parts(_newest(line))[2], room.signer("desk-1"), line=room.OTHER_LINE),
        Verdict.BAD_SIGNATURE,
    ),
    "unknown_key": (_by("stranger"), Verdict.UNKNOWN_SIGNER),
    "name_of_another": (_by("desk-3", "desk-2"), Verdict.UNKNOWN_SIGNER),
    "unit_of_another_line": (_by(room.OTHER_UNIT), Verdict.SIGNER_OF_ANOTHER_LINE),
    "another_room": (_by("desk-1", room="gym"), Verdict.WRONG_ROOM),
    "another_line": (_by("desk-1", line=room.OTHER_LINE), Verdict.WRONG_LINE),
    "stale_epoch": (_by("desk-1", epoch=0), Verdict.STALE_EPOCH),
    "unknown_epoch": (_by("desk-1", epoch=2), Verdict.UNKNOWN_EPOCH),
    "oversized": (lambda line: _newest(line) + bytes(LIMITS.message_bytes), Verdict.TOO_LARGE),
    "deep_nesting": (lambda line: b"\xd2" + nested(10_000), Verdict.NOT_DECODABLE),
    "deep_nesting_in_payload": (
        lambda line: sign_bytes(nested(10_000), room.signer("desk-1")),
        Verdict.NOT_DECODABLE,
    ),
    "huge_array_head": (
        lambda line: sign_bytes(b"\x9b" + b"\x7f" * 8, room.signer("desk-1")),
        Verdict.NOT_DECODABLE,
    ),
    "non_canonical_integer": (
        lambda line: _payload(line, b"\x03\x01\x04", b"\x03\x18\x01\x04"),
        Verdict.NOT_DETERMINISTIC,
    ),
    "duplicate_key": (
        lambda line: _payload(line, b"\xa9", b"\xaa\x01\x63lab"),
        Verdict.NOT_DECODABLE,
    ),
    "grant_as_link": (lambda line: line.log[-1].grant, Verdict.WRONG_KIND),
    "garbage": (lambda line: bytes(range(255, 155, -1)), Verdict.NOT_DECODABLE),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_message_is_refused_everybody_is_told_and_nothing_is_left(name: str) -> None:
    make, verdict = STRANGERS[name]
    line = started()
    line.inject(make(line))
    line.run(3)
    assert told(line) == everybody(line, verdict)
    only_genuine(line)


def test_a_forged_grant_moves_no_unit() -> None:
    line = started()
    genuine = grant_of(line.stored_grant or b"")
    forged = sign_grant(replace(genuine, round=genuine.round + 1), other_key(room.GATEWAY))
    line.publish(GRANT_TOPIC, forged, retain=True)
    line.publish(GRANT_TOPIC, line.units["desk-1"].published[-1])
    line.run(3)
    for unit in line.units.values():
        assert [alert.code for alert in unit.alerts] == [Verdict.BAD_SIGNATURE, Verdict.WRONG_KIND]
    only_genuine(line)


def test_a_thousand_hostile_messages_delay_nobody_for_long() -> None:
    line = started(3)
    for number in range(1_000):
        line.inject(line.random.randbytes(number % 300), unit="desk-2")
    line.run(3)
    only_genuine(line)
    assert 0 < len(line.alerts) <= 2
    assert all(len(closed.links) == 4 for closed in line.log)


def test_a_revoked_unit_is_refused_by_everybody() -> None:
    line = WatchedLine(1, revoked=frozenset({"desk-4"})).start()
    line.run(3.1)
    cheats.revoked_speaks(line, "desk-4")
    line.run(3)
    assert told(line) == everybody(line, Verdict.REVOKED)
    only_genuine(line, signing=3)


# --- the past -------------------------------------------------------------------------------------------------------


def test_a_replayed_round_is_refused_and_told_and_its_grant_changes_nothing() -> None:
    line = started()
    old = line.log[-1]
    line.publish(GRANT_TOPIC, old.grant, retain=True)
    for raw in old.links:
        line.inject(raw, unit=link_of(raw).unit)
    line.run(3)
    replayed = [Verdict.REPLAYED.value]
    assert told(line)[room.GATEWAY] == replayed * 4
    assert {alert.peer for alert in line.alerts} == set(line.units)
    assert all(set(codes) == set(replayed) for codes in told(line).values())
    only_genuine(line)


def test_a_link_replayed_in_a_later_round_is_refused_and_told() -> None:
    line = started()
    line.inject(line.units["desk-2"].published[-3], unit="desk-2")
    line.run(3)
    assert told(line) == everybody(line, Verdict.REPLAYED)
    only_genuine(line)


def test_a_link_from_before_all_memory_is_stale_and_told() -> None:
    line = started()
    old = line.units["desk-2"].published[0]
    line.run(PERIOD_S * (LIMITS.rounds_in_memory + 3))
    line.inject(old, unit="desk-2")
    line.run(3)
    assert told(line) == everybody(line, Verdict.STALE_ROUND)
    only_genuine(line)


# --- a box, or whoever has its key -----------------------------------------------------------------------------------


def test_a_link_on_a_wrong_prev_is_refused_and_told() -> None:
    line = started(without="desk-4")
    line.inject(sign_link(at_head(line, "desk-4", prev=digest(b"elsewhere")), room.signer("desk-4")), unit="desk-4")
    line.run(3)
    assert {name: codes for name, codes in told(line).items() if name != room.GATEWAY} == {
        name: [Verdict.WRONG_PREVIOUS.value] for name in ("desk-1", "desk-2", "desk-3")
    }
    assert Verdict.WRONG_PREVIOUS.value in told(line)[room.GATEWAY]
    only_genuine(line, signing=3)


def by_thief(line: WatchedLine, **changes: Any) -> bytes:
    """Whoever has desk-4's key signs a link without labels that continues the head; it is published."""
    raw = sign_link(at_head(line, "desk-4", **{"entries": (), **changes}), room.signer("desk-4"))
    line.inject(raw, unit="desk-4")
    line.run(0.02)
    return raw


def test_a_second_link_in_a_round_is_refused_and_the_unit_goes_on_in_the_next() -> None:
    line = started(without="desk-4")
    first = by_thief(line, session=1)
    assert line.gateway is not None and "desk-4" in line.gateway.signed_units
    second = by_thief(line, session=2)
    line.run(PERIOD_S)
    assert Verdict.SECOND_LINK_IN_ROUND.value in told(line)[room.GATEWAY]
    assert first in line.log[-1].links and second not in line.log[-1].links
    third = by_thief(line, session=2)
    line.run(PERIOD_S)
    assert third in line.log[-1].links
    assert grant_of(line.stored_grant or b"").accepted["desk-4"].session == 2
    line.check()


def equivocated(line: SimulatedLine) -> Alert:
    """Whoever has desk-4's key signs two links for one session and round. Returns the gateway's alert."""
    by_thief(line)
    by_thief(line)
    (alert,) = [alert for alert in line.alerts if alert.code is Verdict.EQUIVOCATION]
    return alert


def test_two_links_that_exclude_each_other_are_a_proof_that_the_offline_verifier_accepts(tmp_path: Path) -> None:
    line = started(without="desk-4")
    alert = equivocated(line)
    assert alert.peer == "desk-4"
    others = [alert for name in ("desk-1", "desk-2", "desk-3") for alert in line.units[name].alerts]
    assert [other.code for other in others] == [Verdict.EQUIVOCATION] * 3
    for found in (alert, *others):
        first, second = found.proof
        assert "desk-4 signed two links" in check_proof((first, second), VERIFIER)
    signed_roster = sign_roster(line.roster, room.signer(room.AUTHORITY))
    (tmp_path / "roster.cose").write_bytes(signed_roster)
    proof, number = tmp_path / "proof.receipt", link_of(alert.proof[0]).round
    header = ReceiptHeader(ReceiptKind.PROOF, room.ROOM, room.LINE, (signed_roster,), number, number, 2)
    proof.write_bytes(b"".join(encode_receipt(header, alert.proof)))
    ran = verify(proof, "--roster", tmp_path / "roster.cose")
    assert (ran.code, ran.document["proved"]["signer"]) == (0, "desk-4")
    assert ran.document["proved"]["code"] == Verdict.EQUIVOCATION


def test_a_unit_that_equivocated_is_quarantined_also_over_a_restart_of_the_gateway() -> None:
    line = started(without="desk-4")
    equivocated(line)
    for _ in range(2):
        line.run(2 * PERIOD_S)
        assert line.gateway is not None and "desk-4" not in line.gateway.order
        line.alerts.clear()
        heard = len(line.delivered)
        by_thief(line)
        assert [alert.code for alert in line.alerts] == [Verdict.QUARANTINED]
        assert "desk-4" not in {news.unit for news in line.delivered[heard:]}
        line.kill_gateway()
        line.start_gateway()
    line.run(2)
    assert first_failing(line.log, line.stored_grant, rosters={1: line.roster}) is None


def test_one_number_with_two_contents_is_a_proof_in_the_round_of_the_second() -> None:
    line = WatchedLine(1).start()
    line.run(3.1)
    while line.gateway is not None and "desk-2" in line.gateway.signed_units:
        line.run(0.01)
    cheats.give_two_contents(line, "desk-2")
    line.run(0.1)
    (alert,) = [alert for alert in line.alerts if alert.code is Verdict.EQUIVOCATION]
    first, second = alert.proof
    assert "gave two contents" in check_proof((first, second), VERIFIER)
    line.run(3)
    assert all(len(closed.links) == 3 for closed in line.log[-3:])
    line.check()


@pytest.mark.parametrize("seed", range(6))
def test_a_cloned_card_with_the_same_session_is_proved_within_one_round(seed: int) -> None:
    """Whichever box hears the other first: it signs once more, so that there are two links of one session and round."""
    line = WatchedLine(seed).start()
    line.run(3.1)
    cheats.copy_while_off(line, "desk-3")
    line.run(PERIOD_S)
    (alert,) = [alert for alert in line.alerts if alert.code is Verdict.EQUIVOCATION]
    first, second = alert.proof
    assert "desk-3 signed two links in session 2" in check_proof((first, second), VERIFIER)
    stopped = [line.units[box] for box in ("desk-3", "desk-3+1") if line.units[box].stopped]
    assert stopped
    for box in stopped:
        assert [alert.code for alert in box.alerts if alert.code is Notice.ENROL_ANEW] == [Notice.ENROL_ANEW]
        assert len([raw for raw in box.published if link_of(raw).session == 2]) == 1
    line.run(3)
    assert all(len(closed.links) == 3 for closed in line.log[-3:])
    line.check()


@pytest.mark.parametrize("seed", range(4))
def test_a_cloned_card_with_the_next_session_is_proved_within_one_round_of_the_first_that_is_taken(seed: int) -> None:
    line = WatchedLine(seed).start()
    line.run(3.1)
    cheats.copy_while_on(line, "desk-3")
    line.run(3 * PERIOD_S)
    original = line.units["desk-3"]
    assert original.stopped
    assert [alert.code for alert in original.alerts if alert.code is Notice.ENROL_ANEW] == [Notice.ENROL_ANEW]
    (alert,) = [alert for alert in line.alerts if alert.code is Verdict.EQUIVOCATION]
    first, second = alert.proof
    assert "used session 1 after session 2" in check_proof((first, second), VERIFIER)
    silent = len(original.published)
    line.run(3)
    assert len(original.published) == silent
    assert all(len(closed.links) == 3 for closed in line.log[-3:])
    line.check()


def test_a_cloned_card_whose_original_goes_on_with_its_session_is_proved_in_the_copys_second_round() -> None:
    """The original does not stop, because somebody keeps the copy's links from it: then the gateway has the proof."""
    line = started(without="desk-4")
    by_thief(line, session=3)
    found: list[Alert] = []
    for number in range(2):
        line.run(PERIOD_S)
        line.alerts.clear()
        assert line.gateway is not None
        known = grant_of(line.stored_grant or b"").accepted["desk-4"].session == 4
        by_thief(line, session=4, flags=LinkFlag.SESSION_KNOWN if known else LinkFlag.NONE)
        by_thief(line, session=3)
        found = [alert for alert in line.alerts if alert.code in (Verdict.EQUIVOCATION, Verdict.STALE_SESSION)]
        assert [alert.code for alert in found] == [(Verdict.STALE_SESSION, Verdict.EQUIVOCATION)[number]]
    first, second = found[0].proof
    assert "used session 3 after session 4" in check_proof((first, second), VERIFIER)


def test_a_restored_backup_notices_by_the_signed_grant_signs_nothing_and_asks_to_be_enrolled_anew() -> None:
    line = started(4)
    box = line.units["desk-1"]
    line.kill_unit("desk-1")
    box.session -= 1
    published = len(box.published)
    line.start_unit("desk-1")
    line.run(5)
    assert box.stopped
    (notice,) = [alert for alert in box.alerts if alert.code is Notice.ENROL_ANEW]
    assert "enrol it anew" in notice.text
    (grant,) = notice.proof
    assert VERIFIER.grant(grant).body.accepted["desk-1"].session == box.session
    assert len(box.published) == published
    assert [alert.code for alert in line.alerts] == [Notice.UNIT_ABSENT]
    only_genuine(line, signing=3)


# --- the gateway and its log ----------------------------------------------------------------------------------------


def test_a_gateway_that_rewrites_a_grant_is_noticed_by_every_unit_with_a_proof() -> None:
    line = started()
    stored = line.stored_grant
    cheats.rewrite_grant(line)
    line.run(0.05)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.GRANT_REWRITTEN]
        assert alert.peer == room.GATEWAY
        assert alert.proof[0] == stored
        assert "second, different grant" in check_proof((alert.proof[0], alert.proof[1]), VERIFIER)
    line.run(3)
    only_genuine(line)


def test_a_gateway_that_takes_back_an_acknowledgement_is_noticed_by_every_unit_with_a_proof() -> None:
    line = started()
    stored = line.stored_grant
    cheats.take_back(line)
    line.run(0.05)
    for unit in line.units.values():
        (alert,) = [alert for alert in unit.alerts if alert.code is Verdict.ACKNOWLEDGEMENT_WITHDRAWN]
        assert alert.proof[0] == stored
        assert check_proof((alert.proof[0], alert.proof[1]), VERIFIER)
        assert unit.machine is not None and unit.machine.round == grant_of(stored or b"").round


Log = tuple[ClosedRound, ...]


def _forged_at(log: Log, at: int) -> Log:
    first, second, *rest = log[at].links
    forged = sign_link(replace(link_of(second), entries=()), other_key(link_of(second).unit))
    return (*log[:at], replace(log[at], links=(first, forged, *rest)), *log[at + 1 :])


#: What is done to the log of a running gateway, and what following it then finds: code, round and place.
TAMPERINGS: dict[str, tuple[Callable[[Log], Log], str, int, int | None]] = {
    "log_truncated": (lambda log: log[:-2], LogFinding.CUT_AT_END, -1, 0),
    "log_emptied": (lambda log: (), LogFinding.CUT_AT_END, -1, 0),
    "log_beginning_cut_off": (lambda log: log[2:], LogFinding.START_MISSING, 3, 0),
    "log_resealed": (lambda log: resealed(log, NO_PREVIOUS, other_key), LogFinding.RESEALED, 1, 0),
    "log_resealed_from_the_middle": (
        lambda log: (*log[:3], *resealed(log[3:], digest(log[2].links[-1]), other_key)),
        LogFinding.RESEALED,
        4,
        0,
    ),
    "log_round_dropped": (lambda log: (*log[:3], *log[4:]), LogFinding.ROUND_MISSING, 4, None),
    "log_rounds_reordered": (
        lambda log: (*log[:3], log[4], log[3], *log[5:]),
        LogFinding.ROUND_OUT_OF_ORDER,
        4,
        None,
    ),
    "log_round_twice": (lambda log: (*log[:4], *log[3:]), LogFinding.ROUND_OUT_OF_ORDER, 4, 0),
    "log_link_altered": (lambda log: _forged_at(log, 3), Verdict.BAD_SIGNATURE, 4, 2),
    "log_link_dropped": (
        lambda log: (*log[:3], replace(log[3], links=log[3].links[1:]), *log[4:]),
        Verdict.WRONG_PREVIOUS,
        4,
        1,
    ),
    "log_end_rewritten_by_the_gateway": (
        lambda log: (*log[:-1], replace(log[-1], links=log[-1].links[:-1])),
        Verdict.WRONG_PREVIOUS,
        -1,
        0,
    ),
}


@cache
def left_by_a_room() -> tuple[Log, bytes]:
    """The log that a room has written, verified, and the grant that every unit of it holds."""
    line = started()
    assert line.stored_grant is not None
    assert first_failing(line.log, line.stored_grant, rosters={1: room.roster()}) is None
    return tuple(line.log), line.stored_grant


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_running_gateways_log_that_was_tampered_with_is_found_out_at_that_object(name: str) -> None:
    tamper, code, number, place = TAMPERINGS[name]
    log, held = left_by_a_room()
    error = first_failing(tamper(log), held, rosters={1: room.roster()})
    assert error is not None
    assert (error.code, error.round, error.place) == (code, len(log) + 1 if number < 0 else number, place)
    assert error.sentence and "Keep this file" in error.next_step


def test_every_unit_holds_the_grant_that_shows_a_truncated_log() -> None:
    line = started()
    held = [raw for topic, raw in line.wire if topic == GRANT_TOPIC][-1]
    assert held == line.stored_grant
    cut = line.log[:-2]
    assert first_failing(cut, None, rosters={1: line.roster}) is None
    error = first_failing(cut, held, rosters={1: line.roster})
    assert error is not None and error.code is LogFinding.CUT_AT_END


def test_every_verdict_that_a_stranger_can_bring_about_has_words_for_people() -> None:
    for _, verdict in STRANGERS.values():
        row = VERDICTS[verdict]
        assert row.sentence.endswith(".") and row.next_step.endswith(".")
