"""The README's ladder and headline are the report's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[1]
#: The README's lines in turn.
PROTOCOLS: Final = (
    "leaky",
    "random-80-20",
    "random-5-fold",
    "leave-one-sentence-out",
    "loso",
    "speaker-and-sentence",
    "loso-enrolled",
)


def cell(summary: dict[str, Any]) -> str:
    value, low, high = (100 * summary["uar"][key] for key in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def test_the_ladder_in_the_readme_is_the_reports() -> None:
    ladder = json.loads((REPOSITORY / "docs/evaluation/results.json").read_text())["ladder"]
    systems = {rung["protocol"]: rung["systems"] for rung in ladder}
    text = (REPOSITORY / "README.md").read_text()
    table = text.split("| what the test side shares with the training side")[1].splitlines()[2 : 2 + len(PROTOCOLS)]
    shown = [[part.strip() for part in line.strip("|").split("|")][1:] for line in table]
    expected = [
        [cell(systems[name]["ours"]), cell(systems[name]["svm"]), str(systems[name]["ours"]["seeds"])]
        for name in PROTOCOLS
    ]
    assert shown == expected


def test_the_headline_is_the_reports() -> None:
    goals = json.loads((REPOSITORY / "docs/evaluation/goals.json").read_text())
    (loso,) = [goal for goal in goals if goal["metric"] == "EMO-DB LOSO UAR, speech alone"]
    headline = f"{loso['value']:.1f} % ({loso['low']:.1f} to {loso['high']:.1f})"
    assert headline in (REPOSITORY / "README.md").read_text().split("## Where it stands")[1].split("|")[0]
