"""`moodline-line`: this implementation of the line protocol behind the conformance kit's small door.

Reads one JSON object from FILE or standard input and writes one to standard output; docs/conformance.md has every
member. Exit code 0 good, 1 refused (with verdict and step), 2 cannot be answered. `batch` answers a JSON object per
input line, so that one process can take many.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.evidence import check_proof
from device.line.log import LogError, LogFollower, tell_more
from device.line.verify import OpenRound, Verifier, follow_grant, follow_link, step_10_open
from device.messages.envelope import KeySigner, digest
from device.messages.grant import NOTHING_ACCEPTED, Accepted
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.roster import Roster, read_roster
from device.messages.sealing import X25519, Opener, Place, Sealer
from tools.conformance.play import Event, Machine, Start
from tools.conformance.readable import dump, label_as_json, label_from_json

GOOD: Final = 0
REFUSED: Final = 1
NOT_ANSWERED: Final = 2
#: Private opening key: an X25519 key (RFC 7748), or the seed of suite 2.
OPENING_SECRET_BYTES: Final = 32
#: A vector may have any number of units.
UNITS_PER_LINE: Final = 10_000

Answer = tuple[int, dict[str, Any]]


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """The limits that decide over a message."""

    message_bytes: int
    entries_per_link: int


class InRoom(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a request plays: the signed roster with the authority's key (both hex), room and line."""

    roster: str
    authority: str
    room: str
    line: str

    def read_roster(self) -> Roster:
        """The roster. Raises RemoteMessageError when the authority did not sign it."""
        return read_roster(bytes.fromhex(self.roster), authority_key=bytes.fromhex(self.authority), room=self.room)


class Limited(InRoom, kw_only=True):
    """With the limits of the line."""

    limits: Limits

    def line_limits(self) -> LineLimits:
        """The limits as the product has them."""
        return LineLimits(
            message_bytes=self.limits.message_bytes,
            entries_per_link=self.limits.entries_per_link,
            units_per_line=UNITS_PER_LINE,
        )


class UnitState(Limited, kw_only=True):
    """What `init` is asked with, and, with the last sequence number, what this implementation's state is."""

    unit: str
    key: str
    session: int
    signed_in_round: int = 0
    sequence: int = 0


class AppendRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A round so far, and what the unit says in it: `entries` sealed already, with the link's `flags`, or `labels` to
    seal and number, with the flags that the rules give."""

    state: UnitState
    grant: str
    links: list[str] = []
    entries: list[tuple[int, int, str]] | None = None
    flags: int = 0
    labels: list[dict[str, Any]] = []
    more_backlog: bool = False


class LoggedRound(msgspec.Struct, forbid_unknown_fields=True):
    """A closed round of a log."""

    grant: str
    links: list[str]

    def raw(self) -> tuple[bytes, tuple[bytes, ...]]:
        """Grant and links."""
        return bytes.fromhex(self.grant), tuple(map(bytes.fromhex, self.links))


class VerifyRequest(Limited, kw_only=True):
    """Messages of one kind on the chain so far, or a log. With the gateway's private opening key, entries are opened
    too."""

    kind: str
    messages: list[str] = []
    chain: list[str] = []
    rounds: list[LoggedRound] = []
    newer_grant: str | None = None
    opening_key: str | None = None


class PlayRequest(InRoom, kw_only=True):
    """A machine's start, its signing key, and the events that it is fed; a gateway has the opening key, too."""

    limits: LineLimits
    start: Start
    name: str
    key: str
    events: list[Event]
    opening_key: str | None = None


class DumpRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Any signed object."""

    object: str


def init(request: UnitState) -> dict[str, Any]:
    """State of a unit. Refuses one that may not sign, as step 4 does."""
    roster = _roster_of(request)
    row = next((unit for unit in roster.lines.get(request.line, ()) if unit.unit == request.unit), None)
    if row is None:
        elsewhere = roster.line_of(request.unit) is not None
        verdict = Verdict.SIGNER_OF_ANOTHER_LINE if elsewhere else Verdict.UNKNOWN_SIGNER
        raise RemoteMessageError(verdict, f"{request.unit} is not of line {request.line}.")
    if request.unit in roster.revoked:
        raise RemoteMessageError(Verdict.REVOKED, f"{request.unit} was revoked.")
    if _signer(request).public_key != row.key or request.session < 1:
        raise ValueError("the key is not that of the unit on the roster, or the session is not above 0")
    return {"state": msgspec.to_builtins(request)}


def append(request: AppendRequest) -> dict[str, Any]:
    """The unit's link on top of a round. Refuses what it heard, and what it would have to sign, by the same steps."""
    state = request.state
    roster, limits = _roster_of(state), state.line_limits()
    verifier = Verifier(roster, state.line, limits)
    view = _follow([request.grant, *request.links], verifier, roster, limits)
    granted = view.grant.body
    if state.signed_in_round >= granted.round:
        raise RemoteMessageError(Verdict.SECOND_LINK_IN_ROUND, f"Round {granted.round} is signed already.")
    accepted = granted.accepted.get(state.unit, NOTHING_ACCEPTED)
    if not state.signed_in_round and accepted.session >= state.session:
        raise RemoteMessageError(Verdict.STALE_SESSION, f"Session {state.session} was used before this start.")
    link = Link(
        room=state.room,
        line=state.line,
        epoch=roster.epoch,
        round=granted.round,
        unit=state.unit,
        session=state.session,
        entries=_entries(request, roster),
        prev=view.head,
        flags=_flags(request, accepted),
    )
    raw = sign_link(link, _signer(state))
    follow_link(verifier.link(raw), view, limits, roster.suite)
    sequences = [entry.sequence for entry in link.entries if entry.session == state.session]
    after = msgspec.structs.replace(state, signed_in_round=granted.round, sequence=max([state.sequence, *sequences]))
    return {"link": raw.hex(), "digest": digest(raw).hex(), "state": msgspec.to_builtins(after)}


def verify(request: VerifyRequest) -> dict[str, Any]:
    """Nothing to object, and the labels if they could be opened; raises RemoteMessageError otherwise."""
    labels: list[dict[str, Any]] = []
    if request.kind == "roster":
        (raw,) = request.messages
        read_roster(bytes.fromhex(raw), authority_key=bytes.fromhex(request.authority), room=request.room)
        return {"verdict": None, "step": None, "labels": labels}
    roster, limits = _roster_of(request), request.line_limits()
    verifier = Verifier(roster, request.line, limits)
    messages = [bytes.fromhex(raw) for raw in request.messages]
    if request.kind == "proof":
        first, second = messages
        _check_proof((first, second), verifier)
    elif request.kind == "grant":
        (message,) = messages
        view = _follow(request.chain, verifier, roster, limits)
        follow_grant(verifier.grant(message), view.grant, {view.grant.body.round: view.grant})
    elif request.kind == "link":
        (message,) = messages
        view = _follow(request.chain, verifier, roster, limits)
        link = verifier.link(message)
        follow_link(link, view, limits, roster.suite)
        labels = _open(request, link.body, roster)
    elif request.kind == "log":
        _follow_log(request, roster, limits)
    else:
        raise ValueError(f"kind {request.kind!r} is unknown here")
    return {"verdict": None, "step": None, "labels": labels}


def _check_proof(proof: tuple[bytes, bytes], verifier: Verifier) -> None:
    try:
        check_proof(proof, verifier)
    except LogError as error:  # here the verdict is the answer, not the finding
        raise RemoteMessageError(error.verdict, error.what, peer=error.peer) from error


def _follow_log(request: VerifyRequest, roster: Roster, limits: LineLimits) -> None:
    follower = LogFollower({roster.epoch: roster}, request.line, limits)
    remaining = iter([ClosedRound(number, roster.epoch, *one.raw()) for number, one in enumerate(request.rounds, 1)])
    for closed in remaining:
        try:
            follower.take(closed)
        except LogError as error:
            raise tell_more(error, closed, remaining) from error
    if request.newer_grant is not None:
        follower.close(bytes.fromhex(request.newer_grant))


def play(request: PlayRequest) -> dict[str, Any]:
    """What a machine answers to each event."""
    roster = _roster_of(request)
    machine = Machine(
        request.start,
        roster=roster,
        line=request.line,
        signer=KeySigner(request.name, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(request.key))),
        opener=_opener(request.opening_key, roster) if request.opening_key else None,
        limits=request.limits,
    )
    return {"steps": [machine.answer(event) for event in request.events]}


def _roster_of(request: InRoom) -> Roster:
    try:
        return request.read_roster()
    except RemoteMessageError as error:
        raise ValueError(f"the roster is not good: {error.what}") from error


def _follow(chain: Iterable[str], verifier: Verifier, roster: Roster, limits: LineLimits) -> OpenRound:
    grant, *links = map(bytes.fromhex, chain)
    view = OpenRound(verifier.grant(grant))
    for raw in links:
        link = verifier.link(raw)
        follow_link(link, view, limits, roster.suite)
        view.extend(link)
    return view


