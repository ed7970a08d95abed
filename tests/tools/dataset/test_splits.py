"""No person, and no recording, is on both sides of a split, whatever the seed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from device.errors import ConfigError
from tests.tools.dataset.made_up import database
from tools.dataset.manifest import Manifest, Split
from tools.dataset.splits import folds, hold_out, leave_one_person_out, overlap, sides

PERSONS = {f"w{k}": "female" for k in range(5)} | {f"m{k}": "male" for k in range(5)}


def test_a_tested_person_is_never_trained_on(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS)
    for seed in range(20):
        split = hold_out(manifest, share=0.4, seed=seed)
        train, test = sides(manifest.with_head(splits={"s": split}), "s")
        assert not overlap(train, test)
        assert sorted([*train, *test], key=lambda item: item.name) == list(manifest.items)
        assert len({item.person for item in test}) == 4
        assert {person[0] for person in split.parts["test"]} == {"w", "m"}


def test_a_seed_decides_the_split(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS)
    assert hold_out(manifest, seed=1) == hold_out(manifest, seed=1)
    assert len({hold_out(manifest, seed=seed).parts["test"] for seed in range(20)}) > 1


def test_each_person_is_tested_in_one_fold(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS)
    for split in (folds(manifest, 5), leave_one_person_out(manifest)):
        divided = manifest.with_head(splits={"s": split})
        tested = [item for part in split.parts for item in sides(divided, "s", part)[1]]
        assert sorted(tested, key=lambda item: item.name) == list(manifest.items)
        assert all(len(sides(divided, "s", part)[0]) + len(sides(divided, "s", part)[1]) == 20 for part in split.parts)
    assert set(leave_one_person_out(manifest).parts) == set(PERSONS)


def test_one_recording_under_two_persons_is_found(tmp_path: Path) -> None:
    manifest = database(tmp_path, {"anna": "", "bert": ""})
    twin = msgspec.structs.replace(manifest.items[-1], digest=manifest.items[0].digest)
    split = {"s": Split(parts={"train": ("anna",), "test": ("bert",)})}
    with pytest.raises(ConfigError, match=r"own/anna0, own/bert1"):
        sides(manifest.with_items([*manifest.items[:-1], twin]).with_head(splits=split), "s")


def test_overlap_names_a_person_on_both_sides(tmp_path: Path) -> None:
    items = database(tmp_path, {"anna": ""}).items
    assert overlap(items[:1], items[1:]) == {"anna"}


def test_items_of_unknown_persons_are_on_neither_side(tmp_path: Path) -> None:
    manifest = database(tmp_path, {"anna": "", "bert": "", "": ""})
    train, test = sides(manifest.with_head(splits={"s": hold_out(manifest)}), "s")
    assert {item.person for item in (*train, *test)} == {"anna", "bert"}


@pytest.mark.parametrize("persons", [{}, {"anna": ""}, {"anna": "", "": ""}])
def test_a_split_needs_two_known_persons(persons: dict[str, str], tmp_path: Path) -> None:
    manifest = database(tmp_path, persons)
    for make in (hold_out, leave_one_person_out):
        with pytest.raises(ConfigError, match="needs two"):
            make(manifest)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 7.0])
def test_a_share_outside_0_to_1_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out(database(tmp_path, PERSONS), share=share)


@pytest.mark.parametrize("count", [1, 11])
def test_an_impossible_number_of_folds_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give 2 to 10 folds"):
        folds(database(tmp_path, PERSONS), count)


@pytest.mark.parametrize(("name", "part"), [("t", "test"), ("s", "validation")])
def test_an_unknown_split_is_refused_and_the_known_are_named(name: str, part: str, tmp_path: Path) -> None:
    manifest = Manifest(tmp_path).with_head(splits={"s": Split(parts={"train": ("a",), "test": ("b",)})})
    with pytest.raises(ConfigError, match="Splits: s"):
        sides(manifest, name, part)
