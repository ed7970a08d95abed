"""The fused head as it ships: tokens, training, thresholds, and its figures beside the log-opinion pool's.

The head is trained on some speakers and the face branch's held-out pictures, and measured on other speakers and on
FER+'s valid part, so speakers and pictures are disjoint on both sides. Thresholds are chosen on
the training side alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.constants import FaceConstants, FusionConstants
from device.inference.decision import DecisionParameters
from device.inference.fusion_head import OpinionPool
from device.inference.manifest import Metric
from device.inference.quality import face_quality
from device.inference.speech_branch import log_softmax
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE_CLASSES, FUSION, SPEECH_CLASSES
from models.labels import EMOTIONS
from tools.dataset.corpora import emodb
from tools.training import ferplus, fusion, scores
from tools.training.convert import to_int8
from tools.training.episodes import Episodes, FaceTokens, SpeechTokens, draw
from tools.training.face_pictures import augment, normalised
from tools.training.scores import Figure
from tools.training.speech_release import SpeechRelease, metric
from tools.training.splits import FIXED_TEST
from tools.training.thresholds import choose

FACE_COPIES: Final = 4
TEST_EPISODES: Final = 4000
PROTOCOL: Final = (
    "synthetic pairing by label of spoken streams (out-of-fold tokens) and FER+ faces, speakers and pictures disjoint "
    "from the head's training; independent errors by construction, so optimistic"
)


@dataclass(frozen=True, eq=False)
class FusionRelease:
    """The shipped head with its constants, thresholds, figures and some episodes for golden vectors."""

    network: tf.keras.Model
    constants: FusionConstants
    decision: DecisionParameters
    tflite: bytes
    metrics: tuple[Metric, ...]
    golden: Episodes


def speech_tokens(speech: SpeechRelease) -> SpeechTokens:
    """Out-of-fold tokens of all clips, with the shipped temperature."""
    return SpeechTokens(
        embeddings=speech.token_embeddings,
        log_probabilities=log_softmax(speech.token_logits, speech.constants.temperature),
        quality=speech.voices.streams.quality,
        labels=speech.voices.labels[speech.voices.streamed],
    )


def held_out_speakers(speech: SpeechRelease) -> NDArray[np.bool_]:
    """Which streamed clips belong to speakers that the head is measured on: EMO-DB's fixed test speakers, and the last
    fifth of every other corpus's."""
    clips = [speech.voices.clips[row] for row in speech.voices.streamed]
    kept = {(emodb.KEY, speaker) for speaker in FIXED_TEST}
    for key in {clip.corpus for clip in clips} - {emodb.KEY}:
        speakers = sorted({clip.speaker for clip in clips if clip.corpus == key})
        kept |= {(key, speaker) for speaker in speakers[-max(1, len(speakers) // 5) :]}
    return np.array([(clip.corpus, clip.speaker) in kept for clip in clips])


def face_tokens(network: tf.keras.Model, pictures: ferplus.Pictures, constants: FaceConstants, seed: int) -> FaceTokens:
    """Distorted copies of the pictures that have a majority label, through the face branch in float32."""
    tf.keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    labels = ferplus.majority(pictures.votes)
    known = labels >= 0
    pixels = pictures.pixels[known].astype(np.float32)[..., np.newaxis]
    embeddings, logits, quality = [], [], []
    for _ in range(FACE_COPIES):
        crops = np.concatenate([augment(tf.constant(part)).numpy() for part in np.array_split(pixels, 20) if len(part)])
        one, other = network.predict(normalised(crops), batch_size=256, verbose=0)
        embeddings.append(one)
        logits.append(other)
        quality.append([face_quality(generator.uniform(0.6, 1.0), crop[..., 0]) for crop in crops])
    codes = np.array([emotion.code for emotion in FACE_CLASSES])
    return FaceTokens(
        embeddings=np.stack(embeddings, axis=1),
        log_probabilities=log_softmax(np.stack(logits, axis=1), constants.temperature),
        quality=np.stack(quality, axis=1).astype(np.float32),
        labels=codes[labels[known]],
    )


def release(
    speech: SpeechRelease,
    face_network: tf.keras.Model,
    face_constants: FaceConstants,
    pictures: ferplus.FerPlus,
    recipe: fusion.Recipe,
    folder: Path,
) -> FusionRelease:
    """Train, convert, calibrate, choose thresholds, measure."""
    folder.mkdir(parents=True, exist_ok=True)
    voices = speech_tokens(speech)
    held_out = held_out_speakers(speech)
    taught, tested = voices.of(np.flatnonzero(~held_out)), voices.of(np.flatnonzero(held_out))
    seen = face_tokens(face_network, pictures.held_out, face_constants, recipe.seed)
    unseen = face_tokens(face_network, pictures.test, face_constants, recipe.seed + 1)
    pool = OpinionPool(fusion.pool_constants(), speech.constants.prior, face_constants.prior)
    network = fusion.train(taught, seen, pool, recipe)
    file = folder / FUSION.file
    file.write_bytes(to_int8(network, FUSION, fusion.representative(taught, seen, recipe.seed)))
    generator = np.random.default_rng(recipe.seed + 2)
    calibration = draw(taught, seen, TEST_EPISODES, generator, log_floor=fusion.LOG_FLOOR, drop=True)
    temperature = scores.fit_temperature(fusion.corrected(network, pool, calibration), calibration.labels)
    tests = _test_episodes(tested, unseen, generator)
    golden = draw(taught, seen, 4, generator, log_floor=fusion.LOG_FLOOR, drop=True)
    return FusionRelease(
        network=network,
        constants=fusion.pool_constants(temperature),
        decision=choose(taught, seen, generator),
        tflite=file.read_bytes(),
        metrics=_metrics(network, pool, tests, file, temperature, recipe.seed),
        golden=golden,
    )


def _test_episodes(speech: SpeechTokens, face: FaceTokens, generator: np.random.Generator) -> dict[str, Episodes]:
    both = draw(speech, face, TEST_EPISODES, generator, log_floor=fusion.LOG_FLOOR, drop=False)
    heard = both.of_labels([emotion.code for emotion in SPEECH_CLASSES])
    seen = both.of_labels([emotion.code for emotion in FACE_CLASSES])
    return {
        "both senses": both,
        "both senses, voiced labels": heard,
        "face absent": heard.without(face=True),
        "both senses, seen labels": seen,
        "speech absent": seen.without(speech=True),
    }


def _metrics(
    network: tf.keras.Model, pool: OpinionPool, tests: dict[str, Episodes], file: Path, temperature: float, seed: int
) -> tuple[Metric, ...]:
    rows: list[Metric] = []
    for case, episodes in tests.items():
        count = len(episodes.labels)
        answers = {
            "fused head, float32": fusion.corrected(network, pool, episodes),
            "log-opinion pool alone": pool.score(episodes.evidence),
        }
        if case == "both senses":
            answers["fused head, int8"] = corrected_int8(file, pool, episodes)
        for name, logits in answers.items():
            figure = scores.macro_recall(logits.argmax(axis=1), episodes.labels)
            rows.append(metric(f"{name}, {case}: macro recall", figure, count, PROTOCOL, seed))
    both = tests["both senses"]
    logits = corrected_int8(file, pool, both)
    floats = fusion.corrected(network, pool, both)
    same = scores.accuracy(logits.argmax(axis=1), floats.argmax(axis=1))
    rows.append(metric("fused head: int8 and float32 name one class", same, len(both.labels), PROTOCOL, seed))
    error = scores.calibration_error(logits, both.labels, temperature)
    rows.append(
        metric("fused head, int8: expected calibration error", Figure(error, error, error), len(logits), PROTOCOL, seed)
    )
    return tuple(rows)


def corrected_int8(file: Path, pool: OpinionPool, episodes: Episodes) -> NDArray[np.float32]:
    """As `fusion.corrected`, by the int8 file in the runtime that boxes use."""
    network = TFLiteRuntime("tflite-runtime").load(file, FUSION)
    names = [tensor.name for tensor in FUSION.inputs]
    corrections = np.empty((len(episodes.labels), len(EMOTIONS)), np.float32)
    for row in range(len(corrections)):
        inputs = {n: v[row : row + 1] for n, v in zip(names, fusion.inputs_of(episodes), strict=True)}
        corrections[row] = network.run(inputs)["logits"][0]
    return np.asarray(pool.score(episodes.evidence) + corrections, np.float32)
