"""Released predictions: what is written is read again, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device.errors import ConfigError
from tools.evaluate.predictions import Row, read_rows, write_rows


def _log_probabilities(n: int, k: int) -> NDArray[np.float64]:
    return np.asarray(np.log(np.random.default_rng(0).dirichlet(np.ones(k), n)), np.float64)


def _row(**changes: object) -> Row:
    fields: dict[str, object] = {
        "name": "face, FER+",
        "system": "face",
        "protocol": "ferplus-valid",
        "classes": ("anger", "fear", "neutral"),
        "scores": _log_probabilities(5, 3),
        "labels": np.array([0, 1, 2, 0, 1]),
        "condition": "blur",
        "seed": 3,
        "note": "a sentence",
    }
    return Row(**(fields | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    speakers = np.array(["a", "b", "a", "b", "a"])
    write_rows(tmp_path / "new" / "face.npz", [_row(), _row(groups=speakers, other=_log_probabilities(5, 3))])
    plain, full = read_rows(tmp_path / "new" / "face.npz")
    assert (plain.facts(), plain.groups, plain.other) == (_row().facts(), None, None)
    np.testing.assert_allclose(plain.scores, _row().scores, atol=5e-3)
    np.testing.assert_array_equal(plain.labels, [0, 1, 2, 0, 1])
    assert full.groups is not None and full.groups.tolist() == speakers.tolist()
    assert full.other is not None and full.other.shape == (5, 3)


def test_certainty_beyond_half_precision_stays_finite(tmp_path: Path) -> None:
    sure = np.array([[0.0, -1e9, -1e9]] * 5)
    write_rows(tmp_path / "face.npz", [_row(scores=sure)])
    assert np.isfinite(read_rows(tmp_path / "face.npz")[0].scores).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": np.full((5, 3), 0.2)}, "log-probabilities"),
        ({"scores": _log_probabilities(4, 3)}, "scores are"),
        ({"labels": np.array([0, 1, 2, 3, 0])}, "labels"),
        ({"groups": np.array(["a"])}, "groups"),
    ],
    ids=["not log-probabilities", "other shape", "a class too many", "one group for all"],
)
def test_a_row_that_cannot_be_scored_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        _row(**change)


@pytest.mark.parametrize("content", [None, b"", b"another file"], ids=["missing", "empty", "another file"])
def test_a_file_of_another_form_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "face.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"face\.npz"):
        read_rows(tmp_path / "face.npz")
