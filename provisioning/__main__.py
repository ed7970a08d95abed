"""`moodline-provision`: found a room, build a demo room, show and revoke. Exit code 0, or 2 when it cannot be done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from device.errors import MoodlineError
from device.messages.sealing import HYBRID, X25519
from provisioning import demo_room
from provisioning.authority import RoomAuthority, read_policy_file, read_roster_file
from provisioning.keys import read_passphrase
from provisioning.mosquitto import free_port

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 2
SUITE_NAMES: Final = {"x25519": X25519, "hybrid": HYBRID}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except MoodlineError as error:
        print(f"moodline-provision: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moodline-provision",
        description="Room authority: who belongs to a room, and what the room may do. Keep its folder offline.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a room authority's keys in FOLDER")
    init.add_argument("folder", type=Path, metavar="FOLDER")
    init.add_argument("--room", required=True, help="small letters, digits and dashes")
    _add_suite(init)
    _add_passphrase(init)
    init.set_defaults(command=_init)

    demo = commands.add_parser(
        "demo-room", help="build a whole room on this machine: broker, gateway, units that replay recordings"
    )
    demo.add_argument("folder", type=Path, metavar="FOLDER")
    demo.add_argument("--takes", type=Path, required=True, help="folder of take folders to replay (tools/takes)")
    demo.add_argument("--units", type=int, default=4, help="units on the line (default 4)")
    demo.add_argument("--port", type=int, default=8_883, help="the broker's port; 0 takes a free one (default 8883)")
    demo.add_argument("--web-port", type=int, default=8_080, help="the page's port; 0 takes a free one (default 8080)")
    demo.add_argument("--intruder", action="store_true", help="admit a client that stages a dishonest broker")
    _add_suite(demo)
    demo.set_defaults(command=_demo_room)

    show = commands.add_parser("show", help="verify and print the roster and the policy; needs no private key")
    show.add_argument("folder", type=Path, metavar="FOLDER", help="the authority's folder")
    show.set_defaults(command=_show)

    revoke = commands.add_parser("revoke", help="put a unit or consumer out: new roster and revocation list")
    revoke.add_argument("folder", type=Path, metavar="FOLDER", help="the authority's folder")
    revoke.add_argument("name", metavar="NAME")
    _add_passphrase(revoke)
    revoke.set_defaults(command=_revoke)
    return parser


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--suite",
        choices=sorted(SUITE_NAMES),
        help="how labels are sealed: x25519, or hybrid (with ML-KEM-768, against later quantum computers; a room keeps"
        " its suite; default x25519)",
    )


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, help="file whose first line encrypts the authority's keys (mode 600)"
    )


def _passphrase(options: argparse.Namespace) -> bytes | None:
    return read_passphrase(options.passphrase_file) if options.passphrase_file is not None else None


def _init(options: argparse.Namespace) -> None:
    passphrase = _passphrase(options)
    authority = RoomAuthority.found(options.folder, options.room, passphrase, suite=SUITE_NAMES.get(options.suite))
    print(f"Room authority of {authority.room}: {options.folder}")
    if passphrase is None:
        print("Its keys are NOT encrypted: use --passphrase-file for a real room.")
    print("Keep this folder offline; whoever has its keys decides who belongs to the room.")


def _demo_room(options: argparse.Namespace) -> None:
    takes = sorted(folder for folder in _folders_in(options.takes) if (folder / "take.toml").exists())
    plan = demo_room.DemoPlan(
        takes=takes,
        units=options.units,
        port=options.port or free_port(),
        web_port=options.web_port or free_port(),
        intruder=options.intruder,
        suite=SUITE_NAMES[options.suite or "x25519"],
    )
    room = demo_room.build(options.folder, plan)
    print(f"Demo room {plan.room}, line {plan.line}: {', '.join(room.units)} on {len(takes)} takes")
    print(f"policy   {demo_room.APPROVED_BY}")
    print(f"broker   mosquitto -c {room.broker / 'mosquitto.conf'}   (port {plan.port})")
    print(f"gateway  moodline-gateway --config {room.gateway_config}")
    for name in room.units:
        print(f"unit     moodline-unit --config {room.unit_config(name)}")


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _show(options: argparse.Namespace) -> None:
    roster = read_roster_file(options.folder)
    print(f"room {roster.room}, epoch {roster.epoch}, signature good")
    print(f"gateway  {roster.gateway.gateway}")
    print(f"sealing  suite {roster.suite:d} ({roster.suite.name})")
    for line, units in roster.lines.items():
        for unit in units:
            state = "REVOKED" if unit.unit in roster.revoked else f"since epoch {unit.since}"
            print(f"line {line}   {unit.unit}  key {unit.key.hex()[:16]}…  {state}")
    policy = read_policy_file(options.folder)
    ends = datetime.fromtimestamp(policy.not_after_ms / 1_000, UTC)
    print(
        f"policy   {policy.mode.value} for {policy.purpose.value} in {policy.setting.value} ({policy.jurisdiction}),"
        f" groups from {policy.min_group}, retention {policy.retention_days} d, until {ends:%Y-%m-%d}"
    )
    print(f"approved by: {policy.approved_by}")


def _revoke(options: argparse.Namespace) -> None:
    authority = RoomAuthority.open(options.folder, _passphrase(options))
    authority.revoke(options.name)
    roster = authority.publish()
    print(f"{options.name} is revoked from epoch {roster.epoch} on.")
    print("Now give the new roster to the gateway, and the broker its new access and revocation lists.")


if __name__ == "__main__":
    sys.exit(main())
