"""What a verified line holds, counted while it is followed: bounded, however long the log is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from device.line.log import NOTHING_DELETED, Stub, fold
from device.line.verify import OpenRound, SignedGrant
from device.messages.grant import NOTHING_ACCEPTED, Accepted
from device.messages.link import Link

#: Sessions and gaps of one unit that are listed; more are counted.
LISTED: Final = 20


@dataclass(frozen=True)
class Gap:
    """Sequence numbers of a session, `first` to `last`, that the log passes over."""

    session: int
    first: int
    last: int


@dataclass
class SessionRange:
    """Labels of one session: from `first` to `last`, gaps included."""

    session: int
    first: int
    last: int


@dataclass
class UnitSummary:
    """One unit in the log. `labels` are sealed entries; nobody but the gateway can say what they are."""

    links: int = 0
    labels: int = 0
    session_count: int = 0
    sessions: list[SessionRange] = field(default_factory=list)
    newest: SessionRange | None = None
    gap_count: int = 0
    missing: int = 0
    gaps: list[Gap] = field(default_factory=list)

    def add(self, link: Link, before: Accepted) -> None:
        """Count one verified link; `before` is what was accepted of the unit until then."""
        self.links += 1
        session, sequence = before.entry_session, before.sequence
        for entry in link.entries:
            expected = sequence + 1 if entry.session == session else 1
            if entry.sequence > expected:
                self._gap(Gap(entry.session, expected, entry.sequence - 1))
            self._count(entry.session, entry.sequence)
            session, sequence = entry.session, entry.sequence

    def _gap(self, gap: Gap) -> None:
        self.gap_count += 1
        self.missing += gap.last - gap.first + 1
        if len(self.gaps) < LISTED:
            self.gaps.append(gap)

    def _count(self, session: int, sequence: int) -> None:
        self.labels += 1
        if self.newest is not None and self.newest.session == session:
            self.newest.last = sequence
            return
        self.newest = SessionRange(session, sequence, sequence)
        self.session_count += 1
        if len(self.sessions) < LISTED:
            self.sessions.append(self.newest)


@dataclass
class LineSummary:
    """One line. `running` is the digest that a stub of exactly these rounds would carry; times are the gateway's
    claims, in milliseconds since 1970."""

    line: str
    stub: Stub | None = None
    first_round: int = 0
    last_round: int = 0
    rounds: int = 0
    links: int = 0
    labels: int = 0
    epochs: list[int] = field(default_factory=list)
    first_ms: int = 0
    last_ms: int = 0
    prev: bytes = b""
    head: bytes = b""
    running: bytes = NOTHING_DELETED
    open_round: int | None = None
    units: dict[str, UnitSummary] = field(default_factory=dict)

    def add(self, view: OpenRound) -> None:
        """Count one verified round."""
        grant = view.grant.body
        if not self.rounds:
            self.first_round, self.first_ms, self.prev = grant.round, grant.gateway_ms, grant.prev
        self.rounds += 1
        self.last_round, self.last_ms, self.head = grant.round, grant.gateway_ms, view.head
        if grant.epoch not in self.epochs:
            self.epochs.append(grant.epoch)
        for unit, link in view.links.items():
            self.links += 1
            self.labels += len(link.body.entries)
            before = grant.accepted.get(unit, NOTHING_ACCEPTED)
            self.units.setdefault(unit, UnitSummary()).add(link.body, before)
        self.running = fold(self.running, (view.grant.digest, *(link.digest for link in view.links.values())))

    def close(self, grant: SignedGrant) -> None:
        """Note the verified open grant."""
        self.open_round = grant.body.round

    def as_stub(self) -> Stub:
        """The stub that retention would leave of these rounds."""
        return Stub(self.first_round, self.last_round, self.links, self.prev, self.head, self.running)
