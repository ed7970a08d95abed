"""Every figure of the released bundle is the one of the evaluation's report that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

REPOSITORY: Final = Path(__file__).parents[1]
RESULTS: Final = REPOSITORY / "docs" / "evaluation" / "results.json"
GOALS: Final = REPOSITORY / "docs" / "evaluation" / "goals.json"
MANIFEST: Final = REPOSITORY / "models" / "bundle" / "manifest.json"

pytestmark = pytest.mark.skipif(
    not (RESULTS.exists() and GOALS.exists()), reason="docs/evaluation has no report yet: make report"
)


def metrics() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(MANIFEST.read_text())["metrics"]
    return found


def figure_named(place: str) -> tuple[float, float, float]:
    """Value and interval at a place like "results.json: summaries, ours, loso, uar" or "goals.json: ECE, LOSO"."""
    file, _, rest = place.partition(": ")
    if file == GOALS.name:
        (row,) = [row for row in json.loads(GOALS.read_text()) if row["metric"] == rest]
        return row["value"] / 100, row["low"] / 100, row["high"] / 100
    assert file == RESULTS.name, place
    results = json.loads(RESULTS.read_text())
    kind, system, which, key = rest.split(", ")
    if kind == "speakers":
        (found,) = [one[key] for one in results[kind][system] if one["speaker"] == which]
    else:
        (found,) = [one[key] for one in results[kind] if (one["system"], one["protocol"]) == (system, which)]
    return found["value"], found["low"], found["high"]


def test_every_metric_equals_the_value_that_it_names() -> None:
    assert metrics()
    for metric in metrics():
        said = metric["protocol"]
        place = said[max(said.rfind(f"{file.name}: ") for file in (GOALS, RESULTS)) :]
        here = metric["value"], metric["low"], metric["high"]
        assert here == pytest.approx(figure_named(place), abs=1e-9), metric["name"]


def test_the_headline_for_strangers_stands_in_the_bundle() -> None:
    assert any(metric["name"] == "speech, loso: macro recall (UAR)" for metric in metrics())
