"""`results.json`: every run, and what follows from the runs, computed from released predictions alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from tools.evaluate import metrics
from tools.evaluate.metrics import Answers, Estimate, Margin
from tools.evaluate.predictions import Row, read_rows
from tools.evaluate.released import SYSTEMS, Released, read_released
from tools.evaluate.runs import OBSERVED, Fold
from tools.evaluate.splits import LOSO, PROTOCOLS, digest_of_lines
from tools.evaluate.system import CLASSES
from tools.training import scores

POOLED: Final = "pooled"
OURS: Final = "ours"
#: The int8 file as shipped, on the same folds; while it is missing, the float32 network stands in, and that is said.
OURS_INT8: Final = "ours_int8"
BASELINES: Final = ("svm", "svm_rbf", "elm", "cnn", "bilstm")
NAMES: Final = tuple(str(emotion) for emotion in CLASSES)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All released predictions: systems on EMO-DB by name, and rows of every other kind."""

    systems: Mapping[str, Released]
    rows: Sequence[Row]

    @property
    def compared(self) -> list[str]:
        """The systems that the tables compare, by name."""
        return [name for name in self.systems if not name.endswith(OBSERVED)]

    def series(self, system: str, protocol: str) -> dict[int, Answers]:
        """A system's answers by seed, folds pooled; empty when it did not run."""
        released = self.systems.get(system)
        folds = [fold for fold in released.folds if fold.facts.protocol == protocol] if released else []
        seeds = sorted({fold.facts.seed for fold in folds})
        return {seed: pooled([fold for fold in folds if fold.facts.seed == seed]) for seed in seeds}

    def protocols(self, system: str) -> list[str]:
        """The protocols that a system ran by, in the ladder's order."""
        ran = {fold.facts.protocol for fold in self.systems[system].folds}
        return [name for name in PROTOCOLS if name in ran]

    def shipped(self, protocol: str) -> str:
        """The system whose figures are the product's: the int8 one, or the float32 one while that is missing."""
        return OURS_INT8 if self.series(OURS_INT8, protocol) else OURS

    def found(self, protocol: str, system: str | None = None, condition: str | None = None) -> list[Row]:
        """Rows of other kinds."""
        return [
            row
            for row in self.rows
            if row.protocol == protocol and system in (None, row.system) and condition in (None, row.condition)
        ]


def read_evidence(predictions: Path) -> Evidence:
    """Everything below the folder of released predictions."""
    systems = [read_released(path) for path in sorted((predictions / SYSTEMS).glob("*.npz"))]
    rows = [row for path in sorted(predictions.glob("*.npz")) for row in read_rows(path)]
    return Evidence({one.system: one for one in systems}, rows)


def answers_of_fold(fold: Fold) -> Answers:
    """A copy "clip#1" counts as its clip, so that a resample draws clips."""
    items = np.array([name.split("#")[0] for name in fold.names])
    return Answers(items, fold.speakers, fold.labels, fold.log_probabilities)


def pooled(folds: Sequence[Fold]) -> Answers:
    """All folds' answers as one set."""
    every = [answers_of_fold(fold) for fold in folds]
    return Answers(
        np.concatenate([one.items for one in every]),
        np.concatenate([one.speakers for one in every]),
        np.concatenate([one.labels for one in every]),
        np.concatenate([one.log_probabilities for one in every]),
    )


def answers_of_row(row: Row) -> Answers:
    """A row's answers; without groups every item is its own speaker."""
    items = np.array([f"{i:06d}" for i in range(len(row.labels))])
    return Answers(items, items if row.groups is None else row.groups, row.labels, row.scores.astype(np.float32))


def figures_of(answers: Answers) -> dict[str, Any]:
    """The figures of one run."""
    table = metrics.table_of(answers)
    recall = float(metrics.uar(table))
    return {
        "n": len(answers.labels),
        "accuracy": float(metrics.accuracy(table)),
        "uar": recall,
        "macro_precision": float(metrics.macro_precision(table)),
        "macro_recall": recall,
        "macro_f1": float(metrics.macro_f1(table)),
        "ece": scores.calibration_error(answers.log_probabilities, answers.labels),
        "confusion": table.astype(np.int64).tolist(),
    }


