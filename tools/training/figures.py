"""`python -m tools.training.figures`: the bundle's figures are those of the evaluation's report.

Replaces the manifest's metrics by figures read from docs/evaluation/results.json and goals.json, and writes the card
and the file digests anew. Networks and golden vectors stay as they are. Every metric names the place it comes from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from device.errors import ConfigError, MoodlineError
from device.inference.bundle import read_manifest
from device.inference.manifest import CARD_FILE, Manifest, Metric
from tools.dataset.clips import file_digest
from tools.evaluate.goals import BUNDLE, Goal
from tools.evaluate.report import FOLDER
from tools.evaluate.results import OURS, OURS_INT8, POOLED
from tools.evaluate.splits import LOSO
from tools.training.sealing import seal

RESULTS_FILE: Final = "results.json"
GOALS_FILE: Final = "goals.json"
REBUILD: Final = "Rebuild it with `make report`."
TAKE_AGAIN: Final = "Take the released bundle again, or rebuild it with `make train`."

#: The figures of a summary that a manifest keeps, by their key in results.json.
MEASURES: Final = {"accuracy": "accuracy (WA)", "uar": "macro recall (UAR)"}
#: Stands for the system that ships, in the table below.
SHIPPED: Final = "shipped"
#: Goals whose figure a manifest keeps, and by which (protocol, system) their runs are found.
FROM_GOALS: Final[dict[str, tuple[str, str]]] = {
    "margin in macro recall over svm": (LOSO, SHIPPED),
    "margin in macro recall over svm_rbf": (LOSO, SHIPPED),
    "margin in macro recall over elm": (LOSO, SHIPPED),
    "margin in macro recall over cnn": (LOSO, SHIPPED),
    "margin in macro recall over bilstm": (LOSO, SHIPPED),
    "FER+ valid accuracy (majority rule), at most 500 K parameters and 30 MMAC": ("ferplus-valid", "face"),
    "FER+ valid accuracy lost by int8": ("ferplus-valid", "face"),
    "fused accuracy, six classes, synthetic pairing by label": ("fused-six", "fused"),
    "fused accuracy, seven classes (boredom paired with neutral faces), synthetic pairing by label": (
        "fused-seven",
        "fused",
    ),
    "fused less log-opinion pool, six classes, synthetic pairing by label": ("fused-six", "fused"),
    "fused accuracy over the better single branch, truly paired": ("fused-paired", "fused"),
    "accuracy that a missing face costs against speech alone, truly paired": ("fused-paired", "fused-without-face"),
    "ECE, LOSO": (LOSO, SHIPPED),
    "risk at 80 % coverage, LOSO": (LOSO, SHIPPED),
    "int8 and float32 give the same label: speech": ("int8", "speech"),
    "int8 and float32 give the same label: face": ("int8", "face"),
    "int8 and float32 give the same label: fused": ("int8", "fused"),
    "cross-corpus UAR, 4 shared classes: the worst target": ("cross-corpus", OURS),
    "sex gap in UAR (women less men; met too when the interval covers 0)": (LOSO, SHIPPED),
}
#: Goals that repeat a figure of results.json or of another goal.
REPEATED: Final = frozenset(
    {
        "EMO-DB random 5x5-fold accuracy, speech alone, at most 500 KB",
        "EMO-DB LOSO UAR, speech alone",
        "EMO-DB LOSO UAR, speech alone: worst speaker",
        "unseen speaker and sentence UAR",
        "margin in macro recall over SVM, SVM-RBF, ELM, CNN, BiLSTM: the smallest of the five",
        "int8 and float32 give the same label: the least of the networks",
    }
)


def read_metrics(evaluation: Path) -> tuple[Metric, ...]:
    """The figures of a folder like docs/evaluation, as a manifest keeps them. Raises ConfigError naming the file."""
    found = _decoded(evaluation / RESULTS_FILE, dict[str, Any])
    rows = _decoded(evaluation / GOALS_FILE, list[Goal])
    try:
        metrics = (*_of_results(found), *_of_goals(rows, found))
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"{evaluation}: results.json is of another form ({error}).", next_step=REBUILD) from error
    if not metrics:
        raise ConfigError(f"{evaluation}: nothing of the shipped system was measured.", next_step=REBUILD)
    return metrics


def _decoded(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", next_step=REBUILD) from error


def shipped(found: dict[str, Any], protocol: str) -> str:
    """The system whose figures are the product's by a protocol: int8, or float32 where int8 did not run."""
    ran = {(one["system"], one["protocol"]) for one in found["summaries"]}
    return OURS_INT8 if (OURS_INT8, protocol) in ran else OURS


