"""Vectors of whole logs, in tests/vectors/line/logs: one log, every way to tamper with it, and where it is found.

Each has the closed rounds, and the grant that opened the next one as somebody else may hold it, every unit for example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.config import LineLimits
from device.errors import Verdict
from device.line.actions import ClosedRound
from device.line.log import LogError, LogFinding, LogFollower, tell_more
from device.line.verify import OpenRound, SignedGrant, SignedLink
from device.messages.envelope import ContentType, KeySigner, Signer, digest, open_envelope
from device.messages.grant import NO_PREVIOUS, NOTHING_ACCEPTED, Accepted, Grant, decode_grant, sign_grant
from device.messages.link import Link, LinkFlag, decode_link, sign_link
from device.messages.roster import Roster
from tools.vectors import room
from tools.vectors.cases import LIMITS, WALL_MS, SealedEntries

ROUNDS: Final = 5
UNITS: Final = ("desk-1", "desk-2", "desk-3")

Log = tuple[ClosedRound, ...]


class Found(NamedTuple):
    """The first object that does not hold: `place` is 0 for the round's grant, n for its n-th link, None for the round
    as a whole."""

    code: Verdict | LogFinding
    round: int
    place: int | None


@dataclass(frozen=True)
class LogCase:
    """A log, the grant that somebody holds, and what following the one up to the other must find (None: nothing)."""

    name: str
    about: str
    rounds: Log
    newer_grant: bytes | None
    found: Found | None = None


def first_failing(
    rounds: Iterable[ClosedRound],
    newer_grant: bytes | None,
    *,
    rosters: Mapping[int, Roster],
    limits: LineLimits = LIMITS,
) -> LogError | None:
    """Follow a log of the vectors' line from its first round up to the grant that somebody holds."""
    follower = LogFollower(rosters, room.LINE, limits)
    remaining = iter(rounds)
    for closed in remaining:
        try:
            follower.take(closed)
        except LogError as error:
            return tell_more(error, closed, remaining)
    try:
        if newer_grant is not None:
            follower.close(newer_grant)
    except LogError as error:
        return error
    return None


def grant_of(raw: bytes) -> Grant:
    """The content of a grant."""
    return decode_grant(open_envelope(raw, wanted=ContentType.GRANT))


def link_of(raw: bytes) -> Link:
    """The content of a link."""
    return decode_link(open_envelope(raw, wanted=ContentType.LINK))


def other_key(name: str) -> Signer:
    """Somebody else's key under the same name."""
    return KeySigner(name, Ed25519PrivateKey.from_private_bytes(digest(b"other key of " + name.encode())))


def resealed(log: Sequence[ClosedRound], prev: bytes, signer: Callable[[str], Signer]) -> Log:
    """The same rounds on another head, all of them signed anew."""
    made = []
    for closed in log:
        grant = sign_grant(replace(grant_of(closed.grant), prev=prev), signer(room.GATEWAY))
        prev, links = digest(grant), []
        for raw in closed.links:
            link = link_of(raw)
            links.append(sign_link(replace(link, prev=prev), signer(link.unit)))
            prev = digest(links[-1])
        made.append(replace(closed, grant=grant, links=tuple(links)))
    return tuple(made)


def good_log(sealed: SealedEntries) -> tuple[Log, bytes]:
    """`ROUNDS` rounds in which all `UNITS` sign one label each, and the grant that opens the next round."""
    log: list[ClosedRound] = []
    accepted: dict[str, Accepted] = {}
    prev = NO_PREVIOUS
    for number in range(1, ROUNDS + 2):
        place = (room.ROOM, room.LINE, 1, number)
        start = number % len(UNITS)
        order = UNITS[start:] + UNITS[:start]
        grant = Grant(*place, order, dict(accepted), prev, WALL_MS + 500 * number, 450)
        raw = sign_grant(grant, room.signer(room.GATEWAY))
        if number > ROUNDS:
            break
        view = OpenRound(SignedGrant(grant, raw, digest(raw)))
        for unit in order:
            before = view.accepted.get(unit, NOTHING_ACCEPTED)
            flags = LinkFlag.SESSION_KNOWN if before.session else LinkFlag.NONE
            link = Link(*place, unit, 1, (sealed.entry(unit, 1, before.sequence + 1),), view.head, flags)
            signed = sign_link(link, room.signer(unit))
            view.extend(SignedLink(link, signed, digest(signed)))
        log.append(ClosedRound(number, 1, raw, tuple(link.raw for link in view.links.values())))
        accepted, prev = view.accepted, view.head
    return tuple(log), raw


