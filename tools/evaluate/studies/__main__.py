"""`python -m tools.evaluate.studies --data DIR`: every prediction of the report that is no fold of EMO-DB.

Finished pieces are kept under build/evaluate/studies, so an interrupted run goes on where it stopped. Studies of faces
and of fusion need what `python -m tools.training` leaves in its build folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device.errors import ConfigError, MoodlineError

if TYPE_CHECKING:
    from tools.evaluate.studies.pieces import Keeper, Study
    from tools.evaluate.studies.shelf import Shelf

NAMES: Final = (
    "robustness-speech",
    "cross-corpus",
    "sample-count",
    "learning-rate",
    "strangeness",
    "fused-paired",
    "fused",
    "face",
    "robustness-face",
    "leakage",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 when something that a study needs is missing: the others run all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate.studies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds emodb/, ravdess/, nemo/, ferplus/")
    parser.add_argument("--build", type=Path, default=Path("build/training"), help="the training's build folder")
    parser.add_argument("--evaluate", type=Path, default=Path("build/evaluate"), help="the evaluation's build folder")
    parser.add_argument("--out", type=Path, default=Path("docs/evaluation"), help="the report's folder")
    parser.add_argument("--only", default="all", help=f"with commas between: {', '.join(NAMES)}")
    parser.add_argument("--seeds", default="0", help="seeds of studies that teach the speech branch, for example 0-4")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return _run(chosen)
    except MoodlineError as error:
        print(f"studies: {error}", file=sys.stderr)
        return 2


def _run(chosen: argparse.Namespace) -> int:
    from tools.evaluate.__main__ import named
    from tools.evaluate.runs import seeds_of

    wanted, seeds = named(chosen.only, NAMES, "only"), seeds_of(chosen.seeds)
    from tools.evaluate.studies.pieces import Keeper
    from tools.evaluate.studies.shelf import Shelf, use_threads

    use_threads(chosen.threads)
    own = chosen.evaluate / "studies"
    makers = _makers(Shelf(chosen.data, chosen.build, chosen.evaluate, own), seeds, chosen.threads)
    studies, failed = [], False
    for name in wanted:
        try:
            studies.append(makers[name]())
        except ConfigError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            failed = True
    return 2 if run(studies, Keeper(own), chosen.out) or failed else 0


def _makers(given: Shelf, seeds: Sequence[int], workers: int) -> dict[str, Callable[[], Study]]:
    from tools.evaluate.studies import face_studies, fused, paired, privacy, speech_studies

    return {
        "robustness-speech": lambda: speech_studies.robustness(given, seeds, workers),
        "cross-corpus": lambda: speech_studies.cross_corpus(given, seeds),
        "sample-count": lambda: speech_studies.sample_count(given, seeds),
        "learning-rate": lambda: speech_studies.learning_rate(given, seeds),
        "strangeness": lambda: privacy.strangeness(given, seeds),
        "fused-paired": lambda: paired.paired(given),
        "fused": lambda: fused.fused(given),
        "face": lambda: face_studies.face(given),
        "robustness-face": lambda: face_studies.robustness(given),
        "leakage": lambda: privacy.leakage(given),
    }


def run(studies: Sequence[Study], keeper: Keeper, out: Path) -> bool:
    """Every piece that is not kept, study by study; whether one could not be made for want of an input."""
    from tools.evaluate.studies.pieces import release

    pieces = [(study, piece) for study in studies for piece in study.pieces]
    ahead = [piece.minutes for study, piece in pieces if not keeper.has(study, piece)]
    hours = sum(ahead) / 60
    print(f"{len(pieces)} pieces, {len(pieces) - len(ahead)} finished; about {hours:.1f} h on one core", flush=True)
    failed = False
    for study in studies:
        made = []
        try:
            for number, piece in enumerate(study.pieces, 1):
                print(f"{study.name}, {number} of {len(study.pieces)}: {piece.name}", flush=True)
                made.append(keeper.made(study, piece))
        except ConfigError as error:
            print(f"{study.name}: left out: {error}", file=sys.stderr)
            failed = True
            continue
        release(study, made, out)
    return failed


if __name__ == "__main__":
    sys.exit(main())
