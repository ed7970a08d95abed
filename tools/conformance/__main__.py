"""`python -m tools.conformance`: hold an implementation of the line protocol against ours, vector by vector.

Exit codes: 0 it answers everything as ours does; 1 something differs, or a vector could not be asked; 2 the program or
the vectors cannot be used. docs/conformance.md describes the command-line protocol.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from tools.conformance import checks
from tools.conformance.cases import Row
from tools.conformance.door import Door
from tools.conformance.vectors import Vector, load

EXIT_SAME: Final = 0
EXIT_DIFFERENT: Final = 1
EXIT_UNUSABLE: Final = 2
VECTORS: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors"
FOLDERS: Final = ("line", "hybrid")
_SIGNS: Final = {True: "ok", False: "DIFFERS", None: "NOT RUN"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--implementation",
        metavar='"CMD …"',
        default=shlex.join([sys.executable, "-m", "tools.conformance.line"]),
        help="the program to ask, with its first arguments (default: our own, moodline-line)",
    )
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="folder of vectors (default: tests/vectors)")
    parser.add_argument(
        "--requests", action="store_true", help="print the first requests with their answers, as JSON lines, and end"
    )
    parser.add_argument(
        "--no-machines", action="store_true", help="leave out `play`, for a verifier or a part of a unit"
    )
    parser.add_argument("--quiet", action="store_true", help="print only what is not as it should be, and the sum")
    options = parser.parse_args(arguments)
    try:
        if options.requests:
            for case in checks.stored_cases(load_all(options.vectors)):
                asked = {"command": case.question.command, "request": case.question.request}
                print(json.dumps({"name": case.name, **asked, "exit": case.exit, "answer": case.answer}))
            return EXIT_SAME
        rows = run(Door(shlex.split(options.implementation)), options.vectors, machines=not options.no_machines)
    except ConfigError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    print_table(rows, quiet=options.quiet)
    return EXIT_SAME if all(row.same or row.left_out for row in rows) else EXIT_DIFFERENT


def run(door: Door, folder: Path = VECTORS, *, machines: bool = True) -> list[Row]:
    """Every case through the door. Raises ConfigError when program or vectors cannot be used."""
    vectors = load_all(folder)
    return [*checks.stored(vectors, door, machines=machines), *checks.unit(vectors, door), *checks.alone(vectors, door)]


def load_all(folder: Path = VECTORS) -> list[Vector]:
    """The vectors of all folders. Raises ConfigError when there are none."""
    return [vector for name in FOLDERS for vector in load(folder / name)]


def print_table(rows: Sequence[Row], *, quiet: bool) -> None:
    """One line per case, and the sum."""
    shown = [row for row in rows if not quiet or not (row.same or row.left_out)]
    group_width = max((len(row.group) for row in shown), default=0)
    name_width = max((len(row.name) for row in shown), default=0)
    for row in shown:
        said = row.wanted if row.same else f"wanted {row.wanted}; found {row.found}" if row.wanted else row.found
        sign = "LEFT OUT" if row.left_out else _SIGNS[row.same]
        print(f"{sign:8}  {row.group:{group_width}}  {row.name:{name_width}}  {said}")
    counts = Counter(row.same for row in rows)
    left_out = sum(row.left_out for row in rows)
    print(
        f"{counts[True]} as wanted, {counts[False]} different, {counts[None] - left_out} not run"
        + (f", {left_out} left out" if left_out else "")
    )


if __name__ == "__main__":
    sys.exit(main())
