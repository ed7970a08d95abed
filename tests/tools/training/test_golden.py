"""Golden vectors hold nobody's face and are the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from device.inference.bundle import read_golden
from models.contract import FACE
from tools.training import golden

RELEASED: Final = Path(__file__).parents[3] / "models" / "bundle"


def test_face_pictures_are_made_up_and_within_the_networks_range() -> None:
    first, second = golden.face_cases(0)["crop"], golden.face_cases(0)["crop"]
    np.testing.assert_array_equal(first, second)
    assert first.shape == (golden.CASES, *FACE.inputs[0].shape[1:])
    assert np.abs(first).max() <= 2


def test_released_face_vectors_are_those_made_up_pictures() -> None:
    """FER2013's pictures may not be passed on: none may hide in the bundle."""
    content = (RELEASED / "golden" / "face.npz").read_bytes()
    stored = read_golden(content, Path("golden/face.npz"), FACE)
    np.testing.assert_array_equal(stored["crop"], golden.face_cases(0)["crop"])


def test_vectors_of_a_released_network_are_found_again(tmp_path: Path) -> None:
    content, tolerance = golden.vectors(RELEASED / FACE.file, FACE, golden.face_cases(0))
    again = read_golden(content, tmp_path / "face.npz", FACE)
    stored = read_golden((RELEASED / "golden" / "face.npz").read_bytes(), Path("golden/face.npz"), FACE)
    for name, allowed in tolerance.items():
        assert np.abs(again[name] - stored[name]).max() <= allowed


def test_allowed_steps_are_never_rounded_down() -> None:
    for step in (0.006797636, 0.01234567, 0.25):
        allowed = golden._rounded_up(golden.STEPS * step)
        assert golden.STEPS * step < allowed < golden.STEPS * step + 3e-6
