"""What another implementation is asked, and what it must answer.

`stored` takes the vectors as they are; `unit` makes it a unit: it appends to our chains, we verify and open what it
made, and it verifies what we append to its links. Everything that it must answer alike is compared as a whole, nothing
is counted as passed that was not asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from device.clock import TimeSource
from device.errors import RemoteMessageError, Verdict
from device.line.verify import OpenRound, Verifier, follow_link, step_10_open
from device.messages.envelope import ContentType, digest, open_envelope, seal_envelope
from device.messages.grant import NOTHING_ACCEPTED, decode_grant, sign_grant
from device.messages.label import Label, LabelState, SenseState
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.roster import sign_roster
from device.messages.sealing import Place, Sealer
from models.labels import AbstainReason, Emotion
from tools.conformance import logs
from tools.conformance.cases import KINDS, Case, Row, compare, refused, told
from tools.conformance.door import Door, Question, Reply
from tools.conformance.readable import dump, label_as_json
from tools.conformance.vectors import AUTHORITY, Room, Vector

# --- the vectors as they are ---------------------------------------------------------------------------------------


def stored(vectors: Sequence[Vector], door: Door, *, machines: bool = True) -> Iterator[Row]:
    """Each vector of the known kinds through `verify`; objects through `dump`; rosters; who may be a unit."""
    cases = stored_cases(vectors)
    if not machines:
        for case in cases:
            if case.question.command == "play":
                yield Row(case.group, case.name, "", "left out by --no-machines", None, left_out=True)
        cases = [case for case in cases if case.question.command != "play"]
    for case, reply in zip(cases, door.ask([case.question for case in cases]), strict=True):
        yield compare(case, reply)
    for vector in vectors:
        if vector.kind not in KINDS:
            yield Row(vector.folder, vector.name, "", f"the kit does not know the kind {vector.kind!r}", None)


def stored_cases(vectors: Sequence[Vector]) -> list[Case]:
    """What `stored` asks, and what it wants to hear."""
    cases = [
        _played(vector) if vector.kind == "sequence" else _verification(vector)
        for vector in vectors
        if vector.kind in KINDS
    ]
    for room in _rooms(vectors):
        cases += [*_dumps(vectors, room), *_rosters(room), *_enrolments(room), *logs.cases(room)]
    cases += _proofs_of_grants({vector.name: vector for vector in vectors if vector.kind == "grant"})
    return cases


def _rooms(vectors: Sequence[Vector]) -> list[Room]:
    return list({id(vector.room): vector.room for vector in vectors}.values())


def _verification(vector: Vector) -> Case:
    content, room = vector.content, vector.room
    roster = room.without(content.get("revoked", []))
    asked = ("rounds", "newer_grant") if vector.kind == "log" else ("chain", "messages")
    request = {
        **room.in_room(roster),
        "kind": vector.kind,
        **{member: content[member] for member in asked},
        "opening_key": room.content["opening_key"],
    }
    told_of = ("verdict", "step", "finding", "round", "place") if vector.kind == "log" else ("verdict", "step")
    answer = {member: content[member] for member in told_of if member in ("verdict", "step") or not vector.good}
    if vector.good:
        answer["labels"] = _labels(vector.link, room) if vector.kind == "link" else []
    return Case(f"verify {vector.folder}", vector.name, Question("verify", request), 0 if vector.good else 1, answer)


def _played(vector: Vector) -> Case:
    """A machine fed with the events of a sequence. Each step must be answered as the vector has it."""
    content, room = vector.content, vector.room
    name = content.get("unit", room.roster.gateway.gateway)
    start = {member: content[member] for member in ("machine", "session", "stored_grant") if member in content}
    if "stored_grant" in start:
        start["wall_ms"] = dump(bytes.fromhex(start["stored_grant"]))["fields"]["gateway_ms"]
    steps = content["steps"]
    request = {
        **room.in_room(),
        "limits": content["limits"],
        "start": start,
        "name": name,
        "key": room.content["signing_keys"][name],
        "opening_key": room.content["opening_key"] if content["machine"] == "gateway" else None,
        "events": [{member: step[member] for member in ("at_ms", "event", "message")} for step in steps],
    }
    said = ("code", "alerts", "publishes", "delivers", "gaps")
    answer = {"steps": [{member: step[member] for member in said} for step in steps]}
    return Case(f"play {vector.folder}", vector.name, Question("play", request), 0, answer)


def _labels(link: Link, room: Room) -> list[dict[str, Any]]:
    return [
        {
            "session": entry.session,
            "sequence": entry.sequence,
            "label": label_as_json(step_10_open(room.opener, link, entry)),
        }
        for entry in link.entries
    ]


def _dumps(vectors: Sequence[Vector], room: Room) -> Iterator[Case]:
    raws = {"roster": str(room.content["roster"])}
    for vector in vectors:
        if vector.room is room and vector.good and vector.kind in ("link", "grant"):
            raws[vector.name] = vector.content["messages"][0]
        if vector.room is room and vector.name in ("garbage", "unsorted_keys", "unknown_version"):
            raws[vector.name] = vector.content["messages"][0]
    for name, raw in raws.items():
        try:
            code, answer = 0, dump(bytes.fromhex(raw))
        except RemoteMessageError as error:
            code, answer = 1, refused(error.verdict)
        yield Case("dump", f"{name} (suite {room.roster.suite:d})", Question("dump", {"object": raw}), code, answer)


def _proofs_of_grants(grants: Mapping[str, Vector]) -> Iterator[Case]:
    """The grant of the open round beside another one: each pair as a proof against the gateway."""
    pairs = {
        "rewritten_grant": None,
        "withdrawn_acknowledgement": None,
        "good_grant": Verdict.NOT_DECODABLE,
        "grant_by_a_unit": Verdict.UNKNOWN_SIGNER,
        "link_as_grant": Verdict.WRONG_KIND,
    }
    for name, verdict in pairs.items():
        content, room = grants[name].content, grants[name].room
        messages = [content["chain"][0], *content["messages"]]
        answer = refused(verdict) if verdict else {"verdict": None, "step": None, "labels": []}
        question = Question("verify", {**room.in_room(), "kind": "proof", "messages": messages})
        yield Case("verify a proof of grants", name, question, 1 if verdict else 0, answer)


def _rosters(room: Room) -> Iterator[Case]:
    authority = room.signer(AUTHORITY)
    good = bytes.fromhex(room.content["roster"])
    fields: dict[int, object] = {
        1: room.roster.room,
        2: 1,
        3: {},
        4: ["gateway", bytes(32), bytes(32), bytes(32)],
        5: [],
        6: bytes(32),
        7: 1,
    }

    def made(**changed: object) -> bytes:
        numbers = {int(key.removeprefix("key_")): value for key, value in changed.items()}
        return seal_envelope(ContentType.ROSTER, {**fields, **numbers}, authority, room=room.roster.room)

    rows = [[unit.unit, unit.key, unit.certificate, unit.since] for unit in room.roster.units_of(room.line)]
    for name, raw, verdict in (
        ("of the vectors", good, None),
        ("signed by a unit", sign_roster(room.roster, room.signer("desk-1")), Verdict.BAD_SIGNATURE),
        ("cut short", good[:-1], Verdict.NOT_DECODABLE),
        ("of another room", made(key_1="gym"), Verdict.WRONG_ROOM),
        ("with an unknown suite", made(key_7=99), Verdict.UNKNOWN_VERSION),
        ("with a key of another suite", made(key_7=2), Verdict.NOT_DECODABLE),
        ("with revoked units", made(key_3={room.line: rows}, key_5=["desk-1", "desk-2"]), None),
        (
            "with revoked units out of order",
            made(key_3={room.line: rows}, key_5=["desk-2", "desk-1"]),
            Verdict.NOT_DECODABLE,
        ),
    ):
        answer = refused(verdict) if verdict else {"verdict": None, "step": None}
        request = {**room.in_room(), "kind": "roster", "messages": [raw.hex()]}
        group = f"verify a roster (suite {room.roster.suite:d})"
        yield Case(group, name, Question("verify", request), 1 if verdict else 0, answer)


def _enrolments(room: Room) -> Iterator[Case]:
    other_unit = next(unit.unit for line, units in room.roster.lines.items() if line != room.line for unit in units)
    for name, unit, revoked, verdict in (
        ("a unit that was revoked", "desk-2", ["desk-2"], Verdict.REVOKED),
        ("a stranger", "stranger", [], Verdict.UNKNOWN_SIGNER),
        ("a unit of another line", other_unit, [], Verdict.SIGNER_OF_ANOTHER_LINE),
    ):
        request = {
            **room.in_room(room.without(revoked)),
            "unit": unit,
            "key": room.content["signing_keys"]["desk-2"],
            "session": 5,
        }
        group = f"init (suite {room.roster.suite:d})"
        yield Case(group, name, Question("init", request), 1, refused(verdict))
    request = {**room.in_room(), "unit": "desk-2", "key": room.content["signing_keys"]["desk-3"], "session": 5}
    yield Case(f"init (suite {room.roster.suite:d})", "another unit's key", Question("init", request), 2, {})


# --- the implementation as a unit ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Append:
    """A link that is asked for: who, when it signed last, the chain so far, and what the request adds to it."""

    name: str
    room: Room
    unit: str
    session: int
    signed_in_round: int
    chain: Sequence[str]
    adds: Mapping[str, Any]
    verdict: Verdict | None = None
    #: The link's exact bytes, when its entries are given: Ed25519 is deterministic (RFC 8032).
    link: str | None = None
    #: The sequence number that its first own label gets.
    first_number: int = 1
    #: The flags that the link must have.
    flags: LinkFlag = LinkFlag.NONE

    @property
    def group(self) -> str:
        """The rows it belongs to."""
        return f"append (suite {self.room.roster.suite:d})"

    def init(self) -> Question:
        """The question for its state."""
        who = {"unit": self.unit, "key": self.room.content["signing_keys"][self.unit]}
        when = {"session": self.session, "signed_in_round": self.signed_in_round}
        return Question("init", {**self.room.in_room(), **who, **when})

    def append(self, state: object) -> Question:
        """The question for the link."""
        grant, *links = self.chain
        return Question("append", {"state": state, "grant": grant, "links": links, **self.adds})


def unit(vectors: Sequence[Vector], door: Door) -> Iterator[Row]:
    """The implementation signs; then it is asked again, hears what we sign on top, and goes on in the next round."""
    appends = [*_reproduced(vectors), *(ask for room in _rooms(vectors) for ask in _sealed_by_it(vectors, room))]
    states = door.ask([ask.init() for ask in appends])
    replies = door.ask([ask.append(state.answer.get("state")) for ask, state in zip(appends, states, strict=True)])
    follow_ups: list[Case] = []
    later: list[tuple[Append, Question]] = []
    for ask, state, reply in zip(appends, states, replies, strict=True):
        if state.exit != 0:
            yield compare(Case(ask.group, f"state for: {ask.name}", ask.init(), 0, {}), state)
            continue
        row = _judged(ask, reply)
        yield row
        if row.same and ask.verdict is None:
            follow_ups += _after(ask, reply)
        if row.same and "labels" in ask.adds and ask.verdict is None:
            next_round = _in_the_next_round(ask, reply)
            later.append((next_round, next_round.append(reply.answer.get("state"))))
    replies = door.ask([case.question for case in follow_ups] + [question for _, question in later])
    for case, reply in zip(follow_ups, replies, strict=False):
        yield compare(case, reply)
    for (ask, _), reply in zip(later, replies[len(follow_ups) :], strict=True):
        yield _judged(ask, reply)


def _reproduced(vectors: Sequence[Vector]) -> Iterator[Append]:
    """Good links, byte for byte; and links that must not be made, refused with the verdict that they would meet."""
    as_refused = {"entries_backwards", "entry_accepted_before", "too_many_entries", "sealed_too_short"}
    for vector in vectors:
        if vector.kind != "link" or not (vector.good or vector.name in as_refused):
            continue
        link = vector.link
        entries = [[entry.session, entry.sequence, entry.sealed.hex()] for entry in link.entries]
        verdict = None if vector.good else Verdict(vector.content["verdict"])
        yield Append(
            name=vector.name,
            room=vector.room,
            unit=link.unit,
            session=link.session,
            signed_in_round=link.round - 1 if _spoke_before(vector, link) else 0,
            chain=vector.content["chain"],
            adds={"entries": entries, "flags": int(link.flags)},
            verdict=verdict,
            link=vector.content["messages"][0] if vector.good else None,
        )


def _spoke_before(vector: Vector, link: Link) -> bool:
    """Whether the grant knows the unit's session already: then the unit has signed in it."""
    grant = decode_grant(open_envelope(bytes.fromhex(vector.content["chain"][0]), wanted=ContentType.GRANT))
    return grant.accepted.get(link.unit, NOTHING_ACCEPTED).session >= link.session


