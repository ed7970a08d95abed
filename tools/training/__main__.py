"""`python -m tools.training --data DIR`: recordings in, the released bundle out.

Stages keep what they finish under build/training, so an interrupted run goes on where it stopped; delete that folder to
start afresh. `--smoke` runs every stage on a small part for a few steps: it proves the way, its bundle is worthless.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device.errors import MoodlineError
from tools.training.effort import FULL, SMOKE

BUNDLE: Final = Path("models/bundle")
BUILD: Final = Path("build/training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 when something that is needed is missing, with where to get it."""
    parser = argparse.ArgumentParser(prog="python -m tools.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds emodb/ and ferplus/")
    parser.add_argument("--smoke", action="store_true", help="a small part, a few steps, into build/")
    parser.add_argument("--build", type=Path, default=None, help="where stages keep what they finish")
    parser.add_argument("--bundle", type=Path, default=None, help="the folder to write the bundle to")
    parser.add_argument("--face", type=Path, default=None, help="a finished face training to use instead of a new one")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    effort = SMOKE if chosen.smoke else FULL
    build = chosen.build or (BUILD / effort.name if chosen.smoke else BUILD)
    bundle = chosen.bundle or (build / "bundle" if chosen.smoke else BUNDLE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from tools.training.stages import run

        run(chosen.data, effort, build, bundle, finished_face=chosen.face, threads=chosen.threads)
    except MoodlineError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
