"""Rebuilds docs/evaluation from released predictions alone: results.json, goals.json, figures/ and one page.

No data set and no TensorFlow is needed. The page stands alone: it loads nothing from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from tools.evaluate import metrics, page
from tools.evaluate.figures import all_figures
from tools.evaluate.goals import Goal, goals, row_series
from tools.evaluate.ladder import in_order, ladder, shown
from tools.evaluate.metrics import Estimate, of_confidence, over_seeds
from tools.evaluate.page import link_list, section, table
from tools.evaluate.predictions import Row
from tools.evaluate.results import Evidence, encode, read_evidence, results
from tools.evaluate.splits import LOSO, PROTOCOLS
from tools.evaluate.studies.findings import Finding, read_findings
from tools.training.scores import confidence_error

FOLDER: Final = Path("docs/evaluation")
LINE: Final = "line.json"
HARNESS: Final = "harness.json"

#: What each figure shows.
CAPTIONS: Final[dict[str, str]] = {
    "ladder": "Macro recall by protocol, with 95 % intervals. Hatched bars are no results.",
    "scores-over-epochs": "After the paper's Figure 6: accuracy, precision, recall and F1 of the test folds over "
    "epochs, mean over folds and seeds. Seen by an observer: the score of record is the last epoch's.",
    "times-over-epochs": "After the paper's Figure 7: training and test time over epochs, mean of a fold.",
    "accuracy-over-learning-rate": "After the paper's Figure 8: validation accuracy over learning rate, on speakers "
    "inside the training side.",
    "loss-over-epochs": "After the paper's Figure 8: loss over epochs. The paper prints 1.33 %, by its own protocol.",
    "line-over-rate": "After the paper's Figure 9: recognition rate, leakage, delay and loss over transmission rate, "
    "measured on the running line.",
    "recall-over-samples": "After the paper's Figure 10: unweighted accuracy over sample count.",
    "recall-by-emotion": "After the paper's Figure 10: accuracy of each emotion, LOSO.",
    "confusion": "Confusion, percent of each true class.",
    "reliability": "Share of right answers over confidence, LOSO.",
}
PAPER_FIGURES: Final = (
    "scores-over-epochs",
    "times-over-epochs",
    "accuracy-over-learning-rate",
    "loss-over-epochs",
    "line-over-rate",
    "recall-over-samples",
    "recall-by-emotion",
)


def build(folder: Path = FOLDER) -> None:
    """Write results.json, goals.json, figures/*.svg and index.html into `folder`."""
    evidence = read_evidence(folder / "predictions")
    found = results(evidence)
    found["ladder"] = ladder(found["summaries"])
    rows = goals(evidence)
    line = _json(folder / LINE)
    drawn = all_figures(evidence, found, line["rows"] if line else [])
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "figures").glob("*.svg"):
        stale.unlink()
    for name, text in drawn.items():
        (folder / "figures" / f"{name}.svg").write_text(text)
    (folder / "results.json").write_text(encode(found))
    (folder / "goals.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    (folder / "index.html").write_text(
        html(evidence, found, rows, drawn, _json(folder / HARNESS), read_findings(folder))
    )


def _json(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes()) if path.exists() else None


def html(
    evidence: Evidence,
    found: Mapping[str, Any],
    rows: Sequence[Goal],
    drawn: Mapping[str, str],
    harness: Mapping[str, Any] | None,
    findings: Sequence[Finding] = (),
) -> str:
    """The page."""
    sections = [
        section("The ladder", _ladder(found) + _figure("ladder", drawn)),
        section("Goals", _goals(rows)),
        section("Every system by every protocol", _systems(found)),
        section("Margins", _margins(found)),
        section("Calibration, emotions, speakers", _by_group(evidence, found, drawn)),
        section("Faces, fusion, other corpora, disturbances", _other_rows(evidence.rows)),
        section("Leakage of the speaker, strange sounds, senses in conflict", _findings(findings)),
        section("The paper's figures, for our data", _paper(drawn)),
        section("Is the harness right?", _harness(harness)),
        section("Not measured", page.NOT_MEASURED),
        section("Rebuild", page.REBUILD + link_list(_files(evidence))),
    ]
    return page.whole(headline(evidence, found), "\n".join(sections))


def headline(evidence: Evidence, found: Mapping[str, Any]) -> str:
    """One sentence with the figure for strangers, or that there is none yet."""
    system = evidence.shipped(LOSO)
    mine = [one for one in found["summaries"] if (one["system"], one["protocol"]) == (system, LOSO)]
    if not mine:
        return "<p class=headline>Our system has not been measured on unseen speakers yet.</p>"
    one = mine[0]
    who = f"EMO-DB, {one['n']} clips, mean of {one['seeds']} seeds, {escape(system)}"
    return (
        "<p class=headline>Acted emotion from speech, seven classes, speakers it never heard: macro recall "
        f"<b>{_percent(one['uar'])}</b> ({escape(one['title'])}, {who}).</p>"
    )


def _percent(figure: Estimate | None) -> str:
    if figure is None:
        return "–"
    ends = f"{100 * figure.low:.1f} to {100 * figure.high:.1f}"
    return f"{100 * figure.value:.1f} % ({ends}; {figure.by})"


def _short(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def _figure(name: str, drawn: Mapping[str, str]) -> str:
    if name not in drawn:
        return f"<p class=absent>{escape(CAPTIONS[name])} Not measured yet.</p>"
    return page.figure(drawn[name], CAPTIONS[name])


def _ladder(found: Mapping[str, Any]) -> str:
    names = shown(sorted({name for rung in found["ladder"] for name in rung["systems"]}))
    lines = []
    for rung in found["ladder"]:
        cells = [_short(rung["systems"][name]["uar"]) if name in rung["systems"] else "–" for name in names]
        kind = "" if rung["is_result"] else "unfit"
        lines.append((kind, [rung["title"], *cells]))
    return page.LADDER + table(["protocol: macro recall in % (95 %)", *names], lines)


def _goals(rows: Sequence[Goal]) -> str:
    words = {True: "met", False: "missed", None: "–"}
    lines = []
    for row in rows:
        absent = row.value is None
        state = "not measured" if absent else words[row.met]
        bound = {"at least": "≥ ", "at most": "≤ ", "within": "± ", "none": ""}[row.sense]
        goal = "none" if row.goal is None else f"{bound}{row.goal:g}" + (f" ({row.stretch:g})" if row.stretch else "")
        value = "–" if absent else f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"
        kind = {"met": "met", "missed": "missed"}.get(state, "unfit")
        lines.append((kind, [row.metric, row.protocol, goal, value, str(row.seeds or "–"), state, row.note]))
    missed = sum(row.met is False for row in rows)
    absent_rows = sum(row.value is None for row in rows)
    met = sum(row.met is True for row in rows)
    text = f"<p>{met} met, <b>{missed} missed</b>, {absent_rows} not measured. Values in percent or points.</p>"
    return text + table(["metric", "protocol", "goal (stretch)", "value (95 %)", "seeds", "", "note"], lines)


def _systems(found: Mapping[str, Any]) -> str:
    lines = []
    order = {name: place for place, name in enumerate(PROTOCOLS)}
    names = in_order(sorted({one["system"] for one in found["summaries"]}))
    for one in sorted(found["summaries"], key=lambda one: (order[one["protocol"]], names.index(one["system"]))):
        figures = [_short(one[name]) for name in ("accuracy", "uar", "macro_precision", "macro_f1", "ece")]
        seconds = f"{one['training_s_a_fold']:.1f} / {one['test_s_a_fold']:.2f}"
        kind = "" if one["is_result"] else "unfit"
        lines.append((kind, [one["title"], one["system"], *figures, f"{one['seeds']} x {one['n']}", seconds]))
    head = ["protocol", "system", "accuracy %", "UAR %", "precision %", "F1 %", "ECE %", "seeds x clips"]
    return page.INTERVALS + table([*head, "training / test s a fold"], lines)


def _margins(found: Mapping[str, Any]) -> str:
    lines = [
        ("", [PROTOCOLS[one["protocol"]].title, one["over"], _short(one["difference"]), f"{one['p']:.4f}"])
        for one in found["margins"]
    ]
    text = "<p>Ours less the other in macro recall, same folds and seeds, paired bootstrap; the paper claims 7.13.</p>"
    return text + table(["protocol", "over", "points (95 %)", "p over clips"], lines)


def _by_group(evidence: Evidence, found: Mapping[str, Any], drawn: Mapping[str, str]) -> str:
    lines = []
    for one in found["calibration"]:
        cells = [_short(one[name]) for name in ("ece_as_answered", "ece", "risk_at_80_coverage")]
        area = _short(one["area_under_risk_coverage"])
        lines.append(
            ("", [PROTOCOLS[LOSO].title, one["system"], *cells, area, _percent(found["sex_gap"][one["system"]])])
        )
    head = ["protocol", "system", "ECE % as answered", "ECE %, temperature of other speakers"]
    text = table([*head, "risk at 80 % coverage", "AURC %", "women less men, UAR points"], lines)
    system = evidence.shipped(LOSO)
    people = [
        ("", [one["speaker"], one["sex"], str(one["n"]), _percent(one["uar"])])
        for one in found["speakers"].get(system, [])
    ]
    if people:
        text += f"<h3>Each speaker, {escape(system)}, LOSO, the worst first</h3>"
        text += table(["speaker", "sex", "clips", "UAR over the classes the speaker has"], people)
    return text + _figure("reliability", drawn) + _figure("confusion", drawn)


def _other_rows(rows: Sequence[Row]) -> str:
    def key(row: Row) -> tuple[str, str, str, str]:
        return row.protocol, row.name, row.system, row.condition

    lines = []
    for (protocol, name, system, condition), some in groupby(sorted(rows, key=key), key):
        mine = list(some)
        series = row_series(mine)
        by_speaker = all(row.groups is not None for row in mine)
        accuracy = over_seeds(series, metrics.accuracy, by_speaker=by_speaker)
        recall = over_seeds(series, by_speaker=by_speaker)
        error = of_confidence(series, confidence_error)
        note = " ".join(dict.fromkeys(row.note for row in mine if row.note))
        count = f"{len(mine)} x {len(mine[0].labels)}"
        figures = [_short(one) for one in (accuracy, recall, error)]
        lines.append(("", [protocol, name, system, condition, *figures, count, note]))
    if not lines:
        return "<p class=absent>Not measured yet.</p>"
    head = ["protocol", "name", "system", "condition", "accuracy %", "UAR %", "ECE %", "seeds x items", "note"]
    return table(head, lines)


def _findings(findings: Sequence[Finding]) -> str:
    lines = []
    for one in findings:
        ends = "" if one.low is None or one.high is None else f" ({one.low:g} to {one.high:g})"
        figure = f"{one.value:g}{' %' if one.unit else ''}{ends}"
        lines.append(("", [one.study, one.what, figure, one.beside, str(one.n), one.note]))
    if not lines:
        return "<p class=absent>Not measured yet.</p>"
    return table(["study", "what", "figure (95 %)", "beside", "items", "note"], lines)


def _paper(drawn: Mapping[str, str]) -> str:
    return page.PAPER + "".join(_figure(name, drawn) for name in PAPER_FIGURES)


def _harness(harness: Mapping[str, Any] | None) -> str:
    if harness is None:
        return "<p class=absent>Not run yet: python -m tools.evaluate harness-check --data DIR</p>"
    verdict = "within" if harness["reproduced"] else "<b>not within</b>"
    made_with = f"openSMILE {harness['opensmile']}, scikit-learn {harness['sklearn']}"
    measured = f"{harness['uar']:.2f} % ({harness['low']:.1f} to {harness['high']:.1f}; {harness['clips']} clips)"
    return (
        f"<p>{escape(harness['protocol'])}: macro recall {measured}, {verdict} 0.5 of the published "
        f"{harness['published']:.2f} %. "
        f"Made with {escape(made_with)}. openSMILE is used in evaluation only; its licence is for research.</p>"
        + page.PITFALLS
    )


def _files(evidence: Evidence) -> list[str]:
    systems = [f"predictions/emodb/{name}.npz" for name in evidence.systems]
    ran = {name for system in evidence.systems for name in evidence.protocols(system)}
    splits = [f"splits/{name}.json" for name in PROTOCOLS if name in ran]
    return ["results.json", "goals.json", *systems, *splits]
