"""Hearing: the gate and the window do not depend on how the sound is cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device.errors import CaptureError
from device.frames import AudioBlock
from device.inference.decision import DecisionParameters, SenseEvidence
from device.messages.label import SenseState
from device.unit.hearing import Hearing, levels_dbfs
from device.unit.stages import StageTimes
from tests.fakes.capture import tone
from tests.fakes.clock import FakeClock
from tests.fakes.inference import FakeBundle

PARAMETERS = DecisionParameters(silence_after_ms=500)
QUIET = np.zeros(16_000, np.int16)
SPOKEN = np.concatenate([QUIET, tone(1.5), QUIET[:6_400], tone(1.0, hertz=200), QUIET, tone(1.2, hertz=110)])


def heard(sound: NDArray[np.int16], cuts: list[int]) -> tuple[SenseEvidence, NDArray[np.float32] | None]:
    """The evidence, and the window that the network saw."""
    networks = FakeBundle()
    hearing = Hearing(16_000, networks.bundle.speech, PARAMETERS)
    for start, end in zip([0, *cuts], [*cuts, len(sound)], strict=True):
        hearing.hear(AudioBlock(sound[start:end], start, 0.0))
    evidence = hearing.evidence(StageTimes(FakeClock()))
    return evidence, networks.speech.seen[-1]["frames"] if networks.speech.seen else None


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, len(SPOKEN) // 320 - 1), max_size=40))
def test_any_cutting_into_whole_pieces_gives_the_same_window_bit_for_bit(cuts: set[int]) -> None:
    whole, whole_window = heard(SPOKEN, [])
    cut, cut_window = heard(SPOKEN, [320 * cut for cut in sorted(cuts)])
    assert whole.state is cut.state is SenseState.PRESENT
    assert whole_window is not None and cut_window is not None
    np.testing.assert_array_equal(whole_window, cut_window)


def test_after_a_silence_only_the_new_utterance_is_in_the_window() -> None:
    _, all_heard = heard(SPOKEN, [])
    _, last_only = heard(tone(1.2, hertz=110), [])
    assert all_heard is not None and last_only is not None
    np.testing.assert_array_equal(all_heard, last_only)


def test_nothing_but_silence_never_reaches_the_network() -> None:
    evidence, window = heard(np.concatenate([QUIET] * 3), [])
    assert evidence.state is SenseState.SILENT and window is None


def test_eight_kilohertz_is_taken_and_other_rates_are_refused() -> None:
    networks = FakeBundle()
    hearing = Hearing(8_000, networks.bundle.speech, PARAMETERS)
    hearing.hear(AudioBlock(tone(1.5, rate=8_000), 0, 0.0))
    assert hearing.evidence(StageTimes(FakeClock())).state is SenseState.PRESENT
    with pytest.raises(CaptureError, match="44100"):
        Hearing(44_100, networks.bundle.speech, PARAMETERS)


def test_levels_are_root_mean_squares_in_decibels_of_full_scale() -> None:
    square = np.tile(np.array([16_384, -16_384], np.int16), 200)
    levels = levels_dbfs(np.concatenate([square[:320], np.zeros(320, np.int16), square[:10]]), 320)
    assert levels == pytest.approx([20 * np.log10(0.5), -np.inf, 20 * np.log10(0.5)])
    assert levels_dbfs(np.zeros(0, np.int16), 320).shape == (0,)
