"""The networks that are compared: one size, one input, and what sets them apart."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import CHANNELS, WINDOW_FRAMES
from models.networks.baselines import CLASSES, NETWORKS, BaselineShape


def windows(count: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, WINDOW_FRAMES, len(CHANNELS))).astype(np.float32)


@pytest.fixture(scope="module")
def built() -> dict[str, tf.keras.Model]:
    tf.keras.utils.set_random_seed(0)
    return {name: build(BaselineShape()) for name, build in NETWORKS.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_become_logits(built: dict[str, tf.keras.Model], name: str) -> None:
    assert built[name](windows()).shape == (3, CLASSES)


def test_all_are_of_about_one_size(built: dict[str, tf.keras.Model]) -> None:
    sizes = [network.count_params() for network in built.values()]
    assert max(sizes) < 1.5 * min(sizes) and max(sizes) < 150_000


def test_eight_frames_in_a_row_are_one_step_of_the_bilstm(built: dict[str, tf.keras.Model]) -> None:
    stacked = tf.keras.Model(built["bilstm"].input, built["bilstm"].get_layer("stacked").output)
    frames = windows(1)
    np.testing.assert_array_equal(stacked(frames)[0, 2], frames[0, 16:24].reshape(-1))


def test_attention_weighs_the_steps_of_each_window(built: dict[str, tf.keras.Model]) -> None:
    network = built["cnn_bilstm_attention"]
    names = ("attention", "both_ways", "logits")
    inner = tf.keras.Model(network.input, [network.get_layer(name).output for name in names])
    weights, states, logits = (output.numpy() for output in inner(windows()))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert weights.std() > 0
    kernel, bias = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits, (weights * states).sum(axis=1) @ kernel + bias, atol=1e-5)


def test_without_attention_every_step_counts_alike(built: dict[str, tf.keras.Model]) -> None:
    network = built["cnn_bilstm"]
    inner = tf.keras.Model(network.input, [network.get_layer(name).output for name in ("both_ways", "logits")])
    states, logits = (output.numpy() for output in inner(windows()))
    kernel, bias = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits, states.mean(axis=1) @ kernel + bias, atol=1e-5)
