"""`goals.json`: the goals, each with what was measured. A goal without predictions is "not measured", never met.

Values are in percent or percentage points. A goal that names two numbers is two objects, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from device.inference.manifest import MANIFEST_FILE, Manifest
from models.contract import FACE, SPEECH
from tools.evaluate import metrics, results
from tools.evaluate.metrics import Answers, Estimate, TableStatistic
from tools.evaluate.predictions import Row
from tools.evaluate.results import BASELINES, OURS, Evidence, answers_of_row
from tools.evaluate.splits import LOSO, PROTOCOLS

BUNDLE: Final = Path("models/bundle")
NOT_MEASURED: Final = "not measured"
SPEECH_BYTES: Final = 500_000
FACE_PARAMETERS: Final = 500_000
FACE_MULTIPLY_ACCUMULATES: Final = 30_000_000

Sense = Literal["at least", "at most", "within", "none"]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `met` is null when nothing was measured or there is no goal; "within" means |value| at most the goal."""

    metric: str
    protocol: str
    sense: Sense
    goal: float | None
    stretch: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int | None = None
    met: bool | None = None
    note: str = NOT_MEASURED


def measured(row: Goal, figure: Estimate | None, note: str, *, also: bool = True) -> Goal:
    """The row with a figure (a share, 0..1) and whether the goal is met; `also` is a further condition of the goal."""
    if figure is None:
        return row
    value = 100 * figure.value
    reached = {
        "at least": row.goal is not None and value >= row.goal,
        "at most": row.goal is not None and value <= row.goal,
        "within": row.goal is not None and abs(value) <= row.goal,
        "none": False,
    }[row.sense]
    return msgspec.structs.replace(
        row,
        value=round(value, 2),
        low=round(100 * figure.low, 2),
        high=round(100 * figure.high, 2),
        seeds=figure.seeds,
        met=None if row.goal is None else reached and also,
        note=f"{note} Interval by {figure.by}.".strip(),
    )


def goals(evidence: Evidence, bundle: Path = BUNDLE) -> list[Goal]:
    """All rows, in the order of the goals' table."""
    manifest = _manifest(bundle)
    parts: tuple[Callable[[], list[Goal]], ...] = (
        lambda: _random(evidence, bundle),
        lambda: _unseen_speakers(evidence),
        lambda: _margins(evidence),
        lambda: _faces(evidence, manifest),
        lambda: _synthetic(evidence),
        lambda: _paired(evidence),
        lambda: _calibration(evidence),
        lambda: _int8(evidence),
        lambda: _cross_corpus(evidence),
        lambda: _sex_gap(evidence),
    )
    return [row for part in parts for row in part()]


def _manifest(bundle: Path) -> Manifest | None:
    path = bundle / MANIFEST_FILE
    return msgspec.json.decode(path.read_bytes(), type=Manifest) if path.exists() else None


def _series(evidence: Evidence, protocol: str, system: str | None = None) -> list[Answers]:
    return list(evidence.series(system or evidence.shipped(protocol), protocol).values())


def _stands_for(evidence: Evidence, protocol: str) -> str:
    shipped = evidence.shipped(protocol)
    return "" if shipped != OURS else "The float32 network: int8 was not run on these folds."


def _random(evidence: Evidence, bundle: Path) -> list[Goal]:
    row = Goal(
        metric="EMO-DB random 5x5-fold accuracy, speech alone, at most 500 KB",
        protocol=PROTOCOLS["random-5-fold"].title,
        sense="at least",
        goal=92.0,
        stretch=94.0,
    )
    series = _series(evidence, "random-5-fold")
    file = bundle / SPEECH.file
    if not series or not file.exists():
        return [row]
    size = file.stat().st_size
    note = f"{file.name} has {size / 1000:.0f} KB. {_stands_for(evidence, 'random-5-fold')}"
    figure = metrics.over_seeds(series, metrics.accuracy, by_speaker=False)
    return [measured(row, figure, note, also=size <= SPEECH_BYTES)]


def _unseen_speakers(evidence: Evidence) -> list[Goal]:
    strangers = "speaker-and-sentence"
    loso = Goal(
        metric="EMO-DB LOSO UAR, speech alone",
        protocol=PROTOCOLS[LOSO].title,
        sense="at least",
        goal=84.0,
        stretch=87.0,
    )
    worst = msgspec.structs.replace(loso, metric=f"{loso.metric}: worst speaker", goal=70.0, stretch=None)
    both = msgspec.structs.replace(
        loso,
        metric="unseen speaker and sentence UAR",
        protocol=PROTOCOLS[strangers].title,
        goal=80.0,
        stretch=83.0,
    )
    if series := _series(evidence, LOSO):
        loso = measured(loso, metrics.over_seeds(series, by_speaker=True), _stands_for(evidence, LOSO))
        least = results.speakers(evidence, evidence.shipped(LOSO))[0]
        worst = measured(worst, least["uar"], f"Speaker {least['speaker']}, {least['n']} clips.")
    if series := _series(evidence, strangers):
        both = measured(both, metrics.over_seeds(series, by_speaker=True), _stands_for(evidence, strangers))
    return [loso, worst, both]


