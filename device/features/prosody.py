"""Level, crossings, peak, pitch, flux and slopes: what a frame says beside its cepstrum.

As in `mel`, a row of a result depends, bit for bit, on its own row (and the rows before it where the docstring says
so) and never on how many rows are given at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from device.features.frame import FULL_SCALE, Floats, framed
from models.contract import HOP_SAMPLES, SAMPLE_RATE_HZ

#: Floor of a frame's mean square: the noise that rounding to 16 bits leaves, 1/12 of a squared step.
ENERGY_FLOOR: Final = 1.0 / (12.0 * FULL_SCALE**2)

LOWEST_F0_HZ: Final = 60.0
HIGHEST_F0_HZ: Final = 500.0
#: The f0 channel counts octaves above this frequency, so that every voiced value is above 0.
F0_REFERENCE_HZ: Final = 50.0
#: Peak correlation from which a frame counts as voiced.
VOICED_FROM: Final = 0.6
#: What an octave of longer period costs a candidate (Boersma 1993, "octave cost").
OCTAVE_COST: Final = 0.08

DECIMATION: Final = 4
PITCH_HZ: Final = SAMPLE_RATE_HZ // DECIMATION
#: Samples at 4 kHz that one pitch value looks back on: 50 ms, three periods of the lowest voice.
PITCH_SAMPLES: Final = 200
_SHORTEST: Final = int(PITCH_HZ // HIGHEST_F0_HZ)
_LONGEST: Final = int(np.ceil(PITCH_HZ / LOWEST_F0_HZ))
_FFT_SIZE: Final = 270  # no wrap-round up to lag _LONGEST + 1, and 2·3³·5 is quick
#: Added to the correlation's denominator: sounds well under 10 steps of 16 bits (-70 dB) are not voiced.
_QUIET: Final = (PITCH_SAMPLES * (10.0 / FULL_SCALE) ** 2) ** 2

#: Frames that a slope looks back on.
SLOPE_FRAMES: Final = 5


def _low_pass() -> Floats:
    """44 taps, cut-off 1 kHz at 16 kHz, Hamming-windowed sinc, as whole numbers of 2^-15: filtering int16 is exact."""
    taps = DECIMATION * 11
    place = np.arange(taps) - (taps - 1) / 2
    shape = np.sinc(place * (2.0 * 1000.0 / SAMPLE_RATE_HZ)) * np.hamming(taps)
    return np.rint(shape / shape.sum() * 2.0**15)


_TAPS: Final = _low_pass()
#: 16 kHz samples before the end of a frame that its pitch depends on.
PITCH_REACH: Final = PITCH_SAMPLES * DECIMATION + len(_TAPS) - DECIMATION


def log_energy(frames: Floats) -> Floats:
    """Natural logarithm of the mean square of full scale, (k, 400) → (k,) (the source paper's Eq. 5, per sample)."""
    return np.log(np.maximum(np.mean(frames * frames, axis=1), ENERGY_FLOOR))


def zero_crossing_rate(frames: Floats) -> Floats:
    """Share of sample pairs that change sign, 0..1: ½·Σ|sgn x[n] - sgn x[n-1]| / 399, sgn 0 = 1 (source Eq. 24)."""
    negative = frames < 0.0
    return np.mean(negative[:, 1:] != negative[:, :-1], axis=1)


def waveform_peak(frames: Floats) -> Floats:
    """Largest magnitude of the frame, as a share of full scale, 0..1 (the source paper's Eq. 25)."""
    return np.max(np.abs(frames), axis=1)


def decimated(samples: Floats) -> Floats:
    """Low-passed samples at 4 kHz: whole numbers (n,) at 16 kHz → ((n - 40) // 4,), of full scale 1."""
    phases = samples[: len(samples) // DECIMATION * DECIMATION].reshape(-1, DECIMATION).T.copy()
    total: Floats = sum(
        (np.correlate(phases[p], _TAPS[p::DECIMATION], mode="valid") for p in range(DECIMATION)),
        start=np.zeros(1),
    )
    return total / (2.0**15 * FULL_SCALE)


def _correlation(rows: Floats) -> Floats:
    """Normalised cross-correlation of each row with itself at lags 0.._LONGEST + 1 (Talkin 1995), within -1..1."""
    rows = rows - np.mean(rows, axis=1, keepdims=True)
    spectrum = np.fft.rfft(rows, _FFT_SIZE)
    lags = np.arange(_LONGEST + 2)
    products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, _FFT_SIZE)[:, : len(lags)]
    running = np.cumsum(rows * rows, axis=1)
    head = running[:, PITCH_SAMPLES - 1 - lags]
    tail = running[:, -1:] - np.where(lags > 0, running[:, lags - 1], 0.0)
    return products / np.sqrt(head * np.maximum(tail, 0.0) + _QUIET)


def pitch(samples: Floats, count: int) -> tuple[Floats, Floats]:
    """F0 and voicing of `count` successive frames, each (count,).

    `samples`: whole numbers of 16-bit PCM at 16 kHz, from `PITCH_REACH` samples before the end of the first frame to
    the end of the last. Voicing is the height, 0..1, of the best peak of the normalised autocorrelation of the last
    50 ms between 60 and 500 Hz, longer periods paying `OCTAVE_COST` an octave (Boersma 1993); F0 is
    log2(Hz / 50) of that peak, placed by a parabola, and 0 where voicing is below `VOICED_FROM`.
    """
    rows = framed(decimated(samples), PITCH_SAMPLES, HOP_SAMPLES // DECIMATION, count)
    correlation = _correlation(rows)
    lags = np.arange(_SHORTEST, _LONGEST + 1)
    here = correlation[:, lags]
    is_peak = (here > correlation[:, lags - 1]) & (here >= correlation[:, lags + 1])
    best = np.argmax(np.where(is_peak, here - OCTAVE_COST * np.log2(lags), -np.inf), axis=1)
    row = np.arange(count)
    before, top, after = (correlation[row, lags[best] + step] for step in (-1, 0, 1))
    bend = before - 2.0 * top + after
    shift = np.clip(0.5 * (before - after) / np.where(bend < 0.0, bend, -1.0), -0.5, 0.5)
    voicing = np.where(is_peak.any(axis=1), np.clip(top - 0.25 * (before - after) * shift, 0.0, 1.0), 0.0)
    octaves = np.log2(PITCH_HZ / (lags[best] + shift) / F0_REFERENCE_HZ)
    return np.where(voicing >= VOICED_FROM, octaves, 0.0), voicing


def spectral_shape(bands: Floats) -> Floats:
    """Amplitudes of the mel bands scaled to a Euclidean length of 1: (k, 40) → (k, 40)."""
    return np.sqrt(bands / np.sum(bands, axis=1, keepdims=True))


def spectral_flux(shapes: Floats) -> Floats:
    """Squared distance, 0..2, between successive spectral shapes: (k + 1, 40) → (k,) (Tzanetakis & Cook 2002)."""
    steps = shapes[1:] - shapes[:-1]
    return np.sum(steps * steps, axis=1)


def slopes(values: Floats) -> Floats:
    """Least-squares slope per frame over the last five frames: (k + 4, c) → (k, c).

    The regression delta of Furui 1986, reported when its last frame is in: the usual centred delta, two frames late.
    """
    return (2.0 * (values[4:] - values[:-4]) + (values[3:-1] - values[1:-3])) / 10.0


def voiced_slopes(f0: Floats) -> Floats:
    """`slopes` of an F0 contour (k + 4,) → (k,); 0 unless all five frames are voiced."""
    voiced: npt.NDArray[np.bool_] = framed(f0, SLOPE_FRAMES, 1, len(f0) - SLOPE_FRAMES + 1).min(axis=1) > 0.0
    return np.where(voiced, slopes(f0[:, None])[:, 0], 0.0)
