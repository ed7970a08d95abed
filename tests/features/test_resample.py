from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.resample import _TAPS, REACH, Doubler
from tests.features.signals import noise, tone


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=30))
def test_any_chunking_gives_the_same_bits(pieces: list[int]) -> None:
    sound = noise(0.25, level=0.5, rate=8_000)
    doubler, start, parts = Doubler(), 0, []
    for size in pieces:
        parts.append(doubler.push(sound[start : start + size]))
        start += size
    parts.append(doubler.push(sound[start:]))
    assert np.concatenate(parts).tobytes() == Doubler().push(sound).tobytes()


def test_agrees_with_scipys_polyphase_filter() -> None:
    sound = noise(0.5, level=0.2, rate=8_000)
    kernel = np.zeros(2 * REACH - 1)
    kernel[::2] = _TAPS / 2**15
    kernel[REACH - 1] = 1.0
    theirs = scipy.signal.upfirdn(kernel, sound.astype(np.float64), up=2)
    ours = Doubler().push(sound).astype(np.float64)
    # Ours begins with an old sample, scipy's with the new one after it.
    assert np.abs(ours[1:] - theirs[: len(ours) - 1]).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("hertz", [100.0, 1000.0, 3000.0])
def test_a_tone_keeps_its_level_and_gets_no_mirror_image(hertz: float) -> None:
    doubled = Doubler().push(tone(hertz, 1.1, level=0.5, rate=8_000)).astype(np.float64)[100:16_100]
    frequencies, power = scipy.signal.periodogram(
        doubled / 32768.0, 16_000, window="blackmanharris", scaling="spectrum"
    )
    near = np.abs(frequencies - hertz) < 20
    image = np.abs(frequencies - (8_000 - hertz)) < 20
    assert power[near].max() == pytest.approx(0.5**2 / 2, rel=0.01)
    assert 10 * np.log10(power[near].max() / power[image].max()) > 55


def test_overshoot_is_clipped_not_wrapped_round() -> None:
    square = np.where(np.arange(400) % 20 < 10, 32767, -32768).astype(np.int16)
    doubled = Doubler().push(square).astype(int)
    assert doubled.max() == 32767
    assert doubled.min() == -32768
    before, between, after = doubled[0:-2:2], doubled[1:-2:2], doubled[2::2]
    level = (before == after) & (before != 0)
    assert np.array_equal(np.sign(between[level]), np.sign(before[level]))


def test_nothing_in_gives_nothing_out() -> None:
    assert Doubler().push(np.zeros(0, np.int16)).shape == (0,)