def _signer(state: UnitState) -> KeySigner:
    return KeySigner(state.unit, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(state.key)))


def _flags(request: AppendRequest, accepted: Accepted) -> LinkFlag:
    if request.entries is not None:
        return LinkFlag(request.flags)
    known = accepted.session == request.state.session
    more = LinkFlag.MORE_BACKLOG if request.more_backlog else LinkFlag.NONE
    return more | (LinkFlag.SESSION_KNOWN if known else LinkFlag.NONE)


def _entries(request: AppendRequest, roster: Roster) -> tuple[Entry, ...]:
    if request.entries is not None:
        return tuple(Entry(session, number, bytes.fromhex(sealed)) for session, number, sealed in request.entries)
    state = request.state
    sealer = Sealer(roster.gateway.opening_key, roster.suite)
    numbered = enumerate(map(label_from_json, request.labels), start=state.sequence + 1)
    return tuple(
        Entry(
            state.session,
            number,
            sealer.seal(label, Place(state.room, state.line, state.unit, state.session, number)),
        )
        for number, label in numbered
    )


def _open(request: VerifyRequest, link: Link, roster: Roster) -> list[dict[str, Any]]:
    if request.opening_key is None:
        return []
    opener = _opener(request.opening_key, roster)
    return [
        {
            "session": entry.session,
            "sequence": entry.sequence,
            "label": label_as_json(step_10_open(opener, link, entry)),
        }
        for entry in link.entries
    ]


def _opener(secret: str, roster: Roster) -> Opener:
    raw = bytes.fromhex(secret)
    if len(raw) != OPENING_SECRET_BYTES:
        raise ValueError(f"the opening key has {len(raw)} bytes, not {OPENING_SECRET_BYTES}")
    return Opener(X25519PrivateKey.from_private_bytes(raw) if roster.suite is X25519 else raw, roster.suite)


def _command(kind: type[msgspec.Struct], run: Callable[[Any], dict[str, Any]]) -> Callable[[object], dict[str, Any]]:
    return lambda request: run(msgspec.convert(request, type=kind))


COMMANDS: Final[Mapping[str, Callable[[object], dict[str, Any]]]] = {
    "init": _command(UnitState, init),
    "append": _command(AppendRequest, append),
    "verify": _command(VerifyRequest, verify),
    "play": _command(PlayRequest, play),
    "dump": _command(DumpRequest, lambda request: dump(bytes.fromhex(request.object))),
}


def answer(command: object, request: object) -> Answer:
    """Exit code and JSON object for one request."""
    try:
        if not isinstance(command, str) or command not in COMMANDS:
            raise ValueError(f"there is no command {command!r}")
        return GOOD, COMMANDS[command](request)
    except LogError as error:
        place = {"finding": error.code.value, "round": error.round, "place": error.place}
        return REFUSED, {"verdict": error.verdict.value, "step": error.found_in_step, **place}
    except RemoteMessageError as error:
        return REFUSED, {"verdict": error.verdict.value, "step": error.step}
    except (ValueError, msgspec.MsgspecError, ConfigError) as error:
        return NOT_ANSWERED, {"error": str(error)}


def batch(lines: TextIO, out: TextIO) -> int:
    """Answer line after line; a line that is no request is answered with exit code 2, like any other."""
    for line in lines:
        try:
            asked = json.loads(line)
            command, request = asked["command"], asked["request"]
        except (ValueError, KeyError, TypeError):
            code, found = NOT_ANSWERED, {"error": "a line is an object with `command` and `request`"}
        else:
            code, found = answer(command, request)
        print(json.dumps({"exit": code, "answer": found}), file=out, flush=True)
    return GOOD


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = argparse.ArgumentParser(prog="moodline-line", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("command", choices=[*COMMANDS, "batch"])
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="request as JSON (default: standard input)")
    options = parser.parse_args(arguments)
    try:
        with options.file.open(encoding="utf-8") if options.file else sys.stdin as stream:
            if options.command == "batch":
                return batch(stream, sys.stdout)
            request = json.load(stream)
    except (OSError, ValueError) as error:
        code, found = NOT_ANSWERED, {"error": f"the request cannot be read: {error}"}
    else:
        code, found = answer(options.command, request)
    print(json.dumps(found))
    return code


if __name__ == "__main__":
    sys.exit(main())
