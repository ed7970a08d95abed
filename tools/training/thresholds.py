"""Chooses the decision's thresholds on the training side's out-of-fold tokens, by two rules stated beforehand.

`confidence_min`: the lowest confidence from which on an answer is more often right than wrong. `conflict_confidence`:
the lowest at which senses that belong together are called in conflict in at most one window of twenty.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.inference.decision import DecisionParameters
from models.contract import FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, Emotion
from tools.training.episodes import FACE_OF, FaceTokens, SpeechTokens

FALSE_CONFLICTS_MAX: Final = 0.05
PAIRS: Final = 20_000
_GRID: Final = np.round(np.arange(0.30, 0.96, 0.01), 2)


def choose(speech: SpeechTokens, face: FaceTokens, generator: np.random.Generator) -> DecisionParameters:
    """The default parameters with the two confidences fitted."""
    pairs = _pairs(speech, face, generator)
    return msgspec.structs.replace(
        DecisionParameters(),
        confidence_min=confidence_min(*_answers(speech, face)),
        conflict_confidence=conflict_confidence(*pairs),
    )


def confidence_min(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Lowest grid value such that the answers within 0.05 above it are right at least half of the time."""
    for low in _GRID:
        near = (confidence >= low) & (confidence < low + 0.05)
        if near.any() and right[near].mean() >= 0.5:
            return float(low)
    return float(_GRID[-1])


def conflict_confidence(first: NDArray[np.float64], second: NDArray[np.float64], differ: NDArray[np.bool_]) -> float:
    """Lowest grid value at which at most 5 % of matching pairs have both senses that sure, of different classes."""
    for low in _GRID:
        if (differ & (first >= low) & (second >= low)).mean() <= FALSE_CONFLICTS_MAX:
            return float(low)
    return float(_GRID[-1])


def _answers(speech: SpeechTokens, face: FaceTokens) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence and rightness of both branches' single answers, each branch with the same weight."""
    heard = _best(speech.log_probabilities, [e.code for e in SPEECH_CLASSES])
    seen = _best(face.log_probabilities, [e.code for e in FACE_CLASSES])
    heard_right = heard[1] == speech.labels[:, np.newaxis]
    seen_right = seen[1] == face.labels[:, np.newaxis]
    return (
        np.concatenate([heard[0].ravel(), seen[0].ravel()]),
        np.concatenate([heard_right.ravel(), seen_right.ravel()]),
    )


def _best(log_probabilities: NDArray[np.float32], codes: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    best = log_probabilities.argmax(axis=-1)
    return np.exp(log_probabilities.max(axis=-1).astype(np.float64)), np.array(codes)[best]


def _pairs(
    speech: SpeechTokens, face: FaceTokens, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences of clips and faces of one label, and whether they name different classes that both know."""
    heard = _best(speech.log_probabilities, [e.code for e in SPEECH_CLASSES])
    seen = _best(face.log_probabilities, [e.code for e in FACE_CLASSES])
    codes = generator.choice([e.code for e in SPEECH_CLASSES], PAIRS)
    firsts, seconds, differ = [], [], []
    for code in np.unique(codes):
        count = int((codes == code).sum())
        clips = generator.choice(np.flatnonzero(speech.labels == code), count)
        wanted = FACE_OF[EMOTIONS[code]].code
        pictures = generator.choice(np.flatnonzero(face.labels == wanted), count)
        ticks = generator.integers(heard[0].shape[1], size=count)
        copies = generator.integers(seen[0].shape[1], size=count)
        firsts.append(heard[0][clips, ticks])
        seconds.append(seen[0][pictures, copies])
        said, shown = heard[1][clips, ticks], seen[1][pictures, copies]
        differ.append((said != shown) & (said != Emotion.BOREDOM.code))
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(differ)
