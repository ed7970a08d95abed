"""Speech branch: 5.12 s of 34 channels and 14 contour features to an embedding and seven logits.

Two experts look at the same window; the logits are a weighted sum of theirs. The statistics expert sees what is
constant over the window (level, tilt, pitch range: much of an acted expression): mean, mean |x - mean|, mean |step| and
means of rectified excesses of each raw channel, with the contour features. The sequence expert is a convolutional
network over time. In training each has a loss of its own: a common loss lets the convolutions learn the training
speakers by heart before the statistics have learned anything.

Only operations that full int8 TFLite does well are used: mean |x - mean| instead of a variance (a mean of squares
overflows eight bits), rectified excesses instead of percentiles, a sigmoid gate instead of a softmax over many frames
(whose outputs would be a few steps of 1/256).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import tensorflow as tf

from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, SPEECH_CLASSES, WINDOW_FRAMES

layers = tf.keras.layers

#: Where the rectified excesses start, in deviations from a channel's mean.
THRESHOLDS: Final = (-1.0, 0.0, 1.0)
#: Added to a pooled feature's variance when it is brought to scale: a feature that hardly varies over clips (the mean
#: of a slope, say) is not blown up, which would leave eight bits no room for the others.
POOLED_VARIANCE_FLOOR: Final = 0.01
#: Weight of the sequence expert's logits beside those of the statistics expert.
SEQUENCE_SHARE: Final = 0.5


@dataclass(frozen=True)
class SpeechShape:
    """Widths of the branch. `blocks` are (filters, kernel, stride) of the convolutions in turn."""

    blocks: tuple[tuple[int, int, int], ...] = ((64, 5, 4), (96, 5, 2), (128, 3, 2), (128, 3, 1))
    hidden: int = 128
    dropout: float = 0.3


class Mask(tf.keras.layers.Layer):  # type: ignore[misc]
    """SpecAugment (Park et al. 2019) in training: stretches of time and runs of channels set to the mean, 0."""

    def __init__(self, stretches: int = 2, frames: int = 64, channels: int = 5) -> None:
        super().__init__(name="mask")
        self._stretches = stretches
        self._widest = (frames, channels)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(n, time, channels) in and out; unchanged outside training."""
        if not training:
            return x
        for axis, widest in enumerate(self._widest, start=1):
            place = tf.range(tf.cast(tf.shape(x)[axis], x.dtype))[tf.newaxis]
            for _ in range(self._stretches):
                shape = (tf.shape(x)[0], 1)
                width = tf.random.uniform(shape, 0, widest + 1)
                start = tf.random.uniform(shape) * (tf.cast(tf.shape(x)[axis], x.dtype) - width)
                kept = tf.cast((place < start) | (place >= start + width), x.dtype)
                x *= tf.expand_dims(kept, 3 - axis)
        return x


def build(shape: SpeechShape | None = None, *, l2: float = 1e-4) -> tf.keras.Model:
    """Normalised windows (n, 512, 34) and contours (n, 14) → [embedding (n, 64) from 0 up, logits (n, 7)].

    The layers `statistics_logits` and `sequence_logits` are the two experts' answers, for training.
    """
    shape = shape or SpeechShape()
    frames = tf.keras.Input((WINDOW_FRAMES, len(CHANNELS)), name="frames")
    contours = tf.keras.Input((len(CONTOUR_FEATURES),), name="contours")
    (heard, said), (followed, told) = (
        _expert("statistics", [*_statistics(frames), _to_scale(contours)], shape, l2),
        _expert("sequence", _sequence(frames, shape, l2), shape, l2),
    )
    embedding = layers.Concatenate(name="embedding")([heard, followed])
    logits = layers.Add(name="logits")([said, SEQUENCE_SHARE * told])
    return tf.keras.Model([frames, contours], [embedding, logits], name="speech")


def experts_of(network: tf.keras.Model) -> tf.keras.Model:
    """The same weights, with both experts' logits as outputs: [statistics (n, 7), sequence (n, 7)]."""
    names = ("statistics_logits", "sequence_logits")
    return tf.keras.Model(network.inputs, [network.get_layer(name).output for name in names])


def _expert(name: str, pooled: list[tf.Tensor], shape: SpeechShape, l2: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Half of the embedding and the logits, from pooled features that are brought to one scale first."""

    def dense(width: int, what: str, activation: str | None = "relu") -> tf.keras.layers.Layer:
        regulariser = tf.keras.regularizers.L2(l2)
        return layers.Dense(width, activation=activation, kernel_regularizer=regulariser, name=f"{name}_{what}")

    x = layers.Concatenate(name=f"{name}_pooled")(pooled)
    x = dense(shape.hidden, "hidden")(layers.Dropout(shape.dropout)(x))
    half = dense(EMBEDDING // 2, "embedding")(layers.Dropout(shape.dropout)(x))
    return half, dense(len(SPEECH_CLASSES), "logits", None)(half)


def _to_scale(pooled: tf.Tensor, gain: float = 1.0) -> tf.Tensor:
    """Batch normalisation of gain x pooled features (n, width), behind a convolution by the gain.

    The converter folds both into one convolution with a scale for every feature.

    Normalisation alone would become a product and a sum with eight-bit constants of one scale for all features, and
    the converter would take the pooled features' range from the product, which is computed in place.
    """
    gain_of = tf.keras.initializers.Constant(gain)
    x = layers.Reshape((1, pooled.shape[-1]))(pooled)
    x = layers.DepthwiseConv1D(1, use_bias=False, depthwise_initializer=gain_of, trainable=False)(x)
    x = layers.BatchNormalization(momentum=0.98, epsilon=POOLED_VARIANCE_FLOOR)(x)
    return layers.Reshape((pooled.shape[-1],))(x)


def _mean_over_time(x: tf.Tensor) -> tf.Tensor:
    return layers.GlobalAveragePooling1D()(x)


def _statistics(frames: tf.Tensor) -> list[tf.Tensor]:
    """Six numbers of each raw channel, brought to scale; each kind (n, 34)."""
    mean = layers.GlobalAveragePooling1D(keepdims=True)(frames)
    # Steps up are half of all steps; cut at 6 they fit the eight bits better than steps between -10 and 10.
    steps_up = tf.nn.relu6(frames[:, 1:] - frames[:, :-1])
    return [
        _to_scale(layers.Flatten()(mean)),
        _to_scale(_mean_over_time(tf.abs(frames - mean))),
        _to_scale(_mean_over_time(steps_up), gain=2.0),
        *(_to_scale(_mean_over_time(tf.nn.relu(frames - threshold))) for threshold in THRESHOLDS),
    ]


def _sequence(frames: tf.Tensor, shape: SpeechShape, l2: float) -> list[tf.Tensor]:
    """Masked in training; strided convolutions, then a plain mean, a gated mean and the maximum over time."""
    x = Mask()(frames)
    for number, (filters, kernel, stride) in enumerate(shape.blocks):
        x = layers.Conv1D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_regularizer=tf.keras.regularizers.L2(l2),
            name=f"convolution_{number}",
        )(x)
        x = layers.BatchNormalization(momentum=0.98, name=f"norm_{number}")(x)
        x = layers.ReLU(6.0)(x)
        x = layers.SpatialDropout1D(shape.dropout / 3)(x)
    gate = layers.Conv1D(shape.blocks[-1][0], 1, activation="sigmoid", name="gate")(x)
    gated = layers.Multiply(name="gated")([x, gate])
    return [_to_scale(one) for one in (_mean_over_time(x), _mean_over_time(gated), layers.GlobalMaxPooling1D()(x))]
