"""Sounds and series whose properties are known, and the committed clips."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]
Series = npt.NDArray[np.float64]
CLIPS = sorted((Path(__file__).parent.parent / "clips").glob("*.wav"))


def clip(path: Path) -> Samples:
    """A committed clip, 16 kHz mono PCM16."""
    with wave.open(str(path)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.int16)


def pcm(signal: Series) -> Samples:
    """-1..1 to int16."""
    samples: Samples = np.clip(np.rint(signal * 32768), -32768, 32767).astype(np.int16)
    return samples


def tone(hertz: float, seconds: float, *, level: float = 0.3, rate: int = 16_000) -> Samples:
    return pcm(level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate))


def noise(seconds: float, *, level: float = 0.1, rate: int = 16_000) -> Samples:
    return pcm(level * np.random.default_rng(1).standard_normal(int(seconds * rate)))


def voice(hertz: float, seconds: float, *, level: float = 0.2) -> Samples:
    """Pulses through two resonances (about 600 and 1400 Hz): a crude vowel."""
    count = int(seconds * 16_000)
    signal = np.diff(np.floor(np.arange(count + 1) * hertz / 16_000))
    for centre, width in ((600.0, 80.0), (1400.0, 120.0)):
        times = np.arange(800) / 16_000
        ring = np.exp(-np.pi * width * times) * np.sin(2 * np.pi * centre * times)
        signal = np.convolve(signal, ring)[:count]
    return pcm(level * signal / np.abs(signal).max())


def white(points: int = 512, seed: int = 0) -> Series:
    return np.random.default_rng(seed).standard_normal(points)


def logistic(points: int = 512) -> Series:
    """Logistic map at r = 4: correlation dimension 1, K2 at most its Kolmogorov entropy ln 2 (0.693)."""
    series = np.empty(points)
    series[0] = 0.3
    for place in range(1, points):
        series[place] = 4.0 * series[place - 1] * (1.0 - series[place - 1])
    return series


def henon(points: int = 512) -> Series:
    """Hénon map: correlation dimension 1.21 ± 0.01 (Grassberger & Procaccia 1983)."""
    series = np.full(points + 100, 0.1)
    for place in range(2, points + 100):
        series[place] = 1.0 - 1.4 * series[place - 1] ** 2 + 0.3 * series[place - 2]
    return series[100:]
