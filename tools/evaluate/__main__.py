"""`python -m tools.evaluate`: run every system by every protocol, pack the predictions, write the report.

    run --data DIR --systems a,b --protocols x,y --seeds 0-4    trains and tests; goes on where it stopped
    collect                                                     packs finished runs into docs/evaluation/predictions
    report                                                      rebuilds docs/evaluation from those, without any data
    harness-check --data DIR                                    reproduces a published figure with openSMILE

`--smoke` takes a small part of the data and one seed, and keeps everything under build/evaluate/smoke.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from device.errors import ConfigError, MoodlineError
from tools.evaluate.system import Material, System

BUILD: Final = Path("build/evaluate")
SMOKE: Final = BUILD / "smoke"
FULL_SEEDS: Final = "0-4"
SMOKE_CLIPS: Final = 1
SMOKE_COPIES: Final = 3

Registry = Mapping[str, Callable[[], System]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 when a published figure was not reproduced, 2 when something that is needed is missing."""
    chosen = _parser().parse_args(arguments)
    build = chosen.build or (SMOKE if chosen.smoke else BUILD)
    out = chosen.out or (SMOKE / "report" if chosen.smoke else Path("docs/evaluation"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if chosen.step == "run":
            _run(chosen, build)
        elif chosen.step == "collect":
            _collect(build, out)
        elif chosen.step == "report":
            _report(out)
        else:
            from tools.evaluate.harness import check

            return 0 if check(chosen.data, build / "features", out / "harness.json") else 1
    except MoodlineError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("run", "collect", "report", "harness-check"))
    parser.add_argument("--data", type=Path, help="folder that holds emodb/ (for run and harness-check)")
    parser.add_argument("--systems", default="all", help="names with commas between, NAME_epochs too; default: all")
    parser.add_argument("--protocols", default="all", help="names with commas between; default: all")
    parser.add_argument("--seeds", default=None, help=f"for example 0-4 or 0,2; default {FULL_SEEDS}, smoke 0")
    parser.add_argument("--smoke", action="store_true", help="a small part, one seed, into build/")
    parser.add_argument("--build", type=Path, default=None, help="where finished folds are kept")
    parser.add_argument("--out", type=Path, default=None, help="the report's folder")
    return parser


def named(wanted: str, known: Sequence[str], what: str) -> list[str]:
    """The names of a command line's list, "all" for all. Raises ConfigError for an unknown one."""
    names = list(known) if wanted == "all" else wanted.split(",")
    for name in names:
        if name not in known:
            raise ConfigError(f"--{what} {name}: not known.", next_step=f"Choose from {', '.join(known)}, or all.")
    return names


def made(registry: Registry, name: str) -> System:
    """The system of that name; NAME_epochs is the system NAME under an observer of its epochs, where it has one."""
    from tools.evaluate.runs import OBSERVED

    if name in registry:
        return registry[name]()
    observed = getattr(registry[name.removesuffix(OBSERVED)](), "recording", None)
    if observed is None:
        raise ConfigError(f"--systems {name}: this system has no epochs.", next_step="Name it without _epochs.")
    system: System = observed()
    return system


def _run(chosen: argparse.Namespace, build: Path) -> None:
    if chosen.data is None:
        raise ConfigError("--data is missing.", next_step="Name the folder that holds emodb/.")
    from tools.evaluate.material import COPIES, material
    from tools.evaluate.systems import SYSTEMS

    given = material(
        chosen.data,
        build / "windows",
        of_each=SMOKE_CLIPS if chosen.smoke else None,
        copies=SMOKE_COPIES if chosen.smoke else COPIES,
    )
    seeds = chosen.seeds or ("0" if chosen.smoke else FULL_SEEDS)
    of_each = SMOKE_CLIPS if chosen.smoke else None

    def made(name: str) -> System:
        system = SYSTEMS[name]()
        if hasattr(system, "prepare"):
            system.prepare(chosen.data, build / "windows", of_each)
        return system

    registry = {name: partial(made, name) for name in SYSTEMS}
    run_named(given, registry, chosen.systems, chosen.protocols, seeds, build)


def run_named(given: Material, registry: Registry, systems: str, protocols: str, seeds: str, build: Path) -> None:
    """The run step on given material."""
    from tools.evaluate.runs import OBSERVED, Store, run, seeds_of
    from tools.evaluate.splits import PROTOCOLS

    observable = [name + OBSERVED for name in registry]
    names = list(registry) if systems == "all" else named(systems, [*registry, *observable], "systems")
    run(
        given,
        [made(registry, name) for name in names],
        [PROTOCOLS[name] for name in named(protocols, list(PROTOCOLS), "protocols")],
        seeds_of(seeds),
        Store(build / "runs"),
    )


def _collect(build: Path, out: Path) -> None:
    from tools.evaluate.released import SPLITS, collect
    from tools.evaluate.runs import Store

    written = collect(Store(build / "runs"), out / "predictions", out / SPLITS)
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} files, {size / 1e6:.1f} MB, in {out}")


def _report(out: Path) -> None:
    from tools.evaluate.report import build

    build(out)
    print(f"open {out / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
