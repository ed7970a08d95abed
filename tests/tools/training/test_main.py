"""One command rebuilds a bundle, on small made-up sets; what is missing is named with where to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

from device.inference.bundle import load_bundle
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE_CLASSES, SAMPLE_RATE_HZ
from tests.tools.dataset.made_up import table
from tools.dataset.corpora import emodb, nemo, ravdess
from tools.training.__main__ import main
from tools.training.ferplus import VOTES

REPOSITORY: Final = Path(__file__).parents[3]


def say(path: Path, speaker: int, emotion: int) -> None:
    """A second of a buzz of the speaker's and emotion's own pitch and loudness, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    voice = 1500 * (1 + emotion) * np.sign(np.sin(2 * np.pi * (115 + 15 * emotion + 10 * speaker) * time))
    noise = np.random.default_rng(10 * speaker + emotion).normal(0, 100, len(time))
    soundfile.write(path, (voice + noise).astype(np.int16), SAMPLE_RATE_HZ)


def make_emodb(folder: Path) -> None:
    """Four speakers, two of them of the fixed test side, every emotion twice."""
    for number, speaker in enumerate(("03", "08", "12", "14")):
        for place, letter in enumerate(emodb.EMOTION_OF):
            for take in "ab":
                say(folder / "emodb" / "wav" / f"{speaker}a01{letter}{take}.wav", number, place)


def make_ravdess(folder: Path) -> None:
    """Two actors, every emotion once, calm among them; beside them an actor that nobody trains on."""
    for number, actor in enumerate(("02", "03", "24")):
        for place, code in enumerate(ravdess.EMOTION_OF):
            name = f"03-01-{code}-01-01-01-{actor}.flac"
            say(folder / "ravdess" / f"Actor_{actor}" / name, number, place)


def make_nemo(folder: Path) -> None:
    """Two speakers, every emotion once, as ogg files with the table."""
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for number, (speaker, gender) in enumerate({"EB0": "female", "IC0": "male"}.items()):
        for place, emotion in enumerate(nemo.EMOTION_OF):
            say(folder / "nemo" / "samples" / f"{speaker}_{emotion}_1.ogg", number, place)
            lines.append(f"{speaker}_{emotion}_1.wav\t{emotion}\tTak.\ttak\t{speaker}\t{gender}\t30")
    table(folder / "nemo" / "data.tsv", *lines)


VOICES: Final = {"emodb": make_emodb, "ravdess": make_ravdess, "nemo": make_nemo}


def make_faces(folder: Path) -> None:
    """Noise pictures, each with ten votes for one class."""
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(len(FACE_CLASSES)), 110)
    votes = np.zeros((len(classes), len(VOTES)), np.uint8)
    votes[np.arange(len(classes)), [VOTES.index(str(FACE_CLASSES[i])) for i in classes]] = 10
    (folder / "ferplus").mkdir()
    np.savez(
        folder / "ferplus" / "ferplus.npz",
        pixels=generator.integers(0, 256, (len(classes), 48, 48), dtype=np.uint8),
        votes=votes,
        split=np.where(np.arange(len(classes)) % 11 == 0, "valid", "train"),
        duplicate_of_evaluation=np.zeros(len(classes), bool),
    )


@pytest.mark.parametrize("missing", VOICES)
def test_missing_voices_are_named_before_anything_long_starts(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_faces(tmp_path)
    for key, make in VOICES.items():
        if key != missing:
            make(tmp_path)
    assert main(["--data", str(tmp_path), "--smoke", "--build", str(tmp_path / "build")]) == 2
    assert f"{tmp_path / missing}" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


def test_missing_faces_are_named_before_anything_long_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for make in VOICES.values():
        make(tmp_path)
    assert main(["--data", str(tmp_path), "--smoke", "--build", str(tmp_path / "build")]) == 2
    assert "FER2013" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_smoke_run_makes_a_bundle_that_loads(tmp_path: Path) -> None:
    for make in (*VOICES.values(), make_faces):
        make(tmp_path)
    build = tmp_path / "build"
    command = f"{sys.executable} -m tools.training --data {tmp_path} --smoke --build {build} --threads 1"
    run = subprocess.run(command.split(), capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "hours" in run.stdout
    manifest = load_bundle(build / "bundle", TFLiteRuntime("tflite-runtime")).manifest
    assert [corpus.items for corpus in manifest.trained_on] == [28, 14, 12, 700]
    assert {"speech, emodb: macro recall (UAR)", "speech, nemo: accuracy (WA)"} <= {m.name for m in manifest.metrics}
    assert "--smoke" in manifest.origin.command
    assert len(list((build / "speech").glob("fold-*.npz"))) == 2
    card = (build / "bundle" / "card.md").read_text()
    assert all(metric.name in card for metric in manifest.metrics)
