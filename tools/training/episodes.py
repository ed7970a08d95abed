"""Windows of ten tokens for the fused head, paired by label: there is no paired corpus whose terms allow shipping.

An episode takes one clip's stream and one face of the same label. Given the label both are independent then, so the
log-opinion pool is the Bayes answer by construction and the fused figure is an optimistic one (real errors are
correlated). Boredom has no faces: it is paired with neutral ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.fusion_head import (
    FACE_MASK,
    FACE_PART,
    FACE_QUALITY_PART,
    SPEECH_MASK,
    SPEECH_PART,
    SPEECH_QUALITY_PART,
)
from models.contract import EMBEDDING, EVIDENCE, FACE_CLASSES, TOKENS
from models.labels import EMOTIONS, Emotion

SENSE_DROPOUT: Final = 0.3
TOKEN_DROPOUT: Final = 0.1
FACE_OF: Final[dict[Emotion, Emotion]] = {e: e for e in FACE_CLASSES} | {Emotion.BOREDOM: Emotion.NEUTRAL}


@dataclass(frozen=True, eq=False)
class SpeechTokens:
    """Of each clip (n) and tick (t): `embeddings` (n, t, 64), calibrated `log_probabilities` (n, t, 8), `quality`
    (n, t, 2); `labels` (n,) are codes of the vocabulary."""

    embeddings: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]
    quality: NDArray[np.float32]
    labels: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> SpeechTokens:
        """The tokens of some clips."""
        return SpeechTokens(self.embeddings[rows], self.log_probabilities[rows], self.quality[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class FaceTokens:
    """Of each picture (n) and distorted copy (c): as `SpeechTokens`, with 7 face classes."""

    embeddings: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]
    quality: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Inputs of the head, (n, 10, …), with the code of the expressed emotion, (n,)."""

    speech_embeddings: NDArray[np.float32]
    face_embeddings: NDArray[np.float32]
    evidence: NDArray[np.float32]
    labels: NDArray[np.int64]

    def of_labels(self, codes: Sequence[int]) -> Episodes:
        """The episodes with one of these labels."""
        rows = np.isin(self.labels, codes)
        return Episodes(
            self.speech_embeddings[rows], self.face_embeddings[rows], self.evidence[rows], self.labels[rows]
        )

    def without(self, *, speech: bool = False, face: bool = False) -> Episodes:
        """The same episodes with a sense, or both, absent."""
        result = Episodes(*(array.copy() for array in vars(self).values()))
        everywhere = np.ones(self.evidence.shape[:2], bool)
        if speech:
            _erase_speech(result.speech_embeddings, result.evidence, everywhere)
        if face:
            _erase_face(result.face_embeddings, result.evidence, everywhere)
        return result


def draw(
    speech: SpeechTokens,
    face: FaceTokens,
    count: int,
    generator: np.random.Generator,
    *,
    log_floor: float,
    drop: bool,
    conflicting: bool = False,
) -> Episodes:
    """`count` episodes, labels equally likely. `drop`: senses and tokens go missing, as in training.

    `conflicting` pairs a clip with a face of another label; the label of such an episode is the clip's.
    """
    labels = generator.choice([emotion.code for emotion in EMOTIONS], count)
    result = Episodes(
        np.zeros((count, TOKENS, EMBEDDING), np.float32),
        np.zeros((count, TOKENS, EMBEDDING), np.float32),
        np.zeros((count, TOKENS, EVIDENCE), np.float32),
        labels.astype(np.int64),
    )
    for row, code in enumerate(labels):
        emotion = EMOTIONS[code]
        _place_speech(result, row, speech, emotion, generator, log_floor)
        seen = FACE_OF[emotion]
        if conflicting:
            seen = FACE_CLASSES[generator.choice([i for i, e in enumerate(FACE_CLASSES) if e is not seen])]
        _place_face(result, row, face, seen, generator, log_floor)
    if drop:
        _drop(result, generator)
    return result


def _place_speech(
    into: Episodes, row: int, speech: SpeechTokens, emotion: Emotion, generator: np.random.Generator, floor: float
) -> None:
    clips = np.flatnonzero(speech.labels == emotion.code)
    if not len(clips):
        return
    clip = generator.choice(clips)
    end = int(generator.integers(1, speech.quality.shape[1] + 1))
    start = max(0, end - TOKENS)
    places = slice(TOKENS - (end - start), TOKENS)
    into.speech_embeddings[row, places] = speech.embeddings[clip, start:end]
    into.evidence[row, places, SPEECH_PART] = np.maximum(speech.log_probabilities[clip, start:end], floor)
    into.evidence[row, places, SPEECH_QUALITY_PART] = speech.quality[clip, start:end]
    into.evidence[row, places, SPEECH_MASK] = 1.0


def _place_face(
    into: Episodes, row: int, face: FaceTokens, emotion: Emotion, generator: np.random.Generator, floor: float
) -> None:
    picture = generator.choice(np.flatnonzero(face.labels == emotion.code))
    copies = generator.integers(face.quality.shape[1], size=TOKENS)
    start = TOKENS - int(generator.integers(1, TOKENS + 1)) if generator.random() < 0.3 else 0
    into.face_embeddings[row, start:] = face.embeddings[picture, copies[start:]]
    into.evidence[row, start:, FACE_PART] = np.maximum(face.log_probabilities[picture, copies[start:]], floor)
    into.evidence[row, start:, FACE_QUALITY_PART] = face.quality[picture, copies[start:]]
    into.evidence[row, start:, FACE_MASK] = 1.0


def _drop(episodes: Episodes, generator: np.random.Generator) -> None:
    count = len(episodes.labels)
    # What only one sense knows must stay there: a bored face alone says neutral.
    no_speech = (generator.random(count) < SENSE_DROPOUT) & (episodes.labels != Emotion.BOREDOM.code)
    no_face = generator.random(count) < SENSE_DROPOUT
    hole = generator.random((2, count, TOKENS)) < TOKEN_DROPOUT
    _erase_speech(episodes.speech_embeddings, episodes.evidence, hole[0] | no_speech[:, np.newaxis])
    _erase_face(episodes.face_embeddings, episodes.evidence, hole[1] | no_face[:, np.newaxis])


def _erase_speech(embeddings: NDArray[np.float32], evidence: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
    embeddings[where] = 0.0
    for part in (SPEECH_PART, SPEECH_QUALITY_PART, slice(SPEECH_MASK, SPEECH_MASK + 1)):
        evidence[..., part][where] = 0.0


def _erase_face(embeddings: NDArray[np.float32], evidence: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
    embeddings[where] = 0.0
    for part in (FACE_PART, FACE_QUALITY_PART, slice(FACE_MASK, FACE_MASK + 1)):
        evidence[..., part][where] = 0.0
