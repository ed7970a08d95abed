"""Equivocation: two signed objects of one party that exclude each other, and the memory that finds them.

A proof is nothing but the two objects as received, links of a unit or grants of the gateway: anyone with the roster
checks it by `check_proof`, or by `prove` when the objects are of different epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Protocol

from device.config import LineLimits
from device.errors import RemoteMessageError, Verdict
from device.line.log import EpochVerifier, LogError, LogFinding
from device.line.verify import SignedGrant, SignedLink, follow_grant, step_1_size, step_2_link
from device.messages.link import LinkFlag
from device.messages.roster import Roster

#: Sessions of one unit that are remembered.
_SESSIONS: Final = 8
#: Links of one unit for one round that are remembered: an honest one makes one, or one more for each restart.
_LINKS: Final = 4


def contradiction(first: SignedLink, second: SignedLink) -> str | None:
    """Why two authentic links exclude each other, or None.

    Three ways: two links of one unit for one session and round; one (session, sequence) with two contents; a lower
    session used in the round of a higher one or in a later one (a cloned or restored unit). The third counts only when
    the higher session's link was signed over a grant that knew that session: else a broker that shows an old grant to a
    unit that has just started could make the unit look like a cheat (ADR 5).
    """
    a, b = first.body, second.body
    if a.unit != b.unit or first.digest == second.digest:
        return None
    if (a.session, a.round) == (b.session, b.round):
        return f"{a.unit} signed two links in session {a.session} for round {a.round}"
    low, high = sorted((a, b), key=lambda link: link.session)
    if low.session < high.session and low.round >= high.round and high.flags & LinkFlag.SESSION_KNOWN:
        return f"{a.unit} used session {low.session} after session {high.session}"
    sealed = {(entry.session, entry.sequence): entry.sealed for entry in a.entries}
    for entry in b.entries:
        if sealed.get((entry.session, entry.sequence), entry.sealed) != entry.sealed:
            return f"{a.unit} gave two contents to entry {entry.session}/{entry.sequence}"
    return None


def grant_contradiction(first: SignedGrant, second: SignedGrant) -> tuple[Verdict, str] | None:
    """Why two authentic grants exclude each other, with the verdict, or None.

    Two ways: two grants for one round, or the later one acknowledges less than the earlier one did.
    """
    if first.digest == second.digest:
        return None
    older, newer = sorted((first, second), key=lambda grant: grant.body.round)
    try:
        follow_grant(newer, older, {older.body.round: older})
    except RemoteMessageError as error:
        return error.verdict, error.what
    return None


@dataclass(frozen=True)
class Proved:
    """What a proof proves: who did it, the verdict, a sentence, and the two rounds."""

    signer: str
    verdict: Verdict
    sentence: str
    rounds: tuple[int, int]


class Judge(Protocol):
    """Steps 1 to 5: `Verifier`, or `EpochVerifier`."""

    def link(self, raw: bytes) -> SignedLink:
        """An authentic link. Raises RemoteMessageError."""
        ...

    def grant(self, raw: bytes) -> SignedGrant:
        """An authentic grant. Raises RemoteMessageError."""
        ...


def check_proof(proof: tuple[bytes, bytes], verifier: Judge) -> str:
    """What a proof proves, in words. Raises RemoteMessageError when it proves nothing."""
    return _weigh(proof, verifier)[0].sentence


def prove(proof: tuple[bytes, bytes], *, rosters: Mapping[int, Roster], line: str, limits: LineLimits) -> Proved:
    """What a proof proves, each object judged under the roster of its own epoch.

    Raises RemoteMessageError when it proves nothing, also when the party has another key in the one epoch than in the
    other: then these are two boxes. Raises MissingRosterError for an epoch without a roster.
    """
    judge = EpochVerifier(rosters, line, limits)
    proved, epochs = _weigh(proof, judge)
    signer = proved.signer or rosters[epochs[0]].gateway.gateway
    if judge.key_of(epochs[0], signer) != judge.key_of(epochs[1], signer):
        raise _nothing(f"{signer} has another key in epoch {epochs[0]} than in epoch {epochs[1]}.")
    return replace(proved, signer=signer)


def equivocator(proof: tuple[bytes, ...], *, roster: Roster, line: str, limits: LineLimits) -> str | None:
    """The unit whose key, as it stands in this roster, signed two links that exclude each other; None if none did.

    Whatever epoch the links were made in, the key decides: a unit that was enrolled anew with another key is free.
    """
    if len(proof) != 2 or line not in roster.lines:
        return None
    try:
        for raw in proof:
            step_1_size(raw, limits)
        epochs = {step_2_link(raw)[0].epoch for raw in proof}
        rosters = {epoch: replace(roster, epoch=epoch) for epoch in epochs if epoch > 0}
        return prove((proof[0], proof[1]), rosters=rosters, line=line, limits=limits).signer
    except RemoteMessageError:
        return None


def _weigh(proof: tuple[bytes, bytes], judge: Judge) -> tuple[Proved, tuple[int, int]]:
    """What is proved, and the objects' epochs; the signer is empty for the gateway."""
    try:
        first, second = (judge.link(raw) for raw in proof)
    except RemoteMessageError as error:
        if error.verdict is not Verdict.WRONG_KIND:
            raise
        return _weigh_grants(proof, judge)
    found = contradiction(first, second)
    if found is None:
        raise _nothing("These two links do not exclude each other.")
    a, b = first.body, second.body
    return Proved(a.unit, Verdict.EQUIVOCATION, found, (a.round, b.round)), (a.epoch, b.epoch)


