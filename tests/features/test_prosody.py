from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal

from device.features import prosody, stream
from device.features.stream import frames_of
from models.contract import CHANNELS
from tests.features.signals import CLIPS, Samples, Series, clip, noise, pcm, tone, voice


def channel(samples: Samples, name: str) -> Series:
    return frames_of(samples, 16_000)[:, CHANNELS.index(name)].astype(np.float64)


def hertz(samples: Samples) -> Series:
    """F0 of every frame that looks back on nothing but `samples`; 0 where unvoiced."""
    octaves = channel(samples, "f0")[8:]
    return np.where(octaves > 0, prosody.F0_REFERENCE_HZ * 2.0**octaves, 0.0)


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_energy_crossings_and_peak_agree_with_librosa(path: Path) -> None:
    samples = clip(path)
    sound = samples / 32768.0
    frames = librosa.util.frame(sound, frame_length=400, hop_length=160)
    rms = librosa.feature.rms(y=sound, frame_length=400, hop_length=160, center=False)[0]
    crossings = librosa.zero_crossings(frames, threshold=0.0, zero_pos=True, pad=False, axis=0).sum(axis=0)
    assert channel(samples, "log_energy") == pytest.approx(np.log(np.maximum(rms**2, prosody.ENERGY_FLOOR)), abs=1e-5)
    assert channel(samples, "zero_crossing_rate") == pytest.approx(crossings / 399, abs=1e-7)
    assert channel(samples, "waveform_peak") == pytest.approx(np.abs(frames).max(axis=0), abs=1e-7)


def test_a_tone_has_the_crossings_and_the_energy_of_its_formula() -> None:
    sound = tone(1000.0, 1.0, level=0.5)
    assert channel(sound, "zero_crossing_rate") == pytest.approx(2 * 1000 / 16_000, abs=1 / 399)
    assert channel(sound, "log_energy") == pytest.approx(np.log(0.5**2 / 2), abs=1e-3)
    assert channel(sound, "waveform_peak") == pytest.approx(0.5, abs=1e-4)


def test_decimation_is_scipys_filter_to_the_last_bit() -> None:
    samples = noise(0.5, level=0.5).astype(np.float64)
    theirs = scipy.signal.upfirdn(prosody._TAPS[::-1], samples, up=1, down=1)[43 : len(samples)][::4]
    ours = prosody.decimated(samples)
    assert np.array_equal(ours, np.floor(theirs[: len(ours)] * (16.0 / 2**15) + 0.5))


def test_sums_of_the_loudest_sound_stay_exact() -> None:
    loudest = prosody.decimated(np.where(np.arange(60_000) % 64 < 32, 32767.0, -32768.0))
    assert int(np.cumsum(loudest * loudest)[-1]) == sum(int(value) ** 2 for value in loudest)
    # Louder than any sound: every sample of a block at the filter's largest possible answer.
    largest = 32768.0 * np.abs(prosody._TAPS).sum() * 16.0 / 2**15
    block = stream._BLOCK_FRAMES * 40 + prosody.PITCH_REACH // 4
    assert largest**2 * block < 2.0**53


@pytest.mark.parametrize("f0", [62.0, 80.0, 111.0, 150.0, 220.0, 300.0, 390.0, 480.0])
@pytest.mark.parametrize("make", [tone, voice])
def test_f0_of_a_steady_sound_is_right_within_one_percent(make: type, f0: float) -> None:
    found = hertz(make(f0, 1.0))
    assert np.abs(found / f0 - 1.0).max() < 0.01


@pytest.mark.parametrize("f0", [90.0, 180.0, 350.0])
def test_f0_survives_noise_at_10_db(f0: float) -> None:
    clean = voice(f0, 1.0).astype(np.float64)
    disturbance = np.random.default_rng(2).standard_normal(len(clean)) * clean.std() * 10 ** (-10 / 20)
    found = hertz(pcm((clean + disturbance) / 32768.0))
    voiced = found > 0
    assert voiced.mean() > 0.9
    assert (np.abs(found[voiced] / f0 - 1.0) < 0.03).mean() > 0.95


