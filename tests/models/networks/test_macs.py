from __future__ import annotations

import pytest
import tensorflow as tf

from models.networks.macs import multiply_accumulates

layers = tf.keras.layers


def _model(shape: tuple[int, ...], layer: tf.keras.layers.Layer) -> tf.keras.Model:
    inputs = tf.keras.Input(shape)
    return tf.keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((8, 6, 3), layers.Conv2D(5, 3, strides=2, padding="same"), 4 * 3 * 3 * 3 * 3 * 5),
        ((8, 6, 4), layers.Conv2D(6, 3, groups=2), 6 * 4 * 3 * 3 * 2 * 6),
        ((8, 6, 3), layers.DepthwiseConv2D(3, padding="same"), 8 * 6 * 3 * 3 * 3),
        ((10, 3), layers.Conv1D(4, 5), 6 * 5 * 3 * 4),
        ((7,), layers.Dense(3), 21),
        ((10, 7), layers.Dense(3), 210),
        ((10, 7), layers.LSTM(4), 10 * (7 * 16 + 4 * 16)),
        ((4, 4, 2), layers.BatchNormalization(), 0),
        ((4, 4, 2), layers.MaxPooling2D(), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_counts_by_hand_agree(shape: tuple[int, ...], layer: tf.keras.layers.Layer, expected: int) -> None:
    assert multiply_accumulates(_model(shape, layer)) == expected


def test_a_model_inside_a_model_is_counted() -> None:
    inner = _model((7,), layers.Dense(3))
    assert multiply_accumulates(_model((7,), inner)) == 21


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((8, 8, 2), layers.SeparableConv2D(4, 3)),
        ((8, 8, 2), layers.Conv2DTranspose(4, 3)),
        ((8, 2), layers.GRU(4)),
        ((8, 2), layers.TimeDistributed(layers.Dense(4))),
    ],
    ids=["separable", "transposed", "GRU", "time-distributed"],
)
def test_a_layer_without_a_rule_is_refused_and_not_counted_as_free(
    shape: tuple[int, ...], layer: tf.keras.layers.Layer
) -> None:
    with pytest.raises(ValueError, match="no rule"):
        multiply_accumulates(_model(shape, layer))
