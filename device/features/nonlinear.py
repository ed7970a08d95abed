"""Geometry and memory of a contour: delay, Hurst, DFA, Higuchi, permutation entropy, correlation dimension, K2.

All of them look at one contour of the window (log-energy, or F0 where it is voiced) as at a trajectory of an unknown
system (Takens 1981). On 512 points they are descriptors, not proofs of chaos. A contour that is constant, or too short
to say anything, gives 0 for every one of them.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from device.features.frame import Floats
from models.contract import CHANNELS, CONTOURS, NONLINEAR

#: Fewest points that are analysed: 0.64 s of contour.
SHORTEST_CONTOUR: Final = 64
#: Longest delay of the phase space, frames: 0.25 s, about a syllable.
LONGEST_DELAY: Final = 25
EMBEDDING_DIMENSION: Final = 3
#: Shares of the pairs of points at whose distances the correlation integral is read.
PAIR_SHARES: Final = np.array([0.01, 0.02, 0.04, 0.08, 0.16])
#: Every n-th point is compared with all points.
REFERENCE_STEP: Final = 4
#: Fewest pairs from which a correlation integral is read.
FEWEST_PAIRS: Final = 500
HURST_SIZES: Final = (16, 32, 64, 128, 256)
DFA_SIZES: Final = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
HIGUCHI_STEPS: Final = 10
ORDER: Final = 4


def contour_features(window: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Nonlinear features of a feature window (n, 34), in general (512, 34): float32 (14,), always finite.

    Order and names: `models.contract.CONTOUR_FEATURES`. The F0 contour is the voiced frames joined together.
    """
    result: list[float] = []
    for name in CONTOURS:
        contour = window[:, CHANNELS.index(name)].astype(np.float64)
        result.extend(describe(contour[contour > 0.0] if name == "f0" else contour))
    return np.array(result, np.float32)


def describe(contour: Floats) -> tuple[float, ...]:
    """The seven features of `models.contract.NONLINEAR`, in that order, of a finite contour (n,)."""
    if len(contour) < SHORTEST_CONTOUR or np.ptp(contour) < 1e-9:
        return (0.0,) * len(NONLINEAR)
    delay = embedding_delay(contour)
    dimension, entropy = correlation_measures(contour, delay)
    return (
        float(delay),
        hurst_exponent(contour),
        dfa_exponent(contour),
        higuchi_dimension(contour),
        permutation_entropy(contour),
        dimension,
        entropy,
    )


def embedding_delay(contour: Floats) -> int:
    """Delay τ of the phase space, frames, 1..25: the first lag at which the autocorrelation is below 1/e."""
    centred = contour - contour.mean()
    spectrum = np.fft.rfft(centred, 2 * len(contour))
    products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[: LONGEST_DELAY + 1]
    below = np.flatnonzero(products < products[0] / math.e)
    return int(below[0]) if len(below) else LONGEST_DELAY


def correlation_measures(contour: Floats, delay: int) -> tuple[float, float]:
    """Correlation dimension D2 (no unit) and Kolmogorov entropy K2 (nats per frame) of the phase space with delay τ.

    Points (x[i], x[i+τ], …) of m = 3 coordinates, largest-coordinate distance, pairs closer than τ in time and pairs of
    equal points left out. C_m(r) is the share of pairs within r. D2 is the least-squares slope of ln C_3 over ln r, and
    K2 the mean of ln(C_3(r) / C_4(r)) / τ, at the distances r that hold 1, 2, 4, 8 and 16 % of the pairs
    (Grassberger & Procaccia 1983 a, b; leaving out near pairs: Theiler 1986).
    """
    points = len(contour) - EMBEDDING_DIMENSION * delay
    places = np.arange(points, dtype=np.int16)
    references = places[::REFERENCE_STEP]
    apart = np.abs(references[:, None] - places) > delay
    values = contour.astype(np.float32)
    distance = np.zeros(apart.shape, np.float32)
    for coordinate in range(EMBEDDING_DIMENSION):
        np.maximum(distance, _gaps(values, references, coordinate * delay, points), out=distance)
    counted = apart & (distance > 0.0)
    near = distance[counted]
    if len(near) < FEWEST_PAIRS:
        return 0.0, 0.0
    further = np.maximum(near, _gaps(values, references, EMBEDDING_DIMENSION * delay, points)[counted])
    ranks = (PAIR_SHARES * len(near)).astype(np.int64)
    radii = np.partition(near, ranks)[ranks]
    within = np.array([np.count_nonzero(near <= r) for r in radii])
    still_within = np.array([np.count_nonzero(further <= r) for r in radii])
    slope = _slope(np.log(radii.astype(np.float64)), np.log(within)) if radii[-1] > radii[0] else 0.0
    return slope, float(np.mean(np.log(within / np.maximum(still_within, 1)))) / delay


