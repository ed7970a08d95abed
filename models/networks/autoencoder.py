"""Autoencoders on scaled functionals: a plain one, and the adversarial one's discriminator (Makhzani et al. 2015).

Fully connected, as in Sahu et al. 2017 for speech emotion; the code is linear, so that a normal prior can be met.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

layers = tf.keras.layers


@dataclass(frozen=True)
class AutoencoderShape:
    """Widths. Encoder and decoder have one hidden layer of `hidden`, the discriminator two of `judging`."""

    code: int = 64
    hidden: int = 256
    judging: int = 128


@dataclass(frozen=True)
class Autoencoder:
    """Encoder (n, d) → (n, code), decoder (n, code) → (n, d), discriminator (n, code) → (n, 1): a logit, positive for
    codes that look drawn from the prior."""

    encoder: tf.keras.Model
    decoder: tf.keras.Model
    discriminator: tf.keras.Model


def build(width: int, shape: AutoencoderShape | None = None, *, dropout: float = 0.3) -> Autoencoder:
    """Untrained networks for features (n, width); `dropout` of the input while training, as in a denoising one."""
    shape = shape or AutoencoderShape()
    features = tf.keras.Input((width,), name="features")
    code = tf.keras.Input((shape.code,), name="code")
    encoded = layers.Dense(shape.hidden, activation="relu")(layers.Dropout(dropout)(features))
    decoded = layers.Dense(shape.hidden, activation="relu")(code)
    judged = layers.Dense(shape.judging, activation="relu")(code)
    judged = layers.Dense(shape.judging, activation="relu")(judged)
    return Autoencoder(
        tf.keras.Model(features, layers.Dense(shape.code)(encoded), name="encoder"),
        tf.keras.Model(code, layers.Dense(width)(decoded), name="decoder"),
        tf.keras.Model(code, layers.Dense(1)(judged), name="discriminator"),
    )