def log_cases(sealed: SealedEntries) -> list[LogCase]:
    """Every log, good ones first."""
    log, newer = good_log(sealed)
    assert first_failing(log, newer, rosters={1: room.roster()}) is None
    return [*_good(log, newer), *_rounds(log, newer), *_objects(log, newer), *_signed_anew(log, newer)]


def _good(log: Log, newer: bytes) -> list[LogCase]:
    return [
        LogCase("good_log", "Five rounds, and the grant of the sixth that a unit holds.", log, newer),
        LogCase(
            "good_log_cut_at_end_and_nobody_holds_a_newer_grant",
            "The last two rounds are gone; no log shows that by itself, a newer grant does (log_truncated).",
            log[:3],
            None,
        ),
    ]


def _rounds(log: Log, newer: bytes) -> list[LogCase]:
    one, two, three, four, five = log
    missing, order = LogFinding.ROUND_MISSING, LogFinding.ROUND_OUT_OF_ORDER
    swapped = (one, two, replace(three, grant=four.grant), replace(four, grant=three.grant), five)
    return [
        LogCase(name, about, rounds, newer, found)
        for name, about, rounds, found in (
            ("log_truncated", "Its last two rounds are gone.", log[:3], Found(LogFinding.CUT_AT_END, 6, 0)),
            ("log_emptied", "All rounds are gone.", (), Found(LogFinding.CUT_AT_END, 6, 0)),
            ("log_beginning_cut_off", "It begins with round 3.", log[2:], Found(LogFinding.START_MISSING, 3, 0)),
            ("log_round_dropped", "Round 3 is gone.", (one, two, four, five), Found(missing, 3, None)),
            ("log_rounds_reordered", "Round 4, then 3.", (one, two, four, three, five), Found(order, 3, None)),
            ("log_round_twice", "Round 3 stands twice.", (*log[:3], three, four, five), Found(order, 3, 0)),
            ("log_grants_swapped", "Grant 4 over the links of round 3.", swapped, Found(order, 3, None)),
        )
    ]


def _objects(log: Log, newer: bytes) -> list[LogCase]:
    one, two, three, four, five = log
    first, second, third = three.links

    def with_links(*links: bytes) -> Log:
        return (one, two, replace(three, links=links), four, five)

    strange = sign_link(
        replace(link_of(third), unit="stranger", prev=digest(third), entries=()), room.signer("stranger")
    )
    forged = sign_link(replace(link_of(second), entries=()), other_key(link_of(second).unit))
    flipped = three.grant[:-1] + bytes([three.grant[-1] ^ 1])
    wrong = Verdict.WRONG_PREVIOUS
    return [
        LogCase(name, about, rounds, newer, Found(code, number, place))
        for name, about, rounds, code, number, place in (
            (
                "log_link_altered",
                "A link without its label, signed by another key.",
                with_links(first, forged, third),
                Verdict.BAD_SIGNATURE,
                3,
                2,
            ),
            ("log_link_damaged", "A byte is gone.", with_links(first, second[:-1], third), Verdict.NOT_DECODABLE, 3, 2),
            ("log_link_dropped", "The first link of a round.", with_links(second, third), wrong, 3, 1),
            ("log_last_link_dropped", "The last link of a round.", with_links(first, second), wrong, 4, 0),
            ("log_links_swapped", "Second, then first.", with_links(second, first, third), wrong, 3, 1),
            (
                "log_old_link_inserted",
                "A link of round 2 again.",
                with_links(*three.links, two.links[0]),
                Verdict.STALE_ROUND,
                3,
                4,
            ),
            (
                "log_strangers_link_inserted",
                "A link by somebody who is not rostered.",
                with_links(*three.links, strange),
                Verdict.UNKNOWN_SIGNER,
                3,
                4,
            ),
            (
                "log_grant_altered",
                "One bit of a grant's signature differs.",
                (one, two, replace(three, grant=flipped), four, five),
                Verdict.BAD_SIGNATURE,
                3,
                0,
            ),
        )
    ]


