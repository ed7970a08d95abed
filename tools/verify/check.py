"""Following every line of a file to its end, and holding against it what others have seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.log import EpochVerifier, LogError, LogFinding, LogFollower, Stub, tell_more
from device.line.verify import SignedGrant, step_1_size, step_2_grant
from device.messages.roster import Roster
from tools.verify.sources import OpenGrant, Part, ReceiptSource, StoreSource, rounds_of
from tools.verify.summary import LineSummary


@dataclass(frozen=True)
class SeenGrant:
    """A grant that somebody else holds, a unit for example: authentic, and the file that it came from."""

    path: Path
    grant: SignedGrant


@dataclass
class Findings:
    """What came out: `failure` is the first object that does not hold, None when everything does.

    `contradiction` are two signed grants that exclude each other: the log's, and one that somebody else holds.
    """

    lines: dict[str, LineSummary] = field(default_factory=dict)
    failure: LogError | None = None
    contradiction: tuple[bytes, bytes] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What others have seen: digests of heads, and grants."""

    heads: frozenset[bytes] = frozenset()
    grants: tuple[SeenGrant, ...] = ()


class _LineCheck:
    """One line on its way."""

    def __init__(self, checker: Checker, line: str) -> None:
        self.summary = LineSummary(line)
        self.follower = LogFollower(
            checker.rosters, line, checker.limits, from_middle=isinstance(checker.source, ReceiptSource)
        )
        self.seen = {seen.grant.body.round: seen for seen in checker.seen.grants if seen.grant.body.line == line}
        self.open: SignedGrant | None = None

    def take(self, part: Part) -> Iterator[bytes]:
        """Verify a part; yields the digests of its objects."""
        match part:
            case Stub():
                self.follower.skip(part)
                self.summary.stub = part
                yield part.head
            case ClosedRound():
                view = self.follower.take(part)
                self._compare(view.grant)
                self.summary.add(view)
                yield view.grant.digest
                yield from (link.digest for link in view.links.values())
            case OpenGrant():
                self.open = self.follower.close(part.raw)
                self._compare(self.open)
                self.summary.close(self.open)
                yield self.open.digest

    def _compare(self, grant: SignedGrant) -> None:
        seen = self.seen.pop(grant.body.round, None)
        if seen is not None and seen.grant.digest != grant.digest:
            raise _ContradictionError(self.summary.line, seen, grant)


class _ContradictionError(LogError):
    """The log's grant of a round is not the one that somebody else holds."""

    def __init__(self, line: str, seen: SeenGrant, ours: SignedGrant) -> None:
        number = ours.body.round
        what = f"The log's grant of round {number} is another one than that in {seen.path}; the gateway signed both."
        super().__init__(Verdict.GRANT_REWRITTEN, what, line=line, round_number=number, place=0)
        self.pair = (ours.raw, seen.grant.raw)


