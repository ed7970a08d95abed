"""Speech branch: 5.12 s of 34 channels and 14 contour features to an embedding and eight logits.

Two stages. **Pooling** turns a window into one row of numbers: statistics of every raw channel (what is constant over
the window: level, tilt, pitch range, voice quality, also over the voiced frames alone), the contour features, and the
pooled answers of a convolutional network over time. **Readout** is a small ensemble on standardised pooled numbers:
members see the statistics, the sequence network or both, and their logits are averaged. In training each member has a
loss of its own: a common loss lets the strongest member do all the work.

The stages are trained apart: a few hundred clips of one corpus teach a readout well and a convolutional network badly,
so the sequence network learns from other corpora and stays as it is.

Only operations that full int8 TFLite does well are used: mean |x - mean| instead of a variance (a mean of squares
overflows eight bits), rectified excesses instead of percentiles, a sigmoid gate instead of a softmax over many frames
(whose outputs would be a few steps of 1/256), and standardisation as a depthwise convolution with a scale for each
number, cut at three deviations by the ReLU6 that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, SPEECH_CLASSES, WINDOW_FRAMES

layers = tf.keras.layers

#: Where the rectified excesses start, in deviations from a channel's mean.
THRESHOLDS: Final = (-1.0, 0.0, 1.0)
#: Standardised pooled numbers are cut at this many deviations.
LIMIT: Final = 3.0
VOICING: Final = CHANNELS.index("voicing")


@dataclass(frozen=True)
class SpeechShape:
    """Widths. `blocks` are (filters, kernel, stride) of the convolutions in turn, `members` (what it sees, width)."""

    blocks: tuple[tuple[int, int, int], ...] = ((64, 5, 4), (96, 5, 2), (128, 3, 2), (128, 3, 1))
    members: tuple[tuple[str, int], ...] = (("statistics", 96), ("statistics", 96), ("statistics", 96), ("both", 96))
    sequence_dropout: float = 0.2
    input_dropout: float = 0.3
    dropout: float = 0.3
    #: Ablation: without it the sequence network is pooled by plain means and maxima alone.
    attention: bool = True
    #: Ablation: without it the readout does not see the contour features.
    nonlinear: bool = True


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


def sequence_classifier(shape: SpeechShape, *, l2: float = 1e-4) -> tf.keras.Model:
    """Normalised frames (n, 512, 34) → logits (n, 8): how the sequence network is taught."""
    frames = tf.keras.Input((WINDOW_FRAMES, len(CHANNELS)), name="frames")
    x = layers.Concatenate()(list(_sequence(Mask()(frames), shape, l2).values()))
    x = layers.Dense(128, activation="relu")(layers.Dropout(shape.sequence_dropout)(x))
    logits = layers.Dense(len(SPEECH_CLASSES))(layers.Dropout(shape.sequence_dropout)(x))
    return tf.keras.Model(frames, logits, name="sequence_classifier")


def pooling(shape: SpeechShape) -> tf.keras.Model:
    """Normalised frames (n, 512, 34) and contours (n, 14) → pooled groups, each (n, width), in a dict by name."""
    frames, contours = _inputs()
    return tf.keras.Model([frames, contours], _groups(frames, contours, shape), name="pooling")


def adopt_sequence(network: tf.keras.Model, taught: tf.keras.Model) -> None:
    """Copy the sequence network's weights from a `sequence_classifier` into a `pooling` or whole network."""
    for layer in taught.layers:
        if layer.name.startswith(("convolution_", "norm_", "gate")):
            network.get_layer(layer.name).set_weights(layer.get_weights())


def sees(shape: SpeechShape, kind: str, group: str) -> bool:
    """Whether a member of `kind` sees this pooled group."""
    if group == "contours" and not shape.nonlinear:
        return False
    return kind == "both" or group.startswith("sequence") == (kind == "sequence")


def columns_of(shape: SpeechShape, group_widths: Mapping[str, int], kind: str) -> NDArray[np.int64]:
    """Which pooled numbers a member of `kind` sees, as positions in all groups put side by side."""
    mask = [np.full(width, sees(shape, kind, group)) for group, width in group_widths.items()]
    return np.flatnonzero(np.concatenate(mask))