def _of_results(found: dict[str, Any]) -> list[Metric]:
    metrics = []
    for one in found["summaries"]:
        system, protocol = one["system"], one["protocol"]
        if not one["is_result"] or system != shipped(found, protocol):
            continue
        seeds, items = _runs(found, protocol, system)
        for key, name in MEASURES.items():
            place = f"summaries, {system}, {protocol}, {key}"
            metrics.append(_metric(f"speech, {protocol}: {name}", one[key], one["title"], place, items, seeds))
    system = shipped(found, LOSO)
    for worst in found["speakers"].get(system, [])[:1]:
        seeds, _ = _runs(found, LOSO, system)
        name = f"speech, {LOSO}: {MEASURES['uar']}, worst speaker ({worst['speaker']})"
        place = f"speakers, {system}, {worst['speaker']}, uar"
        metrics.append(_metric(name, worst["uar"], "leave one speaker out (LOSO)", place, worst["n"], seeds))
    return metrics


def _metric(name: str, figure: dict[str, Any], title: str, place: str, items: int, seeds: tuple[int, ...]) -> Metric:
    protocol = f"EMO-DB, {title}; mean of {len(seeds)} seeds, interval by {figure['by']}; {RESULTS_FILE}: {place}"
    low, value, high = figure["low"], figure["value"], figure["high"]
    return Metric(name=name, value=value, low=low, high=high, items=items, protocol=protocol, seeds=seeds)


def _of_goals(rows: Sequence[Goal], found: dict[str, Any]) -> list[Metric]:
    metrics = []
    for row in rows:
        if row.metric in REPEATED or row.value is None:
            continue
        if row.metric not in FROM_GOALS or row.low is None or row.high is None:
            raise ConfigError(
                f"{GOALS_FILE}: {row.metric}: not a goal that the bundle knows.",
                next_step="Name it in FROM_GOALS or REPEATED of tools/training/figures.py.",
            )
        protocol, system = FROM_GOALS[row.metric]
        seeds, items = _runs(found, protocol, shipped(found, protocol) if system == SHIPPED else system)
        low, value, high = (round(number / 100, 6) for number in (row.low, row.value, row.high))
        told = f"{row.protocol}; {row.note.rstrip('.')}; {GOALS_FILE}: {row.metric}"
        metrics.append(
            Metric(name=row.metric, value=value, low=low, high=high, items=items, protocol=told, seeds=seeds)
        )
    return metrics


def _runs(found: dict[str, Any], protocol: str, system: str) -> tuple[tuple[int, ...], int]:
    """Seeds and items of a system's runs; where it ran under several conditions, of that with the least recall."""
    runs = [run for run in found["runs"] if (run["protocol"], run["system"], run["fold"]) == (protocol, system, POOLED)]
    by_condition: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_condition.setdefault(run.get("condition", ""), []).append(run)
    if not by_condition:
        raise ConfigError(f"{RESULTS_FILE}: no run of {system} by {protocol}.", next_step=REBUILD)
    chosen = min(by_condition.values(), key=lambda some: float(np.mean([run["uar"] for run in some])))
    return tuple(sorted(run["seed"] for run in chosen)), int(chosen[0]["n"])


def replace_figures(bundle: Path, evaluation: Path) -> Manifest:
    """Give the bundle the evaluation's figures. Raises MoodlineError, before anything is written."""
    metrics = read_metrics(evaluation)
    manifest = read_manifest(bundle)
    for name, digest in manifest.files.items():
        if name != CARD_FILE and file_digest(bundle / name) != digest:
            raise ConfigError(f"{bundle / name}: not the file that the manifest names.", next_step=TAKE_AGAIN)
    return seal(bundle, msgspec.structs.replace(manifest, metrics=metrics))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 when something that is needed is missing."""
    parser = argparse.ArgumentParser(prog="python -m tools.training.figures", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--evaluation", type=Path, default=FOLDER, help="folder with results.json and goals.json")
    chosen = parser.parse_args(arguments)
    try:
        manifest = replace_figures(chosen.bundle, chosen.evaluation)
    except MoodlineError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    print(f"{len(manifest.metrics)} figures of {chosen.evaluation} stand in {chosen.bundle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
