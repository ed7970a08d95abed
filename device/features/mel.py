"""Mel-frequency cepstral coefficients: taper → |FFT|² → mel filterbank → ln → DCT (Davis & Mermelstein 1980).

Every row of a result depends on the same row of the argument alone, bit for bit, however many rows are given at once:
that is why the filterbank is summed without BLAS, and why the operands of the one matrix product are rounded to grids
on which it is exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from device.features.frame import FULL_SCALE, Floats, taper
from models.contract import FRAME_SAMPLES, SAMPLE_RATE_HZ

FFT_SIZE: Final = 512
MEL_BANDS: Final = 40
LOWEST_HZ: Final = 80.0
HIGHEST_HZ: Final = 7600.0
CEPSTRA: Final = 20
#: Floor of a band's energy: about what rounding to 16 bits leaves in the narrowest band.
BAND_FLOOR: Final = 1e-8

# |ln of a band| < 2^5 in steps of 2^-20 is 25 bits, |DCT weight| < 2^-2 in steps of 2^-22 20 bits, 40 addends 6 bits:
# 51 bits, so a float64 sum of products is exact in any order of summation.
_LOG_STEPS: Final = 2.0**20
_DCT_STEPS: Final = 2.0**22


def mel_of(hertz: npt.ArrayLike) -> Floats:
    """Mel scale: 2595·log10(1 + f / 700) (O'Shaughnessy 1987; the source paper's Eq. 3)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0))


def hertz_of(mel: npt.ArrayLike) -> Floats:
    """Inverse of `mel_of`, in Hz."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel, dtype=np.float64) / 2595.0) - 1.0))


def filterbank() -> Floats:
    """Triangular filters, shape (40, 257): peaks of 1 at centres equally spaced in mel between 80 and 7600 Hz."""
    edges = hertz_of(np.linspace(mel_of(LOWEST_HZ), mel_of(HIGHEST_HZ), MEL_BANDS + 2))
    hertz = np.arange(FFT_SIZE // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SIZE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0.0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)))


def cosines() -> Floats:
    """Orthonormal DCT-II, shape (40, 20): √(2/40)·cos(πi(j + ½)/40), the first column divided by √2."""
    band, order = np.arange(MEL_BANDS)[:, None], np.arange(CEPSTRA)[None, :]
    weights: Floats = np.sqrt(2.0 / MEL_BANDS) * np.cos(np.pi * order * (band + 0.5) / MEL_BANDS)
    weights[:, 0] /= np.sqrt(2.0)
    return weights


#: Samples before a frame that fill the transform's input up.
PADDING: Final = FFT_SIZE - FRAME_SAMPLES
#: Pieces transformed at once: their spectra stay in the second-level cache, and the allocator keeps the memory.
_CACHED_PIECES: Final = 32
_TAPER: Final = np.concatenate((np.zeros(PADDING), taper(FRAME_SAMPLES) / FULL_SCALE))
_FILTERS: Final = filterbank()
#: The filters' non-zero weights, row after row; bins they apply to; where each row starts.
_BANDS, _BINS = np.nonzero(_FILTERS)
_WEIGHTS: Final = _FILTERS[_BANDS, _BINS]
_STARTS: Final = np.searchsorted(_BANDS, np.arange(MEL_BANDS))
_COSINES: Final = np.rint(cosines() * _DCT_STEPS) / _DCT_STEPS


def band_energies(pieces: Floats) -> Floats:
    """Energy in each mel band, floored at `BAND_FLOOR`: (k, 512) → (k, 40).

    A piece is a frame of 16-bit values with the 112 samples before it, which the taper silences: padding in front.
    """
    bands = np.empty((len(pieces), MEL_BANDS))
    for first in range(0, len(pieces), _CACHED_PIECES):
        some = slice(first, first + _CACHED_PIECES)
        spectrum = np.fft.rfft(pieces[some] * _TAPER)
        power = spectrum.real**2 + spectrum.imag**2
        weighted = np.take(power, _BINS, axis=1)
        weighted *= _WEIGHTS
        np.add.reduceat(weighted, _STARTS, axis=1, out=bands[some])
    return np.maximum(bands, BAND_FLOOR, out=bands)


def cepstrum(bands: Floats) -> Floats:
    """MFCC 0..19 of band energies: (k, 40) → (k, 20), from natural logarithms, no liftering, no pre-emphasis."""
    logarithms = np.rint(np.log(bands) * _LOG_STEPS) / _LOG_STEPS
    return np.asarray(logarithms @ _COSINES)