def _sealed_by_it(vectors: Sequence[Vector], room: Room) -> Iterator[Append]:
    """Links whose labels it seals itself, and chains and starts on which it must not sign."""
    by_name = {vector.name: vector for vector in vectors if vector.room is room and vector.kind == "link"}
    chain, round_number = by_name["good_link"].content["chain"], by_name["good_link"].link.round
    labels = {"labels": [label_as_json(label) for label in _every_state()]}

    def ask(name: str, **changed: Any) -> Append:
        plain = Append(name, room, unit="desk-2", session=6, signed_in_round=0, chain=chain, adds=labels)
        return replace(plain, **changed)

    yield ask("five labels, two of them equal, sealed by it")
    yield ask("more backlog waits", adds={**labels, "more_backlog": True}, flags=LinkFlag.MORE_BACKLOG)
    yield ask("a session that was used before its start", session=5, verdict=Verdict.STALE_SESSION)
    yield ask("a second link in the round", signed_in_round=round_number, verdict=Verdict.SECOND_LINK_IN_ROUND)
    yield ask("as desk-1, whose link is there", unit="desk-1", session=4, verdict=Verdict.SECOND_LINK_IN_ROUND)
    yield ask("on a grant with a byte less", chain=[chain[0][:-2]], verdict=Verdict.NOT_DECODABLE)
    for name in ("wrong_prev", "malleable_signature", "replayed_link_in_later_round"):
        if name in by_name:
            heard = [*chain, *by_name[name].content["messages"]]
            verdict = Verdict(by_name[name].content["verdict"])
            yield ask(f"having heard {name}", unit="desk-4", session=1, chain=heard, verdict=verdict)


