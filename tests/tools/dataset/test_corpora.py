"""Known corpora are read by their own names and tables, and a set that is absent or not whole says where to get it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.errors import ConfigError
from models.labels import Emotion
from tests.tools.dataset.made_up import sound, table
from tools.dataset.clips import Clip, file_digest, read_samples
from tools.dataset.corpora import emodb, ferplus, nemo, ravdess

CLIPS = Path(__file__).parents[2] / "clips"
TSV = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


def test_emodb_is_read_by_its_names(tmp_path: Path) -> None:
    (tmp_path / "emodb" / "wav").mkdir(parents=True)
    for name in ("09a02La.wav", "03a02Wc.wav"):
        shutil.copy(CLIPS / name, tmp_path / "emodb" / "wav")
    first, second = emodb.load(tmp_path, complete=False)
    assert (first.name, first.speaker, first.sentence, first.sex) == ("03a02Wc", "03", "a02", "male")
    assert (first.emotion, second.emotion, second.sex) == (Emotion.ANGER, Emotion.BOREDOM, "female")
    assert first.digest == file_digest(CLIPS / "03a02Wc.wav")
    assert read_samples(first).dtype == np.int16


def test_ravdess_counts_calm_as_neutral_and_leaves_out_the_actors_that_nobody_trains_on(tmp_path: Path) -> None:
    for name in ("03-01-02-01-02-01-03", "03-01-08-02-01-02-02", "03-01-05-01-01-01-01", "03-01-05-01-01-01-21"):
        sound(tmp_path / "ravdess" / f"Actor_{name[-2:]}" / f"{name}.flac")
    calm, surprised = ravdess.load(tmp_path, complete=False)
    assert (calm.speaker, calm.sex, calm.sentence, calm.emotion) == ("R03", "male", "02", Emotion.NEUTRAL)
    assert (surprised.speaker, surprised.sex, surprised.emotion) == ("R02", "female", Emotion.SURPRISE)


def test_nemo_is_read_by_its_table(tmp_path: Path) -> None:
    for name in ("EB0_surprised_1", "KS0_anger_2", "XX0_anger_2"):
        sound(tmp_path / "nemo" / name[:3] / f"{name}.ogg")
    rows = [
        "KS0_anger_2.ogg\tanger\tTak.\ttak\tKS0\tmale\t23",
        "EB0_surprised_1.wav\tsurprised\tNie.\tnie\tEB0\tfemale\t27",
        "XX0_anger_2.ogg\tanger\tTak.\ttak\tXX0\tmale\t23",
    ]
    table(tmp_path / "nemo" / "data.tsv", TSV, *rows)
    first, second = nemo.load(tmp_path, complete=False)
    assert (first.speaker, first.sentence, first.sex, first.emotion) == ("EB0", "nie", "female", Emotion.SURPRISE)
    assert second.name == "KS0_anger_2"


@pytest.mark.parametrize(
    ("load", "where"), [(emodb.load, "zenodo"), (ravdess.load, "zenodo"), (nemo.load, "github.com/amu-cai/nEMO")]
)
def test_a_missing_corpus_says_where_to_get_it(load: Callable[[Path], list[Clip]], where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=where):
        load(tmp_path)


def test_a_corpus_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    sound(tmp_path / "emodb" / "wav" / "03a02Wc.wav")
    sound(tmp_path / "ravdess" / "Actor_02" / "03-01-01-01-01-01-02.flac")
    sound(tmp_path / "nemo" / "EB0" / "EB0_anger_1.ogg")
    table(tmp_path / "nemo" / "data.tsv", TSV, "EB0_anger_1.ogg\tanger\tTak.\ttak\tEB0\tfemale\t27")
    for load, expected in ((emodb.load, "535"), (ravdess.load, "1140"), (nemo.load, "3404")):
        with pytest.raises(ConfigError, match=f"1 clips, the whole set has {expected}"):
            load(tmp_path)


@pytest.mark.parametrize("name", ["emodb/wav/angry.wav", "emodb/wav/77a02Wc.wav"])
def test_a_foreign_name_in_emodb_is_refused(name: str, tmp_path: Path) -> None:
    sound(tmp_path / name)
    with pytest.raises(ConfigError, match="ssTTTEv"):
        emodb.load(tmp_path, complete=False)


@pytest.mark.parametrize("name", ["01-01-01-01-01-01-02", "03-01-09-01-01-01-02", "03-01-01-01-01-01-03"])
def test_a_foreign_name_in_ravdess_is_refused(name: str, tmp_path: Path) -> None:
    sound(tmp_path / "ravdess" / "Actor_02" / f"{name}.wav")
    with pytest.raises(ConfigError, match="not RAVDESS's"):
        ravdess.load(tmp_path, complete=False)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([TSV, "EB0_anger_9.ogg\tanger\tTak.\ttak\tEB0\tfemale\t27"], "line 2 .EB0_anger_9."),
        ([TSV, "EB0_anger_1.ogg\tbored\tTak.\ttak\tEB0\tfemale\t27"], "line 2"),
        ([TSV, "EB0_anger_1.ogg\tanger\tTak.\ttak\tEB0\t\t27"], "line 2"),
        (["file_id\temotion"], "a column of"),
    ],
)
def test_a_nemo_table_that_disagrees_with_its_files_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    sound(tmp_path / "nemo" / "EB0" / "EB0_anger_1.ogg")
    table(tmp_path / "nemo" / "data.tsv", *lines)
    with pytest.raises(ConfigError, match=message):
        nemo.load(tmp_path, complete=False)


def test_nemo_without_its_table_is_refused(tmp_path: Path) -> None:
    sound(tmp_path / "nemo" / "EB0" / "EB0_anger_1.ogg")
    with pytest.raises(ConfigError, match=r"data\.tsv: cannot be read"):
        nemo.load(tmp_path)


def packed(data: Path, **changes: Any) -> Path:
    """Three made-up pictures as FER+ is packed; the last is marked as a duplicate."""
    votes = np.zeros((3, 10), np.uint8)
    votes[0, 1], votes[1, 0], votes[1, 3] = 10, 5, 5
    arrays: dict[str, Any] = {
        "pixels": np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8),
        "votes": votes,
        "split": np.array(["train", "valid", "train"]),
        "duplicate_of_evaluation": np.array([False, False, True]),
    }
    (data / "ferplus").mkdir(parents=True)
    np.savez(data / "ferplus" / "ferplus.npz", **(arrays | changes))
    return data


def test_ferplus_items_have_their_place_votes_and_part_and_no_person(tmp_path: Path) -> None:
    happy, unclear = ferplus.load_items(packed(tmp_path), "ferplus.npz")
    assert (happy.name, happy.index, happy.emotion, happy.part) == ("ferplus/000000", 0, Emotion.HAPPINESS, "train")
    assert (unclear.emotion, unclear.votes, unclear.part) == (None, {"neutral": 5, "sadness": 5}, "valid")
    assert not happy.person
    assert "research" in happy.terms


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pixels": np.zeros((3, 64, 64), np.uint8)}, "are not FER"), ({"split": np.array(["train"])}, "one length")],
)
def test_another_file_in_the_place_of_ferplus_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ferplus.load_items(packed(tmp_path, **changes), "ferplus.npz")


def test_missing_ferplus_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FERPlus"):
        ferplus.load_items(tmp_path, "ferplus.npz")
