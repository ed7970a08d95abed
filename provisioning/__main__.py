"""`moodline-provision`: the room's life from founding to decommissioning. Exit code 0, 1 for a finding, or 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device.errors import MoodlineError
from provisioning import (
    authority_commands,
    classroom_commands,
    demo_room,
    gateway_commands,
    install_commands,
    registrar_commands,
)
from provisioning.authority_commands import SUITE_NAMES, add_suite
from provisioning.mosquitto import free_port

EXIT_REFUSED: Final = 2
ORDER: Final = """\
From a bare room to labels:
  init, policy        the room authority's keys, and what the room may do
  plan                the desks, from a CSV
  gateway             this machine becomes the gateway; install writes its services
  seeds, stickers     one file for each card, one sticker for each box
  claims, accept      who waits, and letting them in
  show                what the room authority has signed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except MoodlineError as error:
        print(f"moodline-provision: {error}", file=sys.stderr)
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moodline-provision",
        description=ORDER,
        epilog="docs/provisioning.md tells the whole way. Keep the room authority's folder offline.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (
        authority_commands,
        classroom_commands,
        gateway_commands,
        registrar_commands,
        install_commands,
    ):
        module.add(commands)
    demo = commands.add_parser(
        "demo-room", help="build a whole room on this machine: broker, gateway, units that replay recordings"
    )
    demo.add_argument("folder", type=Path, metavar="FOLDER")
    demo.add_argument("--takes", type=Path, required=True, help="folder of take folders to replay (tools/takes)")
    demo.add_argument("--units", type=int, default=4, help="units on the line (default 4)")
    demo.add_argument("--port", type=int, default=8_883, help="the broker's port; 0 takes a free one (default 8883)")
    demo.add_argument("--web-port", type=int, default=8_080, help="the page's port; 0 takes a free one (default 8080)")
    demo.add_argument("--intruder", action="store_true", help="admit a client that stages a dishonest broker")
    add_suite(demo)
    demo.set_defaults(command=_demo_room)
    return parser


def _demo_room(options: argparse.Namespace) -> int:
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
    return 0


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
