"""Codes of autoencoders as features: an unsupervised adversarial autoencoder, and a plain one of equal size.

Both are fitted on the training clips' scaled functionals (535 clips are enough for 286 numbers, not for windows of
512 x 34), without labels. A linear probe then learns the labels from the code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.networks import autoencoder
from models.networks.autoencoder import Autoencoder, AutoencoderShape
from tools.evaluate.system import Material
from tools.evaluate.systems.classical import CODE, Features, FeatureSystem, Setting, clip_functionals, probe
from tools.evaluate.systems.classical import windows_functionals as functionals_of
from tools.training.speech_windows import Windows
from tools.training.splits import Split

EPOCHS: Final = 150
BATCH: Final = 32
RECONSTRUCTION_RATE: Final = 1e-3
DISCRIMINATOR_RATE: Final = 1e-3
ENCODER_RATE: Final = 1e-3
#: Ten times the raw functionals' grid: 64 numbers of deviation 1 in place of 286.
CODE_COSTS: Final = (0.01, 0.1, 1.0)


class Encoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder as a transformer of features (n, d) to codes (n, code)."""

    def __init__(self, *, adversarial: bool, seed: int = 0, epochs: int = EPOCHS, code: int = CODE) -> None:
        self.adversarial = adversarial
        self.seed = seed
        self.epochs = epochs
        self.code = code

    def fit(self, features: Features, labels: object = None) -> Encoder:
        """Learn features (n, d) of about mean 0 and deviation 1; labels are not looked at."""
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(self.seed)
        self.networks_ = autoencoder.build(features.shape[1], AutoencoderShape(code=self.code))
        generator = np.random.default_rng(self.seed)
        batch = min(BATCH, len(features))
        order = [generator.permutation(len(features))[: len(features) // batch * batch] for _ in range(self.epochs)]
        _train(
            self.networks_,
            tf.constant(features, tf.float32),
            tf.constant(np.concatenate(order).reshape(-1, batch), tf.int32),
            adversarial=self.adversarial,
        )
        return self

    def transform(self, features: Features) -> Features:
        """Codes, (n, code)."""
        return np.asarray(self.networks_.encoder(features.astype(np.float32)), np.float64)

    def reconstruction_error(self, features: Features) -> Features:
        """Root mean square of what the decoder misses, (n,), in deviations of the training clips."""
        missed = features - np.asarray(self.networks_.decoder(self.transform(features).astype(np.float32)), np.float64)
        return np.asarray(np.sqrt((missed**2).mean(axis=1)), np.float64)

    def strangeness(self, features: Features) -> Features:
        """The discriminator's logit turned round, (n,): high for a code that does not look drawn from the prior."""
        judged = self.networks_.discriminator(self.transform(features).astype(np.float32))
        return -np.asarray(judged, np.float64)[:, 0]


def _train(networks: Autoencoder, features: tf.Tensor, order: tf.Tensor, *, adversarial: bool) -> None:
    """Each batch of `order` (steps, batch) in turn: reconstruction, then discriminator, then encoder against it
    (Makhzani et al. 2015, section 2; the prior is the standard normal distribution)."""
    encoder, decoder, discriminator = networks.encoder, networks.decoder, networks.discriminator
    rebuilt = [*encoder.trainable_variables, *decoder.trainable_variables]
    optimizers = []
    for rate, variables in (
        (RECONSTRUCTION_RATE, rebuilt),
        (DISCRIMINATOR_RATE, discriminator.trainable_variables),
        (ENCODER_RATE, encoder.trainable_variables),
    ):
        # Falling rates: without them the codes' mean keeps circling around the prior's.
        optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(rate, len(order)))
        optimizer.build(variables)
        optimizers.append((optimizer, variables))

    def step(number: int, loss: Callable[[Autoencoder, tf.Tensor], tf.Tensor], some: tf.Tensor) -> None:
        optimizer, variables = optimizers[number]
        with tf.GradientTape() as tape:
            value = loss(networks, some)
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

    @tf.function  # type: ignore[untyped-decorator]
    def run() -> None:
        for rows in order:
            some = tf.gather(features, rows)
            step(0, _reconstruction_loss, some)
            if adversarial:
                step(1, _discriminator_loss, some)
                step(2, _fooling_loss, some)

    run()


def _reconstruction_loss(networks: Autoencoder, features: tf.Tensor) -> tf.Tensor:
    rebuilt = networks.decoder(networks.encoder(features, training=True), training=True)
    return tf.reduce_mean(tf.square(features - rebuilt))


def _discriminator_loss(networks: Autoencoder, features: tf.Tensor) -> tf.Tensor:
    codes = networks.encoder(features)
    drawn = networks.discriminator(tf.random.normal(tf.shape(codes)))
    return _said(drawn, 1.0) + _said(networks.discriminator(codes), 0.0)


def _fooling_loss(networks: Autoencoder, features: tf.Tensor) -> tf.Tensor:
    return _said(networks.discriminator(networks.encoder(features)), 1.0)


def _said(logits: tf.Tensor, target: float) -> tf.Tensor:
    """Mean binary cross-entropy of logits against one target."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), target), logits))


def _probed(setting: Setting, *, adversarial: bool) -> Any:
    encoder = Encoder(adversarial=adversarial, seed=setting.seed, epochs=round(EPOCHS * setting.share))
    return make_pipeline(StandardScaler(), encoder, StandardScaler(), probe(setting.value))


def system(name: str) -> FeatureSystem:
    """`ae64` or `aae64`; KeyError for another name."""
    make = partial(_probed, adversarial={"ae64": False, "aae64": True}[name])
    return FeatureSystem(name, make, "C", CODE_COSTS, files=(__file__, autoencoder.__file__))


@dataclass(frozen=True, eq=False)
class Strangeness:
    """How strange clips are to an adversarial autoencoder, high for what is unlike its training clips.

    `inside` and `outside` are (clips, 3): reconstruction error and discriminator, each in deviations from the training
    clips' mean, and their sum, which is the score.
    """

    inside: Features
    outside: Features

    @property
    def areas(self) -> tuple[float, float, float]:
        """Area under the ROC curve, outside against inside: by reconstruction, by discriminator, by their sum."""
        truth = np.repeat([0, 1], [len(self.inside), len(self.outside)])
        both = np.concatenate([self.inside, self.outside])
        by_reconstruction, by_discriminator, by_sum = (float(roc_auc_score(truth, column)) for column in both.T)
        return by_reconstruction, by_discriminator, by_sum

    @property
    def area(self) -> float:
        """Area under the ROC curve of the sum."""
        return self.areas[2]


def ood_scores(material: Material, split: Split, seed: int, outside: Windows) -> Strangeness:
    """Strangeness of the test items, and of others' windows (other corpora, noise), to an adversarial autoencoder that
    was fitted on `split.train` alone. Of `outside`, each row's first window counts, as of the test items."""
    features, _ = clip_functionals(material)
    scaler = StandardScaler().fit(features[split.train, 0])
    known = scaler.transform(features[split.train, 0])
    encoder = Encoder(adversarial=True, seed=seed).fit(known)
    usual = _parts(encoder, known)
    first = Windows(outside.frames[:, :1], outside.contours[:, :1])
    inside, strange = (
        (_parts(encoder, scaler.transform(some)) - usual.mean(axis=0)) / usual.std(axis=0)
        for some in (features[split.test, 0], functionals_of(first)[:, 0])
    )
    return Strangeness(_with_sum(inside), _with_sum(strange))


def _parts(encoder: Encoder, features: Features) -> NDArray[np.float64]:
    return np.stack([encoder.reconstruction_error(features), encoder.strangeness(features)], axis=1)


def _with_sum(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([parts, parts.sum(axis=1, keepdims=True)], axis=1)
