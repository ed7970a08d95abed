"""Vectors of what a machine remembers, in tests/vectors/line/sequences: events in their order, and what it answers.

A unit starts in a session, connected, with an empty outbox and no label to give; a gateway starts with its stored
grant of round 7, connected. `at_ms` is the time since then; the gateway's wall time is that long after `WALL_MS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from device.clock import TimeSource
from device.errors import VERDICTS, Verdict
from device.line.actions import Action, Alert, Deliver, Gap, Notice, Publish
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.envelope import digest
from device.messages.grant import Accepted, Grant, sign_grant
from device.messages.label import Label, LabelState
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.publish.outbox import BoundedOutbox
from tools.vectors import room
from tools.vectors.cases import LIMITS, WALL_MS, SealedEntries, grant_7
from tools.vectors.logs import grant_of

GRANT: Final = "grant"
TICK: Final = "tick"
PERIOD_MS: Final = LIMITS.round_period_ms
#: When a unit that was given no label appends nevertheless: two hop time-outs before the deadline.
LATE_MS: Final = LIMITS.round_deadline_ms - 2 * LIMITS.hop_timeout_ms
UNIT: Final = "desk-3"


@dataclass(frozen=True)
class Event:
    """`what` is GRANT, TICK, or the unit on whose topic a link comes."""

    at_ms: int
    what: str
    message: bytes = b""


class Fed(Protocol):
    """A machine with its clock."""

    def take(self, event: Event) -> list[Action]:
        """What it answers to an event."""
        ...


def _topic(event: Event) -> str:
    return topics.grant(room.ROOM, room.LINE) if event.what == GRANT else topics.link(room.ROOM, room.LINE, event.what)


class FedUnit:
    """A unit that listens, and signs a link without entries when the round is about to end."""

    def __init__(self, unit: str, session: int) -> None:
        self._machine = LineUnit(
            roster=room.roster(),
            line=room.LINE,
            session=session,
            signer=room.signer(unit),
            outbox=BoundedOutbox(LIMITS.backlog_entries),
            limits=LIMITS,
        )
        self._machine.connected(0.0)

    def take(self, event: Event) -> list[Action]:
        """What it answers to an event."""
        now = event.at_ms / 1_000
        if event.what == TICK:
            return self._machine.tick(now)
        return self._machine.received(_topic(event), event.message, now)


class FedGateway:
    """The gateway in round 7, or in the round of another stored grant."""

    def __init__(self, stored_grant: bytes) -> None:
        self._machine = LineGateway(
            roster=room.roster(),
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=LIMITS,
            witness_count=2,
            stored_grant=stored_grant,
        )
        self._machine.connected(0.0, WALL_MS)

    def take(self, event: Event) -> list[Action]:
        """What it answers to an event."""
        now, wall_ms = event.at_ms / 1_000, WALL_MS + event.at_ms
        if event.what == TICK:
            return self._machine.tick(now, wall_ms)
        return self._machine.received(_topic(event), event.message, now, wall_ms)


@dataclass
class SequenceCase:
    """A machine's start, the events, and for each what it answered, as JSON."""

    name: str
    about: str
    start: Mapping[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fed = fed(self.start)
        self._at_ms = 0

    def feed(
        self, what: str, message: bytes = b"", *, at_ms: int = 0, says: Verdict | Notice | None = None
    ) -> list[bytes]:
        """Feed the next event, a millisecond after the last one or at a given time. `says` is the code that must come
        of it, None for no alert at all. Returns what was published."""
        self._at_ms = max(self._at_ms + 1, at_ms)
        event = Event(self._at_ms, what, message)
        said = answer(self._fed.take(event))
        code = says.value if says else None
        assert said["code"] == code, f"{self.name}, event {len(self.steps)}: {said['code']} instead of {code}"
        self.steps.append({**event_json(event), **said})
        return [bytes.fromhex(raw) for raw in said["publishes"]]

    @property
    def told(self) -> str | None:
        """The last code of all, which is what the vector is about."""
        codes = [step["code"] for step in self.steps if step["code"]]
        return codes[-1] if codes else None


def fed(start: Mapping[str, Any]) -> Fed:
    """The machine that a vector starts with."""
    if start["machine"] == "unit":
        return FedUnit(start["unit"], start["session"])
    return FedGateway(bytes.fromhex(start["stored_grant"]))


def answer(actions: Sequence[Action]) -> dict[str, Any]:
    """What a machine asked for, as JSON; `code` is that of its first alert."""
    alerts = [action for action in actions if isinstance(action, Alert)]
    return {
        "code": alerts[0].code.value if alerts else None,
        "alerts": [
            {"code": alert.code.value, "peer": alert.peer, "proof": [raw.hex() for raw in alert.proof]}
            for alert in alerts
        ],
        "publishes": [action.payload.hex() for action in actions if isinstance(action, Publish)],
        "delivers": [
            [action.unit, action.session, action.sequence, action.time_plausible]
            for action in actions
            if isinstance(action, Deliver)
        ],
        "gaps": [
            [action.unit, action.session, action.first, action.last] for action in actions if isinstance(action, Gap)
        ],
    }


def event_json(event: Event) -> dict[str, Any]:
    """An event as it stands in its file."""
    return {"at_ms": event.at_ms, "event": event.what, "message": event.message.hex()}


def event_of(stored: Mapping[str, Any]) -> Event:
    """The event of a stored step."""
    return Event(stored["at_ms"], stored["event"], bytes.fromhex(stored["message"]))


def sequence_json(case: SequenceCase) -> dict[str, Any]:
    """A sequence as it stands in its file."""
    told = case.told
    verdict = Verdict(told) if told in set(Verdict) else None
    return {
        "about": case.about,
        "kind": "sequence",
        "verdict": verdict.value if verdict else None,
        "step": VERDICTS[verdict].step if verdict else None,
        "notice": None if verdict else told,
        **case.start,
        "steps": case.steps,
    }


# --- the messages ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Rounds from 7 on, made by hand, as a unit hears them."""

    sealed: SealedEntries

    def start(self, **changes: Any) -> Grant:
        """The grant of round 7."""
        return replace(grant_7(), **changes)

    def link(self, grant: Grant, prev: bytes, unit: str, session: int, *sequences: int, **changes: Any) -> bytes:
        """A link of that grant's round with labels of its session."""
        entries = tuple(self.sealed.entry(unit, session, sequence) for sequence in sequences)
        known = grant.accepted.get(unit)
        flags = LinkFlag.SESSION_KNOWN if known and known.session == session else LinkFlag.NONE
        link = Link(room.ROOM, room.LINE, grant.epoch, grant.round, unit, session, entries, prev, flags)
        return sign_link(replace(link, **changes), room.signer(unit))


def signed(grant: Grant) -> bytes:
    """By the gateway."""
    return sign_grant(grant, room.signer(room.GATEWAY))


def following(grant: Grant, head: bytes, **changes: Any) -> Grant:
    """The next round's grant."""
    later = {"round": grant.round + 1, "prev": head, "gateway_ms": grant.gateway_ms + PERIOD_MS}
    return replace(grant, **{**later, **changes})


def _unit(name: str, about: str, *, session: int = 3) -> SequenceCase:
    return SequenceCase(name, about, {"machine": "unit", "unit": UNIT, "session": session})


def _gateway(name: str, about: str) -> SequenceCase:
    return SequenceCase(name, about, {"machine": "gateway", "stored_grant": signed(grant_7()).hex()})


def sequence_cases(sealed: SealedEntries) -> list[SequenceCase]:
    """Every sequence, those of units first."""
    line = Line(sealed)
    makers: tuple[Callable[[Line], Iterator[SequenceCase]], ...] = (
        _unit_follows,
        _unit_hears_the_past,
        _unit_watches_the_gateway,
        _unit_meets_its_own_name,
        _gateway_takes,
        _gateway_hears_the_past,
        _gateway_finds_two_boxes,
        _gateway_opens,
    )
    return [case for maker in makers for case in maker(line)]


# --- units -----------------------------------------------------------------------------------------------------------


def _round_7(line: Line, case: SequenceCase) -> tuple[Grant, bytes, bytes]:
    """The unit hears the grant of round 7 and two links; returns the grant and the links."""
    grant = line.start()
    first = line.link(grant, digest(signed(grant)), "desk-1", 3, 11)
    second = line.link(grant, digest(first), "desk-2", 5, 21)
    case.feed(GRANT, signed(grant))
    case.feed("desk-1", first)
    case.feed("desk-2", second)
    return grant, first, second


def _unit_follows(line: Line) -> Iterator[SequenceCase]:
    case = _unit("unit_follows_a_round", "It takes two links and continues them before the round ends.")
    _, _, second = _round_7(line, case)
    (own,) = case.feed(TICK, at_ms=LATE_MS + 10)
    assert digest(second) in own
    yield case

    case = _unit("unseen_head", "The next grant continues a link that this unit never heard: told, and followed.")
    grant, _, second = _round_7(line, case)
    (own,) = case.feed(TICK, at_ms=LATE_MS + 10)
    third = line.link(grant, digest(own), "desk-4", 1, 1)
    case.feed(GRANT, signed(following(grant, digest(third))), at_ms=PERIOD_MS, says=Verdict.UNSEEN_HEAD)
    assert case.feed(TICK, at_ms=PERIOD_MS + LATE_MS + 100)
    yield case


def _unit_hears_the_past(line: Line) -> Iterator[SequenceCase]:
    case = _unit(
        "replayed_round", "In round 8 all of round 7 is sent again: its grant changes nothing, its links are told."
    )
    grant, first, second = _round_7(line, case)
    case.feed(GRANT, signed(following(grant, digest(second))), at_ms=PERIOD_MS)
    case.feed(GRANT, signed(grant))
    case.feed("desk-1", first, says=Verdict.REPLAYED)
    case.feed("desk-2", second, says=Verdict.REPLAYED)
    yield case

    case = _unit("replayed_grant_of_an_unheard_round", "A genuine grant of round 6 comes after that of round 7.")
    grant, *_ = _round_7(line, case)
    case.feed(GRANT, signed(replace(grant, round=6, accepted={})), says=Verdict.STALE_ROUND)
    yield case

    case = _unit("forged_then_genuine", "A forged link takes no place: the genuine one that comes later is followed.")
    grant = line.start()
    case.feed(GRANT, signed(grant))
    genuine = line.link(grant, digest(signed(grant)), "desk-1", 3, 11)
    case.feed("desk-1", genuine[:-1] + bytes([genuine[-1] ^ 1]), says=Verdict.BAD_SIGNATURE)
    case.feed("desk-1", genuine)
    (own,) = case.feed(TICK, at_ms=LATE_MS + 2 * LIMITS.hop_timeout_ms - 20)
    assert digest(genuine) in own
    yield case


def _unit_watches_the_gateway(line: Line) -> Iterator[SequenceCase]:
    case = _unit("rewritten_grant", "The gateway signs a second grant for round 7. The unit stays with the first.")
    grant, *_ = _round_7(line, case)
    case.feed(GRANT, signed(replace(grant, prev=digest(b"another history"))), says=Verdict.GRANT_REWRITTEN)
    yield case

    case = _unit("rewritten_grant_of_an_earlier_round", "In round 8 comes another grant of round 7.")
    grant, _, second = _round_7(line, case)
    case.feed(GRANT, signed(following(grant, digest(second))), at_ms=PERIOD_MS)
    case.feed(GRANT, signed(replace(grant, prev=digest(b"another history"))), says=Verdict.GRANT_REWRITTEN)
    yield case

    case = _unit("withdrawn_acknowledgement", "Grant 8 acknowledges less of desk-2 than grant 7 did.")
    grant, _, second = _round_7(line, case)
    less = {**grant.accepted, "desk-2": Accepted(5, 5, 19)}
    later = following(grant, digest(second), accepted=less)
    case.feed(GRANT, signed(later), at_ms=PERIOD_MS, says=Verdict.ACKNOWLEDGEMENT_WITHDRAWN)
    yield case

    case = _unit(
        "quarantined_unit_that_a_grant_names",
        "desk-1 equivocates; a grant that does not name it is followed without it, and one that names it with it.",
    )
    grant, _, second = _round_7(line, case)
    twin = line.link(grant, digest(second), "desk-1", 3)
    case.feed("desk-1", twin, says=Verdict.EQUIVOCATION)
    later = following(grant, digest(second), order=("desk-2", "desk-3", "desk-4"))
    case.feed(GRANT, signed(later), at_ms=PERIOD_MS)
    refused = line.link(later, digest(signed(later)), "desk-1", 3, 12)
    case.feed("desk-1", refused, says=Verdict.QUARANTINED)
    last = following(later, digest(signed(later)), order=("desk-1", "desk-2", "desk-3", "desk-4"))
    case.feed(GRANT, signed(last), at_ms=2 * PERIOD_MS)
    taken = line.link(last, digest(signed(last)), "desk-1", 3, 12)
    case.feed("desk-1", taken)
    (own,) = case.feed(TICK, at_ms=2 * PERIOD_MS + LATE_MS + 100)
    assert digest(taken) in own
    yield case


def _unit_meets_its_own_name(line: Line) -> Iterator[SequenceCase]:
    case = _unit(
        "restored_backup", "The signed grant knows session 2 of this unit already. It signs nothing.", session=2
    )
    grant = line.start()
    case.feed(GRANT, signed(grant), says=Notice.ENROL_ANEW)
    assert not case.feed(TICK, at_ms=LATE_MS + 10)
    case.feed(GRANT, signed(following(grant, digest(signed(grant)))), at_ms=PERIOD_MS)
    assert not case.feed(TICK, at_ms=PERIOD_MS + LATE_MS + 10)
    yield case

    case = _unit(
        "cloned_card_same_session",
        "Another box signs as this unit, in its session and round. It stops, with the proof.",
    )
    grant, _, second = _round_7(line, case)
    (own,) = case.feed(TICK, at_ms=LATE_MS + 10)
    case.feed(UNIT, line.link(grant, digest(own), UNIT, 3, 2), says=Notice.ENROL_ANEW)
    case.feed(GRANT, signed(following(grant, digest(own))), at_ms=PERIOD_MS)
    assert not case.feed(TICK, at_ms=PERIOD_MS + LATE_MS + 10)
    yield case

    case = _unit(
        "cloned_card_heard_first",
        "Another box signs as this unit, in its session and round, before this one has signed: it signs once, for the"
        " proof, and stops.",
    )
    grant, _, second = _round_7(line, case)
    (testimony,) = case.feed(UNIT, line.link(grant, digest(second), UNIT, 3, 2), says=Notice.ENROL_ANEW)
    assert digest(second) in testimony
    assert not case.feed(TICK, at_ms=LATE_MS + 10)
    yield case

    case = _unit(
        "cloned_card_later_session",
        "Another box signs as this unit, in the next session. This one signs no label any more; over the first"
        " grant that knows that session it signs once, for the proof, and stops.",
    )
    grant, _, second = _round_7(line, case)
    (own,) = case.feed(TICK, at_ms=LATE_MS + 10)
    copy = line.link(grant, digest(own), UNIT, 4, 1)
    case.feed(UNIT, copy, says=Notice.ENROL_ANEW)
    later = following(grant, digest(copy), accepted={**grant.accepted, UNIT: Accepted(4, 4, 1)})
    (testimony,) = case.feed(GRANT, signed(later), at_ms=PERIOD_MS)
    assert digest(signed(later)) in testimony
    case.feed(GRANT, signed(following(later, digest(testimony))), at_ms=2 * PERIOD_MS)
    assert not case.feed(TICK, at_ms=2 * PERIOD_MS + LATE_MS + 10)
    yield case


# --- the gateway -----------------------------------------------------------------------------------------------------


def _taken_7(line: Line, case: SequenceCase) -> tuple[Grant, bytes, bytes]:
    """The gateway takes two links in round 7; returns the grant and the links."""
    grant = line.start()
    first = line.link(grant, digest(signed(grant)), "desk-1", 3, 11)
    second = line.link(grant, digest(first), "desk-2", 5, 21)
    case.feed("desk-1", first)
    case.feed("desk-2", second)
    return grant, first, second


def _next_round(case: SequenceCase, rounds: int = 1) -> Grant:
    """The period ends; returns the grant that the gateway published."""
    (raw,) = case.feed(TICK, at_ms=rounds * PERIOD_MS)
    return grant_of(raw)


def _gateway_takes(line: Line) -> Iterator[SequenceCase]:
    case = _gateway("gateway_takes_a_round", "Two links, then the grant of round 8 that acknowledges them.")
    _, _, second = _taken_7(line, case)
    grant = _next_round(case)
    assert (grant.prev, grant.accepted["desk-2"]) == (digest(second), Accepted(5, 5, 21))
    yield case

    case = _gateway("gateway_hears_a_link_twice", "The broker brings a link twice in its round: nothing happens.")
    _, first, _ = _taken_7(line, case)
    case.feed("desk-1", first)
    yield case

    case = _gateway("lost_race_comes_again", "Two links on one place; the labels of the second come in the next round.")
    grant, first, _ = _taken_7(line, case)
    case.feed("desk-3", line.link(grant, digest(first), "desk-3", 2, 2))
    later = _next_round(case)
    case.feed("desk-3", line.link(later, digest(signed(later)), "desk-3", 2, 2, 3))
    yield case


def _gateway_hears_the_past(line: Line) -> Iterator[SequenceCase]:
    case = _gateway("replayed_link", "In round 8 comes a link of round 7 that was taken.")
    _, first, _ = _taken_7(line, case)
    _next_round(case)
    case.feed("desk-1", first, says=Verdict.REPLAYED)
    yield case

    case = _gateway("second_link_in_round", "desk-1 restarted and signs again in one round, in its next session.")
    grant, _, second = _taken_7(line, case)
    case.feed("desk-1", line.link(grant, digest(second), "desk-1", 4, 1), says=Verdict.SECOND_LINK_IN_ROUND)
    yield case


def _gateway_finds_two_boxes(line: Line) -> Iterator[SequenceCase]:
    case = _gateway(
        "equivocation_two_links", "desk-1 signs a second link in one session and round; then it is quarantined."
    )
    grant, _, second = _taken_7(line, case)
    case.feed("desk-1", line.link(grant, digest(second), "desk-1", 3), says=Verdict.EQUIVOCATION)
    later = _next_round(case)
    assert "desk-1" not in later.order
    case.feed("desk-1", line.link(later, digest(signed(later)), "desk-1", 3, 12), says=Verdict.QUARANTINED)
    yield case

    case = _gateway("equivocation_two_contents", "desk-2 gives number 21 another content in the next round.")
    _taken_7(line, case)
    later = _next_round(case)
    again = Entry(5, 21, line.sealed.once("desk-2/5/21 again", "desk-2", 5, 21))
    other = line.link(later, digest(signed(later)), "desk-2", 5, entries=(again,))
    case.feed("desk-2", other, says=Verdict.EQUIVOCATION)
    yield case

    case = _gateway(
        "equivocation_session_backwards",
        "A copy of desk-1 comes up in session 4, the original goes on in session 3: stale as long as no grant that the"
        " copy signed over knew session 4, and the proof as soon as one does.",
    )
    _taken_7(line, case)
    grant = _next_round(case)
    copy = line.link(grant, digest(signed(grant)), "desk-1", 4, 1)
    case.feed("desk-1", copy)
    case.feed("desk-1", line.link(grant, digest(copy), "desk-1", 3, 12), says=Verdict.STALE_SESSION)
    grant = _next_round(case, 2)
    copy = line.link(grant, digest(signed(grant)), "desk-1", 4, 2)
    case.feed("desk-1", copy)
    backwards = line.link(grant, digest(copy), "desk-1", 3, 13)
    case.feed("desk-1", backwards, says=Verdict.EQUIVOCATION)
    yield case


def _gateway_opens(line: Line) -> Iterator[SequenceCase]:
    ahead = Label(window_end_ms=WALL_MS + 86_400_000, time_source=TimeSource.NTP, state=LabelState.MUTED)
    day = Entry(3, 11, line.sealed.once("desk-1/3/11 a day ahead", "desk-1", 3, 11, ahead))
    grant = line.start()
    case = _gateway("implausible_time", "A label claims to be of tomorrow: told, and delivered as it is.")
    link = line.link(grant, digest(signed(grant)), "desk-1", 3, entries=(day,))
    case.feed("desk-1", link, says=Verdict.IMPLAUSIBLE_TIME)
    yield case

    case = _gateway(
        "bad_entries_are_passed_over", "Of three entries one does not open and one is no label: the third is delivered."
    )
    closed = Entry(3, 11, b"\x55" * 112)
    strange = line.sealed.plaintext("desk-1/3/12 label_of_garbage", "desk-1", 3, 12, b"\xff" * 64)
    good = line.sealed.entry("desk-1", 3, 13)
    link = line.link(grant, digest(signed(grant)), "desk-1", 3, entries=(closed, strange, good))
    case.feed("desk-1", link, says=Verdict.NOT_OPENABLE)
    assert [alert["code"] for alert in case.steps[-1]["alerts"]] == [Verdict.NOT_OPENABLE, Verdict.BAD_LABEL]
    yield case


def limits_json() -> dict[str, Any]:
    """The limits of all sequences."""
    return {name: getattr(LIMITS, name) for name in LIMITS.__struct_fields__}