def _every_state() -> list[Label]:
    plain = Label(window_end_ms=1_800_000_000_000, time_source=TimeSource.GATEWAY, state=LabelState.MUTED)
    return [
        replace(plain, state=LabelState.GIVEN, emotion=Emotion.HAPPINESS, confidence=812, bundle="2026.1"),
        replace(plain, state=LabelState.ABSTAINED, abstain_reason=AbstainReason.SILENCE),
        plain,
        replace(plain, state=LabelState.OPTED_OUT),
        replace(plain, state=LabelState.PRESENCE, speech=SenseState.PRESENT, face=SenseState.NO_FACE, level=9),
    ]


def _judged(ask: Append, reply: Reply) -> Row:
    """Hold an appended link against the vector's bytes, or verify and open it."""
    if ask.verdict is not None:
        return compare(Case(ask.group, ask.name, ask.append(None), 1, refused(ask.verdict)), reply)
    if ask.link is not None:
        answer = {"link": ask.link, "digest": digest(bytes.fromhex(ask.link)).hex()}
        return compare(Case(ask.group, ask.name, ask.append(None), 0, answer), reply)
    wanted = "0 good, and we verify and open it"
    if reply.exit != 0:
        return Row(ask.group, ask.name, wanted, reply.trouble or told(reply.exit, reply.answer), False)
    try:
        link = _followed(ask.room, ask.chain, str(reply.answer.get("link")))
        found = _labels(link, ask.room)
    except (RemoteMessageError, ValueError) as error:
        return Row(ask.group, ask.name, wanted, f"0, but we refuse it: {error}", False)
    if len({entry.sealed for entry in link.entries}) != len(link.entries):
        return Row(ask.group, ask.name, wanted, "0, but equal labels are sealed alike", False)
    if link.flags != ask.flags:
        return Row(ask.group, ask.name, wanted, f"0, but with flags {link.flags:d} and not {ask.flags:d}", False)
    labels = enumerate(ask.adds["labels"], start=ask.first_number)
    asked = [{"session": ask.session, "sequence": number, "label": label} for number, label in labels]
    same = found == asked
    return Row(ask.group, ask.name, wanted, wanted if same else "0, but with other labels or numbers", same)


