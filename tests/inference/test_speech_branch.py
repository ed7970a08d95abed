"""Normalisation, temperature and the released speech network on real clips."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
import soundfile

from device.features.nonlinear import contour_features
from device.features.stream import frames_of
from device.features.window import repeat_padded
from device.inference.bundle import load_bundle, read_manifest
from device.inference.constants import SpeechConstants
from device.inference.speech_branch import SpeechBranch, log_softmax, normalise_contours, normalise_frames
from device.inference.tflite import TFLiteRuntime
from models.contract import CHANNELS, CONTOUR_FEATURES, SPEECH_CLASSES, WINDOW_FRAMES
from tests.fakes.inference import FakeNetwork

RELEASED: Final = Path(__file__).parents[2] / "models" / "bundle"
CLIPS: Final = Path(__file__).parents[1] / "clips"


@pytest.fixture
def constants() -> SpeechConstants:
    return read_manifest(RELEASED).speech


def test_mean_becomes_zero_and_outliers_are_cut(constants: SpeechConstants) -> None:
    mean = np.array(constants.channel_mean, np.float32)
    np.testing.assert_allclose(normalise_frames(mean[np.newaxis], constants), 0.0, atol=1e-5)
    far = normalise_frames(mean[np.newaxis] + 1e6, constants)
    np.testing.assert_array_equal(far, constants.limit)
    contour = np.array(constants.contour_mean, np.float32) + np.array(constants.contour_scale, np.float32)
    np.testing.assert_allclose(normalise_contours(contour, constants), 1.0, atol=1e-3)


def test_level_of_the_voice_survives_normalisation(constants: SpeechConstants) -> None:
    """What is constant over a clip carries expression: the same clip, softer, must look different."""
    samples, rate = soundfile.read(CLIPS / "03a02Wc.wav", dtype="int16")
    energy = CHANNELS.index("log_energy")
    loud, soft = (normalise_frames(frames_of(s, rate), constants)[:, energy].mean() for s in (samples, samples // 4))
    assert loud - soft > 0.5


def test_temperature_softens_without_changing_the_order(constants: SpeechConstants) -> None:
    logits = np.array([3, 1, 0, 0, 0, 0, 0, -1], np.float32)
    window, contours = np.zeros((WINDOW_FRAMES, len(CHANNELS)), np.float32), np.zeros(len(CONTOUR_FEATURES), np.float32)
    answers = [
        SpeechBranch(FakeNetwork(logits), msgspec.structs.replace(constants, temperature=t)).run(window, contours)
        for t in (1.0, 4.0)
    ]
    sharp, soft = (np.exp(answer.log_probabilities) for answer in answers)
    assert sharp.max() > soft.max()
    np.testing.assert_array_equal(np.argsort(-sharp[:3]), np.argsort(-soft[:3]))
    np.testing.assert_allclose([sharp.sum(), soft.sum()], 1.0, atol=1e-5)


def test_window_of_another_shape_is_our_own_fault(constants: SpeechConstants) -> None:
    branch = SpeechBranch(FakeNetwork(np.zeros(len(SPEECH_CLASSES), np.float32)), constants)
    with pytest.raises(AssertionError):
        branch.run(np.zeros((100, len(CHANNELS)), np.float32), np.zeros(len(CONTOUR_FEATURES), np.float32))


def test_log_softmax_of_huge_logits_is_finite() -> None:
    assert np.isfinite(log_softmax(np.array([1e30, -1e30, 0], np.float32))[0])


def test_both_runtimes_agree_on_real_clips() -> None:
    branches = [load_bundle(RELEASED, TFLiteRuntime("tflite-runtime")).speech]
    branches.append(load_bundle(RELEASED, TFLiteRuntime("litert")).speech)
    for clip in sorted(CLIPS.glob("*.wav")):
        samples, rate = soundfile.read(clip, dtype="int16")
        window = repeat_padded(frames_of(samples, rate))
        first, second = (branch.run(window, contour_features(window)) for branch in branches)
        assert len(first.log_probabilities) == len(SPEECH_CLASSES)
        np.testing.assert_allclose(first.log_probabilities, second.log_probabilities, atol=0.3)
