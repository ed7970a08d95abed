"""`make bench-line`: the paper's figures from the running line, over transmission rate and packet loss.

The real gateway program and a real mosquitto over mutual TLS in one network namespace, the units' lines in another, and
between them a forwarder that drops packets below TCP (`tools.bench.packet_loss`). It writes `results.json`, `README.md`
and a plot into the folder given by `--out`, after each cell; a run that was stopped goes on where it was, and measures
again what the machine was too busy for. It needs root, for its network namespaces.

Exit codes: 0 all well; 1 a label was lost or altered, an attempt succeeded, or a check of the measurement itself
failed; 2 the room could not be built or a program ended; 130 stopped by hand.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
from tqdm import tqdm

from device.errors import ConfigError, MoodlineError
from provisioning.mosquitto import find_mosquitto
from tools.bench.line_cells import RECOVERY_S, STILL_LOSSY_S, Cell, CellRow, LossRoom, Settings, WireCost
from tools.bench.line_page import write_page
from tools.bench.packet_loss import congestion_control, enter_own_network
from tools.evaluate.line_parties import Answer
from tools.evaluate.line_rates import ABOUT, answers_of_predictions, answers_of_takes
from tools.evaluate.line_room import StoppedError

OUT: Final = Path("docs/line-figures")
RESULTS: Final = "results.json"
UNITS: Final = 40
RATES_HZ: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
LOSSES: Final = (0.0, 1.0, 5.0, 10.0, 20.0, 30.0)
SECONDS: Final = 15.0
SEED: Final = 4
#: TCP's least retransmission time-out on our boxes: well below the hop time-out, so that a lost packet is there again
#: before the next unit stops waiting for it.
RTO_MIN_MS: Final = 5
#: Rate and losses at which the kernel's own time-out is measured beside ours.
KERNELS: Final = (2.0, (1.0, 5.0, 10.0))
TAKES_SOURCE: Final = "the released bundle on tools/takes"


class Results(msgspec.Struct, kw_only=True):
    """What is written. `wire` is what the forwarder adds while it loses nothing."""

    command: str
    machine: dict[str, str | int | None]
    settings: Settings
    wire: WireCost | None = None
    about: dict[str, str]
    rows: list[CellRow] = []

    def good(self, cell: Cell) -> bool:
        """Whether this cell needs no measurement any more."""
        return any(row.cell == cell and not row.no_figure for row in self.rows)

    def row(self, cell: Cell) -> CellRow:
        """The row of a cell that was measured."""
        return next(row for row in self.rows if row.cell == cell)

    def put(self, row: CellRow) -> None:
        """Take a row; it replaces an earlier one of its cell."""
        self.rows = sorted(
            [*(each for each in self.rows if each.cell != row.cell), row],
            key=lambda each: (each.cell.rto_min_ms is None, each.cell.loss_percent, each.cell.rate_hz),
        )


def about() -> dict[str, str]:
    """What each figure means."""
    return {
        **{name: text for name, text in ABOUT.items() if name not in ("conditions", "lost")},
        "lost": f"sent and not verified after recovery: packets are lost for {STILL_LOSSY_S:g} s more after the last"
        f" label, or until all are verified; then none is lost for at most {RECOVERY_S:g} s",
        "recovered_s": "when the last label was verified, in seconds after the last was made; null: one was lost",
        "loss_percent": "IP packets dropped, each by chance, on the way to the broker and on the way back",
        "rto_min_ms": "TCP's least retransmission time-out on both sides; null: the kernel's own, 200 ms",
        "signed_in_round": "accepted links over units times rounds",
        "busy": "share of all cores in use while labels were made; others: what programs that are not ours took",
        "no_figure": "why the machine, not the line, may have made the delays; the row is no figure then",
        "conditions": "40 boxes on one machine: units' lines in a few programs, with recorded answers instead of"
        " capture and inference; the units of one program share steps 1 to 5 of verification unless each_verifies;"
        " a unit without a label of its own in a round says a muted one, which counts nowhere, as boxes do; between"
        " units and broker a userspace forwarder without delay of its own; gateway, reader and outsider lose nothing",
    }


def machine() -> dict[str, str | int | None]:
    """Where it was measured."""
    program = find_mosquitto()
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout if program else ""
    version = re.search(r"version (\S+)", said)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "kernel": re.match(r"[\d.]*\d", platform.release())[0],  # type: ignore[index]
        "congestion control": congestion_control(),
        "python": platform.python_version(),
        "mosquitto": version.group(1) if version else None,
    }


def cells(rates_hz: Sequence[float], losses: Sequence[float], rto_min_ms: int | None) -> list[Cell]:
    """The grid, and the kernel's own time-out at the rates and losses of the grid where it is compared."""
    grid = [Cell(rate, loss, rto_min_ms) for loss in losses for rate in rates_hz]
    rate, compared = KERNELS
    return grid + [
        Cell(rate, loss, None) for loss in compared if rto_min_ms is not None and rate in rates_hz and loss in losses
    ]