def _view(room: Room, chain: Sequence[str]) -> tuple[Verifier, OpenRound]:
    verifier = Verifier(room.roster, room.line, room.limits)
    view = OpenRound(verifier.grant(bytes.fromhex(chain[0])))
    for raw in chain[1:]:
        link = verifier.link(bytes.fromhex(raw))
        follow_link(link, view, room.limits, room.roster.suite)
        view.extend(link)
    return verifier, view


def _followed(room: Room, chain: Sequence[str], raw: str) -> Link:
    """A link that continues the chain. Raises RemoteMessageError, ValueError."""
    verifier, view = _view(room, chain)
    link = verifier.link(bytes.fromhex(raw))
    follow_link(link, view, room.limits, room.roster.suite)
    return link.body


def _after(ask: Append, reply: Reply) -> Iterator[Case]:
    """After a good link: it signs no second one in the round, it takes what we append, and we agree on the digest."""
    chain = [*ask.chain, str(reply.answer["link"])]
    again = ask.append(reply.answer.get("state"))
    second = refused(Verdict.SECOND_LINK_IN_ROUND)
    yield Case(f"after {ask.group}", f"again after {ask.name}", again, 1, second)
    room, ours = ask.room, "desk-3"
    _, view = _view(room, chain)
    place = Place(room.roster.room, room.line, ours, 2, 2)
    label = _every_state()[0]
    entry = Entry(2, 2, Sealer(room.opener.public_key, room.roster.suite).seal(label, place))
    grant = view.grant.body
    link = Link(grant.room, grant.line, grant.epoch, grant.round, ours, 2, (entry,), view.head)
    raw = sign_link(link, room.signer(ours))
    request = {
        **room.in_room(),
        "kind": "link",
        "chain": chain,
        "messages": [raw.hex()],
        "opening_key": room.content["opening_key"],
    }
    answer = {"verdict": None, "step": None, "labels": _labels(link, room)}
    yield Case(f"after {ask.group}", f"ours on top of {ask.name}", Question("verify", request), 0, answer)
    assert view.head == digest(bytes.fromhex(chain[-1]))


