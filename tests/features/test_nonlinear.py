from __future__ import annotations

from pathlib import Path

import antropy
import numpy as np
import pytest

from device.features import nonlinear
from device.features.stream import frames_of
from device.features.window import repeat_padded
from models.contract import CHANNELS, CONTOUR_FEATURES
from tests.features.signals import CLIPS, Series, clip, henon, logistic, white

SERIES = {
    "white noise": white(),
    "random walk": np.cumsum(white()),
    "logistic map": logistic(),
    "Hénon map": henon(),
    "sine": np.sin(np.arange(512) * 2 * np.pi / 37.3),
}
ALL = pytest.mark.parametrize("series", SERIES.values(), ids=SERIES.keys())


@ALL
def test_higuchi_dimension_is_antropys(series: Series) -> None:
    assert nonlinear.higuchi_dimension(series) == pytest.approx(antropy.higuchi_fd(series, kmax=10), abs=1e-6)


@ALL
def test_permutation_entropy_is_antropys(series: Series) -> None:
    theirs = antropy.perm_entropy(series, order=4, delay=1, normalize=True)
    assert nonlinear.permutation_entropy(series) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("name", ["white noise", "random walk", "logistic map", "Hénon map"])
def test_dfa_is_near_antropys_which_uses_other_box_sizes(name: str) -> None:
    theirs = antropy.detrended_fluctuation(SERIES[name])
    assert nonlinear.dfa_exponent(SERIES[name]) == pytest.approx(theirs, abs=0.08)


def dfa_line_by_line(series: Series) -> float:
    """The definition of Peng et al. 1994, one fitted line a box."""
    walk, fluctuations = np.cumsum(series - series.mean()), []
    sizes = [size for size in nonlinear.DFA_SIZES if 4 * size <= len(series)]
    for size in sizes:
        boxes = [walk[start : start + size] for start in range(0, len(walk) - size + 1, size)]
        places = np.arange(size)
        residues = [box - np.polyval(np.polyfit(places, box, 1), places) for box in boxes]
        fluctuations.append(np.sqrt(np.mean(np.square(residues))))
    return float(np.polyfit(np.log(sizes), np.log(fluctuations), 1)[0])


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_measures_of_speech_are_those_of_independent_code(path: Path) -> None:
    contour = frames_of(clip(path), 16_000)[:, CHANNELS.index("log_energy")].astype(np.float64)
    assert nonlinear.higuchi_dimension(contour) == pytest.approx(antropy.higuchi_fd(contour, kmax=10), abs=1e-6)
    assert nonlinear.permutation_entropy(contour) == pytest.approx(
        antropy.perm_entropy(contour, order=4, normalize=True), abs=1e-9
    )
    assert nonlinear.dfa_exponent(contour) == pytest.approx(dfa_line_by_line(contour), abs=1e-6)


