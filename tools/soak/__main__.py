"""`make soak`: real units killed at random on a real broker, and an audit of what is left.

Exit codes: 0 every promise was kept, 1 one was not or a program ended by itself, 2 cannot run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from tqdm import tqdm

from device.errors import MoodlineError
from tools.demo.programs import ProgramError
from tools.soak.kills import KillPlan, run_kills
from tools.soak.line import LinePlan, run_line
from tools.soak.report import Report, show

KEPT, BROKEN, CANNOT_RUN = 0, 1, 2
FILE_COLUMNS = 160


def _kills(options: argparse.Namespace, folder: Path) -> Report:
    plan = KillPlan(
        folder=folder,
        kills=options.kills,
        units=options.units or KillPlan.units,
        spill_after_s=options.spill_after,
        seed=options.seed,
    )
    with tqdm(total=plan.kills, unit="kill", desc="kills", disable=None) as bar:
        return run_kills(plan, bar.update)


def _line(options: argparse.Namespace, folder: Path) -> Report:
    plan = LinePlan(folder=folder, units=options.units or LinePlan.units, seconds=options.seconds, seed=options.seed)
    with tqdm(total=round(plan.seconds), unit="s", desc="line", disable=None) as bar:
        return run_line(plan, bar.update)


RUNS: dict[str, Callable[[argparse.Namespace, Path], Report]] = {"kills": _kills, "line": _line}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description="Kills real units at random (-9) on a real mosquitto and a real gateway, and then compares the"
        " gateway's store, the wire and the units' own logs: nothing acknowledged is lost, no number is used twice.",
        epilog="Exit codes: 0 every promise was kept, 1 one was not or a program ended by itself, 2 cannot run."
        " The seed fixes what is done to whom; the moments are the machine's.",
    )
    parser.add_argument(
        "run",
        nargs="?",
        choices=[*RUNS, "all"],
        default="all",
        help="kills: many short lives, gateway and broker away in turn. line: a line of which any number but all is"
        " dead, checked for pauses and delay. Default: %(default)s",
    )
    parser.add_argument("--kills", type=_count, default=KillPlan.kills, help="kills: how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=LinePlan.seconds, help="line: how long (default: %(default)s)")
    parser.add_argument(
        "--units", type=_count, help=f"units on the line (default: kills {KillPlan.units}, line {LinePlan.units})"
    )
    parser.add_argument(
        "--spill-after",
        type=float,
        default=KillPlan.spill_after_s,
        metavar="S",
        help="kills: the room's limit spill_after_ms, in seconds (default: %(default)s, so that short lives spill)",
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reports there, too")
    parser.add_argument("--folder", type=Path, help="keep rooms and logs there (default: a temporary folder)")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("at least 1")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for and report."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="moodline-soak-"))
    names = list(RUNS) if options.run == "all" else [options.run]
    reports = []
    try:
        for name in names:
            reports.append(RUNS[name](options, folder / name))
            show(reports[-1], console)
    except ProgramError as error:
        print(f"soak: {error}", file=sys.stderr)
        return BROKEN
    except MoodlineError as error:
        print(f"soak: {error}", file=sys.stderr)
        return CANNOT_RUN
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    passed = all(report.passed for report in reports)
    if passed and options.folder is None:
        shutil.rmtree(folder)
    else:
        console.print(f"Rooms and logs are kept in {folder}", highlight=False)
    return KEPT if passed else BROKEN


if __name__ == "__main__":
    sys.exit(main())
