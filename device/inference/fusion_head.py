"""Fused head: the last ten tokens of both senses to calibrated log-probabilities over the whole vocabulary.

The answer is a log-opinion pool of both branches, computed here, plus a correction that the network gives. The pool
adds log-likelihood ratios (log-probability minus log-prior, cut from below), averaged over the tokens with weights that
fall with age; for branches that err independently it is the Bayes answer (Hinton, "Products of experts", 1999). A bored
face looks neutral to the face network, which was never taught boredom, so boredom counts as neutral plus a constant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.constants import FaceConstants, FusionConstants, SpeechConstants
from device.inference.ports import BranchOutput, Network
from device.inference.speech_branch import log_softmax
from models.contract import (
    EMBEDDING,
    EVIDENCE,
    FACE_CLASSES,
    FACE_QUALITY,
    SPEECH_CLASSES,
    SPEECH_QUALITY,
    TOKENS,
)
from models.labels import EMOTIONS, Emotion

_SPEECH_CODES: Final = [emotion.code for emotion in SPEECH_CLASSES]
_FACE_CODES: Final = [emotion.code for emotion in FACE_CLASSES]
_S: Final = len(SPEECH_CLASSES)
_F: Final = len(FACE_CLASSES)
SPEECH_PART: Final = slice(0, _S)
FACE_PART: Final = slice(_S, _S + _F)
SPEECH_QUALITY_PART: Final = slice(_S + _F, _S + _F + len(SPEECH_QUALITY))
FACE_QUALITY_PART: Final = slice(SPEECH_QUALITY_PART.stop, SPEECH_QUALITY_PART.stop + len(FACE_QUALITY))
SPEECH_MASK: Final = EVIDENCE - 2
FACE_MASK: Final = EVIDENCE - 1


def _zeros() -> NDArray[np.float32]:
    return np.zeros(2, np.float32)


@dataclass(frozen=True, eq=False)
class Token:
    """What both senses said in one tick; None for a sense that said nothing. Quality scalars as in the contract."""

    speech: BranchOutput | None = None
    face: BranchOutput | None = None
    speech_quality: NDArray[np.float32] = field(default_factory=_zeros)
    face_quality: NDArray[np.float32] = field(default_factory=_zeros)


@dataclass(frozen=True, eq=False)
class TokenTensors:
    """The head's inputs, float32: embeddings (10, 64) of both senses and evidence (10, 20), oldest first."""

    speech_embeddings: NDArray[np.float32]
    face_embeddings: NDArray[np.float32]
    evidence: NDArray[np.float32]


class TokenHistory:
    """The last ten tokens. Lives outside the runtime, so that no network keeps anything between windows."""

    def __init__(self) -> None:
        self._tokens: deque[Token] = deque(maxlen=TOKENS)

    def __len__(self) -> int:
        return len(self._tokens)

    def append(self, token: Token) -> None:
        """Add this tick's token; the oldest goes when there are more than ten."""
        self._tokens.append(token)

    def clear(self) -> None:
        """Forget everything, as after a start or a gap."""
        self._tokens.clear()

    def tensors(self, log_floor: float) -> TokenTensors:
        """The head's inputs; ticks before the first token are absent ones: zeros with both masks 0."""
        absent = [Token()] * (TOKENS - len(self._tokens))
        return token_tensors([*absent, *self._tokens], log_floor)


def token_tensors(tokens: Sequence[Token], log_floor: float) -> TokenTensors:
    """Ten tokens, oldest first, as tensors; log-probabilities are cut at `log_floor`."""
    assert len(tokens) == TOKENS, len(tokens)
    speech = np.zeros((TOKENS, EMBEDDING), np.float32)
    face = np.zeros((TOKENS, EMBEDDING), np.float32)
    evidence = np.zeros((TOKENS, EVIDENCE), np.float32)
    for row, token in enumerate(tokens):
        if token.speech is not None:
            speech[row] = token.speech.embedding
            evidence[row, SPEECH_PART] = np.maximum(token.speech.log_probabilities, log_floor)
            evidence[row, SPEECH_QUALITY_PART] = token.speech_quality
            evidence[row, SPEECH_MASK] = 1.0
        if token.face is not None:
            face[row] = token.face.embedding
            evidence[row, FACE_PART] = np.maximum(token.face.log_probabilities, log_floor)
            evidence[row, FACE_QUALITY_PART] = token.face_quality
            evidence[row, FACE_MASK] = 1.0
    return TokenTensors(speech, face, evidence)


@dataclass(frozen=True)
class OpinionPool:
    """The log-opinion pool with the constants of a bundle."""

    fusion: FusionConstants
    speech_prior: tuple[float, ...]
    face_prior: tuple[float, ...]

    def score(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evidence (..., 10, 20) to unnormalised log-scores (..., 8); all 0 when no sense is present."""
        age = np.arange(TOKENS - 1, -1, -1)
        recency = (self.fusion.recency**age).astype(np.float64)
        return (self._speech(evidence, recency) + self._face(evidence, recency)).astype(np.float32)

    def _speech(self, evidence: NDArray[np.float32], recency: NDArray[np.float64]) -> NDArray[np.float64]:
        ratios = evidence[..., SPEECH_PART] - np.log(self.speech_prior)
        scores = np.zeros((*evidence.shape[:-2], len(EMOTIONS)))
        scores[..., _SPEECH_CODES] = _weighted_mean(ratios, evidence[..., SPEECH_MASK] * recency)
        return scores

    def _face(self, evidence: NDArray[np.float32], recency: NDArray[np.float64]) -> NDArray[np.float64]:
        ratios = evidence[..., FACE_PART] - np.log(self.face_prior)
        weights = evidence[..., FACE_MASK] * recency
        scores = np.zeros((*evidence.shape[:-2], len(EMOTIONS)))
        scores[..., _FACE_CODES] = _weighted_mean(ratios, weights)
        present = weights.sum(axis=-1) > 0
        as_neutral = scores[..., Emotion.NEUTRAL.code] + self.fusion.boredom_from_neutral
        scores[..., Emotion.BOREDOM.code] = np.where(present, as_neutral, 0.0)
        return scores


def _weighted_mean(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over tokens, 0 where all weights are 0: (..., 10, n) and (..., 10) to (..., n)."""
    total = weights.sum(axis=-1, keepdims=True)
    summed = (rows * weights[..., np.newaxis]).sum(axis=-2)
    return np.asarray(np.divide(summed, total, out=np.zeros_like(summed), where=total > 0), np.float64)


class FusionHead:
    """Runs the fused head on a history of tokens."""

    def __init__(
        self, network: Network, constants: FusionConstants, speech: SpeechConstants, face: FaceConstants
    ) -> None:
        self._network = network
        self._constants = constants
        self._pool = OpinionPool(constants, speech.prior, face.prior)

    def run(self, history: TokenHistory) -> NDArray[np.float32]:
        """Calibrated log-probabilities, float32, shape (8,), in the order of EMOTIONS. Works with any sense absent."""
        tensors = history.tensors(self._constants.log_floor)
        correction = self._network.run(
            {
                "speech_embeddings": tensors.speech_embeddings[np.newaxis],
                "face_embeddings": tensors.face_embeddings[np.newaxis],
                "evidence": tensors.evidence[np.newaxis],
            }
        )["logits"][0]
        return log_softmax(self._pool.score(tensors.evidence) + correction, self._constants.temperature)
