"""`make run`: provisions a demo room, starts everything, shows verified labels live, stages an attack, sums up.

Exit codes: 0 all well; 1 no label verified, a staged attack not refused, labels lost, or a program ended; 2 the room
could not be built.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from rich.console import Console

from device.errors import ConfigError, MoodlineError
from provisioning.authority_commands import SUITE_NAMES
from provisioning.demo_room import DemoPlan
from tools.demo.programs import ProgramError
from tools.demo.room import Options, Report, run

REPOSITORY = Path(__file__).resolve().parents[2]
TAKES = Path(__file__).resolve().parents[1] / "takes"
#: Width of lines in a file or a pipe.
FILE_COLUMNS = 120


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="make run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, help="end by itself after so many seconds (default: at Ctrl-C)")
    parser.add_argument("--units", type=int, default=4, help="desks on the line (default: %(default)s)")
    parser.add_argument("--room", type=Path, default=REPOSITORY / "demo-room", help="folder (default: demo-room)")
    parser.add_argument("--takes", type=Path, default=TAKES, help="folder of takes to replay")
    parser.add_argument("--web-port", type=int, default=8080, help="the page's port (default: %(default)s)")
    parser.add_argument("--suite", choices=sorted(SUITE_NAMES), default="x25519", help="how labels are sealed")
    parser.add_argument("--no-attack", action="store_true", help="stage no attack")
    parser.add_argument("--plain", action="store_true", help="one line per event instead of a live table")
    options = parser.parse_args(arguments)
    if options.seconds is not None and options.seconds <= 0:
        parser.error("--seconds must be above 0")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    try:
        takes = sorted(path for path in options.takes.iterdir() if path.is_dir()) if options.takes.is_dir() else []
        report = run(
            Options(
                folder=options.room,
                plan=DemoPlan(
                    takes=takes,
                    units=options.units,
                    web_port=options.web_port,
                    intruder=not options.no_attack,
                    suite=SUITE_NAMES[options.suite],
                ),
                seconds=options.seconds,
                live=console.is_terminal and not options.plain,
            ),
            console,
            stop,
        )
    except ProgramError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    except (ConfigError, MoodlineError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    return summarise(report, console)


def summarise(report: Report, console: Console) -> int:
    """Print the summary; returns the exit code."""

    def out(text: str) -> None:
        console.print(text, highlight=False)

    out("\n[bold]Summary[/bold]")
    out(f"  labels verified   {report.verified}")
    out(f"  messages refused  {report.refused}" + (f"  ({report.refusals})" if report.refused else ""))
    out(f"  labels lost       {report.lost}")
    if report.p50_ms is not None and report.p95_ms is not None:
        out(f"  delay             p50 {report.p50_ms:.0f} ms, p95 {report.p95_ms:.0f} ms (window's end to verified)")
    seen = report.accuracy
    out(
        f"  accuracy          {seen.right} of {seen.named} named windows right ({seen.of_named:.0%}); ",
    )
    out(f"                    {seen.windows - seen.named} of {seen.windows} windows abstained")
    for take, (windows, named, right) in seen.takes.items():
        out(f"    {take:<14} {right:3d} right of {named:3d} named, {windows:3d} windows")
    out("                    (seven takes of one actor: a demonstration, not a measurement; see models/bundle/card.md)")
    for attack, verdict in report.attacks:
        out(f"  {attack.name:<17} {f'refused: {verdict}' if verdict else '[bold red]NOT REFUSED[/bold red]'}")
    problems = report.problems()
    for problem in problems:
        out(f"[bold red]✗ {problem}[/bold red]")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
