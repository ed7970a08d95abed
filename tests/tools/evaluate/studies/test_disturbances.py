"""Disturbances do what their names say, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from models.contract import CONTOUR_FEATURES
from models.labels import Emotion
from tools.dataset.clips import Clip
from tools.evaluate.studies.disturbances import CLEAN, FACES, SOUNDS, disturbed_faces, disturbed_windows

RATE = 16_000


def voice() -> NDArray[np.float64]:
    time = np.arange(2 * RATE) / RATE
    return np.asarray(3000 * np.sin(2 * np.pi * 200 * time) * (np.sin(2 * np.pi * 2 * time) > 0), np.float64)


def ratio_db(samples: NDArray[np.float64], changed: NDArray[np.float64]) -> float:
    return float(10 * np.log10((samples**2).mean() / ((changed - samples) ** 2).mean()))


@pytest.mark.parametrize(
    ("condition", "snr_db"), [(f"noise {snr} dB", snr) for snr in (20, 10, 5, 0)] + [("babble 10 dB", 10)]
)
def test_noise_has_the_ratio_that_it_is_named_after(condition: str, snr_db: int) -> None:
    samples = voice()
    changed = SOUNDS[condition](samples, np.random.default_rng(0))
    assert ratio_db(samples, changed) == pytest.approx(snr_db, abs=0.1)


def test_pink_noise_falls_with_frequency() -> None:
    noise = SOUNDS["noise 0 dB"](voice(), np.random.default_rng(0)) - voice()
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].sum() for k in range(8, 14)]
    np.testing.assert_allclose(octaves, np.mean(octaves), rtol=0.3)


def test_a_longer_room_fills_the_pauses_more() -> None:
    samples = voice()
    silent = samples == 0
    silent[:RATE] = False
    levels = [
        float((SOUNDS[name](samples, np.random.default_rng(0))[silent] ** 2).mean())
        for name in ("reverberation 0.4 s", "reverberation 0.8 s")
    ]
    assert 0 < levels[0] < levels[1]


def test_a_far_microphone_hears_less() -> None:
    samples = voice()
    heard = SOUNDS["far microphone"](samples, np.random.default_rng(0))
    assert 10 * np.log10((heard**2).mean() / (samples**2).mean()) == pytest.approx(-18, abs=0.5)


def test_windows_of_a_disturbed_clip_are_the_same_every_time_and_differ_by_condition(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, voice().astype(np.int16), RATE)
    clip = Clip("clip", path, "emodb", "03", "a01", Emotion.ANGER, "male", "0")
    first, again, other = (
        disturbed_windows(clip, name) for name in ("noise 10 dB", "noise 10 dB", "reverberation 0.4 s")
    )
    assert first.frames.shape == (2, 512, 34)
    assert first.contours.shape == (2, len(CONTOUR_FEATURES))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert np.abs(first.frames.astype(np.float32) - other.frames).max() > 0.1


def faces() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:48, :48]
    one = 128 + 60 * np.sin(rows / 3) * np.cos(columns / 2)
    return np.asarray(np.stack([one, 255 - one, one.T, np.full((48, 48), 200.0)]), np.uint8)


@pytest.mark.parametrize("condition", FACES)
def test_faces_keep_their_form_and_are_disturbed_the_same_every_time(condition: str) -> None:
    given = faces()
    first, again = (disturbed_faces(given, condition, 0) for _ in range(2))
    assert first.shape == given.shape
    assert first.dtype.name == "uint8"
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(given, faces())
    assert (first == given).all() == (condition == CLEAN)


def test_less_light_is_darker_and_noisier() -> None:
    flat = np.full((1, 48, 48), 200, np.uint8)
    quarter, tenth = (disturbed_faces(flat, f"low light 1/{n}", 0) for n in (4, 10))
    assert quarter.mean() == pytest.approx(50, abs=1)
    assert tenth.mean() == pytest.approx(20, abs=1)
    assert 2 < tenth.std() < quarter.std() < 8


def test_blur_and_distance_take_detail_away_by_degrees() -> None:
    given = np.random.default_rng(0).integers(0, 256, (2, 48, 48)).astype(np.uint8)
    detail = {name: np.abs(np.diff(disturbed_faces(given, name, 0).astype(int), axis=2)).mean() for name in FACES}
    assert detail["blur 2 pixels"] < detail["blur 1 pixel"] < detail[CLEAN]
    assert detail["16 pixels wide"] < detail["24 pixels wide"] < detail[CLEAN]


def test_only_the_named_part_is_covered() -> None:
    given = faces()
    lower, upper = (disturbed_faces(given, f"{part} face covered", 0) for part in ("lower", "upper"))
    np.testing.assert_array_equal(lower[:, :28], given[:, :28])
    np.testing.assert_array_equal(upper[:, 22:], given[:, 22:])
    assert (lower[:, 28:].reshape(4, -1).std(axis=1) == 0).all()
    assert (upper[:, :22].reshape(4, -1).std(axis=1) == 0).all()


def test_turning_leaves_the_middle_where_it_is() -> None:
    spot = np.zeros((6, 48, 48), np.uint8)
    spot[:, 20:28, 20:28] = 255
    turned = disturbed_faces(spot, "rotated 30 degrees", 0)
    centre = np.stack(np.nonzero(turned[0] > 127)).mean(axis=1)
    np.testing.assert_allclose(centre, 23.5, atol=0.5)