def test_f0_follows_a_glide() -> None:
    times = np.arange(16_000) / 16_000
    sweep = 100.0 * 2.0**times
    found = hertz(pcm(0.3 * np.sin(2 * np.pi * np.cumsum(sweep) / 16_000)))
    ends = (np.arange(8, 8 + len(found)) * 160 + 400) / 16_000
    # What a frame reports belongs to about the middle of the 50 ms and the period before them.
    heard = 100.0 * 2.0 ** (ends - 0.030)
    assert np.abs(np.log2(found / heard)).max() < 0.03


@pytest.mark.parametrize("f0", [45.0, 55.0])
def test_a_hum_below_the_voice_is_not_given_a_voices_octave(f0: float) -> None:
    found = hertz(tone(f0, 1.0))
    assert set(np.unique(found[found > 0]) > 500.0) <= {False}
    assert (found == 0).all() or found.max() < 68.0


@pytest.mark.parametrize(
    "sound",
    [np.zeros(16_000, np.int16), np.full(16_000, 9000, np.int16), tone(150.0, 1.0, level=2e-5)],
    ids=["silence", "constant", "one step of 16 bits"],
)
def test_what_cannot_be_heard_has_no_pitch(sound: Samples) -> None:
    assert not channel(sound, "f0")[10:].any()
    assert channel(sound, "voicing")[10:].max() < 0.1


def test_noise_is_seldom_voiced_and_a_vowel_always() -> None:
    assert (channel(noise(5.0), "f0") > 0).mean() < 0.05
    assert (channel(voice(120.0, 1.0), "voicing")[8:] > 0.9).all()


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_f0_of_speech_is_mostly_pyins(path: Path) -> None:
    samples = clip(path)
    theirs, voiced, _ = librosa.pyin(
        samples / 32768.0, fmin=60, fmax=500, sr=16_000, frame_length=1024, hop_length=160, center=False
    )
    # pyin's 64 ms have their middle three hops after the middle of what our frame of the same number looks back on.
    ours = channel(samples, "f0")[3 : 3 + len(theirs)]
    theirs, voiced = theirs[: len(ours)], voiced[: len(ours)]
    both = voiced & (ours > 0)
    error = np.abs(ours[both] - np.log2(theirs[both] / prosody.F0_REFERENCE_HZ))
    assert both.sum() > 0.8 * voiced.sum()
    assert np.median(error) < 0.05
    assert (error > 1 / 6).mean() < 0.08


def test_flux_is_the_distance_of_unit_spectra() -> None:
    bands = np.array([[4.0, 0.0], [8.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    assert prosody.spectral_flux(prosody.spectral_shape(bands)) == pytest.approx([0.0, 2.0, 2.0 - np.sqrt(2.0)])


def test_flux_marks_the_change_of_a_sound_not_its_level() -> None:
    change = np.concatenate((tone(200.0, 0.5), tone(200.0, 0.5, level=0.1), tone(2000.0, 0.5, level=0.1)))
    flux = channel(change, "spectral_flux")
    assert flux[0] == 0.0
    assert 96 <= int(np.argmax(flux)) <= 100
    assert flux[46:52].max() < 0.3 * flux.max()


def test_slopes_are_librosas_deltas_two_frames_late() -> None:
    frames = frames_of(clip(CLIPS[0]), 16_000)
    for name in ("mfcc_1", "mfcc_6", "log_energy"):
        theirs = librosa.feature.delta(frames[:, CHANNELS.index(name)].astype(np.float64), width=5, mode="nearest")
        ours = frames[:, CHANNELS.index(f"delta_{name}")]
        assert np.abs(ours[4:] - theirs[2:-2]).max() < 1e-4, name


def test_f0_has_no_slope_where_the_voice_breaks() -> None:
    rising = np.array([0.0, 0.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 0.0, 1.0])
    assert prosody.voiced_slopes(rising) == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.0, 0.0])
