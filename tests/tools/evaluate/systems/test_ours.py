"""The released recipe as a system: its variants, their names, and a whole run with a recipe of a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.labels import Emotion
from models.networks.speech import SpeechShape
from tests.tools.evaluate.made_up import FRAMES
from tests.tools.evaluate.made_up import corpus as made_up_material
from tests.tools.training.made_up import RECIPE
from tests.tools.training.made_up import corpus as made_up_voices
from tools.evaluate.checks import check_outcome
from tools.evaluate.splits import leave_one_speaker_out
from tools.evaluate.system import CLASSES, Material
from tools.evaluate.systems import MODULES, ours
from tools.evaluate.systems.ours import VARIANTS, Ours, system
from tools.training.speech_windows import Windows
from tools.training.splits import Split
from tools.training.voices import Corpus

HEARD = tuple(emotion for emotion in Emotion if emotion is not Emotion.BOREDOM)


@pytest.fixture(scope="module")
def given() -> Material:
    """Four speakers, two sentences, seven emotions; windows of 512 frames."""
    short = made_up_material(separation=6.0)
    rows = np.flatnonzero([clip.sentence in ("a01", "a02") for clip in short.clips])

    def longer(windows: Windows) -> Windows:
        return Windows(np.repeat(windows.frames[rows], 512 // FRAMES, axis=2), windows.contours[rows])

    return replace(
        short,
        clips=[short.clips[row] for row in rows],
        clean=longer(short.clean),
        training=longer(short.training),
        labels=short.labels[rows],
        parents=np.arange(len(rows)),
    )


@pytest.fixture(scope="module")
def split(given: Material) -> Split:
    return leave_one_speaker_out(given.clips, 0)[0]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of few steps and one other corpus, both made up."""
    other = made_up_voices("ravdess", ("R02", "R03"), HEARD, 2)

    def loaded(data: Path, copies: object, cache: Path, *, of_each: int | None = None) -> dict[str, Corpus]:
        return {"ravdess": other}

    monkeypatch.setattr(ours, "read", lambda name, kind: RECIPE)
    monkeypatch.setattr(ours, "load_corpora", loaded)
    monkeypatch.setattr(ours, "REPRESENTATIVE", 8)
    return tmp_path


def prepared(name: str, build: Path) -> Ours:
    made = system(name)
    made.prepare(build, build)
    return made


def test_every_variant_has_its_place_and_a_digest_of_its_own() -> None:
    assert set(MODULES["ours"]) == set(VARIANTS)
    made = [system(name) for name in VARIANTS]
    assert [one.name for one in made] == list(VARIANTS)
    assert len({one.digest for one in made}) == len(VARIANTS)
    assert system("ours").digest == made[0].digest


def test_another_recipe_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    released = system("ours").digest
    monkeypatch.setattr(ours, "read", lambda name, kind: RECIPE)
    tiny = system("ours").digest
    shorter = msgspec.structs.replace(RECIPE, seed=1)
    monkeypatch.setattr(ours, "read", lambda name, kind: shorter)
    assert len({released, tiny, system("ours").digest}) == 3


def test_variants_take_their_part_out_of_the_networks_shape() -> None:
    def shape(name: str) -> SpeechShape:
        return system(name)._recipe.shape

    assert shape("ours").attention and shape("ours").nonlinear
    assert not shape("ours_without_attention").attention
    assert not shape("ours_without_nonlinear").nonlinear
    assert {kind for kind, _ in shape("ours_without_sequence").members} == {"statistics"}
    assert len(shape("ours_without_sequence").members) == len(shape("ours").members)


def test_a_fold_is_learned_and_answered(given: Material, split: Split, build: Path) -> None:
    one = prepared("ours", build)
    outcome = one.run(given, split, 0)
    labels = given.labels[split.test]
    check_outcome(outcome, labels, len(CLASSES))
    assert (outcome.log_probabilities.argmax(axis=1) == labels).mean() > 0.5
    again = prepared("ours", build).run(given, split, 0)
    np.testing.assert_allclose(again.log_probabilities, outcome.log_probabilities, atol=1e-3)
    other = one.run(given, split, 1)
    assert np.abs(other.log_probabilities - outcome.log_probabilities).max() > 1e-2


def test_the_answer_is_blind_to_the_test_sides_training_windows_and_labels(
    given: Material, split: Split, build: Path
) -> None:
    labels = given.labels.copy()
    labels[split.test] = 0
    training = Windows(given.training.frames.copy(), given.training.contours.copy())
    training.frames[split.test] = 100
    spoiled = replace(given, labels=labels, training=training, clean=replace(given.clean))
    first, second = (prepared("ours", build).run(one, split, 0) for one in (given, spoiled))
    np.testing.assert_allclose(first.log_probabilities, second.log_probabilities, atol=1e-3)


def test_other_labels_of_the_same_windows_are_learned_anew(given: Material, split: Split, build: Path) -> None:
    """The shuffled control shares its windows with the real material."""
    one = prepared("ours_without_other_corpora", build)
    real = one.run(given, split, 0)
    turned = replace(given, labels=(given.labels + 1) % len(CLASSES))
    control = one.run(turned, split, 0)
    assert (control.log_probabilities.argmax(axis=1) != real.log_probabilities.argmax(axis=1)).mean() > 0.5


@pytest.mark.parametrize("name", ["ours_without_other_corpora", "ours_without_augmentation", "ours_distilled"])
def test_what_a_variant_learns_from_changes_its_answers(given: Material, split: Split, build: Path, name: str) -> None:
    whole, variant = (prepared(one, build).run(given, split, 0) for one in ("ours", name))
    check_outcome(variant, given.labels[split.test], len(CLASSES))
    assert np.abs(whole.log_probabilities - variant.log_probabilities).max() > 1e-2


def test_the_int8_file_says_about_what_the_float_network_says(given: Material, split: Split, build: Path) -> None:
    whole, small = (prepared(name, build).run(given, split, 0) for name in ("ours", "ours_int8"))
    same = whole.log_probabilities.argmax(axis=1) == small.log_probabilities.argmax(axis=1)
    assert same.mean() > 0.8
    assert np.abs(whole.log_probabilities - small.log_probabilities).max() > 0
