"""A span of a gateway's log, whole and with every defect that its chain must show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from device.errors import Verdict
from device.line.verify import OpenRound, SignedGrant, SignedLink
from device.messages.envelope import KeySigner, digest
from device.messages.grant import NOTHING_ACCEPTED, Accepted, Grant, sign_grant
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.sealing import sealed_bytes
from tools.conformance.cases import Case, refused
from tools.conformance.door import Question
from tools.conformance.vectors import Room

ROUNDS: Final = 3
SIGNERS: Final = ("desk-1", "desk-2", "desk-3")
_FIRST: Final = 40


@dataclass(frozen=True)
class Closed:
    """A round: its grant as fields and as bytes, and its links."""

    grant: Grant
    raw: bytes
    links: tuple[bytes, ...]

    @property
    def objects(self) -> list[bytes]:
        """As they stand in the log."""
        return [self.raw, *self.links]


def cases(room: Room) -> Iterator[Case]:
    """The span, and its defects. Whole rounds with one entry per link; nothing of it is opened."""
    for name, (objects, verdict) in _spans(_log(room), room).items():
        request = {**room.in_room(), "kind": "span", "messages": [raw.hex() for raw in objects]}
        answer = refused(verdict) if verdict else {"verdict": None, "step": None, "labels": []}
        group = f"verify a span (suite {room.roster.suite:d})"
        yield Case(group, name, Question("verify", request), 1 if verdict else 0, answer)


def _spans(log: list[Closed], room: Room) -> dict[str, tuple[list[bytes], Verdict | None]]:
    one, two, three = (closed.objects for closed in log)
    last = log[2].grant
    gateway = room.signer(last_signer := room.roster.gateway.gateway)
    less = {**last.accepted, "desk-1": replace(last.accepted["desk-1"], sequence=1)}
    more = {**last.accepted, "desk-1": replace(last.accepted["desk-1"], sequence=99)}
    forger = KeySigner(last_signer, room.signer("desk-1").private_key)
    damaged = two[1][:-1] + bytes([two[1][-1] ^ 1])
    return {
        "whole": ([*one, *two, *three], None),
        "whole, and the grant that follows": ([*one, *two, three[0]], None),
        "a grant alone": (one[:1], None),
        "a link dropped": ([*one, two[0], *two[2:], *three], Verdict.WRONG_PREVIOUS),
        "a round's last link dropped": ([*one, *two[:-1], *three], Verdict.WRONG_PREVIOUS),
        "two links swapped": ([*one, two[0], two[2], two[1], two[3], *three], Verdict.WRONG_PREVIOUS),
        "a round dropped": ([*one, *three], Verdict.UNGRANTED_ROUND),
        "two rounds swapped": ([*one, *three, *two], Verdict.UNGRANTED_ROUND),
        "a round twice": ([*one, *two, *two], Verdict.STALE_ROUND),
        "a link of the round before": ([*one, *two[:3], one[3], *three], Verdict.STALE_ROUND),
        "a link altered": ([*one, two[0], damaged, *two[2:], *three], Verdict.BAD_SIGNATURE),
        "a grant by another key": ([*one, *two, sign_grant(last, forger)], Verdict.BAD_SIGNATURE),
        "a grant of another history": (
            [*one, *two, sign_grant(replace(last, prev=digest(b"another history")), gateway)],
            Verdict.WRONG_PREVIOUS,
        ),
        "a grant that acknowledges less": (
            [*one, *two, sign_grant(replace(last, accepted=less), gateway)],
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
        ),
        "a grant that acknowledges more": (
            [*one, *two, sign_grant(replace(last, accepted=more), gateway)],
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
        ),
        "beginning with a link": ([*one[1:], *two], Verdict.WRONG_KIND),
    }


def _log(room: Room) -> list[Closed]:
    log: list[Closed] = []
    accepted: dict[str, Accepted] = {}
    prev = digest(b"the round before")
    for number in range(_FIRST, _FIRST + ROUNDS):
        place = (room.roster.room, room.line, room.roster.epoch, number)
        grant = Grant(*place, SIGNERS, dict(accepted), prev, 1_800_000_000_000 + number, 450)
        raw = sign_grant(grant, room.signer(room.roster.gateway.gateway))
        view = OpenRound(SignedGrant(grant, raw, digest(raw)))
        for unit in SIGNERS:
            before = view.accepted.get(unit, NOTHING_ACCEPTED)
            entry = Entry(1, before.sequence + 1, bytes([number]) * sealed_bytes(room.roster.suite))
            flags = LinkFlag.SESSION_KNOWN if before.session else LinkFlag.NONE
            link = Link(*place, unit, 1, (entry,), view.head, flags)
            signed = sign_link(link, room.signer(unit))
            view.extend(SignedLink(link, signed, digest(signed)))
        log.append(Closed(grant, raw, tuple(link.raw for link in view.links.values())))
        accepted, prev = view.accepted, view.head
    return log
