"""Seed files for all cards of a classroom at once, and the seats that the registrar keeps for them.

A seat that a box has taken is never touched. One that no box has taken yet keeps its token, of which only the digest is
known here, unless a new one is asked for: then the old card is of no use any more.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from device.messages.roster import Roster
from provisioning import boxes
from provisioning.book import Entry
from provisioning.certificates import Role
from provisioning.claims import Seat, SeatState, token_digest
from provisioning.classroom import Classroom, Desk
from provisioning.enrolment_messages import REGISTRAR_PORT
from provisioning.seed_file import HOSTS, SEED_FILE, Seed, write_seed

TOKEN_OCTETS: Final = 16
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
FAULTS_SHOWN: Final = 20


class Outcome(StrEnum):
    """What became of a desk."""

    MADE = "made"
    KEPT = "kept"
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """What all seeds of a run have in common. `registrar_digest` is 32 bytes; `renew` are units that get a new token
    although no box has used the old one."""

    room: str
    registrar_digest: bytes
    gateway: tuple[str, ...]
    port: int = REGISTRAR_PORT
    expires: datetime
    renew: Collection[str] = ()


@dataclass(frozen=True)
class Place:
    """One desk after a run: its seat (None when the room authority knows its box otherwise), and its seed if MADE."""

    desk: Desk
    outcome: Outcome
    seat: Seat | None
    seed: Seed | None = None


def new_token() -> str:
    """A claim token: 128 bits of the system's randomness, 26 small letters and digits (RFC 4648 base 32, unpadded)."""
    return base64.b32encode(secrets.token_bytes(TOKEN_OCTETS)).decode().rstrip("=").lower()


def make_seeds(
    classroom: Classroom,
    plan: SeedPlan,
    seats: Iterable[Seat],
    members: Iterable[Entry],
    *,
    now: datetime,
    token: Callable[[], str] = new_token,
) -> list[Place]:
    """Decide for every desk; nothing is written. `seats` are the registrar's, `members` the room authority's.

    Raises ConfigError, with every fault, when the classroom and what stands disagree, or the plan cannot be.
    """
    _check_plan(classroom, plan, now)
    by_unit = {seat.unit: seat for seat in seats}
    entries = {entry.name: entry for entry in members}
    faults = [fault for desk in classroom.desks for fault in _faults(desk, by_unit, entries, plan.renew)]
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:FAULTS_SHOWN])
        more = f"\n  and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise ConfigError(
            f"room {plan.room}: the plan does not fit what stands; nothing was made.{shown}{more}\n",
            next_step="`moodline-provision plan --out` writes a CSV that names every unit: keep one, and edit that.",
        )
    return [_place(desk, plan, by_unit.get(desk.unit), entries.get(desk.unit), now, token) for desk in classroom.desks]


def members_of(roster: Roster) -> tuple[Entry, ...]:
    """The units of a roster as members, without the names of their desks, which no roster has."""
    return tuple(
        Entry(
            name=unit.unit,
            role=Role.UNIT,
            key=unit.key,
            line=line,
            since=unit.since,
            revoked=unit.unit in roster.revoked,
        )
        for line, units in roster.lines.items()
        for unit in units
    )


def write_seeds(folder: Path, classroom: Classroom, places: Sequence[Place]) -> dict[str, Path]:
    """Write the seeds that were MADE, each into a folder with its desk's name, and return the files by unit.

    Folders and files are their owner's alone. Raises StorageError.
    """
    boxes.make_folder(folder)
    folders = classroom.folders
    files: dict[str, Path] = {}
    for place in places:
        if place.seed is not None:
            path = boxes.make_folder(folder / folders[place.desk.unit]) / SEED_FILE
            write_seed(path, place.seed)
            path.chmod(0o600)
            files[place.desk.unit] = path
    return files


def _place(
    desk: Desk, plan: SeedPlan, seat: Seat | None, member: Entry | None, now: datetime, token: Callable[[], str]
) -> Place:
    if member is not None or (seat is not None and seat.state is not SeatState.UNUSED):
        return Place(desk, Outcome.USED, seat)
    if seat is not None and seat.token_sha256 is not None and desk.unit not in plan.renew:
        expired = seat.expires_ms <= now.timestamp() * 1_000
        return Place(desk, Outcome.EXPIRED if expired else Outcome.KEPT, seat)
    seed = Seed(
        room=plan.room,
        gateway=plan.gateway,
        port=plan.port,
        registrar_digest=plan.registrar_digest,
        token=token(),
        unit=desk.unit,
        expires=plan.expires.replace(microsecond=0),
    )
    made = Seat(
        unit=desk.unit,
        line=desk.line,
        desk=desk.name,
        token_sha256=token_digest(seed.token),
        expires_ms=round(seed.expires.timestamp() * 1_000),
    )
    return Place(desk, Outcome.MADE, made, seed)


def _check_plan(classroom: Classroom, plan: SeedPlan, now: datetime) -> None:
    if not 1 <= len(plan.gateway) <= HOSTS:
        raise ConfigError(
            f"{len(plan.gateway)} addresses of the gateway.", next_step=f"Give 1 to {HOSTS} with --gateway."
        )
    for host in plan.gateway:
        if _HOST.fullmatch(host) is None:
            raise ConfigError(
                f"{host!r} is no host name or address.",
                next_step="Give it plain, as gateway.school.example or 10.0.0.5.",
            )
    if plan.expires <= now:
        raise ConfigError("The seeds would have expired already.", next_step="Give --days 1 or more.")
    strangers = sorted(set(plan.renew) - classroom.names.keys())
    if strangers:
        raise ConfigError(
            f"{', '.join(strangers)}: no unit of the plan.", next_step="Give units of the CSV to --renew."
        )


def _faults(
    desk: Desk, seats: Mapping[str, Seat], members: Mapping[str, Entry], renew: Collection[str]
) -> Iterable[str]:
    """What stands in the way of a desk, each with a way on."""
    member, seat = members.get(desk.unit), seats.get(desk.unit)
    wanted = f"{desk.name!r} on line {desk.line}"
    if member is not None and (member.role is not Role.UNIT or member.revoked):
        what = (
            "was revoked, and its name does not come back" if member.revoked else f"is the room's {member.role.value}"
        )
        yield f"{desk.unit}: {what}. Name the unit otherwise, in the column `unit`."
    elif member is not None and (member.line, _desk_of(member, seat) or desk.name) != (desk.line, desk.name):
        stands = f"{_desk_of(member, seat) or 'a desk'!r} on line {member.line}"
        yield f"{desk.unit}: stands at {stands}, not at {wanted}. Correct its row, or run: moodline-provision move"
    elif member is None and seat is not None and (seat.line, seat.desk) != (desk.line, desk.name):
        was = f"its seat is {seat.desk!r} on line {seat.line}, not {wanted}."
        if seat.state is not SeatState.UNUSED:
            yield f"{desk.unit}: {was} A box has it already: correct its row."
        elif desk.unit not in renew:
            yield f"{desk.unit}: {was} Correct its row, or give it a new card: --renew {desk.unit}"
    for other in members.values():
        if other.name != desk.unit and not other.revoked and (other.line, other.desk) == (desk.line, desk.name):
            yield f"{desk.unit}: {other.name} stands at {desk.name!r} already. Write {other.name} in the column `unit`."


def _desk_of(member: Entry, seat: Seat | None) -> str | None:
    return member.desk or (seat.desk if seat is not None and seat.key == member.key else None)
