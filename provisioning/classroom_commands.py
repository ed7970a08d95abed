"""`moodline-provision plan`, `seeds` and `stickers`: a whole classroom from one CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import ConfigError
from provisioning import keys
from provisioning.book import Entry, read_book
from provisioning.certificates import Role, now_utc
from provisioning.classroom import Classroom, Desk, ask_classroom, read_classroom, write_classroom, write_template
from provisioning.enrolment_messages import REGISTRAR_PORT
from provisioning.registration import RegistrarFolder
from provisioning.seeds import Outcome, Place, SeedPlan, make_seeds, members_of, write_seeds
from provisioning.services import STATE_ROOT

EXIT_OK: Final = 0
EXIT_FINDING: Final = 1
EXITS: Final = "Exit codes: 0 done; 1 some seeds have expired; 2 it cannot be done."
DAYS: Final = 14
LONGEST_DAYS: Final = 90
#: A plan is drawn on the terminal when it is not wider than this, in characters.
DRAWN_WIDTH: Final = 120

_WORDS: Final = {
    Outcome.MADE: "new seed",
    Outcome.KEPT: "seed of before",
    Outcome.EXPIRED: "EXPIRED",
    Outcome.USED: "has a box",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-commands; each sets `command`, which returns the exit code."""
    plan = _command(commands, "plan", "check a room's CSV, or make one from two questions, and show the room")
    _add_csv(plan)
    plan.add_argument("--out", type=Path, metavar="FILE", help="write the plan as a CSV that names every unit")
    plan.add_argument("--template", type=Path, metavar="FILE", help="write an example CSV to be filled in, and stop")
    plan.set_defaults(command=_plan)

    seeds = _command(commands, "seeds", "make seed files for the cards of all desks, and the registrar's seats")
    _add_folders(seeds, "its book is compared, too; no key is needed")
    _add_csv(seeds)
    seeds.add_argument(
        "--gateway",
        action="append",
        required=True,
        metavar="HOST",
        help="name or address of the gateway; may be given several times, tried in turn",
    )
    seeds.add_argument(
        "--port", type=int, default=REGISTRAR_PORT, help=f"the registrar's port (default {REGISTRAR_PORT})"
    )
    seeds.add_argument(
        "--days",
        type=int,
        default=DAYS,
        help=f"how long the seeds can be used (default {DAYS}, at most {LONGEST_DAYS})",
    )
    seeds.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for each desk is made there")
    seeds.add_argument(
        "--renew",
        nargs="*",
        metavar="UNIT",
        help="make new tokens for these units (all, when none is named) that no box has used; their old cards are void",
    )
    seeds.set_defaults(command=_seeds)

    stickers = _command(commands, "stickers", "make sheets of QR stickers: 24 a page of 70 x 37 mm, without any secret")
    _add_folders(stickers, "read instead of the registrar's; no key is needed")
    _add_csv(stickers, without="without it, the desks that are known there")
    stickers.add_argument("--out", type=Path, required=True, metavar="DIR", help="stickers.html prints all pages")
    stickers.add_argument("--keys", action="store_true", help="add the digest of the key to units whose box is known")
    stickers.add_argument("--skip", type=int, default=0, help="labels of the first page that are used up (default 0)")
    stickers.set_defaults(command=_stickers)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", epilog=EXITS)


def _add_folders(parser: argparse.ArgumentParser, why: str) -> None:
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", help=f"the room authority's folder, if it is here: {why}"
    )
    parser.add_argument(
        "--registrar",
        type=Path,
        default=Path(STATE_ROOT) / "registrar",
        metavar="DIR",
        help="the registrar's folder (default %(default)s)",
    )


def _add_csv(parser: argparse.ArgumentParser, without: str = "without it, two questions are asked") -> None:
    columns = "desk, line, and if wanted unit, row, column"
    parser.add_argument("--csv", type=Path, metavar="FILE", help=f"the room's desks ({columns}); {without}")
    parser.add_argument(
        "--lines",
        type=lambda text: tuple(text.split(",")),
        metavar="a,b",
        help="the room's lines; any other is a fault",
    )


def _classroom(options: argparse.Namespace) -> Classroom:
    if options.csv is not None:
        return read_classroom(options.csv, lines=options.lines)
    if not sys.stdin.isatty():
        raise ConfigError("No plan of the room.", next_step="Give --csv, or run it in a terminal and be asked.")
    return ask_classroom(input)


def _plan(options: argparse.Namespace) -> int:
    if options.template is not None:
        write_template(options.template)
        print(f"{options.template}: fill it in, then run: moodline-provision plan --csv {options.template}")
        return EXIT_OK
    room = _classroom(options)
    for line, desks in room.lines.items():
        print(f"line {line}: {_count(len(desks), 'desk')}, {desks[0].unit} to {desks[-1].unit}")
    drawn = draw(room)
    if drawn:
        print(f"\n{drawn}")
    if options.out is not None:
        write_classroom(options.out, room)
        print(f"\n{options.out}: written; keep it, it names every unit.")
    return EXIT_OK


