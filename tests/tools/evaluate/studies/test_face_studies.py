"""Rows of the face branch, and what its studies need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.errors import ConfigError
from models.contract import FACE_CLASSES
from tools.evaluate.goals import agreement
from tools.evaluate.studies.face_studies import face, robustness, rows_of
from tools.evaluate.studies.shelf import Shelf
from tools.training.ferplus import COLUMNS, VOTES


def test_only_pictures_with_a_majority_count_and_float32_stands_beside() -> None:
    votes = np.zeros((9, len(VOTES)), np.uint8)
    for row, column in enumerate(COLUMNS):
        votes[row, column] = 8
    votes[7, VOTES.index("contempt")] = 9
    votes[8, [COLUMNS[0], COLUMNS[1]]] = 5
    int8 = (4 * np.eye(7)[[0, 1, 2, 3, 4, 5, 0, 0, 0]]).astype(np.float32)
    float32 = (4 * np.eye(7)[[0, 1, 2, 3, 4, 5, 6, 0, 0]]).astype(np.float32)
    valid, parity = rows_of(int8, float32, votes, 2.0, 1)
    assert (valid.protocol, parity.protocol) == ("ferplus-valid", "int8")
    assert valid.classes == tuple(str(emotion) for emotion in FACE_CLASSES)
    assert valid.labels.tolist() == list(range(7))
    assert valid.scores.max() == pytest.approx(np.log(np.exp(2) / (np.exp(2) + 6)), abs=1e-5)
    same = agreement([parity])
    assert same is not None
    assert same.value == pytest.approx(6 / 7)


def test_an_unfinished_face_training_is_said(tmp_path: Path) -> None:
    given = Shelf(tmp_path, tmp_path, tmp_path, tmp_path)
    for study in (face, robustness):
        with pytest.raises(ConfigError, match=r"result\.json: not there yet"):
            study(given)
