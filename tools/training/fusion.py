"""Trains the fused head on paired episodes and holds it against the log-opinion pool that it corrects.

The speech tokens are out of fold: every token comes from a branch that never heard its speaker, else the head would
learn to trust the speech branch more than it may. Embeddings of the fold branches are carried into the shipped branch's
space first (`speech_folds.out_of_fold_tokens`). The face tokens come from pictures that the face branch was not
trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import FusionConstants
from device.inference.fusion_head import OpinionPool
from models.contract import FUSION
from models.labels import EMOTIONS
from models.networks import fusion
from tools.training.convert import Batch
from tools.training.episodes import Episodes, FaceTokens, SpeechTokens, draw

LOG_FLOOR: Final = -6.0
RECENCY: Final = 0.8
BOREDOM_FROM_NEUTRAL: Final = -0.7
REPRESENTATIVE: Final = 300


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a training run beside the tokens."""

    shape: fusion.FusionShape = field(default_factory=fusion.FusionShape)
    rounds: int = 5
    episodes_per_round: int = 6000
    batch: int = 64
    learning_rate: float = 2e-3
    l2: float = 1e-3
    #: Weight of the mean squared correction: the head leaves the pool only where that pays.
    correction_penalty: float = 0.2
    label_smoothing: float = 0.05
    seed: int = 0


def pool_constants(temperature: float = 1.0) -> FusionConstants:
    """The log-opinion pool's constants; chosen beforehand, not fitted."""
    return FusionConstants(
        log_floor=LOG_FLOOR, recency=RECENCY, boredom_from_neutral=BOREDOM_FROM_NEUTRAL, temperature=temperature
    )


def inputs_of(episodes: Episodes) -> list[NDArray[np.float32]]:
    """The head's inputs in the contract's order."""
    return [episodes.speech_embeddings, episodes.face_embeddings, episodes.evidence]


def train(speech: SpeechTokens, face: FaceTokens, pool: OpinionPool, recipe: Recipe) -> tf.keras.Model:
    """The head after a fixed number of rounds of fresh episodes."""
    tf.keras.utils.set_random_seed(recipe.seed)
    generator = np.random.default_rng(recipe.seed)
    network = fusion.build(recipe.shape, l2=recipe.l2)
    trainable = _with_pool(network, recipe)
    for _ in range(recipe.rounds):
        episodes = draw(speech, face, recipe.episodes_per_round, generator, log_floor=LOG_FLOOR, drop=True)
        targets = np.eye(len(EMOTIONS), dtype=np.float32)[episodes.labels]
        inputs = [*inputs_of(episodes), pool.score(episodes.evidence)]
        trainable.fit(inputs, targets, batch_size=recipe.batch, verbose=0)
    return network


def _with_pool(network: tf.keras.Model, recipe: Recipe) -> tf.keras.Model:
    pool = tf.keras.Input((len(EMOTIONS),), name="pool")
    correction = network.outputs[0]
    trainable = tf.keras.Model([*network.inputs, pool], tf.keras.layers.Add()([pool, correction]))
    trainable.add_loss(recipe.correction_penalty * tf.reduce_mean(tf.square(correction)))
    steps = recipe.rounds * recipe.episodes_per_round // recipe.batch
    schedule = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps, alpha=0.02)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    trainable.compile(tf.keras.optimizers.Adam(schedule), loss)
    return trainable


def corrected(network: tf.keras.Model, pool: OpinionPool, episodes: Episodes) -> NDArray[np.float32]:
    """Fused log-scores (n, 8) in float32, before the temperature."""
    correction = network.predict(inputs_of(episodes), batch_size=256, verbose=0)
    return np.asarray(pool.score(episodes.evidence) + correction, np.float32)


def representative(speech: SpeechTokens, face: FaceTokens, seed: int) -> list[Batch]:
    """Episodes, incomplete ones among them, that tell the converter the ranges."""
    episodes = draw(speech, face, REPRESENTATIVE, np.random.default_rng(seed), log_floor=LOG_FLOOR, drop=True)
    names = [tensor.name for tensor in FUSION.inputs]
    return [
        {name: values[row : row + 1] for name, values in zip(names, inputs_of(episodes), strict=True)}
        for row in range(len(episodes.labels))
    ]
