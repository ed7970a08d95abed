"""Protocols test what they say, and every way to stand on both sides of a split is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tools.evaluate.made_up import corpus
from tools.evaluate.splits import (
    PROTOCOLS,
    Manifests,
    SplitError,
    check,
    check_whole,
    manifest,
    random_items,
    recomputed_digest,
    refuse_shared_pictures,
)
from tools.evaluate.system import Material
from tools.training import ferplus
from tools.training.splits import Split

LOSO = PROTOCOLS["loso"]


@pytest.fixture(scope="module")
def given() -> Material:
    return corpus()


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_every_protocol_passes_its_own_checks(given: Material, name: str) -> None:
    protocol = PROTOCOLS[name]
    items = protocol.prepare(given, 0)
    check_whole(protocol, items, protocol.splits(items.clips, 0))


@pytest.mark.parametrize(
    ("name", "splits", "tested"),
    [
        ("leaky", 1, 84),
        ("random-80-20", 1, 28),
        ("random-5-fold", 5, 140),
        ("leave-one-sentence-out", 5, 140),
        ("loso", 4, 140),
        ("speaker-and-sentence", 20, 140),
        ("loso-enrolled", 4, 140),
    ],
)
def test_a_protocol_tests_as_much_as_it_says(given: Material, name: str, splits: int, tested: int) -> None:
    protocol = PROTOCOLS[name]
    found = protocol.splits(protocol.prepare(given, 0).clips, 0)
    assert (len(found), sum(len(split.test) for split in found)) == (splits, tested)


def test_an_unseen_speaker_and_sentence_has_neither_in_training(given: Material) -> None:
    for split in PROTOCOLS["speaker-and-sentence"].splits(given.clips, 0):
        test = [given.clips[i] for i in split.test]
        train = [given.clips[i] for i in split.train]
        assert {clip.speaker for clip in test}.isdisjoint(clip.speaker for clip in train)
        assert {clip.sentence for clip in test}.isdisjoint(clip.sentence for clip in train)
        assert len(train) == 84


def test_random_folds_hold_the_classes_equal_and_change_with_the_seed(given: Material) -> None:
    first, second = (PROTOCOLS["random-5-fold"].splits(given.clips, seed) for seed in (0, 1))
    assert all(np.bincount(given.labels[split.test]).tolist() == [4] * 7 for split in first)
    assert not np.array_equal(first[0].test, second[0].test)
    assert not np.array_equal(first[0].test, PROTOCOLS["random-80-20"].splits(given.clips, 0)[0].test)


def test_a_speaker_on_both_sides_is_refused(given: Material) -> None:
    with pytest.raises(SplitError, match="speaker"):
        check(LOSO, given, PROTOCOLS["random-80-20"].splits(given.clips, 0)[0])


def test_a_sentence_on_both_sides_is_refused(given: Material) -> None:
    with pytest.raises(SplitError, match="sentence"):
        check(PROTOCOLS["speaker-and-sentence"], given, LOSO.splits(given.clips, 0)[0])


def test_copies_of_a_recording_on_both_sides_are_refused_but_in_the_leaky_protocol() -> None:
    leaky = PROTOCOLS["leaky"]
    items = leaky.prepare(corpus(), 0)
    split = random_items(items.clips, 0)[0]
    assert set(items.parents[split.train]) & set(items.parents[split.test])
    check(leaky, items, split)
    with pytest.raises(SplitError, match="recording"):
        check(PROTOCOLS["random-80-20"], items, split)


def test_the_leaky_protocol_and_the_control_call_themselves_no_result() -> None:
    assert {name for name, one in PROTOCOLS.items() if not one.is_result} == {"leaky", "loso-shuffled"}
    assert all("not a result" in one.title for one in PROTOCOLS.values() if not one.is_result)
    assert "transductive" in PROTOCOLS["loso-enrolled"].title


def test_equal_files_under_two_names_are_refused_on_both_sides(given: Material) -> None:
    split = LOSO.splits(given.clips, 0)[0]
    clips = list(given.clips)
    clips[split.test[0]] = replace(clips[split.test[0]], digest=clips[split.train[0]].digest)
    with pytest.raises(SplitError, match="file content"):
        check(LOSO, replace(given, clips=clips), split)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [([0, 1], [], "empty"), ([], [0], "empty"), ([0, 1], [1, 2], "both sides"), ([0, 1], [2, 2], "twice")],
)
def test_sides_that_are_no_sides_are_refused(given: Material, train: list[int], test: list[int], reason: str) -> None:
    split = Split("odd", np.array(train, np.int64), np.array(test, np.int64))
    with pytest.raises(SplitError, match=reason):
        check(PROTOCOLS["random-80-20"], given, split)


def test_an_item_that_is_never_tested_or_twice_is_refused(given: Material) -> None:
    splits = LOSO.splits(given.clips, 0)
    for wrong in (splits[1:], [*splits, splits[0]]):
        with pytest.raises(SplitError, match="tested"):
            check_whole(LOSO, given, wrong)


def test_a_manifest_can_be_checked_from_its_file_and_names_every_clip(given: Material) -> None:
    split = LOSO.splits(given.clips, 0)[0]
    one = manifest(LOSO, given.clips, 0, split)
    stored = Manifests(items={clip.name: clip.digest for clip in given.clips}, splits=(one,))
    assert recomputed_digest(stored, one) == one.digest
    assert len(one.train) + len(one.test) == 140
    other = Manifests(items=stored.items | {one.test[0]: "0" * 64}, splits=(one,))
    assert recomputed_digest(other, one) != one.digest


def test_equal_pictures_on_both_sides_are_refused() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    refuse_shared_pictures(pixels[:3], pixels[3:])
    with pytest.raises(SplitError, match="1 test pictures"):
        refuse_shared_pictures(pixels[:4], pixels[3:])


def test_ferplus_drops_pictures_that_are_tested_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 48, 48), dtype=np.uint8)
    pixels[1] = pixels[7]
    votes = np.zeros((8, len(ferplus.VOTES)), np.uint8)
    votes[:, 0] = 10
    (tmp_path / "ferplus").mkdir()
    np.savez(
        tmp_path / ferplus.FILE,
        pixels=pixels,
        votes=votes,
        split=np.array(["train"] * 6 + ["valid"] * 2),
        duplicate_of_evaluation=np.zeros(8, bool),
    )
    with pytest.raises(SplitError):
        refuse_shared_pictures(pixels[:6], pixels[6:])
    pictures = ferplus.load(tmp_path)
    learned = np.concatenate([pictures.training.pixels, pictures.held_out.pixels])
    refuse_shared_pictures(learned, pictures.test.pixels)
    assert len(learned) == 5
