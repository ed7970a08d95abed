"""`make bench`: every benchmark in one run; a table for people and build/bench.json for machines."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tools.bench.measurement import Measurement

OUT: Final = Path("build/bench.json")
FILE_COLUMNS: Final = 170


def _front_end() -> list[Measurement]:
    from tools.bench import front_end

    return front_end.measure()


def _inference() -> list[Measurement]:
    from tools.bench import inference

    return inference.measure()


def _line() -> list[Measurement]:
    from tools.bench import line

    return line.measure()


def _line_delay() -> list[Measurement]:
    from tools.bench import line_delay

    return line_delay.measure()


def _disk_writes() -> list[Measurement]:
    from tools.bench import disk_writes

    return disk_writes.measure()


def _sealing() -> list[Measurement]:
    from tools.bench import sealing

    return sealing.measure()


def _classroom() -> list[Measurement]:
    from tools.bench import classroom

    return classroom.measure()


PARTS: Final[dict[str, Callable[[], list[Measurement]]]] = {
    "front-end": _front_end,
    "inference": _inference,
    "line": _line,
    "sealing": _sealing,
    "line-delay": _line_delay,
    "disk-writes": _disk_writes,
    "classroom": _classroom,
}


class Machine(msgspec.Struct, frozen=True):
    """Where the numbers were taken."""

    processor: str
    cores: int
    python: str


def this_machine() -> Machine:
    """Processor, usable cores and Python of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return Machine(names[0] if names else platform.machine(), len(os.sched_getaffinity(0)), platform.python_version())


def show(rows: list[Measurement], console: Console) -> None:
    """The table for people."""
    table = Table(title="Moodline benchmarks")
    for name in ("measurement", "value", "peer or limit", "ratio", "goal", "met"):
        table.add_column(name, overflow="fold")
    for row in rows:
        peer = row.peer if row.peer_value is None else f"{row.peer}: {row.peer_value:.4g} {row.unit}"
        met = "" if row.met is None else "[green]yes[/green]" if row.met else "[red]no[/red]"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, f"{row.value:.4g} {row.unit}", peer, ratio, row.goal, met)
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for. A missed goal is reported, not an error; a benchmark that cannot run is one."""
    parser = argparse.ArgumentParser(prog="make bench", description="Ratios against named peers or limits in one run.")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="some parts only")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    rows: list[Measurement] = []
    for part in options.only:
        with console.status(f"Measuring {part} …"):
            rows += PARTS[part]()
    show(rows, console)
    machine = this_machine()
    console.print(f"{machine.processor}, {machine.cores} cores, Python {machine.python}; written to {options.out}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(
        msgspec.json.format(msgspec.json.encode({"machine": machine, "measurements": rows}), indent=2) + b"\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