def draw(room: Classroom) -> str:
    """The desks as they stand in the room, by their units; "" when they have no places or the room is too wide."""
    if not room.places:
        return ""
    cells = {place: unit for unit, place in room.places.items()}
    rows, columns = (range(min(axis), max(axis) + 1) for axis in zip(*cells, strict=True))
    width = max(map(len, cells.values())) + 2
    if width * len(columns) > DRAWN_WIDTH:
        return ""
    lines = ["".join(cells.get((row, column), "").ljust(width) for column in columns).rstrip() for row in rows]
    return "\n".join(["(board)".center(width * len(columns)).rstrip(), *lines])


def _seeds(options: argparse.Namespace) -> int:
    room = _classroom(options)
    if not 1 <= options.days <= LONGEST_DAYS or not 0 < options.port < 65_536:
        raise ConfigError(
            f"Seeds for {options.days} days, port {options.port}.",
            next_step=f"Give 1 to {LONGEST_DAYS} days and a port from 1 to 65535.",
        )
    folder = RegistrarFolder(options.registrar)
    now = now_utc()
    renew = room.names if options.renew == [] else options.renew or ()
    plan = SeedPlan(
        room=folder.settings.room,
        registrar_digest=folder.digest,
        gateway=tuple(dict.fromkeys(options.gateway)),
        port=options.port,
        expires=now + timedelta(days=options.days),
        renew=frozenset(renew),
    )
    members = members_of(folder.trust().roster)
    if options.folder is not None:
        members = _members_in(options.folder, plan.room)
    with folder.claims() as claims:
        places = make_seeds(room, plan, claims.book.seats, members, now=now)
        for place in places:
            if place.seed is not None and place.seat is not None:
                claims.add_seat(place.seat)
        # The book is written when all files are: cut off here, the next run finds no seats and makes them anew.
        files = write_seeds(options.out, room, places)
    _print_seeds(places, files)
    return EXIT_FINDING if any(place.outcome is Outcome.EXPIRED for place in places) else EXIT_OK


def _members_in(folder: Path, room: str) -> tuple[Entry, ...]:
    book = read_book(folder)
    if book.room != room:
        raise ConfigError(
            f"{folder}: is the authority of room {book.room}, not of {room}.", next_step="Give another folder."
        )
    return tuple(book.members)


def _print_seeds(places: Sequence[Place], files: Mapping[str, Path]) -> None:
    rows = [("desk", "line", "unit", "", "until", "file")]
    for place in places:
        until = ""
        if place.seat is not None and place.outcome is not Outcome.USED:
            until = f"{datetime.fromtimestamp(place.seat.expires_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
        file = files.get(place.desk.unit)
        rows.append(
            (place.desk.name, place.desk.line, place.desk.unit, _WORDS[place.outcome], until, str(file) if file else "")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    counts = {outcome: sum(place.outcome is outcome for place in places) for outcome in Outcome}
    print()
    print(", ".join(f"{count} {_WORDS[outcome]}" for outcome, count in counts.items() if count))
    if files:
        print("Copy each file to the boot partition of its desk's card, then delete it here: it holds a secret.")
    if counts[Outcome.EXPIRED]:
        print("Give the expired ones a new seed: run it again with --renew and their units.")


@dataclass(frozen=True)
class _Known:
    """What a folder knows of its room: desks, and the keys of boxes by unit."""

    room: str
    desks: tuple[Desk, ...]
    keys: Mapping[str, bytes]


def _known_in(authority: Path | None, registrar: Path) -> _Known:
    planned: tuple[Desk, ...] = ()
    if authority is not None:
        book = read_book(authority)
        room, members, desks = book.room, tuple(book.members), {entry.name: entry.desk for entry in book.members}
    else:
        folder = RegistrarFolder(registrar)
        with folder.claims() as claims:
            seats = tuple(claims.book.seats)
        room, members = folder.settings.room, members_of(folder.trust().roster)
        desks = {seat.unit: seat.desk for seat in seats}
        planned = tuple(Desk(seat.desk, seat.line, seat.unit) for seat in seats)
    units = [entry for entry in members if entry.role is Role.UNIT and not entry.revoked]
    living = tuple(Desk(desks.get(unit.name) or unit.name, unit.line or "", unit.name) for unit in units)
    dead = {entry.name for entry in members if entry.revoked}
    taken = {desk.unit for desk in living} | dead
    free = tuple(desk for desk in planned if desk.unit not in taken)
    return _Known(room, (*living, *free), {unit.name: unit.key for unit in units})


def _stickers(options: argparse.Namespace) -> int:
    # Here, so that boxes that print nothing need no QR library.
    from provisioning.stickers import Sticker, write_stickers

    known = _known_in(options.folder, options.registrar)
    desks = known.desks if options.csv is None else read_classroom(options.csv, lines=options.lines).desks
    found = known.keys if options.keys else {}
    stickers = [
        Sticker(
            known.room,
            desk.name,
            desk.line,
            desk.unit,
            keys.key_digest(Ed25519PublicKey.from_public_bytes(found[desk.unit])) if desk.unit in found else None,
        )
        for desk in desks
    ]
    *pages, html = write_stickers(options.out, stickers, skip=options.skip)
    with_key = sum(sticker.key is not None for sticker in stickers)
    sheets, printed = _count(len(pages), "page"), _count(len(stickers), "sticker")
    print(f"{printed} on {sheets}, {with_key} with the digest of their box's key: {html}")
    print("Print it from a browser: A4, no margins, scale 100 %; or save it there as PDF.")
    return EXIT_OK


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
