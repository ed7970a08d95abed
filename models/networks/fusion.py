"""Fused head: ten tokens of both senses to a correction of the log-opinion pool (device/inference/fusion_head.py).

The two directions of the BiLSTM are two forward LSTMs, one over the reversed window, because the converter makes a
reliable int8 UNIDIRECTIONAL_SEQUENCE_LSTM of each. The last layer starts at zero, so that the untrained head is the
pool itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from models.contract import FUSION
from models.labels import EMOTIONS

layers = tf.keras.layers


@dataclass(frozen=True)
class FusionShape:
    """Widths of the head."""

    projection: int = 16
    lstm: int = 32
    attention: int = 16
    dropout: float = 0.6


def build(shape: FusionShape | None = None, *, l2: float = 1e-3) -> tf.keras.Model:
    """Embeddings (n, 10, 64) of both senses and evidence (n, 10, 20) → correction (n, 8) of the pool's log-scores."""
    shape = shape or FusionShape()
    speech, face, evidence = (tf.keras.Input(tensor.shape[1:], name=tensor.name) for tensor in FUSION.inputs)
    tokens = layers.Concatenate(name="tokens")(
        [
            _projection(speech, shape, l2, "speech_projection"),
            _projection(face, shape, l2, "face_projection"),
            evidence,
        ]
    )
    forward = layers.LSTM(shape.lstm, return_sequences=True, name="forward")(tokens)
    backward = layers.LSTM(shape.lstm, return_sequences=True, name="backward")(tf.reverse(tokens, [1]))
    # A sum of two projections, not a concatenation: see tools/training/convert.py on the scale of an LSTM's output.
    ahead = layers.Dense(shape.lstm, name="ahead")(forward)
    behind = layers.Dense(shape.lstm, name="behind")(tf.reverse(backward, [1]))
    states = layers.ReLU()(layers.Add(name="states")([ahead, behind]))
    states = layers.Dropout(shape.dropout)(states)
    context = _attention(states, shape.attention)
    correction = layers.Dense(
        len(EMOTIONS),
        kernel_initializer="zeros",
        kernel_regularizer=tf.keras.regularizers.L2(l2),
        name=FUSION.outputs[0].name,
    )(context)
    return tf.keras.Model([speech, face, evidence], [correction], name="fusion")


def _projection(embeddings: tf.Tensor, shape: FusionShape, l2: float, name: str) -> tf.Tensor:
    return layers.Dense(
        shape.projection, activation="relu", kernel_regularizer=tf.keras.regularizers.L2(l2), name=name
    )(layers.Dropout(shape.dropout)(embeddings))


def _attention(states: tf.Tensor, width: int) -> tf.Tensor:
    """Additive attention over time (Bahdanau et al. 2015): softmax of v·tanh(W s), then the weighted sum of states."""
    energy = layers.Dense(1, use_bias=False, name="energy")(
        layers.Dense(width, activation="tanh", name="query")(states)
    )
    weights = layers.Softmax(axis=1, name="attention")(energy)
    return tf.reduce_sum(states * weights, axis=1)
