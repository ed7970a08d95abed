"""The spoken corpora by name, whole or a part of each for a trial."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from device.errors import ConfigError
from models.labels import EMOTIONS
from tests.tools.dataset.made_up import sound, table
from tests.tools.training.made_up import clips_of, windows
from tools.dataset.clips import Clip
from tools.training import voices
from tools.training.speech_windows import Windows
from tools.training.voices import load_corpora, some

CLIPS = Path(__file__).parents[2] / "clips"
TSV = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Takes the place of the windows' computation; notes kind, clips and windows of each."""
    notes: list[tuple[str, int, int]] = []

    def clean(clips: Sequence[Clip], cache: Path) -> Windows:
        notes.append(("clean", len(clips), 2))
        return windows([clip.label for clip in clips], 2)

    def training(clips: Sequence[Clip], cache: Path, copies: int) -> Windows:
        notes.append(("training", len(clips), copies))
        return windows([clip.label for clip in clips], copies)

    monkeypatch.setattr(voices, "clean_windows", clean)
    monkeypatch.setattr(voices, "training_windows", training)
    return notes


def data(folder: Path) -> Path:
    """Two clips of each of two corpora, one speaker and one emotion each."""
    (folder / "emodb" / "wav").mkdir(parents=True)
    for name in ("03a02Wc.wav", "03a05Wa.wav"):
        shutil.copy(CLIPS / "03a02Wc.wav", folder / "emodb" / "wav" / name)
    for number in (1, 2):
        sound(folder / "nemo" / "EB0" / f"EB0_surprised_{number}.ogg")
    rows = [f"EB0_surprised_{number}.ogg\tsurprised\tNie.\tnie\tEB0\tfemale\t27" for number in (1, 2)]
    table(folder / "nemo" / "data.tsv", TSV, *rows)
    return folder


def test_some_clips_of_every_speaker_and_emotion() -> None:
    clips = clips_of(("03", "08"), EMOTIONS[:3], takes=4)
    chosen = some(clips, 2)
    counts = Counter((clip.speaker, clip.emotion) for clip in chosen)
    assert set(counts.values()) == {2} and len(counts) == 6
    assert some(clips, None) == clips
    assert some(clips[:1], 5) == clips[:1]


def test_a_trial_takes_what_is_there(tmp_path: Path, asked: list[tuple[str, int, int]]) -> None:
    corpora = load_corpora(data(tmp_path), {"emodb": 3, "nemo": 2}, tmp_path / "cache", of_each=1)
    assert list(corpora) == ["emodb", "nemo"]
    assert asked == [("clean", 1, 2), ("training", 1, 3), ("clean", 1, 2), ("training", 1, 2)]
    assert corpora["nemo"].labels.tolist() == [7]
    assert corpora["nemo"].speakers.tolist() == ["EB0"]
    assert corpora["emodb"].training.frames.shape[:2] == (1, 3)


def test_a_corpus_that_is_missing_or_not_whole_is_named_before_anything_is_computed(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    data(tmp_path)
    with pytest.raises(ConfigError, match="535"):
        load_corpora(tmp_path, {"emodb": 3}, tmp_path / "cache")
    with pytest.raises(ConfigError, match="ravdess"):
        load_corpora(tmp_path, {"emodb": 3, "ravdess": 2}, tmp_path / "cache", of_each=1)
    assert asked == []
