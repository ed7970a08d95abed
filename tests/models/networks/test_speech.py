"""The speech network keeps to its contract, its budget and its experts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import CHANNELS, CONTOUR_FEATURES, SPEECH, WINDOW_FRAMES
from models.networks import speech
from models.networks.macs import multiply_accumulates


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    return speech.build()


def windows(count: int = 2) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [
        generator.standard_normal((count, WINDOW_FRAMES, len(CHANNELS))).astype(np.float32),
        generator.standard_normal((count, len(CONTOUR_FEATURES))).astype(np.float32),
    ]


def test_tensors_are_those_of_the_contract(network: tf.keras.Model) -> None:
    assert network.input_names == [tensor.name for tensor in SPEECH.inputs]
    assert [tuple(t.shape[1:]) for t in network.inputs] == [tensor.shape[1:] for tensor in SPEECH.inputs]
    assert [tuple(t.shape[1:]) for t in network.outputs] == [tensor.shape[1:] for tensor in SPEECH.outputs]


def test_cost_stays_under_the_cap(network: tf.keras.Model) -> None:
    assert multiply_accumulates(network) <= 60_000_000
    assert network.count_params() <= 300_000


def test_logits_are_the_weighted_sum_of_both_experts(network: tf.keras.Model) -> None:
    statistics, sequence = speech.experts_of(network)(windows())
    _, logits = network(windows())
    np.testing.assert_allclose(logits, statistics + speech.SEQUENCE_SHARE * sequence, atol=1e-5)


def test_statistics_do_not_depend_on_where_the_window_starts(network: tf.keras.Model) -> None:
    """The clip goes round in its window: turning it leaves the statistics alone (but for one step at the seam)."""
    frames, contours = windows()
    turned = np.roll(frames, 100, axis=1)
    here, there = (speech.experts_of(network)([one, contours])[0] for one in (frames, turned))
    np.testing.assert_allclose(here, there, atol=0.02)


def test_mask_erases_in_training_only() -> None:
    tf.keras.utils.set_random_seed(0)
    ones = tf.ones((8, WINDOW_FRAMES, len(CHANNELS)))
    mask = speech.Mask()
    np.testing.assert_array_equal(mask(ones, training=False), ones)
    masked = mask(ones, training=True).numpy()
    assert set(np.unique(masked)) == {0.0, 1.0}
    assert 0.5 < masked.mean() < 0.95
    assert not (masked[0] == masked[1]).all()
