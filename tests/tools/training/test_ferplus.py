"""The votes' rules by hand-made cases, and the split by a small made-up archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import FACE_CLASSES
from models.labels import Emotion
from tools.training import ferplus


def _votes(**counts: int) -> NDArray[np.uint8]:
    return np.array([[counts.get(name, 0) for name in ferplus.VOTES]], np.uint8)


def _index(emotion: Emotion) -> int:
    return FACE_CLASSES.index(emotion)


@pytest.mark.parametrize(
    ("votes", "majority", "plurality"),
    [
        (_votes(happiness=10), Emotion.HAPPINESS, Emotion.HAPPINESS),
        (_votes(sadness=6, neutral=4), Emotion.SADNESS, Emotion.SADNESS),
        (_votes(sadness=5, neutral=5), None, None),
        (_votes(sadness=4, neutral=3, fear=3), None, Emotion.SADNESS),
        (_votes(anger=5, neutral=4, fear=1), Emotion.ANGER, Emotion.ANGER),
        (_votes(contempt=9, neutral=1), None, None),
        (_votes(unknown=6, neutral=4), None, None),
        (_votes(not_a_face=10), None, None),
        (_votes(anger=1, fear=1, neutral=1, sadness=1), None, None),
    ],
    ids=[
        "all agree",
        "more than half",
        "level",
        "most but not half",
        "half without the single vote",
        "contempt",
        "unknown",
        "not a face",
        "single votes only",
    ],
)
def test_labels_follow_the_rules(votes: NDArray[np.uint8], majority: Emotion | None, plurality: Emotion | None) -> None:
    for rule, expected in ((ferplus.majority, majority), (ferplus.plurality, plurality)):
        assert rule(votes).tolist() == [-1 if expected is None else _index(expected)]


def test_targets_are_shares_of_our_classes_without_single_votes() -> None:
    shares, kept = ferplus.targets(_votes(sadness=6, neutral=2, fear=1, contempt=1))
    assert kept.tolist() == [True]
    expected = {Emotion.SADNESS: 0.75, Emotion.NEUTRAL: 0.25}
    assert shares[0].tolist() == pytest.approx([expected.get(emotion, 0.0) for emotion in FACE_CLASSES])


@pytest.mark.parametrize("votes", [_votes(contempt=6, neutral=4), _votes(unknown=5, fear=5), _votes(not_a_face=10)])
def test_pictures_that_are_mostly_of_no_class_of_ours_are_not_trained_on(votes: NDArray[np.uint8]) -> None:
    shares, kept = ferplus.targets(votes)
    assert kept.tolist() == [False]
    assert not shares.any()


def archive(folder: Path, pixels: NDArray[np.uint8], split: list[str], duplicate: list[bool]) -> None:
    (folder / "ferplus").mkdir(exist_ok=True)
    np.savez(
        folder / ferplus.FILE,
        pixels=pixels,
        votes=np.repeat(_votes(happiness=10), len(pixels), axis=0),
        split=np.array(split),
        duplicate_of_evaluation=np.array(duplicate),
    )


def _pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def test_no_picture_of_the_test_part_reaches_training(tmp_path: Path) -> None:
    pixels = _pictures(6)
    pixels[1] = pixels[5]
    archive(tmp_path, pixels, ["train"] * 4 + ["valid"] * 2, [False, False, True, False, False, False])
    pictures = ferplus.load(tmp_path)
    trained = {picture.tobytes() for part in (pictures.training, pictures.held_out) for picture in part.pixels}
    assert trained == {pixels[0].tobytes(), pixels[3].tobytes()}
    assert len(pictures.test) == 2


def test_equal_pictures_stay_on_one_side_of_the_held_out_split(tmp_path: Path) -> None:
    pixels = np.concatenate([_pictures(200)] * 2)
    archive(tmp_path, pixels, ["train"] * 400, [False] * 400)
    pictures = ferplus.load(tmp_path)
    sides = [{picture.tobytes() for picture in part.pixels} for part in (pictures.training, pictures.held_out)]
    assert len(sides[0] & sides[1]) == 0
    assert 2 <= len(sides[1]) <= 25


def test_the_digest_tells_one_archive_from_another(tmp_path: Path) -> None:
    archive(tmp_path, _pictures(4), ["train"] * 4, [False] * 4)
    first = ferplus.load(tmp_path).digest
    archive(tmp_path, _pictures(5), ["train"] * 5, [False] * 5)
    assert ferplus.load(tmp_path).digest != first


@pytest.mark.parametrize("content", [None, b"", b"not an archive"], ids=["missing", "empty", "another file"])
def test_an_unreadable_archive_is_named_with_the_place_to_get_it(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ferplus").mkdir()
        (tmp_path / ferplus.FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=r"ferplus\.npz") as refused:
        ferplus.load(tmp_path)
    assert "--data" in refused.value.next_step


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    archive(tmp_path, np.zeros((3, 64, 64), np.uint8), ["train"] * 3, [False] * 3)
    with pytest.raises(ConfigError, match=r"\(3, 64, 64\)"):
        ferplus.load(tmp_path)