def _margins(evidence: Evidence) -> list[Goal]:
    whole = Goal(
        metric="margin in macro recall over SVM, SVM-RBF, ELM, CNN, BiLSTM: the smallest of the five",
        protocol=PROTOCOLS[LOSO].title + ", same input and folds, paired bootstrap",
        sense="at least",
        goal=7.13,
        stretch=None,
    )
    shipped = evidence.shipped(LOSO)
    found = {name: one for name, one in results.margins(evidence, LOSO, shipped).items() if name in BASELINES}
    rows = []
    for name in BASELINES:
        row = msgspec.structs.replace(whole, metric=f"margin in macro recall over {name}")
        one = found.get(name)
        note = f"p = {one.p:.4f} over clips. {_stands_for(evidence, LOSO)}" if one else ""
        rows.append(measured(row, one.difference if one else None, note))
    if len(found) == len(BASELINES):
        name, least = min(found.items(), key=lambda pair: pair[1].difference.value)
        whole = measured(whole, least.difference, f"The smallest is over {name}, p = {least.p:.4f} over clips.")
    else:
        missing = ", ".join(name for name in BASELINES if name not in found)
        whole = msgspec.structs.replace(whole, note=f"{NOT_MEASURED}: {missing}")
    return [whole, *rows]


def row_series(rows: Sequence[Row]) -> list[Answers]:
    """One set of answers a row, by seed."""
    return [answers_of_row(row) for row in sorted(rows, key=lambda row: row.seed)]


def _of_rows(rows: Sequence[Row], statistic: TableStatistic) -> Estimate | None:
    by_speaker = bool(rows) and all(row.groups is not None for row in rows)
    return metrics.over_seeds(row_series(rows), statistic, by_speaker=by_speaker) if rows else None


def _notes(rows: Sequence[Row]) -> str:
    return " ".join(dict.fromkeys(row.note for row in rows if row.note))


def accuracy_difference(first: Sequence[Row], second: Sequence[Row]) -> Estimate | None:
    """Accuracy of the first less that of the second, item by item, over the seeds that both have."""
    pairs = [(one, two) for one in first for two in second if one.seed == two.seed]
    if not pairs:
        return None
    one, two = (row_series(side) for side in zip(*pairs, strict=True))
    for left, right in zip(one, two, strict=True):
        if not np.array_equal(left.labels, right.labels):
            raise ValueError("differences are between answers on the same items")
    kinds = ("clips", "speakers") if pairs[0][0].groups is not None else ("clips",)
    values = [
        float(metrics.accuracy(metrics.table_of(left)) - metrics.accuracy(metrics.table_of(right)))
        for left, right in zip(one, two, strict=True)
    ]
    draws = {
        kind: metrics.table_draws(one, kind, metrics.accuracy) - metrics.table_draws(two, kind, metrics.accuracy)
        for kind in kinds
    }
    return metrics.estimate(values, draws, least=-1.0)


def _twins(rows: Sequence[Row]) -> list[Row]:
    """The same rows answered by the float32 networks."""
    return [
        Row(row.name, row.system, row.protocol, row.classes, row.other, row.labels, row.condition, row.seed)
        for row in rows
        if row.other is not None
    ]


def _faces(evidence: Evidence, manifest: Manifest | None) -> list[Goal]:
    row = Goal(
        metric="FER+ valid accuracy (majority rule), at most 500 K parameters and 30 MMAC",
        protocol="FER+ valid part, majority rule",
        sense="at least",
        goal=87.0,
        stretch=88.5,
    )
    drop = msgspec.structs.replace(
        row, metric="FER+ valid accuracy lost by int8", sense="at most", goal=0.4, stretch=None
    )
    rows = evidence.found("ferplus-valid", "face")
    facts = manifest.networks.get(Path(FACE.file).stem) if manifest else None
    if rows and facts:
        cost = f"{facts.parameters:,} parameters, {facts.multiply_accumulates / 1e6:.1f} MMAC."
        small = facts.parameters <= FACE_PARAMETERS and facts.multiply_accumulates <= FACE_MULTIPLY_ACCUMULATES
        row = measured(row, _of_rows(rows, metrics.accuracy), f"{cost} {_notes(rows)}", also=small)
    return [row, measured(drop, accuracy_difference(_twins(rows), rows), "")]


def _synthetic(evidence: Evidence) -> list[Goal]:
    pairing = "synthetic pairing by label, speakers and faces disjoint, abstain off"
    six = Goal(
        metric="fused accuracy, six classes, synthetic pairing by label",
        protocol=f"{pairing}; errors independent by construction",
        sense="at least",
        goal=98.75,
        stretch=None,
    )
    seven = msgspec.structs.replace(
        six,
        metric="fused accuracy, seven classes (boredom paired with neutral faces), synthetic pairing by label",
        sense="none",
        goal=None,
    )
    pool = msgspec.structs.replace(
        six, metric="fused less log-opinion pool, six classes, synthetic pairing by label", sense="within", goal=0.5
    )
    fused = evidence.found("fused-six", "fused")
    more = evidence.found("fused-seven", "fused")
    apart = accuracy_difference(fused, evidence.found("fused-six", "pool"))
    return [
        measured(six, _of_rows(fused, metrics.accuracy), _notes(fused)),
        measured(seven, _of_rows(more, metrics.accuracy), f"For comparison, no goal. {_notes(more)}"),
        measured(pool, apart, "The pool is optimal for such pairs by construction."),
    ]


