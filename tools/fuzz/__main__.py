"""`make fuzz`: look for bytes of a peer that bring out anything but the documented errors.

Exit codes: 0 nothing was found; 1 something was found, and the input that shows it is kept as a file; 2 cannot run.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import time
import traceback
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Final

from tqdm import tqdm

from tools.fuzz.random_messages import Tally, bring, inputs
from tools.fuzz.seeds import seeds
from tools.fuzz.targets import TARGETS, run

NOTHING: Final = 0
FOUND: Final = 1
CANNOT: Final = 2
OUT: Final = Path("build/fuzz")
#: Longest input in bytes, and seconds after which one input counts as hanging.
LONGEST: Final = 16_384
HANGS_S: Final = 10
_STATUS: Final = re.compile(r"^#(\d+)\s+([A-Z]+|pulse)?\s*cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz",
        description="Brings made-up bytes to everything that reads bytes of a peer. Nothing but the documented errors"
        " may leave, and whatever is decoded must encode to the same bytes again.",
        epilog="Exit codes: 0 nothing found, 1 found (the input is kept, and the command that replays it printed), 2"
        " cannot run.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seconds", type=_positive, help="fuzz for so long, guided by coverage (x86-64 only)")
    what.add_argument("--random", type=_positive, metavar="N", help="bring exactly N random messages")
    what.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="bring kept inputs again")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=OUT / "corpus",
        help="folder of inputs that goes on growing (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default: %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.replay:
        return replay(options.replay)
    OUT.mkdir(parents=True, exist_ok=True)
    if options.random:
        return random_messages(options.random, options.seed)
    if find_spec("atheris") is None:
        print(
            "fuzz: Atheris is not installed; it exists for x86-64 only. Run `make development-environment` on such a"
            " machine, or bring random messages without it: python -m tools.fuzz --random 1000000",
            file=sys.stderr,
        )
        return CANNOT
    return guided(options.seconds, options.corpus, options.seed)


def replay(paths: list[Path]) -> int:
    """Bring kept inputs to their targets, and say what each does."""
    worst = NOTHING
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            print(f"fuzz: {path} cannot be read ({error.strerror}). Give a file that a run has kept.", file=sys.stderr)
            return CANNOT
        target = TARGETS[data[0] % len(TARGETS)].name if data else "nothing"
        try:
            print(f"{path} ({target}): {'taken' if run(data) else 'refused'}")
        except Exception:
            print(f"{path} ({target}): FOUND\n{traceback.format_exc()}")
            worst = FOUND
    return worst


def kept(data: bytes) -> str:
    """Keep an input that shows something. Returns the command that replays it."""
    path = OUT / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return f"python -m tools.fuzz --replay {path}"


def random_messages(count: int, seed: int) -> int:
    """Bring exactly `count` random messages; stop at the first that shows something."""
    tally, started = Tally(), time.perf_counter()
    for kind, data in tqdm(islice(inputs(seed), count), total=count, unit="message", file=sys.stderr, mininterval=1):
        try:
            bring(kind, data, tally)
        except Exception:
            print(f"message {tally.total} (seed {seed}, {kind}): FOUND\n{traceback.format_exc()}{kept(data)}")
            return FOUND
    seconds = time.perf_counter() - started
    print(f"{tally.total} messages in {seconds:.1f} s (seed {seed}): nothing but the documented errors")
    print("  " + ", ".join(f"{kind}: {number}" for kind, number in tally.kinds.most_common()))
    for name in sorted(tally.sent):
        print(f"  {name}: {tally.sent[name]} brought, {tally.taken[name]} taken")
    return NOTHING


def guided(seconds: int, corpus: Path, seed: int, program: str = "tools.fuzz.guided") -> int:
    """Let libFuzzer drive a program, which looks for inputs that reach new places of the code."""
    begun = OUT / "seeds"
    for folder in (corpus, begun):
        folder.mkdir(parents=True, exist_ok=True)
    for data in seeds():
        (begun / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    command = [
        *(sys.executable, "-m", program, str(corpus), str(begun)),
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANGS_S}", f"-seed={seed}"),
        *(f"-artifact_prefix={OUT}/", "-print_final_stats=1", "-rss_limit_mb=2048"),
    ]
    before = set(OUT.glob("*-*"))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        last, told = _follow(child.stdout, seconds)
    if child.returncode == 0:
        print(told)
        return NOTHING
    artefacts = sorted(set(OUT.glob("*-*")) - before)
    print("\n".join(last))
    if not artefacts:
        print(f"fuzz: the fuzzer ended with {child.returncode} and kept no input; see above.", file=sys.stderr)
        return CANNOT
    print("FOUND: " + ", ".join(f"python -m tools.fuzz --replay {path}" for path in artefacts))
    return FOUND


def _follow(lines: IO[str], seconds: int) -> tuple[list[str], str]:
    """Show how far it is. Returns the last lines, and the figures in one sentence."""
    last: list[str] = []
    first_edges = edges = features = inputs_kept = executed = 0
    started = time.perf_counter()
    form = "{l_bar}{bar}| {n:.0f}/{total} s{postfix}"
    with tqdm(total=seconds, file=sys.stderr, bar_format=form, mininterval=1) as bar:
        for line in lines:
            last = [*last[-60:], line.rstrip()]
            if found := _STATUS.match(line):
                executed, edges, features, inputs_kept = (int(found[group]) for group in (1, 3, 4, 5))
                first_edges = first_edges or edges
                bar.set_postfix_str(f"{executed} inputs, {edges} edges", refresh=False)
                bar.update(min(seconds, time.perf_counter() - started) - bar.n)
            elif found := _EXECUTED.match(line):
                executed = int(found[1])
    rate = executed / (time.perf_counter() - started)
    return last, (
        f"{executed} inputs in {seconds} s ({rate:.0f} per second): nothing but the documented errors. Edges covered:"
        f" {edges} ({first_edges} at the beginning), features: {features}, inputs in the corpus: {inputs_kept}"
    )


if __name__ == "__main__":
    sys.exit(main())