def load_results(folder: Path, fresh: Results) -> Results:
    """What an earlier run left there, to go on with. Raises ConfigError when it was another measurement."""
    file = folder / RESULTS
    if not file.exists():
        return fresh
    try:
        before = msgspec.json.decode(file.read_bytes(), type=Results)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file}: {error}.", next_step="Give --again to measure anew, or another --out.") from error
    for name in ("settings", "machine"):
        if getattr(before, name) != getattr(fresh, name):
            raise ConfigError(
                f"{file}: was measured with other {name}.", next_step="Give --again to measure anew, or another --out."
            )
    before.about = fresh.about
    return before


def write(folder: Path, results: Results) -> None:
    """Write results, table and plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    write_page(folder, results.rows, results.settings, results.command, results.machine, results.wire)


def measure(
    results: Results, wanted: Sequence[Cell], folder: Path, said: Callable[[], list[Answer]], stop: threading.Event
) -> None:
    """Measure the cells that are wanted and not there; each is kept at once. Raises MoodlineError, StoppedError."""
    due = [cell for cell in wanted if not results.good(cell)]
    answers = said() if due else []
    with tqdm(total=round(len(due) * results.settings.seconds), unit="s", disable=None) as bar:
        for rto_min_ms in dict.fromkeys(cell.rto_min_ms for cell in due):
            with tempfile.TemporaryDirectory() as room_folder, ExitStack() as stack:
                room = LossRoom(Path(room_folder), results.settings, answers, stop, rto_min_ms=rto_min_ms)
                stack.callback(room.close)
                results.wire = room.wire
                for cell in due:
                    if cell.rto_min_ms == rto_min_ms:
                        bar.set_description(f"{cell.rate_hz:g} labels/s, {cell.loss_percent:g} % loss")
                        results.put(room.run(cell, bar))
                        write(folder, results)
                        tqdm.write(said_of(results.row(cell)))


def said_of(row: CellRow) -> str:
    """One line for people."""
    line, delay = row.line, row.line.delay_ms
    return (
        f"{row.cell.rate_hz:4g} labels/s, {row.cell.loss_percent:2g} % loss"
        f"{'' if row.cell.rto_min_ms is not None else ' (kernel time-out)'}: {line.verified}/{line.sent} verified,"
        f" {line.lost} lost, recognition kept {line.recognition_kept}, delay p50 {delay.p50} p95 {delay.p95} p99"
        f" {delay.p99} ms, {line.readable + line.forged_accepted} of {line.attempts} attempts succeeded,"
        f" {row.signed_in_round:.0%} signed in their round"
        + (f"  [no figure: {'; '.join(row.no_figure)}]" if row.no_figure else "")
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0.5,1,2")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.line_loss",
        description=(__doc__ or "").split("\n\n")[0],
        epilog=(__doc__ or "").rsplit("\n\n", 1)[-1],
    )
    parser.add_argument("--units", type=int, default=UNITS, help="units on the line (default: %(default)s)")
    parser.add_argument("--rates", type=_numbers, default=RATES_HZ, help="labels/s of a unit (default: 0.5,1,2,5,10)")
    parser.add_argument("--loss", type=_numbers, default=LOSSES, help="%% of packets (default: 0,1,5,10,20,30)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each cell (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the packets that are dropped (default: %(default)s)")
    parser.add_argument(
        "--rto-min-ms",
        type=int,
        default=RTO_MIN_MS,
        help="TCP's least time-out; 0: the kernel's (default: %(default)s)",
    )
    parser.add_argument("--round-ms", type=int, default=500, help="round period (default: %(default)s)")
    parser.add_argument("--programs", type=int, help="programs that hold the units (default: one a core)")
    parser.add_argument("--each-verifies", action="store_true", help="no unit shares its verification with another")
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="released predictions (npz) whose first row is said; default: the bundle's answers on the demo takes",
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, write, report."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.seconds < 1 or max(options.loss) >= 100 or not all(options.rates) or options.round_ms <= 50:
        parser.error("--seconds from 1, --rates above 0, --loss below 100, --round-ms above 50")
    settings = Settings(
        units=options.units,
        seconds=options.seconds,
        seed=options.seed,
        programs=options.programs or len(os.sched_getaffinity(0)),
        each_verifies=options.each_verifies,
        round_period_ms=options.round_ms,
        answers=options.answers.name if options.answers else TAKES_SOURCE,
    )
    command = " ".join(["python -m tools.bench.line_loss", *(arguments if arguments is not None else sys.argv[1:])])
    wanted = cells(options.rates, options.loss, options.rto_min_ms or None)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        enter_own_network()
        fresh = Results(command=command, machine=machine(), settings=settings, about=about())
        results = fresh if options.again else load_results(options.out, fresh)
        file = options.answers
        measure(
            results, wanted, options.out, lambda: answers_of_predictions(file) if file else answers_of_takes(), stop
        )
    except StoppedError:
        print("Stopped; what was measured is kept, and the next run goes on from there.", file=sys.stderr)
        return 130
    except MoodlineError as error:
        print(f"line_loss: {error}", file=sys.stderr)
        return 2
    write(options.out, results)
    problems = [problem for row in results.rows for problem in row.problems()]
    for problem in problems:
        print(f"✗ {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