def runs(evidence: Evidence) -> list[dict[str, Any]]:
    """One object a fold, one for all folds of a seed ("pooled"), and one a row of another kind."""
    entries: list[dict[str, Any]] = []
    for released in evidence.systems.values():
        sets: dict[tuple[str, int], list[Fold]] = {}
        for fold in released.folds:
            sets.setdefault((fold.facts.protocol, fold.facts.seed), []).append(fold)
        for folds in sets.values():
            entries += [_entry([fold], fold.facts.fold, fold.facts.split_digest) for fold in folds]
            digest = digest_of_lines([fold.facts.split_digest for fold in folds])
            entries.append(_entry(folds, POOLED, digest))
    for row in evidence.rows:
        facts = msgspec.to_builtins(row.facts())
        entries.append({**facts, "fold": POOLED, **figures_of(answers_of_row(row)), "split_digest": ""})
    return entries


def _entry(folds: Sequence[Fold], name: str, digest: str) -> dict[str, Any]:
    facts = folds[0].facts
    return {
        "system": facts.system,
        "protocol": facts.protocol,
        "seed": facts.seed,
        "fold": name,
        **figures_of(pooled(folds)),
        "training_s": sum(fold.facts.training_s for fold in folds),
        "test_s": sum(fold.facts.test_s for fold in folds),
        "split_digest": digest,
        "chosen": "; ".join(dict.fromkeys(fold.facts.chosen for fold in folds if fold.facts.chosen)),
    }


def summary(evidence: Evidence, system: str, protocol: str) -> dict[str, Any]:
    """One system by one protocol: means over seeds with intervals."""
    series = list(evidence.series(system, protocol).values())
    folds = [fold.facts for fold in evidence.systems[system].folds if fold.facts.protocol == protocol]
    by_speaker = PROTOCOLS[protocol].unseen_speakers
    return {
        "system": system,
        "protocol": protocol,
        "title": PROTOCOLS[protocol].title,
        "is_result": PROTOCOLS[protocol].is_result,
        "seeds": len(series),
        "n": len(series[0].labels),
        "accuracy": metrics.over_seeds(series, metrics.accuracy, by_speaker=by_speaker),
        "uar": metrics.over_seeds(series, metrics.uar, by_speaker=by_speaker),
        "macro_precision": metrics.over_seeds(series, metrics.macro_precision, by_speaker=by_speaker),
        "macro_f1": metrics.over_seeds(series, metrics.macro_f1, by_speaker=by_speaker),
        "ece": metrics.of_confidence(series, scores.confidence_error),
        "recall_by_class": dict(
            zip(
                NAMES,
                np.mean([metrics.recalls(metrics.table_of(one)) for one in series], axis=0).tolist(),
                strict=True,
            )
        ),
        "training_s_a_fold": float(np.mean([one.training_s for one in folds])),
        "test_s_a_fold": float(np.mean([one.test_s for one in folds])),
    }


def margins(evidence: Evidence, protocol: str, ours: str = OURS) -> dict[str, Margin]:
    """Ours less every other system in macro recall, on the same folds, over the seeds that both have."""
    own = evidence.series(ours, protocol)
    found = {}
    for system in evidence.compared:
        other = evidence.series(system, protocol)
        seeds = sorted(own.keys() & other.keys())
        if seeds and system not in (OURS, OURS_INT8):
            pair = ([own[seed] for seed in seeds], [other[seed] for seed in seeds])
            found[system] = metrics.margin(*pair, by_speaker=PROTOCOLS[protocol].unseen_speakers)
    return found


