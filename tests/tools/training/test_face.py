"""A whole training on made-up pictures, interrupted and continued, up to the int8 file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device.errors import ConfigError
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE
from models.networks.face import FaceShape
from tools.training import face, face_release, ferplus

SMALL = FaceShape(stem=8, stages=((8, 1), (8, 0), (8, 0)))


def _archive(folder: Path) -> None:
    """Bright pictures are happy, dark ones sad, so that there is something to learn."""
    random = np.random.default_rng(0)
    bright = random.integers(0, 2, 160).astype(bool)
    pixels = random.integers(0, 60, (160, 48, 48)) + np.where(bright, 190, 0)[:, None, None]
    votes = np.zeros((160, len(ferplus.VOTES)), np.uint8)
    votes[bright, ferplus.VOTES.index("happiness")] = 10
    votes[~bright, ferplus.VOTES.index("sadness")] = 10
    (folder / "ferplus").mkdir()
    np.savez(
        folder / ferplus.FILE,
        pixels=pixels.astype(np.uint8),
        votes=votes,
        split=np.array(["train"] * 128 + ["valid"] * 32),
        duplicate_of_evaluation=np.zeros(160, bool),
    )


@pytest.mark.slow
def test_training_continues_after_an_interruption_and_gives_an_int8_file(
    tmp_path: Path,
) -> None:
    _archive(tmp_path)
    build = tmp_path / "build"
    pictures = ferplus.load(tmp_path)
    for epochs in (1, 3):
        face.train(pictures, face.Plan(epochs=epochs, batch=16, average=0.9), build, shape=SMALL, quiet=True)
    journal = [json.loads(line) for line in (build / "journal.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in journal] == [1, 2, 3]
    assert journal[2]["loss"] < journal[0]["loss"]

    result = face_release.release(tmp_path, build)
    assert json.loads((build / "result.json").read_text()) == result
    assert sum(result["prior"]) == pytest.approx(1.0)
    assert result["test"]["majority_int8"]["of"] == 32
    assert result["test"]["same_label_int8_float32"]["value"] > 0.9
    logits = face_release.logits_of(TFLiteRuntime("litert").load(build / FACE.file, FACE), pictures.test.pixels)
    stored = np.load(build / "predictions.npz")["int8"]
    assert (logits.argmax(axis=1) == stored.argmax(axis=1)).mean() > 0.9


def test_rare_classes_weigh_more_but_not_without_bound() -> None:
    shares = np.eye(7, dtype=np.float32)[[0] * 900 + [1] * 99 + [2]]
    weights = face.picture_weights(shares, face.Plan(balance=0.25, heaviest=3.0))
    assert weights.mean() == pytest.approx(1.0, abs=1e-5)
    assert weights[0] < weights[900] < weights[999]
    assert weights[999] / weights[0] < 3.0 / (900 * 7 / 1000) ** -0.25 + 1e-3


def test_absent_data_is_said_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data"):
        face.main(["--data", str(tmp_path), "--build", str(tmp_path / "build")])
    assert not (tmp_path / "build").exists()
