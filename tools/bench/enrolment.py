"""How long it takes from plugging a box in to its first verified label, and for a whole classroom at once.

    python -m tools.bench.enrolment --units 40

A room is brought up from nothing (tools/bench/fresh_room.py). First some boxes are plugged in one after the other, each
measured from the start of `moodline-box enrol` until its first verified label reaches a consumer: enrolment, the desk
program's start, models loaded and tried, the first round. Then all others are plugged in at the same moment, each a
process of its own on this one machine, and measured until the last is enrolled.

Exit codes: 0 all enrolled; 1 some box was not; 2 the room could not be brought up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from tqdm import tqdm

from device.errors import MoodlineError
from provisioning.authority_files import read_roster_file
from tools.bench.__main__ import show
from tools.bench.fresh_room import FreshRoom, FreshRoomError
from tools.bench.measurement import Measurement

AT_ONCE_S = 300.0


def one_by_one(folder: Path, units: int) -> list[Measurement]:
    """Boxes plugged in one after the other. Raises FreshRoomError when one does not come in."""
    with FreshRoom(folder, units) as room:
        began = time.monotonic()
        room.found()
        founded_s = time.monotonic() - began
        room.start()
        room.listen()
        enrolled: list[float] = []
        labelled: list[float] = []
        for unit in tqdm(room.units, desc="boxes one by one", unit="box", leave=False):
            began = time.monotonic()
            room.wait(room.enrol(unit))
            enrolled.append(time.monotonic() - began)
            program = room.start_unit(unit)
            labelled.append(room.first_labels([unit])[unit] - began)
            program.stop()
    return [
        Measurement(name="a room founded, set up and seeded, by commands", value=founded_s, unit="s"),
        Measurement(
            name=f"box plugged in until enrolled, median of {units}", value=statistics.median(enrolled), unit="s"
        ),
        Measurement(
            name=f"box plugged in until first verified label, median of {units}",
            value=statistics.median(labelled),
            unit="s",
        ),
        Measurement(name="the same, longest", value=max(labelled), unit="s"),
    ]


def at_once(folder: Path, units: int) -> list[Measurement]:
    """Boxes plugged in at the same moment. Raises FreshRoomError when one does not come in."""
    with FreshRoom(folder, units) as room:
        room.found()
        room.start()
        began = time.monotonic()
        plugged_in = [room.enrol(unit, wait_s=AT_ONCE_S) for unit in room.units]
        for box in tqdm(plugged_in, desc="boxes at once", unit="box", leave=False):
            room.wait(box, within_s=AT_ONCE_S)
        taken_s = time.monotonic() - began
        roster = read_roster_file(folder / "authority")
    lost = set(room.units) - {unit.unit for unit in roster.units_of("b")}
    return [
        Measurement(name=f"{units} boxes plugged in at once, until the last was enrolled", value=taken_s, unit="s"),
        Measurement(
            name="boxes of those that are not on the roster",
            value=len(lost),
            unit="boxes",
            goal="none",
            met=not lost,
        ),
        Measurement(name="epochs of the roster that this took", value=roster.epoch - 1, unit="epochs"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.enrolment", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--units", type=int, default=40, metavar="N", help="boxes at once (default 40)")
    parser.add_argument("--alone", type=int, default=5, metavar="N", help="boxes before, one by one (default 5)")
    options = parser.parse_args(arguments)
    if options.units < 1 or options.alone < 1:
        parser.error("--units and --alone count from 1")
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                *one_by_one(Path(folder) / "alone", options.alone),
                *at_once(Path(folder) / "together", options.units),
            ]
    except FreshRoomError as error:
        print(f"enrolment: {error}", file=sys.stderr)
        return 1
    except MoodlineError as error:
        print(f"enrolment: {error}", file=sys.stderr)
        return 2
    show(rows, Console())
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
