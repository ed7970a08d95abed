"""One command rebuilds a bundle, on small made-up sets; what is missing is named with where to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile
from tools.training.emodb import EMOTION_OF

from device.inference.bundle import load_bundle
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE_CLASSES, SAMPLE_RATE_HZ
from tools.training.__main__ import main
from tools.training.ferplus import VOTES

REPOSITORY: Final = Path(__file__).parents[3]


def make_voices(folder: Path) -> None:
    """Four speakers, every emotion twice: tones of their own pitch and loudness, with noise."""
    wavs = folder / "emodb" / "wav"
    wavs.mkdir(parents=True)
    generator = np.random.default_rng(0)
    time = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for number, speaker in enumerate(("03", "08", "12", "14")):
        for loudness, emotion in enumerate(EMOTION_OF, start=1):
            for take in "ab":
                pitch = 100 + 15 * loudness + 10 * number
                voice = 1500 * loudness * np.sign(np.sin(2 * np.pi * pitch * time))
                samples = (voice + generator.normal(0, 100, len(time))).astype(np.int16)
                soundfile.write(wavs / f"{speaker}a01{emotion}{take}.wav", samples, SAMPLE_RATE_HZ)


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


def test_missing_voices_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--smoke", "--build", str(tmp_path / "build")]) == 2
    assert "emodb" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


def test_missing_faces_are_named_before_anything_long_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_voices(tmp_path)
    assert main(["--data", str(tmp_path), "--smoke", "--build", str(tmp_path / "build")]) == 2
    assert "FER2013" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_smoke_run_makes_a_bundle_that_loads(tmp_path: Path) -> None:
    make_voices(tmp_path)
    make_faces(tmp_path)
    build = tmp_path / "build"
    command = f"{sys.executable} -m tools.training --data {tmp_path} --smoke --build {build} --threads 1"
    run = subprocess.run(command.split(), capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "hours" in run.stdout
    manifest = load_bundle(build / "bundle", TFLiteRuntime("tflite-runtime")).manifest
    assert [corpus.items for corpus in manifest.trained_on] == [56, 700]
    assert any("trial run" in metric.protocol for metric in manifest.metrics)
    assert "--smoke" in manifest.origin.command
    assert len(list((build / "speech").glob("fold-*.npz"))) == 2
