"""Augmentation changes what it says it changes, and one clip's copies come from that clip alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.contract import SAMPLE_RATE_HZ, WINDOW_FRAMES
from tools.training import augment
from tools.training.speech_windows import random_phase


def tone(seconds: float = 1.0) -> NDArray[np.float64]:
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.asarray(3000.0 * np.sin(2 * np.pi * 200.0 * time), np.float64)


def rms(samples: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def test_slower_speech_is_longer_and_lower() -> None:
    slow = augment.change_speed(tone(), 90)
    assert abs(len(slow) - SAMPLE_RATE_HZ / 0.9) < 2
    peak = np.abs(np.fft.rfft(slow)).argmax() * SAMPLE_RATE_HZ / len(slow)
    assert abs(peak - 180.0) < 2.0


def test_noise_has_the_asked_ratio() -> None:
    clean = tone()
    noisy = augment.add_noise(clean, 10.0, np.random.default_rng(0))
    assert abs(20 * np.log10(rms(clean) / rms(noisy - clean)) - 10.0) < 0.5


def test_reverberation_keeps_level_and_rings_on() -> None:
    impulse = np.zeros(SAMPLE_RATE_HZ)
    impulse[100] = 10_000.0
    wet = augment.reverberate(impulse, 0.5, 0.5, np.random.default_rng(0))
    assert abs(rms(wet) / rms(impulse) - 1) < 1e-6
    assert rms(wet[200:4000]) > rms(wet[6000:9800]) > 0


def test_copies_are_the_same_for_the_same_seed_and_stay_in_range() -> None:
    samples = np.clip(tone() * 20, -32768, 32767).astype(np.int16)
    first, second = (augment.random_copy(samples, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int16


def test_pause_is_filled_by_noise_that_is_added_later() -> None:
    padded = augment.add_pause(tone(), 0.25, 0.5)
    assert len(padded) == int(1.75 * SAMPLE_RATE_HZ)
    noisy = augment.add_noise(padded, 30.0, np.random.default_rng(0))
    assert rms(noisy[:4000]) > 0


def test_short_clip_goes_round_and_long_clip_is_cut_in_one_piece() -> None:
    generator = np.random.default_rng(0)
    short = np.arange(100, dtype=np.float32)[:, np.newaxis]
    window = random_phase(short, generator)[:, 0]
    assert len(window) == WINDOW_FRAMES
    np.testing.assert_array_equal(np.diff(window) % 100, 1)
    long = np.arange(700, dtype=np.float32)[:, np.newaxis]
    np.testing.assert_array_equal(np.diff(random_phase(long, generator)[:, 0]), 1)


def test_babble_has_the_asked_ratio_and_is_made_of_the_clip_itself() -> None:
    voice = np.concatenate([tone(0.5), np.zeros(SAMPLE_RATE_HZ // 2)])
    loud = augment.add_babble(voice, 10.0, np.random.default_rng(0))
    assert len(loud) == len(voice)
    assert abs(20 * np.log10(rms(voice) / rms(loud - voice)) - 10.0) < 0.1
    np.testing.assert_array_equal(loud, augment.add_babble(voice, 10.0, np.random.default_rng(0)))
    silence = np.zeros(SAMPLE_RATE_HZ)
    np.testing.assert_array_equal(augment.add_babble(silence, 5.0, np.random.default_rng(0)), silence)


def test_babble_of_a_tone_holds_the_tones_of_its_other_speeds_alone() -> None:
    crowd = augment.add_babble(tone(), 0.0, np.random.default_rng(1)) - tone()
    spectrum = np.abs(np.fft.rfft(crowd))
    assert spectrum[150:251].max() > 100 * np.median(spectrum)
    assert (spectrum[150:260] ** 2).sum() > 0.95 * (spectrum**2).sum()