def _in_the_next_round(ask: Append, reply: Reply) -> Append:
    """The same labels on the next grant, which acknowledges what was sent: numbers go on."""
    room = ask.room
    chain = [*ask.chain, str(reply.answer["link"])]
    _, view = _view(room, chain)
    granted = view.grant.body
    grant = replace(granted, round=granted.round + 1, accepted=view.accepted, prev=view.head)
    raw = sign_grant(grant, room.signer(room.roster.gateway.gateway))
    number = ask.first_number + len(ask.adds["labels"])
    name = f"in the next round: {ask.name}"
    flags = ask.flags | LinkFlag.SESSION_KNOWN
    return replace(ask, name=name, chain=[raw.hex()], first_number=number, flags=flags)


# --- exit codes of single commands ---------------------------------------------------------------------------------


def alone(vectors: Sequence[Vector], door: Door) -> Iterator[Row]:
    """Each exit code from a process of its own."""
    good, bad = (next(vector for vector in vectors if vector.name == name) for name in ("good_link", "wrong_prev"))
    for vector in (good, bad):
        case = replace(_verification(vector), group="exit code")
        yield compare(case, door.ask_alone("verify", json.dumps(case.question.request)))
    for name, text in (("no JSON", "{"), ("a member missing", "{}")):
        yield compare(Case("exit code", name, Question("dump", {}), 2, {}), door.ask_alone("dump", text))