def _signed_anew(log: Log, newer: bytes) -> list[LogCase]:
    one, two, three, four, five = log
    gateway = room.signer(room.GATEWAY)
    again = sign_grant(replace(grant_of(three.grant), gateway_ms=WALL_MS), gateway)
    held = grant_of(newer)
    more = {unit: replace(accepted, sequence=accepted.sequence + 1) for unit, accepted in held.accepted.items()}
    moved = replace(grant_of(three.grant), order=grant_of(four.grant).order, gateway_ms=grant_of(four.grant).gateway_ms)
    renumbered = (replace(four, grant=sign_grant(moved, gateway)), five)
    return [
        LogCase(name, about, rounds, grant, Found(code, number, place))
        for name, about, rounds, grant, code, number, place in (
            (
                "log_resealed",
                "Made anew by other keys.",
                resealed(log, NO_PREVIOUS, other_key),
                newer,
                LogFinding.RESEALED,
                1,
                0,
            ),
            (
                "log_resealed_from_the_middle",
                "Made anew by other keys from round 3 on.",
                (one, two, *resealed(log[2:], digest(two.links[-1]), other_key)),
                newer,
                LogFinding.RESEALED,
                3,
                0,
            ),
            (
                "log_grant_signed_again",
                "The gateway signed another grant into its log.",
                (one, two, replace(three, grant=again), four, five),
                newer,
                Verdict.WRONG_PREVIOUS,
                3,
                1,
            ),
            (
                "log_renumbered_by_the_gateway",
                "Round 3 is gone; the gateway signed a grant of that number over the links of round 4.",
                (one, two, *renumbered),
                newer,
                Verdict.UNGRANTED_ROUND,
                3,
                1,
            ),
            (
                "log_end_rewritten_by_the_gateway",
                "The gateway left out the last link; a unit holds the grant that followed.",
                (*log[:4], replace(five, links=five.links[:-1])),
                newer,
                Verdict.WRONG_PREVIOUS,
                6,
                0,
            ),
            (
                "log_acknowledges_more_than_it_holds",
                "The open grant covers labels that the log does not have.",
                log,
                sign_grant(replace(held, accepted=more), gateway),
                Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
                6,
                0,
            ),
        )
    ]


def log_json(case: LogCase) -> dict[str, Any]:
    """A log vector as it stands in its file."""
    error = first_failing(case.rounds, case.newer_grant, rosters={1: room.roster()})
    found = Found(error.code, error.round, error.place) if error else None
    assert found == case.found, f"{case.name}: {found} instead of {case.found}"
    return {
        "about": case.about,
        "kind": "log",
        "verdict": error.verdict.value if error else None,
        "step": error.found_in_step if error else None,
        "finding": error.code.value if error else None,
        "round": error.round if error else None,
        "place": error.place if error else None,
        "rounds": [{"grant": one.grant.hex(), "links": [raw.hex() for raw in one.links]} for one in case.rounds],
        "newer_grant": case.newer_grant.hex() if case.newer_grant else None,
    }


def log_from_json(stored: Mapping[str, Any]) -> tuple[Log, bytes | None]:
    """Rounds and newer grant of a stored vector; numbers and epochs are those that its grants say, where they can be
    read."""
    rounds = []
    for place, one in enumerate(stored["rounds"], start=1):
        links = tuple(map(bytes.fromhex, one["links"]))
        rounds.append(ClosedRound(place, 1, bytes.fromhex(one["grant"]), links))
    newer = stored["newer_grant"]
    return tuple(rounds), bytes.fromhex(newer) if newer else None
