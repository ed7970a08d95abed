"""Figures that the end-to-end report does not draw: over learning rate, over samples, over transmission rate."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tools.evaluate.figures import all_figures
from tools.evaluate.predictions import Row
from tools.evaluate.results import Evidence

NOTHING: dict[str, Any] = {"summaries": []}


def _rows(protocol: str, conditions: tuple[str, ...]) -> list[Row]:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return [
        Row(
            name="cnn",
            system="cnn",
            protocol=protocol,
            classes=("anger", "fear", "neutral"),
            scores=np.log(generator.dirichlet(np.ones(3), 60)),
            labels=labels,
            condition=condition,
            seed=seed,
        )
        for condition in conditions
        for seed in range(2)
    ]


def _point(rate: float, kept: float | None, p99: float | None) -> dict[str, Any]:
    return {
        "rate_hz": rate,
        "attempts": 100,
        "readable": 0,
        "forged_accepted": 0,
        "delay_ms": {"p50": 20.0, "p95": 60.0, "p99": p99},
        "sent": 50,
        "lost": 0,
        "recognition_kept": kept,
    }


def test_nothing_is_drawn_from_nothing() -> None:
    assert all_figures(Evidence({}, []), NOTHING, []) == {}


def test_figures_over_numbers_and_over_the_lines_rates_are_drawn() -> None:
    evidence = Evidence({}, [*_rows("learning-rate", ("1e-4", "0.001")), *_rows("sample-count", ("100", "400"))])
    drawn = all_figures(evidence, NOTHING, [_point(2.0, None, None), _point(0.5, 1.0, 90.0)])
    assert set(drawn) == {"accuracy-over-learning-rate", "recall-over-samples", "line-over-rate"}
    for text in drawn.values():
        assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "paper: 340 ms" in drawn["line-over-rate"]


def test_the_same_figure_has_the_same_bytes_and_no_reference_of_another() -> None:
    evidence = Evidence({}, [*_rows("learning-rate", ("1e-4", "0.001")), *_rows("sample-count", ("100", "400"))])
    first, second = (all_figures(evidence, NOTHING, []) for _ in range(2))
    assert first == second
    one, other = (set(re.findall(r"url\(#(\w+)\)|href=\"#(\w+)\"", text)) for text in first.values())
    assert one
    assert not one & other
