"""`moodline-provision` at the registrar: see who waits, accept or reject a code, open the claim window, publish."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from device.config import Broker
from device.errors import ConfigError
from device.system.clock import SystemClock
from provisioning.authority import RoomAuthority
from provisioning.authority_commands import add_passphrase, open_authority
from provisioning.broker import Member
from provisioning.claims import Claims, Seat, SeatState
from provisioning.enrolment_messages import readable
from provisioning.eviction import Evictor
from provisioning.registrar import broker_of, open_office
from provisioning.registration import RegistrarFolder, admit
from provisioning.services import STATE_ROOT

EXITS: Final = "Exit codes: 0 done; 2 it cannot be done."
MINUTE_S: Final = 60
_WORDS: Final = {
    SeatState.UNUSED: "no box yet",
    SeatState.BOUND: "waits for the room authority",
    SeatState.ADMITTED: "enrolled",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add claims, accept, reject, release, window and publish."""
    claims = _command(commands, "claims", "show which boxes wait for an operator, and who has which seat")
    claims.set_defaults(command=_claims)

    accept = _command(commands, "accept", "give the box that shows CODE a seat, and admit it if the authority is given")
    accept.add_argument(
        "code", nargs="?", metavar="CODE", help="six characters; without it all bound seats are admitted"
    )
    accept.add_argument("--unit", metavar="UNIT", help="the box's name in the room, such as b4")
    accept.add_argument("--line", metavar="LINE", help="its line, for a place that has no seat yet")
    accept.add_argument("--desk", metavar="DESK", help="its desk's name for people; the unit's name if left out")
    accept.add_argument("--replaces", metavar="UNIT", help="the unit whose place it takes; that one is revoked")
    _add_authority(accept, required=False)
    accept.set_defaults(command=_accept)

    reject = _command(commands, "reject", "refuse the box that shows CODE")
    reject.add_argument("code", metavar="CODE")
    reject.set_defaults(command=_reject)

    release = _command(commands, "release", "take a seat back from a box that was not admitted yet")
    release.add_argument("unit", metavar="UNIT")
    release.set_defaults(command=_release)

    window = _command(commands, "window", "let boxes without a seed file come for a while, or no more")
    window.add_argument("state", choices=("open", "close"))
    window.add_argument("--minutes", type=int, default=60, help="how long it stays open (default 60)")
    window.set_defaults(command=_window)

    publishing = _command(commands, "publish", "carry the room authority's changes to registrar, gateway and broker")
    _add_authority(publishing, required=True)
    publishing.set_defaults(command=_publish)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", epilog=EXITS)
    parser.add_argument(
        "--registrar",
        type=Path,
        default=Path(STATE_ROOT) / "registrar",
        metavar="DIR",
        help="the registrar's folder (default %(default)s)",
    )
    return parser


def _add_authority(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--authority", type=Path, required=required, metavar="DIR", help="the room authority's folder")
    add_passphrase(parser)


def _authority(options: argparse.Namespace) -> RoomAuthority:
    return open_authority(argparse.Namespace(folder=options.authority, passphrase_file=options.passphrase_file))


def _claims(options: argparse.Namespace) -> int:
    folder, now_ms = RegistrarFolder(options.registrar), SystemClock().wall_ms()
    with folder.claims() as claims:
        book, waiting, is_open = claims.book, claims.waiting(now_ms), claims.window_open(now_ms)
    until = f"open until {_moment(book.window_until_ms)}" if is_open else "closed"
    print(f"The claim window of room {folder.settings.room} is {until}.")
    for claim in waiting:
        box = readable(f"{claim.model}, serial {claim.serial or 'unknown'}")
        print(f"{claim.code}  {box}, from {claim.address}")
    if waiting:
        print("Compare the code with the box, then: moodline-provision accept CODE --unit UNIT")
    else:
        print("No box waits for an operator.")
    for seat in book.seats:
        print(f"{seat.unit:<12} line {seat.line:<12} {seat.desk:<24} {_seat_state(folder, seat, now_ms)}")
    return 0


def _seat_state(folder: RegistrarFolder, seat: Seat, now_ms: int) -> str:
    if seat.unit in folder.trust().roster.revoked:
        return "REVOKED"
    if seat.state is SeatState.UNUSED and seat.expires_ms <= now_ms:
        return "no box yet; its seed has EXPIRED"
    return _WORDS[seat.state]


def _accept(options: argparse.Namespace) -> int:
    folder = RegistrarFolder(options.registrar)
    with folder.claims() as claims:
        if options.code is not None:
            bound = [_accepted(claims, options)]
        else:
            bound = [seat for seat in claims.book.seats if seat.state is SeatState.BOUND]
    if options.authority is None:
        for seat in bound:
            print(f"{seat.unit} has its box, which waits until the room authority admits it (--authority).")
        return 0
    authority = _authority(options)
    office = open_office(authority, folder)
    for seat in bound:
        admitted = admit(folder, office, seat)
        print(f"{admitted.unit} is enrolled: line {admitted.line}, {admitted.desk}.")
    if not bound:
        print("No box waits for the room authority.")
    if any(seat.replaces is not None for seat in bound):
        _put_out(authority, folder)
    return 0


def _accepted(claims: Claims, options: argparse.Namespace) -> Seat:
    if options.unit is None:
        raise ConfigError("Which place shall the box have?", next_step="Give --unit, and --line for a new place.")
    return claims.accept(
        options.code,
        unit=options.unit,
        line=options.line,
        desk=options.desk,
        replaces=options.replaces,
        wall_ms=SystemClock().wall_ms(),
    )


def _reject(options: argparse.Namespace) -> int:
    with RegistrarFolder(options.registrar).claims() as claims:
        claim = claims.reject(options.code, wall_ms=SystemClock().wall_ms())
    print(f"{claim.code} is rejected; its box is told so.")
    return 0


def _release(options: argparse.Namespace) -> int:
    with RegistrarFolder(options.registrar).claims() as claims:
        seat = claims.release(options.unit)
    print(f"{seat.unit} is free again; a seed that was made for it is of no use any more.")
    return 0


def _window(options: argparse.Namespace) -> int:
    with RegistrarFolder(options.registrar).claims() as claims:
        if options.state == "open":
            claims.open_window(options.minutes * MINUTE_S, wall_ms=SystemClock().wall_ms())
            print(f"Boxes without a seed file may come until {_moment(claims.book.window_until_ms)}.")
        else:
            claims.close_window()
            print("Boxes without a seed file are turned away.")
    return 0


def _publish(options: argparse.Namespace) -> int:
    folder, authority = RegistrarFolder(options.registrar), _authority(options)
    open_office(authority, folder)
    places = folder.places
    told = [str(place) for place in (places.registrar, places.gateway, places.broker) if place is not None]
    print(f"Roster of epoch {folder.trust().roster.epoch} stands in: {', '.join(told)}")
    _put_out(authority, folder)
    return 0


def _put_out(authority: RoomAuthority, folder: RegistrarFolder) -> None:
    """End the open sessions of everybody that is revoked, where the broker can be told, after a publication."""
    settings, broker = folder.settings, broker_of(folder.settings)
    revoked = [Member(entry.name, entry.role, entry.line, entry.reads) for entry in authority.members if entry.revoked]
    if broker is None or settings.broker is None or not revoked:
        return
    address = Broker(
        host=settings.broker_host or "127.0.0.1", port=settings.broker_port, server_name=settings.broker_name
    )
    Evictor(authority.ca, address, settings.broker, broker.reload).put_out(revoked)
    for member in revoked:
        print(f"{member.name} is put out of the broker.")


def _moment(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
