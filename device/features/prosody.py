"""Level, crossings, peak, pitch, flux and slopes: what a frame says beside its cepstrum.

`samples` are values of 16-bit PCM at 16 kHz as float64, not scaled: sums of their products are whole numbers below
2^53, hence exact in any order, hence the same bits however many frames are computed at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from device.features.frame import FULL_SCALE, Floats, running_sums, sums_over, windowed
from models.contract import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ

#: Floor of a frame's mean square: the noise that rounding to 16 bits leaves, 1/12 of a squared step.
ENERGY_FLOOR: Final = 1.0 / (12.0 * FULL_SCALE**2)

#: Frames and hops are multiples of it: what such a piece says is found once for all the frames that share it.
_SHARED_SAMPLES: Final = 80

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
_PITCH_HOP: Final = HOP_SAMPLES // DECIMATION
#: Hops of sound that are compared with what was heard a period before: 50 ms.
_PITCH_HOPS: Final = 5
_PITCH_SAMPLES: Final = _PITCH_HOPS * _PITCH_HOP
#: Periods compared, longest first, in samples at 4 kHz: the candidates and one neighbour at each end.
_LAGS: Final = np.arange(np.ceil(PITCH_HZ / LOWEST_F0_HZ) + 1, PITCH_HZ // HIGHEST_F0_HZ - 2, -1).astype(np.int64)
_REACH: Final = int(_LAGS[0])
_COSTS: Final = OCTAVE_COST * np.log2(_LAGS[1:-1])
#: Steps of the decimated samples in a step of 16 bits. Their products and sums stay below 2^53: exact in float64.
_FINER: Final = 16.0
#: Added to the correlation's denominator: sounds well under 10 steps of 16 bits (-70 dB) are not voiced.
_QUIET: Final = (_PITCH_SAMPLES * (10.0 * _FINER) ** 2) ** 2

#: Frames that a slope looks back on.
SLOPE_FRAMES: Final = 5


def _low_pass() -> Floats:
    """44 taps, cut-off 1 kHz at 16 kHz, Hamming-windowed sinc, as whole numbers of 2^-15: filtering int16 is exact."""
    taps = DECIMATION * 11
    place = np.arange(taps) - (taps - 1) / 2
    shape: Floats = np.sinc(place * (2.0 * 1000.0 / SAMPLE_RATE_HZ)) * np.hamming(taps)
    whole: Floats = np.rint(shape / shape.sum() * 2.0**15)
    return whole


_TAPS: Final = _low_pass()
#: 16 kHz samples up to the end of a frame that its pitch depends on.
PITCH_REACH: Final = (_PITCH_SAMPLES + _REACH) * DECIMATION + len(_TAPS) - DECIMATION


def log_energy(samples: Floats, count: int) -> Floats:
    """Natural logarithm of each frame's mean square, full scale = 0 (the source paper's Eq. 5, per sample)."""
    energy = _over_frames(np.add, samples * samples, count)
    logarithm: Floats = np.log(np.maximum(energy / (FRAME_SAMPLES * FULL_SCALE**2), ENERGY_FLOOR))
    return logarithm


def zero_crossing_rate(samples: Floats, count: int) -> Floats:
    """Share of sample pairs that change sign, 0..1: ½·Σ|sgn x[n] - sgn x[n-1]| / 399, sgn 0 = 1 (source Eq. 24)."""
    negative = samples < 0.0
    changes = (negative[1:] != negative[:-1]).astype(np.float64)
    return sums_over(changes, FRAME_SAMPLES - 1, HOP_SAMPLES, count) / (FRAME_SAMPLES - 1)


def waveform_peak(samples: Floats, count: int) -> Floats:
    """Largest magnitude of each frame, as a share of full scale, 0..1 (the source paper's Eq. 25)."""
    return _over_frames(np.maximum, np.abs(samples), count) / FULL_SCALE


def _over_frames(combine: np.ufunc, values: Floats, count: int) -> Floats:
    """Combine the values of each frame, shape (count,), those that frames share only once."""
    shared: Floats = combine.reduce(values.reshape(-1, _SHARED_SAMPLES), axis=1)
    per_frame, per_hop = FRAME_SAMPLES // _SHARED_SAMPLES, HOP_SAMPLES // _SHARED_SAMPLES
    combined: Floats = combine.reduce(windowed(shared, per_frame, per_hop, count), axis=1)
    return combined


def decimated(samples: Floats) -> Floats:
    """Low-passed samples at 4 kHz, whole numbers of 1/16 step: int16 values (n,) at 16 kHz → ((n - 40) // 4,)."""
    phases = np.ascontiguousarray(samples[: len(samples) // DECIMATION * DECIMATION].reshape(-1, DECIMATION).T)
    total = np.correlate(phases[0], _TAPS[0::DECIMATION])
    for phase in range(1, DECIMATION):
        total += np.correlate(phases[phase], _TAPS[phase::DECIMATION])
    whole: Floats = np.floor(total * (_FINER / 2.0**15) + 0.5)
    return whole


def correlation(samples: Floats, count: int) -> Floats:
    """Correlation of the last 50 ms of each frame with the 50 ms a lag before, -1..1: (n,) at 4 kHz → (count, lags).

    Pearson's coefficient (the cross-correlation of Talkin 1995, freed of the mean) at the lags `_LAGS`. Successive
    frames share four of five hops, so products are summed by hop first; all sums are of whole numbers, hence exact.
    """
    hops = count + _PITCH_HOPS - 1
    now = windowed(samples[_REACH:], _PITCH_HOP, _PITCH_HOP, hops)
    step = samples.itemsize
    shape = (hops, _PITCH_HOP, len(_LAGS))
    then: Floats = np.ndarray(shape, samples.dtype, samples, strides=(_PITCH_HOP * step, step, step))
    by_hop = np.einsum("hn,hnt->ht", now, then)
    products: Floats = by_hop[:count].copy()
    for hop in range(1, _PITCH_HOPS):
        products += by_hop[hop : hop + count]
    sums, squares = _lagged_sums(samples, count), _lagged_sums(samples * samples, count)
    means = sums * (1.0 / _PITCH_SAMPLES)
    products -= sums[:, -1:] * means[:, :-1]
    sums *= means
    squares -= sums
    spread = np.maximum(squares, 0.0, out=squares)
    scale = spread[:, -1:] * spread[:, :-1]
    scale += _QUIET
    products /= np.sqrt(scale, out=scale)
    return products


def _lagged_sums(line: Floats, count: int) -> Floats:
    """Sum over 50 ms per frame, (count, lags + 1): a lag before its end for each of `_LAGS`, then up to its end."""
    running = running_sums(line)
    width = len(_LAGS)
    ends = windowed(running[_PITCH_SAMPLES:], _REACH + 1, _PITCH_HOP, count)
    starts = windowed(running, _REACH + 1, _PITCH_HOP, count)
    sums = np.empty((count, width + 1))
    np.subtract(ends[:, :width], starts[:, :width], out=sums[:, :width])
    np.subtract(ends[:, -1], starts[:, -1], out=sums[:, -1])
    return sums


def pitch(samples: Floats, count: int) -> tuple[Floats, Floats]:
    """F0 and voicing of `count` successive frames, each (count,).

    `samples` reach from `PITCH_REACH` samples before the end of the first frame to the end of the last. Voicing is the
    height, 0..1, of the best peak of `correlation` between 60 and 500 Hz, longer periods paying `OCTAVE_COST` an octave
    (Boersma 1993); F0 is log2(Hz / 50) of that peak, placed by a parabola, and 0 where voicing is below `VOICED_FROM`.
    """
    heights = correlation(decimated(samples), count)
    here = heights[:, 1:-1]
    is_peak = (here > heights[:, 2:]) & (here >= heights[:, :-2])
    best = np.where(is_peak, here - _COSTS, -np.inf).argmax(axis=1)
    row = np.arange(count)
    longer, top, shorter = heights[row, best], heights[row, best + 1], heights[row, best + 2]
    bend = np.minimum(longer - 2.0 * top + shorter, -1e-12)
    lean = shorter - longer
    shift = np.minimum(np.maximum(0.5 * lean / bend, -0.5), 0.5)
    voicing = np.minimum(np.maximum(top - 0.25 * lean * shift, 0.0), 1.0)
    voicing[~is_peak[row, best]] = 0.0
    octaves = np.log2(PITCH_HZ / F0_REFERENCE_HZ / (_LAGS[best + 1] + shift))
    return np.where(voicing >= VOICED_FROM, octaves, 0.0), voicing


def spectral_shape(bands: Floats) -> Floats:
    """Amplitudes of the mel bands scaled to a Euclidean length of 1: (k, 40) → (k, 40)."""
    shapes: Floats = np.sqrt(bands / np.add.reduce(bands, axis=1, keepdims=True))
    return shapes


def spectral_flux(shapes: Floats) -> Floats:
    """Squared distance, 0..2, between successive spectral shapes: (k + 1, 40) → (k,) (Tzanetakis & Cook 2002)."""
    steps = shapes[1:] - shapes[:-1]
    flux: Floats = np.add.reduce(steps * steps, axis=1)
    return flux


def slopes(values: Floats) -> Floats:
    """Least-squares slope per frame over the last five frames: (k + 4, …) → (k, …).

    The regression delta of Furui 1986, reported when its last frame is in: the usual centred delta, two frames late.
    """
    return (2.0 * (values[4:] - values[:-4]) + (values[3:-1] - values[1:-3])) / 10.0


def voiced_slopes(f0: Floats) -> Floats:
    """`slopes` of an F0 contour (k + 4,) → (k,); 0 unless all five frames are voiced."""
    unvoiced = f0 == 0.0
    broken = unvoiced[4:] | unvoiced[3:-1] | unvoiced[2:-2] | unvoiced[1:-3] | unvoiced[:-4]
    return np.where(broken, 0.0, slopes(f0))
