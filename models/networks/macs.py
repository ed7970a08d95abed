"""Counts what a network costs, by the same rule for every network of the bundle."""

from __future__ import annotations

import math
from collections.abc import Iterable

import tensorflow as tf


def multiply_accumulates(model: tf.keras.Model) -> int:
    """Multiply-accumulates of one inference (batch of one): kernel size × output positions of every weighted layer.

    Biases, additions, activations and batch normalisation (folded at conversion) are left out, as is usual in the
    literature. Raises ValueError for a weighted layer that this count does not know, so that nothing is forgotten.
    """
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: tf.keras.layers.Layer) -> int:
    layers = tf.keras.layers
    if isinstance(layer, tf.keras.Model):
        return multiply_accumulates(layer)
    if not layer.weights or isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization)):
        return 0
    positions = _product(layer.output_shape[1:-1])
    # Exact types: other convolutions are subclasses of these, with another cost.
    if type(layer) in (layers.DepthwiseConv1D, layers.DepthwiseConv2D):
        return positions * _product(layer.depthwise_kernel.shape)
    if type(layer) in (layers.Conv1D, layers.Conv2D, layers.Dense):
        return positions * _product(layer.kernel.shape)
    if type(layer) is layers.LSTM:
        steps = int(layer.input_shape[1])
        return steps * (_product(layer.cell.kernel.shape) + _product(layer.cell.recurrent_kernel.shape))
    raise ValueError(f"{layer.name}: no rule for counting a {type(layer).__name__}")


def _product(sides: Iterable[int]) -> int:
    return math.prod(int(side) for side in sides)