@dataclass
class Checker:
    """Verifies a source. `progress` is called once for each round."""

    source: StoreSource | ReceiptSource
    rosters: Mapping[int, Roster]
    limits: LineLimits
    only: str | None = None
    seen: Seen = Seen()
    progress: Callable[[], object] = lambda: None

    def run(self) -> Findings:
        """Follow the file to its end, or to the first object that does not hold. Raises ConfigError when it cannot be
        judged: a roster is missing, or the asked-for line is not there."""
        found = Findings()
        checks: dict[str, _LineCheck] = {}
        try:
            self._follow(checks)
            found.notes += self._conclude(checks)
        except _ContradictionError as error:
            found.failure, found.contradiction = error, error.pair
        except LogError as error:
            found.failure = error
        found.lines = {line: check.summary for line, check in checks.items()}
        return found

    def _follow(self, checks: dict[str, _LineCheck]) -> None:
        missing = set(self.seen.heads)
        parts = self.source.parts()
        others: set[str] = set()
        for line, part in parts:
            if self.only not in (None, line):
                others.add(line)
                continue
            if line not in checks:
                checks[line] = _LineCheck(self, line)
            try:
                for name in checks[line].take(part):
                    missing.discard(name)
            except LogError as error:
                if isinstance(part, ClosedRound):
                    raise _without_hiding(error, part, rounds_of(line, parts)) from error
                raise
            self.progress()
        if not checks and others:
            raise ConfigError(
                f"{self.source.path}: holds no line {self.only} (it holds: {', '.join(sorted(others))}).",
                next_step="Give one of those with --line, or none for all.",
            )
        if not checks:
            raise LogError(
                LogFinding.EMPTY_LOG, "No round, no grant.", line=self.only or "", round_number=0, place=None
            )
        if missing:
            what = f"No object has the digest {min(missing).hex()}."
            raise LogError(LogFinding.HEAD_MISSING, what, line=self.only or "", round_number=0, place=None)

    def _conclude(self, checks: Mapping[str, _LineCheck]) -> list[str]:
        """What can only be said at the end of the file. Returns notes that are no findings."""
        notes: list[str] = []
        for line, check in checks.items():
            if isinstance(self.source, ReceiptSource):
                notes += _check_span(self.source, check)
            elif check.open is None:
                what = f"The store holds no open grant of line {line}, which it always does."
                raise LogError(LogFinding.CUT_AT_END, what, line=line, round_number=check.follower.round, place=None)
            for number, seen in sorted(check.seen.items()):
                notes += self._hold_against(check, number, seen)
        for seen in self.seen.grants:
            body = seen.grant.body
            if body.line not in checks and self.only in (None, body.line):
                what = (
                    f"The file holds nothing of line {body.line}; {seen.path} is the grant of its round {body.round}."
                )
                raise LogError(LogFinding.CUT_AT_END, what, line=body.line, round_number=0, place=None)
        return notes

    def _hold_against(self, check: _LineCheck, number: int, seen: SeenGrant) -> list[str]:
        line, last = check.summary.line, check.follower.round
        if number > last and isinstance(self.source, StoreSource):
            what = f"The log ends with round {last}, but {seen.path} is the gateway's grant of round {number}."
            raise LogError(LogFinding.CUT_AT_END, what, line=line, round_number=last, place=None)
        if number == last + 1:
            check.summary.close(check.follower.close(seen.grant.raw))
            return [f"{seen.path}: continues the last round of this file, so nothing is missing at its end."]
        return [f"{seen.path}: is of round {number}, which this file does not hold; it says nothing here."]


def _without_hiding(error: LogError, broken: ClosedRound, rest: Iterable[ClosedRound]) -> LogError:
    """A finding with what the rest of the file adds; damage further on must not take its place."""
    if isinstance(error, _ContradictionError):
        return error
    try:
        return tell_more(error, broken, rest)
    except LogError:
        return error


def _check_span(source: ReceiptSource, check: _LineCheck) -> list[str]:
    """The header is signed by nobody: it must say what the objects say."""
    header, summary = source.header, check.summary
    first, last = summary.first_round, summary.last_round
    if (header.first, header.last) != (first, last):
        what = f"The header speaks of rounds {header.first} to {header.last}; the objects are of {first} to {last}."
        raise LogError(LogFinding.DAMAGED_FILE, what, line=summary.line, round_number=last, place=None)
    notes = [] if header.first == 1 else [f"Begins at round {header.first}: what came before it is not in this file."]
    if check.open is None:
        notes.append("The grant after the last round is not in this file: links at its very end could be missing.")
    return notes


def authentic_grant(raw: bytes, path: Path, rosters: Mapping[int, Roster], limits: LineLimits) -> SeenGrant:
    """A grant that somebody holds. Raises ConfigError when it is none of this room's gateway."""
    try:
        step_1_size(raw, limits)
        body, _ = step_2_grant(raw)
        return SeenGrant(path, EpochVerifier(rosters, body.line, limits).grant(raw))
    except RemoteMessageError as error:
        raise ConfigError(
            f"{path}: is no grant of this room's gateway ({error.what})",
            next_step="Give a grant exactly as a unit received it.",
        ) from error


def kept_span(source: ReceiptSource, checker: Checker) -> Stub:
    """The stub that retention would leave of a kept receipt's rounds. Raises LogError if it does not hold."""
    found = Checker(source, checker.rosters, checker.limits).run()
    if found.failure is not None:
        raise found.failure
    return found.lines[source.header.line].as_stub()
