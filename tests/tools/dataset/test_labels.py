"""Labels are set, replaced or voted upon, and a wrong cell is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.errors import ConfigError
from models.labels import Emotion
from tests.tools.dataset.made_up import database, table
from tools.dataset.labels import label_all


def test_a_label_without_a_rater_replaces_label_and_votes(tmp_path: Path) -> None:
    voted = label_all(
        database(tmp_path, {"anna": ""}), table(tmp_path / "v.csv", "name,emotion,rater", "own/anna0,fear,r")
    )
    (first, second) = label_all(voted, table(tmp_path / "t.csv", "name,emotion", "own/anna0,sadness")).items
    assert (first.emotion, first.raters, first.votes) == (Emotion.SADNESS, {}, {})
    assert second.emotion is Emotion.BOREDOM


def test_votes_of_several_raters_are_kept_and_the_most_decide(tmp_path: Path) -> None:
    votes = ["own/anna0,fear,r1", "own/anna0,fear,r2", "own/anna0,anger,r3", "own/anna1,fear,r1", "own/anna1,anger,r2"]
    manifest = label_all(database(tmp_path, {"anna": ""}), table(tmp_path / "v.csv", "name,emotion,rater", *votes))
    clear, level = manifest.items
    assert (clear.emotion, clear.votes) == (Emotion.FEAR, {"anger": 1, "fear": 2})
    assert clear.raters == {"r1": Emotion.FEAR, "r2": Emotion.FEAR, "r3": Emotion.ANGER}
    assert level.emotion is None
    again = label_all(manifest, table(tmp_path / "w.csv", "name,emotion,rater", "own/anna1,anger,r1"))
    assert (again.items[1].emotion, again.items[1].votes) == (Emotion.ANGER, {"anger": 2})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("own/nobody,fear,r", "row 2, column name: the database has no item"),
        ("own/anna0,scared,r", "row 2, column emotion"),
        ("own/anna0,,r", "row 2, column emotion: is empty"),
        (f"own/anna0,fear,{'r' * 101}", "row 2, column rater"),
    ],
)
def test_a_wrong_cell_is_named(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        label_all(database(tmp_path, {"anna": ""}), table(tmp_path / "t.csv", "name,emotion,rater", row))


def test_too_many_raters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.dataset.labels.RATERS_MAX", 1)
    votes = table(tmp_path / "t.csv", "name,emotion,rater", "own/anna0,fear,a", "own/anna0,fear,b")
    with pytest.raises(ConfigError, match="row 3, column rater"):
        label_all(database(tmp_path, {"anna": ""}), votes)
