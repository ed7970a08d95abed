"""Splits keep speakers apart, and another set than the original one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile
from tools.training.emodb import (
    Clip,
    fixed_split,
    leave_one_speaker_out,
    load_clips,
    random_folds,
    read_samples,
    set_digest,
    shared_speakers,
)

from device.errors import ConfigError
from models.labels import Emotion

CLIPS: Final = Path(__file__).parents[2] / "clips"


def folder_with(tmp_path: Path, names: dict[str, str]) -> Path:
    """A data folder with committed clips under other names."""
    wavs = tmp_path / "emodb" / "wav"
    wavs.mkdir(parents=True)
    for name, source in names.items():
        shutil.copy(CLIPS / source, wavs / name)
    return tmp_path


def clips_of(speakers: tuple[str, ...], emotions: tuple[Emotion, ...] = tuple(Emotion)[:7]) -> list[Clip]:
    return [
        Clip(f"{speaker}a01{emotion}{take}", Path("nowhere"), speaker, "a01", emotion, "0" * 64)
        for speaker in speakers
        for emotion in emotions
        for take in "abcde"
    ]


def test_committed_clips_are_read_by_their_names(tmp_path: Path) -> None:
    data = folder_with(tmp_path, {"03a02Wc.wav": "03a02Wc.wav", "09a02La.wav": "09a02La.wav"})
    first, second = load_clips(data, expected=None)
    assert (first.speaker, first.sentence, first.emotion) == ("03", "a02", Emotion.ANGER)
    assert second.emotion is Emotion.BOREDOM
    assert read_samples(first).dtype == np.int16


def test_missing_set_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zenodo"):
        load_clips(tmp_path)


def test_incomplete_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="535"):
        load_clips(folder_with(tmp_path, {"03a02Wc.wav": "03a02Wc.wav"}))


def test_foreign_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ssTTTEv"):
        load_clips(folder_with(tmp_path, {"angry.wav": "03a02Wc.wav"}), expected=None)


def test_resampled_copy_is_refused(tmp_path: Path) -> None:
    data = folder_with(tmp_path, {"03a02Wc.wav": "03a02Wc.wav"})
    (clip,) = load_clips(data, expected=None)
    soundfile.write(clip.path, np.zeros(100, np.int16), 22_050)
    with pytest.raises(ConfigError, match="22050"):
        read_samples(clip)


def test_digest_of_the_set_changes_with_one_sample(tmp_path: Path) -> None:
    data = folder_with(tmp_path, {"03a02Wc.wav": "03a02Wc.wav"})
    before = set_digest(load_clips(data, expected=None))
    file = data / "emodb" / "wav" / "03a02Wc.wav"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    assert set_digest(load_clips(data, expected=None)) != before


def test_no_speaker_is_on_both_sides() -> None:
    clips = clips_of(("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"))
    folds = leave_one_speaker_out(clips)
    assert len(folds) == 10
    for split in (*folds, fixed_split(clips)):
        assert not shared_speakers(clips, split)
        assert sorted([*split.train, *split.test]) == list(range(len(clips)))
    assert sorted(i for split in folds for i in split.test) == list(range(len(clips)))
    assert {clips[i].speaker for i in fixed_split(clips).test} == {"12", "14", "15", "16"}


def test_random_folds_share_speakers_and_no_clip() -> None:
    clips = clips_of(("03", "08", "09"))
    folds = random_folds(clips, folds=5)
    for split in folds:
        assert shared_speakers(clips, split)
        assert not set(split.train) & set(split.test)
    assert sorted(i for split in folds for i in split.test) == list(range(len(clips)))
