"""A gateway's log, whole and with defects that its chain must show, in either suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from device.errors import Verdict
from device.line.log import FINDINGS, LogFinding
from device.messages.envelope import KeySigner, digest
from device.messages.grant import NO_PREVIOUS, Accepted, Grant, sign_grant
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.sealing import sealed_bytes
from tools.conformance.cases import Case, refused
from tools.conformance.door import Question
from tools.conformance.vectors import Room

ROUNDS: Final = 3
SIGNERS: Final = ("desk-1", "desk-2", "desk-3")


#: Rounds of a log, a newer grant, and what is found.
Tampered = tuple[list[list[bytes]], bytes | None, Verdict | LogFinding | None]


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
    """The log, and its defects. One entry per link; nothing of it is opened."""
    for name, (rounds, newer, code) in _logs(_log(room), room).items():
        request = {
            **room.in_room(),
            "kind": "log",
            "rounds": [{"grant": grant.hex(), "links": [raw.hex() for raw in links]} for grant, *links in rounds],
            "newer_grant": newer.hex() if newer else None,
        }
        group = f"verify a log (suite {room.roster.suite:d})"
        yield Case(group, name, Question("verify", request), 1 if code else 0, _answer(code))


def _answer(code: Verdict | LogFinding | None) -> dict[str, Any]:
    if code is None:
        return {"verdict": None, "step": None, "labels": []}
    if isinstance(code, LogFinding):
        return {"verdict": FINDINGS[code].verdict.value, "step": FINDINGS[code].step, "finding": code.value}
    return {**refused(code), "finding": code.value}


def _logs(
    log: list[Closed], room: Room
) -> dict[str, tuple[list[list[bytes]], bytes | None, Verdict | LogFinding | None]]:
    one, two, three = (closed.objects for closed in log)
    last, held = log[2].grant, log[2].raw
    gateway = room.signer(room.roster.gateway.gateway)
    less = {**last.accepted, "desk-1": replace(last.accepted["desk-1"], sequence=1)}
    more = {**last.accepted, "desk-1": replace(last.accepted["desk-1"], sequence=99)}
    forger = KeySigner(gateway.key_id, room.signer("desk-1").private_key)
    damaged = two[1][:-1] + bytes([two[1][-1] ^ 1])
    history = replace(last, prev=digest(b"another history"))
    missing, order = LogFinding.ROUND_MISSING, LogFinding.ROUND_OUT_OF_ORDER
    return {
        "whole": ([one, two, three], None, None),
        "whole, with a newer grant": ([one, two], held, None),
        "cut at its end": ([one], held, LogFinding.CUT_AT_END),
        "its beginning cut off": ([two, three], None, LogFinding.START_MISSING),
        "a link dropped": ([one, [two[0], *two[2:]], three], None, Verdict.WRONG_PREVIOUS),
        "a round's last link dropped": ([one, two[:-1], three], None, Verdict.WRONG_PREVIOUS),
        "two links swapped": ([one, [two[0], two[2], two[1], two[3]]], None, Verdict.WRONG_PREVIOUS),
        "a round dropped": ([one, three], None, missing),
        "two rounds swapped": ([one, three, two], None, order),
        "a round twice": ([one, two, two, three], None, order),
        "a link of the round before": ([one, [*two[:3], one[3]], three], None, Verdict.STALE_ROUND),
        "a link altered": ([one, [two[0], damaged, *two[2:]], three], None, Verdict.BAD_SIGNATURE),
        "a grant by another key": ([one, two], sign_grant(last, forger), Verdict.BAD_SIGNATURE),
        "another key, and the chain goes on": (
            [[sign_grant(log[0].grant, forger), *_links(sign_grant(log[0].grant, forger), log[0].grant, room)]],
            None,
            LogFinding.RESEALED,
        ),
        "a grant of another history": ([one, two], sign_grant(history, gateway), Verdict.WRONG_PREVIOUS),
        "a grant that acknowledges less": (
            [one, two],
            sign_grant(replace(last, accepted=less), gateway),
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
        ),
        "a grant that acknowledges more": (
            [one, two],
            sign_grant(replace(last, accepted=more), gateway),
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
        ),
        "a link in a grant's place": ([one, [two[1]]], None, Verdict.WRONG_KIND),
    }


def _log(room: Room) -> list[Closed]:
    log: list[Closed] = []
    accepted: dict[str, Accepted] = {}
    prev = NO_PREVIOUS
    for number in range(1, ROUNDS + 1):
        place = (room.roster.room, room.line, room.roster.epoch, number)
        grant = Grant(*place, SIGNERS, dict(accepted), prev, 1_800_000_000_000 + number, 450)
        raw = sign_grant(grant, room.signer(room.roster.gateway.gateway))
        links = _links(raw, grant, room)
        log.append(Closed(grant, raw, links))
        accepted = {unit: Accepted(1, 1, number) for unit in SIGNERS}
        prev = digest(links[-1])
    return log


def _links(raw: bytes, grant: Grant, room: Room) -> tuple[bytes, ...]:
    """A link of each signer on that grant."""
    links: list[bytes] = []
    flags = LinkFlag.SESSION_KNOWN if grant.accepted else LinkFlag.NONE
    entry = Entry(1, grant.round, bytes([grant.round]) * sealed_bytes(room.roster.suite))
    for unit in SIGNERS:
        head = digest(links[-1] if links else raw)
        link = Link(grant.room, grant.line, grant.epoch, grant.round, unit, 1, (entry,), head, flags)
        links.append(sign_link(link, room.signer(unit)))
    return tuple(links)
