"""The networks that the speech branch is compared with: CNN, BiLSTM, CNN-BiLSTM without and with attention.

All see the same normalised windows (n, 512, 34) and answer seven logits. The BiLSTM sees eight frames in a row as one
step, 64 steps of 272 numbers: 512 steps would take eight times as long for 5.12 s of slowly changing channels. In the
CNN-BiLSTMs the convolutions bring the window down to 32 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import tensorflow as tf

from models.contract import CHANNELS, WINDOW_FRAMES

layers = tf.keras.layers

#: EMO-DB has every class of the vocabulary but surprise.
CLASSES: Final = 7

#: Frames that are one step of the BiLSTM.
STACKED: Final = 8


@dataclass(frozen=True)
class BaselineShape:
    """Widths of the networks. `filters` are those of the CNN's three convolutions; the CNN-BiLSTMs have the first two.
    `lstm` are the units of one direction."""

    filters: tuple[int, int, int] = (64, 96, 128)
    lstm: int = 32
    attention: int = 32
    dropout: float = 0.3


def cnn(shape: BaselineShape) -> tf.keras.Model:
    """Three convolutions, two of them strided, then the mean and the maximum over time."""
    frames = _frames()
    x = _convolution(_front_end(frames, shape), shape.filters[2], 3, 1)
    pooled = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return _answering(frames, pooled, shape, "cnn")


def bilstm(shape: BaselineShape) -> tf.keras.Model:
    """A bidirectional LSTM (Hochreiter and Schmidhuber 1997; Graves et al. 2013), its states' mean over time."""
    frames = _frames()
    steps = layers.Reshape((WINDOW_FRAMES // STACKED, STACKED * len(CHANNELS)), name="stacked")(frames)
    return _answering(frames, layers.GlobalAveragePooling1D()(_both_ways(steps, shape)), shape, "bilstm")


def cnn_bilstm(shape: BaselineShape) -> tf.keras.Model:
    """Two strided convolutions, a bidirectional LSTM, its states' mean over time."""
    frames = _frames()
    states = _both_ways(_front_end(frames, shape), shape)
    return _answering(frames, layers.GlobalAveragePooling1D()(states), shape, "cnn_bilstm")


def cnn_bilstm_attention(shape: BaselineShape) -> tf.keras.Model:
    """The paper's system: as `cnn_bilstm`, with a weighted mean in place of the plain one.

    The weights are additive attention over time (Bahdanau et al. 2015): softmax of v·tanh(W s).
    """
    frames = _frames()
    states = _both_ways(_front_end(frames, shape), shape)
    query = layers.Dense(shape.attention, activation="tanh", name="query")(states)
    energy = layers.Dense(1, use_bias=False, name="energy")(query)
    weights = layers.Softmax(axis=1, name="attention")(energy)
    return _answering(frames, tf.reduce_sum(states * weights, axis=1), shape, "cnn_bilstm_attention")


NETWORKS: Final[dict[str, Callable[[BaselineShape], tf.keras.Model]]] = {
    "cnn": cnn,
    "bilstm": bilstm,
    "cnn_bilstm": cnn_bilstm,
    "cnn_bilstm_attention": cnn_bilstm_attention,
}


def _frames() -> tf.Tensor:
    return tf.keras.Input((WINDOW_FRAMES, len(CHANNELS)), name="frames")


def _convolution(x: tf.Tensor, filters: int, kernel: int, stride: int) -> tf.Tensor:
    x = layers.Conv1D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def _front_end(frames: tf.Tensor, shape: BaselineShape) -> tf.Tensor:
    """512 frames to 32 steps of `filters[1]` numbers."""
    x = _convolution(frames, shape.filters[0], 5, 4)
    return layers.SpatialDropout1D(shape.dropout / 3)(_convolution(x, shape.filters[1], 5, 4))


def _both_ways(steps: tf.Tensor, shape: BaselineShape) -> tf.Tensor:
    steps = layers.Dropout(shape.dropout)(steps)
    return layers.Bidirectional(layers.LSTM(shape.lstm, return_sequences=True), name="both_ways")(steps)


def _answering(frames: tf.Tensor, pooled: tf.Tensor, shape: BaselineShape, name: str) -> tf.keras.Model:
    logits = layers.Dense(CLASSES, name="logits")(layers.Dropout(shape.dropout)(pooled))
    return tf.keras.Model([frames], [logits], name=name)
