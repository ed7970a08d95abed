"""A probe finds a speaker where there is one to be found, and is held against chance."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluate.studies.privacy import area_findings, noise_windows, speaker_findings


def test_a_probe_names_speakers_from_what_carries_them_and_not_from_what_does_not() -> None:
    generator = np.random.default_rng(0)
    speakers = np.repeat(["03", "08", "09", "10"], 50)
    sentences = np.tile([f"a{i:02d}" for i in range(10)], 20)
    telling = (np.repeat(np.eye(4), 50, axis=0) + 0.2 * generator.standard_normal((200, 4))).astype(np.float32)
    silent = generator.standard_normal((200, 6)).astype(np.float32)
    inside, outside = speaker_findings({"the embedding": telling, "the label": silent}, speakers, sentences)
    assert inside.value > 95
    assert outside.low is not None and outside.low < 25 < 40
    assert outside.value < 40
    assert (inside.unit, inside.n) == ("%", 200)
    assert "most frequent speaker 25.0 %" in inside.beside
    assert "15 %" in inside.beside


def test_a_sentence_cannot_stand_for_a_speaker() -> None:
    speakers = np.repeat(["03", "08"], 40)
    sentences = np.array([f"{speaker}-{i % 5}" for i, speaker in enumerate(speakers)])
    by_sentence = np.array([sorted(set(sentences)).index(one) for one in sentences])
    features = np.eye(10, dtype=np.float32)[by_sentence]
    assert speaker_findings({"sentence": features}, speakers, sentences)[0].value < 70


def test_noise_windows_are_noise_of_three_colours() -> None:
    windows = noise_windows(3, 0)
    assert windows.frames.shape == (3, 1, 512, 34)
    assert np.isfinite(windows.frames.astype(np.float32)).all()
    assert np.isfinite(windows.contours).all()
    assert len({windows.frames[i, 0, 100, 0].item() for i in range(3)}) == 3


def test_areas_are_means_of_folds_with_the_folds_ends() -> None:
    areas = np.array([[0.9, 0.5, 0.8], [0.7, 0.5, 0.8], [0.8, 0.5, 0.8]])
    first, *_, last = area_findings(areas, "noise", 100, ["03", "08", "09"], 0)
    assert (first.value, first.low, first.high) == pytest.approx((0.8, 0.7, 0.9))
    assert "reconstruction" in first.what
    assert "both together" in last.what
    assert "03, 08, 09" in first.note
