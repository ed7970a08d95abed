"""Quality scalars: 0..1, and moving the right way."""

from __future__ import annotations

import numpy as np
import pytest

from device.features.stream import frames_of
from device.inference.quality import face_quality, speech_quality
from tests.fakes.capture import tone


def test_a_voice_is_voiced_and_noise_is_not() -> None:
    noise = np.asarray(np.random.default_rng(0).normal(0, 3_000, 32_000), np.int16)
    assert speech_quality(frames_of(tone(2.0), 16_000))[0] > 0.9
    assert speech_quality(frames_of(noise, 16_000))[0] < 0.05


def test_ten_decibels_more_are_a_sixth_more_level() -> None:
    quiet, loud = (speech_quality(frames_of(tone(2.0, amplitude=a), 16_000))[1] for a in (0.1, 0.1 * 10**0.5))
    assert loud - quiet == pytest.approx(10 / 60, abs=0.003)


def test_digital_silence_and_full_scale_stay_within_bounds() -> None:
    for samples in (np.zeros(16_000, np.int16), np.tile(np.array([32_767, -32_768], np.int16), 8_000)):
        quality = speech_quality(frames_of(samples, 16_000))
        assert quality.dtype == np.float32 and quality.shape == (2,)
        assert (quality >= 0).all() and (quality <= 1).all()


def test_a_blurred_face_is_less_sharp() -> None:
    crop = np.asarray(np.random.default_rng(0).uniform(0, 255, (64, 64)), np.float32)
    shifted = [np.roll(crop, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    blurred = np.asarray(np.mean(shifted, axis=0), np.float32)
    sharp_one, blurred_one, flat = (face_quality(0.8, c)[1] for c in (crop, blurred, np.full_like(crop, 9)))
    assert flat == 0.0 < blurred_one < sharp_one <= 1.0
    assert face_quality(1.7, crop)[0] == 1.0
