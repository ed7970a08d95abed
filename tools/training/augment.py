"""Changes to a training waveform that leave its expression alone. Never used on the test side.

All take and give float64 samples in units of int16, shape (n,), at 16 kHz, and draw from the generator that is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, resample_poly

from models.contract import SAMPLE_RATE_HZ

Samples = NDArray[np.float64]


def change_speed(samples: Samples, percent: int) -> Samples:
    """Play at `percent` of the speed; pitch moves with it, as in Kaldi's three-way speed perturbation."""
    return samples if percent == 100 else np.asarray(resample_poly(samples, 100, percent), np.float64)


def change_level(samples: Samples, decibel: float) -> Samples:
    """Make louder or softer."""
    return samples * float(10 ** (decibel / 20))


def tilt(samples: Samples, coefficient: float) -> Samples:
    """One-zero filter y[n] = x[n] - c x[n-1]: another microphone's brightness. The level is kept."""
    changed = samples - coefficient * np.concatenate([[0.0], samples[:-1]])
    return changed * (_rms(samples) / max(_rms(changed), 1e-9))


def coloured_noise(count: int, exponent: float, generator: np.random.Generator) -> Samples:
    """Noise whose power falls as 1/f**exponent (0 white, 1 pink, 2 brown), of unit power."""
    spectrum = np.fft.rfft(generator.standard_normal(count))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    noise = np.fft.irfft(spectrum / frequency ** (exponent / 2), count)
    return np.asarray(noise / max(_rms(noise), 1e-9), np.float64)


def add_noise(samples: Samples, snr_db: float, generator: np.random.Generator) -> Samples:
    """Coloured noise at a ratio to the clip's mean power."""
    noise = coloured_noise(len(samples), generator.uniform(0, 2), generator)
    return samples + noise * _rms(samples) * float(10 ** (-snr_db / 20))


def reverberate(samples: Samples, rt60_s: float, wet: float, generator: np.random.Generator) -> Samples:
    """Convolve with white noise that decays by 60 dB in `rt60_s` (Polack's model of a diffuse tail)."""
    time = np.arange(int(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = generator.standard_normal(len(time)) * np.exp(-6.9078 * time / rt60_s)
    tail *= wet / max(float(np.sqrt((tail**2).sum())), 1e-9)
    tail[0] = 1.0
    changed = np.asarray(fftconvolve(samples, tail)[: len(samples)], np.float64)
    return changed * (_rms(samples) / max(_rms(changed), 1e-9))


def add_babble(samples: Samples, snr_db: float, generator: np.random.Generator) -> Samples:
    """Five voices talking at once behind the clip, made of the clip itself (other speeds, mostly backwards), so that no
    other recording gets into a copy."""
    crowd = np.zeros(len(samples))
    for _ in range(5):
        voice = change_speed(samples, int(generator.choice([80, 90, 110, 125])))
        if generator.random() < 0.7:
            voice = voice[::-1]
        crowd += np.resize(np.roll(voice, int(generator.integers(len(voice)))), len(samples))
    return samples + crowd * (_rms(samples) / max(_rms(crowd), 1e-9)) * float(10 ** (-snr_db / 20))


def add_pause(samples: Samples, before_s: float, after_s: float) -> Samples:
    """Silence around the speech; put noise on afterwards, so that the pause is not digital silence."""
    return np.pad(samples, (int(before_s * SAMPLE_RATE_HZ), int(after_s * SAMPLE_RATE_HZ)))


def random_copy(samples: NDArray[np.int16], generator: np.random.Generator) -> NDArray[np.int16]:
    """One augmented copy, int16, cut at full scale."""
    changed = change_speed(samples.astype(np.float64), int(generator.choice([88, 92, 96, 100, 104, 108, 112])))
    if generator.random() < 0.5:
        changed = tilt(changed, generator.uniform(-0.4, 0.4))
    if generator.random() < 0.3:
        changed = reverberate(changed, generator.uniform(0.2, 0.8), generator.uniform(0.1, 0.8), generator)
    if generator.random() < 0.5:
        changed = add_pause(changed, generator.uniform(0, 0.5), generator.uniform(0, 1.2))
    if generator.random() < 0.12:
        changed = add_babble(changed, generator.uniform(5, 25), generator)
    low = generator.random() < 0.2
    changed = add_noise(changed, generator.uniform(5, 20) if low else generator.uniform(20, 50), generator)
    changed = change_level(changed, generator.uniform(-8, 8))
    return np.clip(np.rint(changed), -32768, 32767).astype(np.int16)


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))
