"""The face branch's network: a small plain CNN that int8 kernels run well.

Dense 3×3 convolutions with early strides, ReLU6, batch normalisation (folded at conversion); no squeeze-excitation, no
hard-swish. Cost: `models.networks.macs`; the cap is 30 million multiply-accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from models.contract import EMBEDDING, FACE

layers = tf.keras.layers


@dataclass(frozen=True)
class FaceShape:
    """Channels after each stride of two, and how many residual convolutions follow it."""

    stem: int = 32
    stages: tuple[tuple[int, int], ...] = ((48, 1), (96, 2), (120, 1))
    dropout: float = 0.3


def _convolution(x: tf.Tensor, channels: int, kernel: int, stride: int) -> tf.Tensor:
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    return layers.ReLU(6.0)(x)


def build(shape: FaceShape | None = None) -> tf.keras.Model:
    """Normalised grey crop (n, 64, 64, 1) → [embedding (n, 64) in 0..6, logits (n, 7) in the order of FACE_CLASSES].

    Input: `(grey - mean) / scale` with grey in 0..255 and the constants of the bundle's manifest.
    """
    shape = shape or FaceShape()
    (crop,) = FACE.inputs
    embedding_tensor, logits_tensor = FACE.outputs
    inputs = tf.keras.Input(crop.shape[1:], name=crop.name)
    x = _convolution(inputs, shape.stem, 5, 2)
    for channels, residuals in shape.stages:
        x = _convolution(x, channels, 3, 2)
        for _ in range(residuals):
            x = layers.Add()([x, _convolution(x, channels, 3, 1)])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(EMBEDDING)(x)
    embedding = layers.ReLU(6.0, name=embedding_tensor.name)(x)
    logits = layers.Dense(logits_tensor.shape[-1], name=logits_tensor.name)(layers.Dropout(shape.dropout)(embedding))
    return tf.keras.Model(inputs, [embedding, logits], name="face")
