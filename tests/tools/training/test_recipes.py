"""Recipes are read strictly, and anything that changes a training changes its name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from device.errors import ConfigError
from tests.tools.training.made_up import RECIPE, fewer_steps
from tools.training import recipes
from tools.training.effort import FULL, SMOKE
from tools.training.recipes import SpeechRecipe, digest_of, read
from tools.training.stages import recipe_of
from tools.training.voices import LOADERS


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The released recipe in a folder of its own, to be changed."""
    file = tmp_path / "speech.toml"
    file.write_text((recipes.FOLDER / "speech.toml").read_text())
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    return file


def test_the_released_recipe_teaches_the_sequence_network_without_emodb() -> None:
    recipe = read("speech", SpeechRecipe)
    assert "emodb" not in recipe.sequence.batch
    assert set(recipe.sequence.batch) < set(recipe.readout.batch) == set(recipe.copies) == set(LOADERS)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("seed = 0", "sead = 0", "sead"),
        ("steps = 1600", "steps = 0", "sequence.steps"),
        ("weight_average = 0.995", "weight_average = 1.5", "weight_average"),
        ("learning_rate = 2e-3", 'learning_rate = "fast"', "learning_rate"),
        ("[copies]", "[copies", "speech.toml"),
    ],
)
def test_a_mistake_is_named(written: Path, before: str, after: str, named: str) -> None:
    text = written.read_text()
    assert before in text
    written.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=r"speech\.toml") as refused:
        read("speech", SpeechRecipe)
    assert named in str(refused.value)


def test_a_missing_recipe_is_named(written: Path) -> None:
    written.unlink()
    with pytest.raises(ConfigError, match=r"speech\.toml"):
        read("speech", SpeechRecipe)


def test_another_recipe_or_other_code_has_another_name(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("one")
    names = {digest_of(RECIPE), digest_of(fewer_steps(1)), digest_of(msgspec.structs.replace(RECIPE, seed=1))}
    names.add(digest_of(RECIPE, str(code)))
    code.write_text("two")
    names.add(digest_of(RECIPE, str(code)))
    assert len(names) == 5
    assert digest_of(RECIPE) == digest_of(msgspec.structs.replace(RECIPE, copies=dict(reversed(RECIPE.copies.items()))))


def test_a_trial_changes_the_amount_and_nothing_else() -> None:
    released, trial = read("speech", SpeechRecipe), recipe_of(SMOKE)
    assert recipe_of(FULL) == released
    assert trial.sequence.steps == trial.readout.steps == SMOKE.speech_steps
    assert trial.shape == released.shape
    assert msgspec.structs.replace(trial.readout, steps=released.readout.steps) == released.readout