def calibration(evidence: Evidence, system: str) -> dict[str, Any]:
    """LOSO, temperature of each speaker fitted on the other speakers' out-of-fold answers."""
    raw = list(evidence.series(system, LOSO).values())
    fitted = [metrics.cross_fitted(answers) for answers in raw]
    return {
        "system": system,
        "protocol": LOSO,
        "ece_as_answered": metrics.of_confidence(raw, scores.confidence_error),
        "ece": metrics.of_confidence(fitted, scores.confidence_error),
        "risk_at_80_coverage": metrics.of_confidence(fitted, metrics.risk_at_coverage),
        "area_under_risk_coverage": metrics.of_confidence(fitted, metrics.area_under_risk),
    }


def sexes(evidence: Evidence, system: str, protocol: str = LOSO) -> tuple[list[str], list[str]]:
    """Women and men among the speakers of a system's answers."""
    pairs = {
        (str(speaker), str(sex))
        for fold in evidence.systems[system].folds
        if fold.facts.protocol == protocol
        for speaker, sex in zip(fold.speakers, fold.sexes, strict=True)
    }
    women, men = ([speaker for speaker, sex in sorted(pairs) if sex == wanted] for wanted in ("female", "male"))
    return women, men


def sex_gap(evidence: Evidence, system: str) -> Estimate | None:
    """Women's less men's macro recall in LOSO; None when one of the two is not there."""
    series = list(evidence.series(system, LOSO).values())
    women, men = sexes(evidence, system)
    return metrics.gap(series, women, men) if women and men else None


def speakers(evidence: Evidence, system: str, protocol: str = LOSO) -> list[dict[str, Any]]:
    """Each speaker's macro recall over the classes that the speaker has, mean over seeds; the worst first."""
    series = list(evidence.series(system, protocol).values())
    women, _ = sexes(evidence, system, protocol)
    rows = []
    for speaker in np.unique(series[0].speakers):
        own = [answers[answers.speakers == speaker] for answers in series]
        values = metrics.over_seeds(own, by_speaker=False)
        sex = "female" if speaker in women else "male"
        rows.append({"speaker": str(speaker), "sex": sex, "n": len(own[0].labels), "uar": values})
    return sorted(rows, key=lambda row: row["uar"].value)


def results(evidence: Evidence) -> dict[str, Any]:
    """The whole of results.json."""
    ran = {system: evidence.protocols(system) for system in evidence.compared}
    in_loso = [system for system, protocols in ran.items() if LOSO in protocols]
    return {
        "classes": list(NAMES),
        "protocols": {one.name: {"title": one.title, "is_result": one.is_result} for one in PROTOCOLS.values()},
        "intervals": (
            "95 %; seeds: Student's t over seeds; clips: percentile bootstrap over clips within classes; speakers: "
            "percentile bootstrap over speakers. `low` and `high` are the widest of them, which `by` names."
        ),
        "summaries": [summary(evidence, system, protocol) for system, some in ran.items() for protocol in some],
        "margins": [
            {"protocol": protocol, "ours": OURS, "over": system, "difference": one.difference, "p": one.p}
            for protocol in ran.get(OURS, [])
            if PROTOCOLS[protocol].is_result
            for system, one in margins(evidence, protocol).items()
        ],
        "calibration": [calibration(evidence, system) for system in in_loso],
        "sex_gap": {system: sex_gap(evidence, system) for system in in_loso},
        "speakers": {system: speakers(evidence, system) for system in in_loso},
        "runs": runs(evidence),
    }


def plain(value: Any) -> Any:
    """For JSON: dataclasses as objects, numbers rounded to six digits after the point, NaN as null."""
    if isinstance(value, Estimate | Margin):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if np.isfinite(value) else None
    return value


def encode(found: Mapping[str, Any]) -> str:
    """JSON text with one line a run, and one for each other entry of the first level's lists."""
    parts = []
    for key, value in plain(found).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines = ",\n".join(msgspec.json.encode(one).decode() for one in value)
            parts.append(f'"{key}": [\n{lines}\n]')
        else:
            parts.append(f'"{key}": {msgspec.json.encode(value).decode()}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