def readout(shape: SpeechShape, group_widths: Mapping[str, int], *, l2: float = 1e-3) -> tf.keras.Model:
    """Standardised pooled numbers (n, all) → one (n, 8) of logits for each member, for training."""
    pooled = tf.keras.Input((sum(group_widths.values()),), name="pooled")
    answers = []
    for number, (kind, width) in enumerate(shape.members):
        columns = columns_of(shape, group_widths, kind)
        x = layers.Dropout(shape.input_dropout)(tf.gather(pooled, columns, axis=1))
        x = layers.Dropout(shape.dropout)(_dense(f"hidden_{number}", width, l2, "relu")(x))
        x = _dense(f"embedding_{number}", EMBEDDING // len(shape.members), l2, "relu")(x)
        answers.append(_dense(f"logits_{number}", len(SPEECH_CLASSES), l2)(x))
    return tf.keras.Model(pooled, answers, name="readout")


def assemble(
    shape: SpeechShape,
    taught: tf.keras.Model,
    heads: tf.keras.Model,
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> tf.keras.Model:
    """The branch that ships: [frames, contours] → [embedding (n, 64) from 0 up, logits (n, 8)].

    `mean` and `deviation` (all pooled numbers,) standardise what `heads`, a trained `readout`, was taught with;
    `taught` is the sequence classifier. The members' logits are averaged.
    """
    frames, contours = _inputs()
    groups = _groups(frames, contours, shape)
    widths = {name: int(group.shape[-1]) for name, group in groups.items()}
    cut, start = {}, 0
    for name, group in groups.items():
        part = slice(start, start + widths[name])
        cut[name] = _standardised(group, mean[part], deviation[part], name)
        start = part.stop
    halves = []
    for number, (kind, width) in enumerate(shape.members):
        seen = [cut[name] for name in groups if sees(shape, kind, name)]
        x = layers.Concatenate(name=f"seen_{number}")(seen)
        x = layers.Dense(width, activation="relu", name=f"hidden_{number}")(x)
        halves.append(layers.Dense(EMBEDDING // len(shape.members), activation="relu", name=f"embedding_{number}")(x))
    embedding = layers.Concatenate(name="embedding")(halves)
    logits = layers.Dense(len(SPEECH_CLASSES), name="logits")(embedding)
    network = tf.keras.Model([frames, contours], [embedding, logits], name="speech")
    adopt_sequence(network, taught)
    _adopt_heads(network, heads, len(shape.members))
    return network


def _adopt_heads(network: tf.keras.Model, heads: tf.keras.Model, members: int) -> None:
    """The heads' weights, with what `_standardised` adds taken out of the first biases, and the logits averaged."""
    kernels, biases = [], []
    for number in range(members):
        kernel, bias = heads.get_layer(f"hidden_{number}").get_weights()
        network.get_layer(f"hidden_{number}").set_weights([kernel, bias - LIMIT * kernel.sum(axis=0)])
        network.get_layer(f"embedding_{number}").set_weights(heads.get_layer(f"embedding_{number}").get_weights())
        kernel, bias = heads.get_layer(f"logits_{number}").get_weights()
        kernels.append(kernel / members)
        biases.append(bias)
    network.get_layer("logits").set_weights([np.concatenate(kernels), np.mean(biases, axis=0)])


def _standardised(group: tf.Tensor, mean: NDArray[np.float32], deviation: NDArray[np.float32], name: str) -> tf.Tensor:
    """(n, width) → 0..2 LIMIT: deviations from the mean plus LIMIT, cut on both sides.

    A depthwise convolution, so that the converter keeps a scale for every number; an elementwise product would have one
    scale for all, and would be computed in place.
    """
    x = layers.Reshape((1, group.shape[-1]))(group)
    scale = layers.DepthwiseConv1D(1, name=f"standardised_{name}")
    x = scale(x)
    scale.set_weights([(1 / deviation).reshape(scale.depthwise_kernel.shape), LIMIT - mean / deviation])
    return layers.Reshape((group.shape[-1],))(layers.ReLU(2 * LIMIT)(x))


def _inputs() -> tuple[tf.Tensor, tf.Tensor]:
    return (
        tf.keras.Input((WINDOW_FRAMES, len(CHANNELS)), name="frames"),
        tf.keras.Input((len(CONTOUR_FEATURES),), name="contours"),
    )


def _groups(frames: tf.Tensor, contours: tf.Tensor, shape: SpeechShape) -> dict[str, tf.Tensor]:
    return {**_statistics(frames), "contours": contours, **_sequence(frames, shape, 0.0)}


def _mean_over_time(x: tf.Tensor) -> tf.Tensor:
    return layers.GlobalAveragePooling1D()(x)


def _statistics(frames: tf.Tensor) -> dict[str, tf.Tensor]:
    """Of each raw channel, (n, 34) each: six numbers over all frames and two over the voiced ones; and their share."""
    mean = layers.GlobalAveragePooling1D(keepdims=True)(frames)
    # Steps up are half of all steps; cut at 6 they fit the eight bits better than steps between -10 and 10.
    steps_up = tf.nn.relu6(frames[:, 1:] - frames[:, :-1])
    # 1 where voicing stands clearly above its training mean, 0 below the mean. Sums over voiced frames are not divided
    # by their share: eight bits would lose a quotient, and the readout sees the share itself.
    voiced = tf.nn.relu6(6.0 * frames[:, :, VOICING : VOICING + 1]) / 6.0
    spoken = frames * voiced
    return {
        "mean": layers.Flatten()(mean),
        "spread": _mean_over_time(tf.abs(frames - mean)),
        "steps": _mean_over_time(steps_up),
        **{f"above_{i}": _mean_over_time(tf.nn.relu(frames - limit)) for i, limit in enumerate(THRESHOLDS)},
        "voiced_mean": _mean_over_time(spoken),
        "voiced_spread": _mean_over_time(tf.abs(spoken)),
        "voiced_share": _mean_over_time(voiced),
    }


def _sequence(frames: tf.Tensor, shape: SpeechShape, l2: float) -> dict[str, tf.Tensor]:
    """Strided convolutions, then a plain mean, a gated mean (attention) and the maximum over time."""
    x = frames
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
        x = layers.SpatialDropout1D(shape.sequence_dropout / 2)(x)
    groups = {"sequence_mean": _mean_over_time(x), "sequence_peak": layers.GlobalMaxPooling1D()(x)}
    if shape.attention:
        gate = layers.Conv1D(shape.blocks[-1][0], 1, activation="sigmoid", name="gate")(x)
        groups["sequence_gated"] = _mean_over_time(layers.Multiply(name="gated")([x, gate]))
    return groups


def _dense(name: str, width: int, l2: float, activation: str | None = None) -> tf.keras.layers.Layer:
    regulariser = tf.keras.regularizers.L2(l2)
    return layers.Dense(width, activation=activation, kernel_regularizer=regulariser, name=name)
