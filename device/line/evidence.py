"""Equivocation: two signed links of one unit that exclude each other, and the memory that finds them.

A proof is nothing but the two links as received: anyone with the roster checks it by `check_proof`.
"""

from __future__ import annotations

from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.line.verify import SignedLink, Verifier

#: Sessions of one unit that are remembered.
_SESSIONS: Final = 8
#: Links of one unit for one round that are remembered: an honest one makes one, or one more for each restart.
_LINKS: Final = 4


def contradiction(first: SignedLink, second: SignedLink) -> str | None:
    """Why two authentic links exclude each other, or None.

    Three ways: two links of one unit for one session and round; one (session, sequence) with two contents; a lower
    session used in a later round than a higher one (a cloned or restored unit).
    """
    a, b = first.body, second.body
    if a.unit != b.unit or first.digest == second.digest:
        return None
    if (a.session, a.round) == (b.session, b.round):
        return f"{a.unit} signed two links in session {a.session} for round {a.round}"
    if (a.session < b.session and a.round > b.round) or (b.session < a.session and b.round > a.round):
        return f"{a.unit} used session {min(a.session, b.session)} after session {max(a.session, b.session)}"
    sealed = {(entry.session, entry.sequence): entry.sealed for entry in a.entries}
    for entry in b.entries:
        if sealed.get((entry.session, entry.sequence), entry.sealed) != entry.sealed:
            return f"{a.unit} gave two contents to entry {entry.session}/{entry.sequence}"
    return None


def check_proof(proof: tuple[bytes, bytes], verifier: Verifier) -> str:
    """What a proof of equivocation proves. Raises RemoteMessageError when it proves nothing."""
    first, second = (verifier.link(raw) for raw in proof)
    found = contradiction(first, second)
    if found is None:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "These two links do not exclude each other.")
    return found


class Evidence:
    """Remembers the authentic links of the last rounds and finds the first contradiction that a new one brings."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._seen: set[bytes] = set()
        self._held: dict[int, list[SignedLink]] = {}
        self._by_round: dict[tuple[str, int, int], SignedLink] = {}
        self._by_entry: dict[tuple[str, int, int], SignedLink] = {}
        self._sessions: dict[str, dict[int, tuple[SignedLink, SignedLink]]] = {}

    def seen(self, digest: bytes) -> bool:
        """Whether a link with that digest was taken in one of the remembered rounds."""
        return digest in self._seen

    def add(self, link: SignedLink) -> tuple[bytes, bytes] | None:
        """Remember a link. Returns the proof, as (older, newer), if it contradicts a remembered one."""
        if link.digest in self._seen or self._links_like(link) >= _LINKS:
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
            for link in self._held.pop(old):
                body = link.body
                self._seen.discard(link.digest)
                self._by_round.pop((body.unit, body.session, body.round), None)
                for entry in body.entries:
                    self._by_entry.pop((body.unit, entry.session, entry.sequence), None)

    def _links_like(self, link: SignedLink) -> int:
        return sum(other.body.unit == link.body.unit for other in self._held.get(link.body.round, ()))

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
        self._held.setdefault(body.round, []).append(link)
        self._by_round.setdefault((body.unit, body.session, body.round), link)
        for entry in body.entries:
            self._by_entry.setdefault((body.unit, entry.session, entry.sequence), link)
        sessions = self._sessions.setdefault(body.unit, {})
        first, last = sessions.get(body.session, (link, link))
        sessions[body.session] = (
            link if body.round < first.body.round else first,
            link if body.round > last.body.round else last,
        )
        for old in sorted(sessions)[:-_SESSIONS]:
            del sessions[old]
