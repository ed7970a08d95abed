"""`make simulate`: play many seeds, or replay one. A failing seed is printed with the command that replays it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from tqdm import tqdm

from tools.simulate.faults import draw_plan
from tools.simulate.seeds import SECONDS, UNITS, Outcome, power_cuts, run_seed

GOOD: Final = 0
FOUND: Final = 1


def _range(text: str) -> tuple[int, int]:
    """`2-40` or `7`."""
    try:
        smallest, largest = (int(part) for part in text.split("-")) if "-" in text else (int(text), int(text))
    except ValueError:
        smallest = largest = 0
    if not 1 <= smallest <= largest <= UNITS[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of units such as 2-40 or 5 (1 to {UNITS[1]})")
    return smallest, largest


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 3_600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 3600")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulate",
        description="Plays lines in virtual time with hostile brokers, clocks, copies and power cuts drawn from seeds, "
        "and checks G1 to G8 after every step.",
        epilog="Exit codes: 0 every guarantee held, 1 a seed broke one (it is printed), 2 wrong arguments.",
    )
    parser.add_argument("--seeds", type=_positive, default=100, help="how many seeds to play (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="replay this seed alone")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print every step")
    parser.add_argument("--units", type=_range, default=UNITS, help="smallest and largest room (default: 2-40)")
    parser.add_argument(
        "--seconds", type=_seconds, default=SECONDS, help="virtual seconds of trouble in each room (default: 20)"
    )
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument(
        "--power-cuts",
        action="store_true",
        help="cut the power at every durable write of one room in turn",
    )
    return parser


def _again(outcome: Outcome, options: argparse.Namespace) -> str:
    smallest, largest = options.units
    return (
        f"python -m tools.simulate --seed {outcome.seed} --units {smallest}-{largest} --seconds {options.seconds:g}"
        " --verbose"
    )


def _replay(options: argparse.Namespace) -> int:
    verbose = print if options.verbose else None
    outcome = run_seed(options.seed, units=options.units, seconds=options.seconds, verbose=verbose)
    print(f"seed {outcome.seed}: {outcome.rounds} rounds, trace {outcome.trace}")
    print(outcome.text or "every guarantee held")
    return FOUND if outcome.broken else GOOD


def _played(options: argparse.Namespace) -> Iterator[Outcome]:
    seeds = range(options.first, options.first + options.seeds)
    play = partial(run_seed, units=options.units, seconds=options.seconds)
    if options.jobs == 1:
        yield from map(play, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        yield from pool.imap_unordered(play, seeds)


def _swept(options: argparse.Namespace) -> Iterator[Outcome]:
    units = min(options.units[1], 4) if options.units == UNITS else options.units[0]
    for keeps in (False, True):
        yield from power_cuts(options.first, units=units, keeps=keeps)


def _report(outcomes: Iterable[Outcome], options: argparse.Namespace) -> int:
    """Print every failing seed as it comes, and a summary."""
    started = time.perf_counter()
    played = rounds = 0
    broken: Counter[str] = Counter()
    total = None if options.power_cuts else options.seeds
    with tqdm(outcomes, total=total, unit="run", file=sys.stderr) as bar:
        for outcome in bar:
            played, rounds = played + 1, rounds + outcome.rounds
            if outcome.broken:
                broken[outcome.broken] += 1
                again = "" if options.power_cuts else f"\n  {_again(outcome, options)}"
                bar.write(f"seed {outcome.seed}: {outcome.text}{again}", file=sys.stdout)
    seconds = time.perf_counter() - started
    jobs = 1 if options.power_cuts else options.jobs
    found = ", ".join(f"{name} {count} times" for name, count in sorted(broken.items())) or "every guarantee held"
    print(f"{played} runs, {rounds} rounds in {seconds:.1f} s on {jobs} processes: {rounds / seconds:.0f} rounds/s")
    if not options.power_cuts:
        print(_drawn(options))
    print(found)
    return FOUND if broken else GOOD


def _drawn(options: argparse.Namespace) -> str:
    plans = [
        draw_plan(seed, units=options.units, seconds=options.seconds)
        for seed in range(options.first, options.first + options.seeds)
    ]
    kinds = Counter(item.kind.value for plan in plans for item in plan.happenings)
    listed = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    return f"{sum(plan.units for plan in plans)} units in all; {sum(kinds.values())} faults: {listed or 'none'}"


def main(arguments: list[str] | None = None) -> int:
    """Play, sweep or replay."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options)
    return _report(_swept(options) if options.power_cuts else _played(options), options)


if __name__ == "__main__":
    sys.exit(main())