def _weigh_grants(proof: tuple[bytes, bytes], judge: Judge) -> tuple[Proved, tuple[int, int]]:
    first, second = (judge.grant(raw) for raw in proof)
    found = grant_contradiction(first, second)
    if found is None:
        raise _nothing("These two grants do not exclude each other.")
    a, b = first.body, second.body
    return Proved("", *found, (a.round, b.round)), (a.epoch, b.epoch)


def _nothing(what: str) -> LogError:
    return LogError(LogFinding.PROVES_NOTHING, what, line="", round_number=0, place=None)


class Evidence:
    """Remembers the authentic links of the last rounds and finds the first contradiction that a new one brings."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._seen: set[bytes] = set()
        #: By round and unit.
        self._held: dict[int, dict[str, list[SignedLink]]] = {}
        self._by_round: dict[tuple[str, int, int], SignedLink] = {}
        self._by_entry: dict[tuple[str, int, int], SignedLink] = {}
        #: Of each unit's sessions the first link that may prove an older one wrong, and the last link of all.
        self._sessions: dict[str, dict[int, tuple[SignedLink, SignedLink]]] = {}

    def seen(self, digest: bytes) -> bool:
        """Whether a link with that digest was taken in one of the remembered rounds."""
        return digest in self._seen

    def add(self, link: SignedLink) -> tuple[bytes, bytes] | None:
        """Remember a link. Returns the proof, as (older, newer), if it contradicts a remembered one."""
        if link.digest in self._seen or len(self._links_like(link)) >= _LINKS:
            return None
        proof = next(
            ((older.raw, link.raw) for older in self._candidates(link) if contradiction(older, link) is not None),
            None,
        )
        self._remember(link)
        return proof

    def forget_before(self, round_number: int) -> None:
        """Let go of links that are more than the remembered rounds older than `round_number`."""
        for old in [held for held in self._held if held < round_number - self._rounds]:
            for link in chain.from_iterable(self._held.pop(old).values()):
                body = link.body
                self._seen.discard(link.digest)
                self._by_round.pop((body.unit, body.session, body.round), None)
                for entry in body.entries:
                    self._by_entry.pop((body.unit, entry.session, entry.sequence), None)

    def _links_like(self, link: SignedLink) -> list[SignedLink]:
        """Those of its unit and round."""
        return self._held.setdefault(link.body.round, {}).setdefault(link.body.unit, [])

    def _candidates(self, link: SignedLink) -> list[SignedLink]:
        body = link.body
        found = [self._by_round.get((body.unit, body.session, body.round))]
        found += [self._by_entry.get((body.unit, entry.session, entry.sequence)) for entry in body.entries]
        for first, last in self._sessions.get(body.unit, {}).values():
            found += [first, last]
        return [older for older in found if older is not None]

    def _remember(self, link: SignedLink) -> None:
        body = link.body
        self._seen.add(link.digest)
        self._links_like(link).append(link)
        self._by_round.setdefault((body.unit, body.session, body.round), link)
        for entry in body.entries:
            self._by_entry.setdefault((body.unit, entry.session, entry.sequence), link)
        sessions = self._sessions.setdefault(body.unit, {})
        first, last = sessions.get(body.session, (link, link))
        sessions[body.session] = (
            min(first, link, key=_weight_against_older),
            link if body.round > last.body.round else last,
        )
        for old in sorted(sessions)[:-_SESSIONS]:
            del sessions[old]


def _weight_against_older(link: SignedLink) -> tuple[bool, int]:
    """Sorts a session's links: those first that its unit signed when the line knew the session, early ones first."""
    return not link.body.flags & LinkFlag.SESSION_KNOWN, link.body.round