def _paired(evidence: Evidence) -> list[Goal]:
    gain = Goal(
        metric="fused accuracy over the better single branch, truly paired",
        protocol="RAVDESS actors 02 to 20, our speech branch and the given face logits, folds by actor",
        sense="at least",
        goal=6.0,
        stretch=None,
    )
    cost = msgspec.structs.replace(
        gain, metric="accuracy that a missing face costs against speech alone, truly paired", sense="at most", goal=1.0
    )
    fused, speech, face, without = (
        evidence.found("fused-paired", system) for system in ("fused", "speech", "face", "fused-without-face")
    )
    if fused and speech and face:
        single = {"speech": _of_rows(speech, metrics.accuracy), "face": _of_rows(face, metrics.accuracy)}
        better = max(single, key=lambda name: one.value if (one := single[name]) else 0.0)
        note = f"fused {_of_rows(fused, metrics.accuracy)}, speech {single['speech']}, face {single['face']}."
        gain = measured(gain, accuracy_difference(fused, speech if better == "speech" else face), note)
    return [gain, measured(cost, accuracy_difference(speech, without), "")]


def _calibration(evidence: Evidence) -> list[Goal]:
    error = Goal(
        metric="ECE, LOSO",
        protocol=PROTOCOLS[LOSO].title + ", temperature fitted on the other speakers' out-of-fold answers",
        sense="at most",
        goal=5.0,
        stretch=None,
    )
    risk = msgspec.structs.replace(error, metric="risk at 80 % coverage, LOSO", goal=8.0)
    system = evidence.shipped(LOSO)
    if evidence.series(system, LOSO):
        found = results.calibration(evidence, system)
        note = _stands_for(evidence, LOSO)
        error = measured(error, found["ece"], f"{note} Before the temperature: {found['ece_as_answered']}.")
        risk = measured(risk, found["risk_at_80_coverage"], note)
    return [error, risk]


def agreement(rows: Sequence[Row]) -> Estimate | None:
    """Share of items to which int8 and float32 give the same label."""
    pairs = [row for row in rows if row.other is not None]
    same = [
        Answers(one.items, one.speakers, np.asarray(row.other).argmax(axis=1).astype(np.int64), one.log_probabilities)
        for row, one in zip(pairs, row_series(pairs), strict=True)
    ]
    return metrics.over_seeds(same, metrics.accuracy, by_speaker=False) if same else None


def _int8(evidence: Evidence) -> list[Goal]:
    whole = Goal(
        metric="int8 and float32 give the same label: the least of the networks",
        protocol="all test items",
        sense="at least",
        goal=99.0,
        stretch=None,
    )
    found, rows = {}, []
    for name in ("speech", "face", "fused"):
        same = agreement(evidence.found("int8", name))
        if same:
            found[name] = same
        row = msgspec.structs.replace(whole, metric=f"int8 and float32 give the same label: {name}")
        rows.append(measured(row, same, _notes(evidence.found("int8", name))))
    if len(found) == len(rows):
        least = min(found, key=lambda name: found[name].value)
        whole = measured(whole, found[least], f"The least is {least}'s.")
    return [whole, *rows]


def _cross_corpus(evidence: Evidence) -> list[Goal]:
    row = Goal(
        metric="cross-corpus UAR, 4 shared classes: the worst target",
        protocol="trained without the target corpus",
        sense="at least",
        goal=50.0,
        stretch=None,
    )
    rows = evidence.found("cross-corpus", OURS)
    targets = {
        name: figure
        for name in sorted({one.condition for one in rows})
        if (figure := _of_rows([one for one in rows if one.condition == name], metrics.uar))
    }
    if not targets:
        return [row]
    worst = min(targets, key=lambda name: targets[name].value)
    return [measured(row, targets[worst], "; ".join(f"{name} {one}" for name, one in targets.items()) + ".")]


def _sex_gap(evidence: Evidence) -> list[Goal]:
    row = Goal(
        metric="sex gap in UAR (women less men; met too when the interval covers 0)",
        protocol=PROTOCOLS[LOSO].title,
        sense="within",
        goal=4.0,
        stretch=None,
    )
    system = evidence.shipped(LOSO)
    gap = results.sex_gap(evidence, system) if evidence.series(system, LOSO) else None
    if gap is None:
        return [row]
    note = "Five women and five men cannot show fairness."
    return [msgspec.structs.replace(measured(row, gap, note), met=abs(gap.value) <= 0.04 or gap.low <= 0 <= gap.high)]
