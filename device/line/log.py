"""Following a gateway's log of closed rounds with nothing but the rosters: what makes it tamper-evident.

A line's log is an optional stub (what retention deleted from its beginning), closed rounds, and the grant that is open.
`LogFollower` takes them in that order, one round in memory at a time, by the same ten steps as unit and gateway; each
object is judged under the roster of its own epoch, so nothing depends on today's roster, clock or certificates. What
only a whole log can show has a code of its own in `LogFinding`; docs/offline-verification.md says the same at length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from device.config import LineLimits
from device.errors import VERDICTS, ConfigError, RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.verify import (
    OpenRound,
    SignedGrant,
    SignedLink,
    Verifier,
    follow_link,
    step_1_size,
    step_2_grant,
    step_2_link,
)
from device.messages.envelope import DIGEST_BYTES, digest, is_identifier
from device.messages.grant import NO_PREVIOUS, Accepted, Grant
from device.messages.link import Link
from device.messages.roster import Roster

#: The running digest of a stub before its first object.
NOTHING_DELETED: Final = bytes(DIGEST_BYTES)


class LogFinding(StrEnum):
    """Closed list of what a whole log can show, beside the verdicts on its objects. `FINDINGS` explains each."""

    EMPTY_LOG = "empty_log"
    DAMAGED_FILE = "damaged_file"
    START_MISSING = "start_missing"
    ROUND_MISSING = "round_missing"
    ROUND_OUT_OF_ORDER = "round_out_of_order"
    RESEALED = "resealed"
    STUB_MISMATCH = "stub_mismatch"
    CUT_AT_END = "cut_at_end"
    HEAD_MISSING = "head_missing"
    PROVES_NOTHING = "proves_nothing"


class FindingRow(NamedTuple):
    """The verdict on an object that comes nearest (its step is the finding's, unless `step` is None), what was found,
    and what to do about it."""

    verdict: Verdict
    step: int | None
    sentence: str
    next_step: str


_KEEP: Final = "Keep this file and every unit's newest grant as they are, and find out who could write to it."

#: docs/offline-verification.md says the same; a test keeps the two in step.
FINDINGS: Final[Mapping[LogFinding, FindingRow]] = {
    LogFinding.EMPTY_LOG: FindingRow(
        Verdict.NOT_DECODABLE,
        None,
        "The log holds nothing at all.",
        "Give the gateway's own file, and ask who emptied it.",
    ),
    LogFinding.DAMAGED_FILE: FindingRow(
        Verdict.NOT_DECODABLE,
        None,
        "The file is damaged: it is not whole.",
        "Copy it again from where it came. " + _KEEP,
    ),
    LogFinding.START_MISSING: FindingRow(
        Verdict.UNGRANTED_ROUND, 6, "The log begins in the middle, and no stub says what was deleted.", _KEEP
    ),
    LogFinding.ROUND_MISSING: FindingRow(Verdict.UNGRANTED_ROUND, 6, "A round was taken out of the log.", _KEEP),
    LogFinding.ROUND_OUT_OF_ORDER: FindingRow(
        Verdict.STALE_ROUND, 6, "A round stands in the wrong place, or stands twice.", _KEEP
    ),
    LogFinding.RESEALED: FindingRow(
        Verdict.BAD_SIGNATURE,
        5,
        "The chain is whole, but another key than the rostered one signed it: it was made anew.",
        "Check that the roster is this room's; if it is, the log is forged. " + _KEEP,
    ),
    LogFinding.STUB_MISMATCH: FindingRow(
        Verdict.WRONG_PREVIOUS, 7, "The stub of deleted rounds does not fit what follows it.", _KEEP
    ),
    LogFinding.CUT_AT_END: FindingRow(
        Verdict.UNGRANTED_ROUND, 6, "A signed grant shows that the log must go on after its end.", _KEEP
    ),
    LogFinding.HEAD_MISSING: FindingRow(
        Verdict.WRONG_PREVIOUS,
        7,
        "The log does not hold an object that somebody has seen: cut off, or rewritten.",
        _KEEP,
    ),
    LogFinding.PROVES_NOTHING: FindingRow(
        Verdict.NOT_DECODABLE, 8, "The two objects do not exclude each other.", "Accuse nobody with this file."
    ),
}

_WRONG_ROSTER: Final = "Check that the roster is of this room and of that epoch. If it is: "
_BY_ROSTER: Final = frozenset(
    {
        Verdict.WRONG_ROOM,
        Verdict.WRONG_LINE,
        Verdict.UNKNOWN_SIGNER,
        Verdict.SIGNER_OF_ANOTHER_LINE,
        Verdict.REVOKED,
        Verdict.BAD_SIGNATURE,
    }
)


def _advice(verdict: Verdict) -> str:
    """What to do about a verdict that an object of a log gets: other than on a live line, it was let in once."""
    if verdict is Verdict.UNKNOWN_VERSION:
        return "Use the verifier of that version."
    return _WRONG_ROSTER + _KEEP if verdict in _BY_ROSTER else _KEEP


class LogError(RemoteMessageError):
    """The first object of a log that does not hold. `place` is 0 for the round's grant, n for its n-th link; None when
    the finding is about the whole round or log. `peer` is in whose name it is signed, if it says so."""

    def __init__(
        self, code: Verdict | LogFinding, what: str, *, line: str, round_number: int, place: int | None, peer: str = ""
    ) -> None:
        finding = FINDINGS[code] if isinstance(code, LogFinding) else None
        super().__init__(finding.verdict if finding else Verdict(code), what, peer=peer)
        row = VERDICTS[self.verdict]
        self.code = code
        self.line = line
        self.round = round_number
        self.place = place
        self.sentence = finding.sentence if finding else row.sentence
        self.found_in_step = finding.step if finding else row.step
        self.next_step = finding.next_step if finding else _advice(self.verdict)
        self.args = (f"{what} {self.next_step}",)

    def instead(self, code: LogFinding, what: str) -> LogError:
        """The same place with a code that says more."""
        return LogError(code, what, line=self.line, round_number=self.round, place=self.place, peer=self.peer)


class MissingRosterError(ConfigError):
    """An object was made under an epoch whose roster nobody gave."""

    def __init__(self, line: str, epoch: int, given: Iterable[int]) -> None:
        known = ", ".join(map(str, sorted(given))) or "none"
        super().__init__(
            f"Line {line} holds objects of epoch {epoch}, and no roster of epoch {epoch} was given (given: {known}).",
            next_step=f"Get the roster of epoch {epoch} from the room authority and give it, too, with --roster.",
        )
        self.epoch = epoch


@dataclass(frozen=True)
class Stub:
    """What stays of deleted rounds: `prev` is what the first deleted grant continued, `head` the digest of the last
    deleted object, `links` how many links went, `running` the digest that `fold` makes over all objects in order.

    No signature covers it: the grant that follows signs `head` and the number of rounds, and nothing signs the rest.
    """

    first: int
    last: int
    links: int
    prev: bytes
    head: bytes
    running: bytes


def fold(running: bytes, objects: Iterable[bytes]) -> bytes:
    """The running digest after more objects, given as their digests: SHA-256(running ‖ digest), one after the other."""
    for each in objects:
        running = hashlib.sha256(running + each).digest()
    return running


def _name(claimed: str) -> str:
    """A name that nobody has verified, fit to be shown."""
    return claimed if is_identifier(claimed) else "of no proper name"


class EpochVerifier:
    """Steps 1 to 5 for one line under several rosters of one room: each object under the roster of its own epoch.

    Raises RemoteMessageError as `Verifier` does, MissingRosterError for an epoch without a roster.
    """

    def __init__(self, rosters: Mapping[int, Roster], line: str, limits: LineLimits) -> None:
        self._rosters = rosters
        self._line = line
        self._limits = limits
        self._verifiers: dict[int, Verifier] = {}

    def link(self, raw: bytes) -> SignedLink:
        """An authentic link."""
        step_1_size(raw, self._limits)
        return self.of(step_2_link(raw)[0]).link(raw)

    def grant(self, raw: bytes) -> SignedGrant:
        """An authentic grant."""
        step_1_size(raw, self._limits)
        return self.of(step_2_grant(raw)[0]).grant(raw)

    def of(self, body: Grant | Link) -> Verifier:
        """Who judges that object. Room and line are looked at first: of another one, the epoch says nothing."""
        rooms = {roster.room for roster in self._rosters.values()}
        if rooms and body.room not in rooms:
            wanted = ", ".join(sorted(rooms))
            raise RemoteMessageError(
                Verdict.WRONG_ROOM, f"It is of room {_name(body.room)}; the roster is of {wanted}."
            )
        if body.line != self._line:
            raise RemoteMessageError(Verdict.WRONG_LINE, f"It is of line {_name(body.line)}, not of {self._line}.")
        roster = self._rosters.get(body.epoch)
        if roster is None:
            raise MissingRosterError(self._line, body.epoch, self._rosters)
        if self._line not in roster.lines:
            raise RemoteMessageError(Verdict.WRONG_LINE, f"The roster of epoch {body.epoch} has no line {self._line}.")
        if body.epoch not in self._verifiers:
            self._verifiers[body.epoch] = Verifier(roster, self._line, self._limits)
        return self._verifiers[body.epoch]

    def key_of(self, epoch: int, signer: str) -> bytes | None:
        """The key under which that epoch's roster knows a unit of the line, or the gateway."""
        roster = self._rosters[epoch]
        if signer == roster.gateway.gateway:
            return roster.gateway.key
        return next((unit.key for unit in roster.lines.get(self._line, ()) if unit.unit == signer), None)


class LogFollower:
    """Verifies one line's log in the order `skip` (at most once), `take` for each round, `close` for the open grant.

    With `from_middle` the first grant may be of any round, and its `prev` is believed: a receipt begins somewhere.
    Every method raises LogError for the first object that does not hold, MissingRosterError.
    """

    def __init__(
        self, rosters: Mapping[int, Roster], line: str, limits: LineLimits, *, from_middle: bool = False
    ) -> None:
        self._rosters = rosters
        self._line = line
        self._limits = limits
        self._judge = EpochVerifier(rosters, line, limits)
        self._verifier: Verifier | None = None
        self._epoch = 0
        self._next_round: int | None = None if from_middle else 1
        self._accepted: Mapping[str, Accepted] | None = None if from_middle else {}
        self._stub: Stub | None = None
        self._started = False
        self.head: bytes | None = None if from_middle else NO_PREVIOUS

    @property
    def round(self) -> int:
        """The last round that was taken or skipped; 0 before the first."""
        return (self._next_round or 1) - 1

    def skip(self, stub: Stub) -> None:
        """Cross the rounds that were deleted from the log's beginning."""
        if stub.first != 1 or stub.prev != NO_PREVIOUS:
            raise self._error(
                LogFinding.START_MISSING,
                f"Rounds before {stub.first} are neither there nor in the stub.",
                stub.first,
                None,
            )
        if stub.last < stub.first or self._started:
            raise self._error(
                LogFinding.STUB_MISMATCH, f"The stub spans {stub.first} to {stub.last}.", stub.first, None
            )
        self._next_round, self.head, self._accepted, self._stub = stub.last + 1, stub.head, None, stub
        self._started = True

    def take(self, closed: ClosedRound) -> OpenRound:
        """Verify the next closed round; returns what it holds."""
        view = OpenRound(self._continuing(closed.grant))
        round_number = view.grant.body.round
        assert self._verifier is not None
        suite = self._rosters[self._epoch].suite
        for place, raw in enumerate(closed.links, start=1):
            try:
                link = self._verifier.link(raw)
                follow_link(link, view, self._limits, suite)
            except RemoteMessageError as error:
                raise self._located(error, round_number, place) from error
            view.extend(link)
        self._next_round, self.head, self._accepted = round_number + 1, view.head, view.accepted
        self._stub = None
        return view

    def close(self, raw: bytes) -> SignedGrant:
        """Verify the grant that is open, or that closes a receipt: it must continue the last round."""
        return self._continuing(raw, closing=True)

    def _continuing(self, raw: bytes, *, closing: bool = False) -> SignedGrant:
        grant = self._authentic(raw)
        body = grant.body
        peer = self._rosters[body.epoch].gateway.gateway
        self._check_round(body, peer, closing=closing)
        if self.head is not None and body.prev != self.head:
            if self._stub is not None:
                what = (
                    f"Grant {body.round} does not continue the stub of rounds {self._stub.first} to {self._stub.last}."
                )
                raise self._error(LogFinding.STUB_MISMATCH, what, body.round, 0, peer)
            what = f"Grant {body.round} does not continue what the log holds before it."
            raise self._error(Verdict.WRONG_PREVIOUS, what, body.round, 0, peer)
        if self._accepted is not None and body.accepted != self._accepted:
            what = f"Grant {body.round} acknowledges something else than the log holds."
            raise self._error(Verdict.ACKNOWLEDGEMENT_WITHDRAWN, what, body.round, 0, peer)
        self._started = True
        return grant

    def _authentic(self, raw: bytes) -> SignedGrant:
        """Steps 1 to 5, under the roster of the grant's epoch. Epochs never run backwards."""
        try:
            if self._verifier is not None:
                try:
                    return self._verifier.grant(raw)
                except RemoteMessageError as error:
                    if error.verdict is not Verdict.UNKNOWN_EPOCH:
                        raise
            step_1_size(raw, self._limits)
            body, _ = step_2_grant(raw)
            self._verifier, self._epoch = self._judge.of(body), body.epoch
            return self._verifier.grant(raw)
        except RemoteMessageError as error:
            raise self._located(error, self._next_round or 0, 0) from error

    def _check_round(self, body: Grant, peer: str, *, closing: bool) -> None:
        wanted, number = self._next_round, body.round
        if wanted is None or number == wanted:
            return
        if number < wanted:
            code, what = LogFinding.ROUND_OUT_OF_ORDER, f"Round {number} stands where round {wanted} belongs."
        elif closing:
            code = LogFinding.CUT_AT_END
            what = f"The log ends with round {wanted - 1}, but the gateway has signed the grant of round {number}."
        elif not self._started:
            code, what = LogFinding.START_MISSING, f"The log begins with round {number}."
        else:
            code, what = LogFinding.ROUND_MISSING, f"Round {number} follows round {wanted - 1}."
        if code is LogFinding.ROUND_MISSING:
            raise self._error(code, what, wanted, None)
        raise self._error(code, what, number, 0, peer)

    def _error(
        self, code: Verdict | LogFinding, what: str, round_number: int, place: int | None, peer: str = ""
    ) -> LogError:
        return LogError(code, what, line=self._line, round_number=round_number, place=place, peer=peer)

    def _located(self, error: RemoteMessageError, round_number: int, place: int) -> LogError:
        return self._error(error.verdict, error.what, round_number, place, error.peer)


def tell_more(error: LogError, broken: ClosedRound, rest: Iterable[ClosedRound]) -> LogError:
    """What the rest of the log adds to a finding in the round `broken`; `rest` are the same line's rounds after it.

    A round that is missing here but stands further on is out of order. An object with a wrong signature which the next
    object names by its digest was not altered afterwards: somebody made the chain anew with another key.
    """
    rest = iter(rest)
    if error.code is LogFinding.ROUND_MISSING:
        if any(_round_of(closed.grant) == error.round for closed in rest):
            return error.instead(LogFinding.ROUND_OUT_OF_ORDER, f"Round {error.round} stands further on in the log.")
    elif error.code is Verdict.BAD_SIGNATURE and error.place is not None:
        objects = (broken.grant, *broken.links)
        after = objects[error.place + 1] if error.place + 1 < len(objects) else next((one.grant for one in rest), b"")
        if previous_of(after) == digest(objects[error.place]):
            return error.instead(LogFinding.RESEALED, error.what)
    return error


def _round_of(raw: bytes) -> int | None:
    try:
        return step_2_grant(raw)[0].round
    except RemoteMessageError:
        return None


def previous_of(raw: bytes) -> bytes | None:
    """What a grant or link says it continues; nothing is verified. None for anything else."""
    for step_2 in (step_2_link, step_2_grant):
        try:
            return step_2(raw)[0].prev
        except RemoteMessageError:
            continue
    return None


def follow_log(rounds: Iterable[ClosedRound], *, roster: Roster, line: str, limits: LineLimits) -> Iterator[OpenRound]:
    """Verify a log of one epoch from its first round on, one round in memory at a time; yields each verified round.

    Raises LogError (a RemoteMessageError) at the first object that is altered, inserted, out of order, or follows a
    dropped one. A log that was cut off at its end verifies: only a newer grant, which every unit of the line has, shows
    that more must be there.
    """
    follower = LogFollower({roster.epoch: roster}, line, limits)
    remaining = iter(rounds)
    for closed in remaining:
        try:
            view = follower.take(closed)
        except LogError as error:
            raise tell_more(error, closed, remaining) from error
        except MissingRosterError as error:
            code = Verdict.STALE_EPOCH if error.epoch < roster.epoch else Verdict.UNKNOWN_EPOCH
            raise LogError(code, error.what, line=line, round_number=closed.round, place=0) from error
        yield view
