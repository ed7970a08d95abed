"""The card says what must not be forgotten, and no figure that nobody measured."""

from __future__ import annotations

import re

from tools.dataset.corpora import emodb, nemo, ravdess
from tools.training import card

FIXED = card._HEAD + card._DATASHEET + card._FIGURES + card._TAIL


def test_what_must_not_be_forgotten_is_said() -> None:
    text = " ".join(FIXED.split())
    for words in (
        "acted expression, not felt emotion",
        "never taught boredom",
        "Children were not measured",
        "non-commercial research",
        "worst speaker",
        "Forbidden",
        "AI Act",
    ):
        assert words in text, words
    assert "never taught surprise" not in text


def test_the_fixed_text_holds_no_measured_figure() -> None:
    """A share or a number with a decimal point would be a figure; 95 % is the intervals' level."""
    found = re.findall(r"\d+(?:\.\d+)? ?(?:%|points)|\b0?\.\d+", FIXED.replace(nemo.TERMS, ""))
    assert found == ["95 %"], found


def test_the_datasheet_has_a_column_for_every_set() -> None:
    rows = [line for line in card._DATASHEET.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    for corpus in (emodb, ravdess, nemo):
        assert corpus.NAME.split()[0].rstrip(",") in rows[0]
    assert str(len(ravdess.ACTORS)) in rows[2]
    assert "FER+" in rows[0]