def _gaps(
    values: npt.NDArray[np.float32], references: npt.NDArray[np.int16], offset: int, points: int
) -> npt.NDArray[np.float32]:
    """Distances in one coordinate between the reference points and all points, (references, points)."""
    column = values[offset : offset + points]
    gaps = column[references][:, None] - column
    return np.abs(gaps, out=gaps)


def hurst_exponent(contour: Floats) -> float:
    """Hurst exponent by rescaled range, about 0.5 for a contour without memory (Hurst 1951).

    ½ plus the least-squares slope, over block sizes 16..256, of ln(mean R/S) less ln of what R/S is on average for
    white noise of that size (Anis & Lloyd 1976).
    """
    sizes = [size for size in HURST_SIZES if 2 * size <= len(contour)]
    excess = []
    for size in sizes:
        blocks = _blocks(contour, size)
        walks = np.cumsum(blocks, axis=1)
        deviations = np.sqrt(np.add.reduce(blocks * blocks, axis=1) / size)
        moving = deviations > 1e-12
        ranges = np.maximum.reduce(walks, axis=1) - np.minimum(np.minimum.reduce(walks, axis=1), 0.0)
        ratios = ranges[moving] / deviations[moving]
        ratio = float(np.add.reduce(ratios)) / len(ratios) if len(ratios) else 1.0
        excess.append(math.log(ratio / _EXPECTED_RANGE[size]))
    return 0.5 + _slope(np.log(sizes), np.array(excess))


def _expected_range(size: int) -> float:
    """Mean rescaled range of white noise in blocks of `size` (Anis & Lloyd 1976, with Peters' small-sample factor)."""
    gammas = math.exp(math.lgamma((size - 1) / 2) - math.lgamma(size / 2)) / math.sqrt(math.pi)
    steps = np.arange(1, size)
    return (size - 0.5) / size * gammas * float(np.sum(np.sqrt((size - steps) / steps)))


_EXPECTED_RANGE: Final = {size: _expected_range(size) for size in HURST_SIZES}


def dfa_exponent(contour: Floats) -> float:
    """Scaling exponent α of detrended fluctuation analysis: 0.5 white noise, 1.5 a random walk (Peng et al. 1994).

    Slope of ln F(s) over ln s for box sizes s = 4..n/4, F the root mean square of the summed contour about the
    straight line of each box.
    """
    walk = np.cumsum(contour - contour.mean())
    sizes = [size for size in DFA_SIZES if 4 * size <= len(contour)]
    variances = []
    for size in sizes:
        boxes, ramp = _blocks(walk, size), _RAMPS[size]
        tilted = np.add.reduce(boxes * ramp, axis=1)
        residue = np.add.reduce(boxes * boxes, axis=None) - np.add.reduce(tilted * tilted)
        variances.append(float(residue) / boxes.size)
    return 0.5 * _slope(np.log(sizes), np.log(np.maximum(variances, 1e-24)))


#: A straight line through each box size, of mean 0 and length 1.
_RAMPS: Final = {size: (np.arange(size) - (size - 1) / 2) / math.sqrt((size**3 - size) / 12) for size in DFA_SIZES}


def _blocks(values: Floats, size: int) -> Floats:
    """Successive whole blocks (blocks, size), each freed of its mean; what is left over at the end is dropped."""
    blocks = values[: len(values) // size * size].reshape(-1, size)
    centred: Floats = blocks - np.add.reduce(blocks, axis=1, keepdims=True) / size
    return centred


def higuchi_dimension(contour: Floats) -> float:
    """Fractal dimension of the contour's curve, 1 (a line) to 2 (fills the plane), steps k = 1..10 (Higuchi 1988)."""
    points = len(contour)
    lengths = []
    for step in range(1, HIGUCHI_STEPS + 1):
        jumps = np.abs(contour[step:] - contour[:-step])
        rounds, rest = divmod(len(jumps), step)
        travelled = np.add.reduce(jumps[: rounds * step].reshape(rounds, step), axis=0)
        travelled[:rest] += jumps[rounds * step :]
        counts = np.full(step, rounds)
        counts[:rest] += 1
        lengths.append(float(np.add.reduce(travelled / counts)) * (points - 1) / step**3)
    steps = np.arange(1, HIGUCHI_STEPS + 1)
    return _slope(np.log(1.0 / steps), np.log(np.maximum(lengths, 1e-12)))


def permutation_entropy(contour: Floats) -> float:
    """Entropy of the order of four successive values, as a share of that of noise, 0..1 (Bandt & Pompe 2002).

    Equal values count as rising.
    """
    rows = np.lib.stride_tricks.sliding_window_view(contour, ORDER)
    patterns = np.argsort(rows, axis=1, kind="stable") @ (ORDER ** np.arange(ORDER))
    shares = np.bincount(patterns) / len(patterns)
    shares = shares[shares > 0.0]
    return float(-np.sum(shares * np.log(shares)) / math.log(math.factorial(ORDER)))


def _slope(x: Floats, y: Floats) -> float:
    """Least-squares slope of y over x."""
    x = x - x.mean()
    return float(np.add.reduce(x * y) / np.add.reduce(x * x))
