"""Speech branch: 5.12 s of 34 channels and 14 contour features to an embedding and seven logits.

Much of an acted expression is constant over a clip (level, tilt, pitch range), so beside the convolutions the network
pools statistics of the raw channels. Only operations that full int8 TFLite does well are used: the spread is
mean |x - mean| (a mean of squares would overflow eight bits), the distribution is told by means of rectified
projections, attention is a sigmoid gate (a softmax over many frames has too few steps of 1/256).
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, SPEECH_CLASSES, WINDOW_FRAMES

layers = tf.keras.layers


@dataclass(frozen=True)
class SpeechShape:
    """Widths of the branch. `blocks` are (filters, kernel, stride) of the convolutions in turn."""

    detectors: int = 96
    blocks: tuple[tuple[int, int, int], ...] = ((64, 5, 4), (96, 5, 2), (128, 3, 2), (128, 3, 1))
    hidden: int = 128
    dropout: float = 0.4


def build(shape: SpeechShape | None = None, *, l2: float = 1e-4) -> tf.keras.Model:
    """Normalised windows (n, 512, 34) and contours (n, 14) → [embedding (n, 64) from 0 up, logits (n, 7)]."""
    shape = shape or SpeechShape()
    frames = tf.keras.Input((WINDOW_FRAMES, len(CHANNELS)), name="frames")
    contours = tf.keras.Input((len(CONTOUR_FEATURES),), name="contours")
    statistics = _raw_statistics(frames, shape.detectors, l2)
    sequence = _sequence(frames, shape, l2)
    pooled = layers.Concatenate(name="pooled")([*statistics, *sequence, contours])
    pooled = layers.Dropout(shape.dropout)(pooled)
    hidden = layers.Dense(shape.hidden, activation="relu", kernel_regularizer=_l2(l2), name="hidden")(pooled)
    hidden = layers.Dropout(shape.dropout)(hidden)
    embedding = layers.Dense(EMBEDDING, activation="relu", kernel_regularizer=_l2(l2), name="embedding")(hidden)
    logits = layers.Dense(len(SPEECH_CLASSES), kernel_regularizer=_l2(l2), name="logits")(
        layers.Dropout(shape.dropout / 2)(embedding)
    )
    return tf.keras.Model([frames, contours], [embedding, logits], name="speech")


def _l2(weight: float) -> tf.keras.regularizers.Regularizer:
    return tf.keras.regularizers.L2(weight)


def _mean_over_time(x: tf.Tensor) -> tf.Tensor:
    return layers.GlobalAveragePooling1D()(x)


def _raw_statistics(frames: tf.Tensor, detectors: int, l2: float) -> list[tf.Tensor]:
    """Mean and mean absolute deviation of each channel; means of rectified 1x1 projections."""
    mean = layers.GlobalAveragePooling1D(keepdims=True)(frames)
    spread = tf.abs(frames - mean)
    rectified = layers.Conv1D(detectors, 1, activation="relu", kernel_regularizer=_l2(l2), name="detectors")(frames)
    return [layers.Flatten()(mean), _mean_over_time(spread), _mean_over_time(rectified)]


def _sequence(frames: tf.Tensor, shape: SpeechShape, l2: float) -> list[tf.Tensor]:
    """Strided convolutions, then a plain and a gated mean and the maximum over time."""
    x = frames
    for number, (filters, kernel, stride) in enumerate(shape.blocks):
        x = layers.Conv1D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_regularizer=_l2(l2),
            name=f"convolution_{number}",
        )(x)
        x = layers.BatchNormalization(name=f"norm_{number}")(x)
        x = layers.ReLU(6.0)(x)
        x = layers.SpatialDropout1D(shape.dropout / 4)(x)
    gate = layers.Conv1D(shape.blocks[-1][0], 1, activation="sigmoid", name="gate")(x)
    gated = layers.Multiply(name="gated")([x, gate])
    return [_mean_over_time(x), _mean_over_time(gated), layers.GlobalMaxPooling1D()(x)]
