"""The smoke version, by its command line, on a made-up corpus of sounds: run, collect, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.contract import SAMPLE_RATE_HZ
from tools.dataset.corpora import emodb
from tools.evaluate.__main__ import main
from tools.evaluate.material import material

SPEAKERS = ("03", "08", "09", "10", "11")


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tones whose pitch is the speaker's and whose tremor is the emotion's; 0.6 s each, two of each kind."""
    folder = tmp_path / "sounds" / "emodb" / "wav"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    time = np.arange(int(0.6 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    for number, speaker in enumerate(SPEAKERS):
        for tremor, letter in enumerate(emodb.EMOTION_OF):
            for sentence in ("a01", "b10"):
                tone = np.sin(2 * np.pi * (120 + 15 * number) * time) * (
                    1 + 0.8 * np.sin(2 * np.pi * 3 * tremor * time)
                )
                sound = 0.2 * tone + 0.01 * generator.standard_normal(len(time))
                soundfile.write(folder / f"{speaker}{sentence}{letter}a.wav", sound, SAMPLE_RATE_HZ, subtype="PCM_16")
    monkeypatch.setattr(emodb, "CLIPS", len(SPEAKERS) * 7 * 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sounds"


def test_the_smoke_version_goes_from_sounds_to_a_page(sounds: Path, tmp_path: Path) -> None:
    what = ["--systems", "svm", "--protocols", "loso,leaky", "--smoke"]
    assert main(["run", "--data", str(sounds), *what]) == 0
    assert main(["collect", "--smoke"]) == 0
    assert main(["report", "--smoke"]) == 0
    out = tmp_path / "build" / "evaluate" / "smoke" / "report"
    summaries = json.loads((out / "results.json").read_text())["summaries"]
    assert {(one["system"], one["protocol"], one["n"]) for one in summaries} == {
        ("svm", "loso", 35),
        ("svm", "leaky", 21),
    }
    assert "svm" in (out / "index.html").read_text()


def test_every_item_has_its_own_row_of_windows(sounds: Path, tmp_path: Path) -> None:
    given = material(sounds, tmp_path / "cache", copies=2)
    assert given.clean.frames.shape == (70, 2, 512, 34)
    assert given.training.frames.shape == (70, 2, 512, 34)
    assert [clip.label for clip in given.clips] == given.labels.tolist()
    assert given.parents.tolist() == list(range(70))
    assert {clip.sex for clip in given.clips if clip.speaker == "08"} == {"female"}