def test_white_noise_has_no_memory() -> None:
    many = [white(seed=seed) for seed in range(60)]
    assert np.mean([nonlinear.hurst_exponent(series) for series in many]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([nonlinear.dfa_exponent(series) for series in many]) == pytest.approx(0.5, abs=0.05)


def test_memory_shows() -> None:
    noise, walk = white(), np.cumsum(white())
    trend = np.convolve(white(700, 3), np.ones(50), "valid")[:512]
    assert nonlinear.hurst_exponent(walk) > 0.85
    assert nonlinear.hurst_exponent(trend) > nonlinear.hurst_exponent(noise) + 0.2
    assert nonlinear.hurst_exponent(np.diff(white(513))) < 0.3
    assert nonlinear.dfa_exponent(walk) == pytest.approx(1.5, abs=0.15)


def test_expected_range_of_white_noise_is_what_white_noise_has() -> None:
    for size in nonlinear.HURST_SIZES:
        blocks = np.random.default_rng(size).standard_normal((4000, size))
        walks = np.cumsum(blocks - blocks.mean(axis=1, keepdims=True), axis=1)
        ranges = walks.max(axis=1) - np.minimum(walks.min(axis=1), 0.0)
        assert np.mean(ranges / blocks.std(axis=1)) == pytest.approx(nonlinear._EXPECTED_RANGE[size], rel=0.03)


@pytest.mark.parametrize(("period", "delay"), [(20.0, 4), (40.0, 8), (80.0, 16)])
def test_delay_of_a_sine_is_just_under_a_quarter_of_its_period(period: float, delay: int) -> None:
    series = np.sin(np.arange(512) * 2 * np.pi / period)
    # cos(2πτ/T) = 1/e at τ = 0.19·T
    assert nonlinear.embedding_delay(series) == pytest.approx(delay, abs=1)


def test_delay_of_noise_is_shortest_and_of_a_drift_longest() -> None:
    assert nonlinear.embedding_delay(white()) == 1
    assert nonlinear.embedding_delay(np.linspace(0.0, 1.0, 512)) == nonlinear.LONGEST_DELAY


@pytest.mark.parametrize(
    ("name", "dimension", "tolerance"), [("logistic map", 1.0, 0.1), ("Hénon map", 1.21, 0.1), ("sine", 1.0, 0.1)]
)
def test_correlation_dimension_of_known_attractors(name: str, dimension: float, tolerance: float) -> None:
    series = SERIES[name]
    found, _ = nonlinear.correlation_measures(series, nonlinear.embedding_delay(series))
    assert found == pytest.approx(dimension, abs=tolerance)


def test_noise_fills_the_space_it_is_put_into() -> None:
    found, _ = nonlinear.correlation_measures(white(), 1)
    assert found == pytest.approx(nonlinear.EMBEDDING_DIMENSION, abs=0.35)


def test_k2_orders_periodic_chaotic_and_random() -> None:
    delays = {name: nonlinear.embedding_delay(series) for name, series in SERIES.items()}
    entropy = {name: nonlinear.correlation_measures(SERIES[name], delays[name])[1] for name in SERIES}
    assert entropy["sine"] == pytest.approx(0.0, abs=0.02)
    assert entropy["logistic map"] == pytest.approx(np.log(2.0), abs=0.12)
    assert entropy["white noise"] > entropy["logistic map"] + 0.2


@ALL
def test_level_and_scale_of_a_contour_do_not_matter(series: Series) -> None:
    assert nonlinear.describe(8.0 * series - 4.0) == pytest.approx(nonlinear.describe(series), abs=0.02)


def test_repeating_a_short_clip_invents_no_pairs() -> None:
    once, _ = nonlinear.correlation_measures(henon(), 1)
    repeated, _ = nonlinear.correlation_measures(np.resize(henon(130), 512), 1)
    assert repeated == pytest.approx(once, abs=0.1)


@pytest.mark.parametrize(
    "contour",
    [
        np.zeros(512),
        np.full(512, -23.28),
        np.full(512, 1e-10) * (np.arange(512) % 2),
        np.array([]),
        np.ones(1),
        white(63),
    ],
    ids=["zeros", "constant", "almost constant", "empty", "one value", "too short"],
)
def test_a_contour_that_says_nothing_gives_zeros(contour: Series) -> None:
    assert nonlinear.describe(contour) == (0.0,) * 7


@pytest.mark.parametrize(
    "contour",
    [
        np.where(np.arange(512) < 256, 0.0, 1.0),
        np.where(np.arange(512) == 100, 1.0, 0.0),
        np.arange(512.0),
        np.arange(512) % 2.0,
        np.arange(512) % 5.0,
        np.repeat(white(8), 64),
        white(64),
        np.concatenate((np.full(480, -23.0), white(32))),
    ],
    ids=["step", "click", "ramp", "two values", "five values", "plateaus", "shortest", "silence, then sound"],
)
def test_a_strange_contour_gives_finite_values(contour: Series) -> None:
    with np.errstate(all="raise"):
        described = nonlinear.describe(contour)
    assert len(described) == 7
    assert np.isfinite(described).all()


def test_window_of_silence_gives_zeros_and_speech_does_not() -> None:
    silence = repeat_padded(frames_of(np.zeros(16_000, np.int16), 16_000))
    speech = repeat_padded(frames_of(clip(CLIPS[0]), 16_000))
    assert np.array_equal(nonlinear.contour_features(silence), np.zeros(14, np.float32))
    features = dict(zip(CONTOUR_FEATURES, nonlinear.contour_features(speech).tolist(), strict=True))
    assert 1.0 <= features["log_energy_delay"] <= nonlinear.LONGEST_DELAY
    assert 1.0 < features["log_energy_higuchi"] < 2.1
    assert 0.0 < features["f0_permutation_entropy"] <= 1.0


def test_f0_contour_is_its_voiced_frames() -> None:
    window = repeat_padded(frames_of(clip(CLIPS[1]), 16_000))
    f0 = window[:, CHANNELS.index("f0")].astype(np.float64)
    expected = np.array(nonlinear.describe(f0[f0 > 0]), np.float32)
    assert np.array_equal(nonlinear.contour_features(window)[7:], expected)
