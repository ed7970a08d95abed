"""The fused head with every combination of senses, and the log-opinion pool that it corrects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from device.inference.bundle import load_bundle
from device.inference.constants import FaceConstants, FusionConstants, SpeechConstants
from device.inference.fusion_head import (
    FACE_MASK,
    FACE_PART,
    SPEECH_MASK,
    SPEECH_PART,
    FusionHead,
    OpinionPool,
    Token,
    TokenHistory,
    token_tensors,
)
from device.inference.ports import BranchOutput
from device.inference.speech_branch import log_softmax
from device.inference.tflite import TFLiteRuntime
from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, FACE_CLASSES, SPEECH_CLASSES, TOKENS
from models.labels import EMOTIONS, Emotion

RELEASED: Final = Path(__file__).parents[2] / "models" / "bundle"
CONSTANTS: Final = FusionConstants(log_floor=-6.0, recency=0.8, boredom_from_neutral=-0.7, temperature=1.0)
EVEN: Final = (1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES)
EVEN_FACE: Final = (1 / len(FACE_CLASSES),) * len(FACE_CLASSES)
FACE: Final = FaceConstants(mean=128.0, scale=64.0, temperature=1.0, prior=EVEN_FACE)
SPEECH: Final = SpeechConstants(
    channel_mean=(0.0,) * len(CHANNELS),
    channel_scale=(1.0,) * len(CHANNELS),
    contour_mean=(0.0,) * len(CONTOUR_FEATURES),
    contour_scale=(1.0,) * len(CONTOUR_FEATURES),
    limit=5.0,
    temperature=1.0,
    prior=EVEN,
)
POOL: Final = OpinionPool(CONSTANTS, EVEN, EVEN_FACE)


class Correction:
    """A network that always gives the same correction and remembers its inputs."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.logits = logits
        self.inputs: dict[str, NDArray[np.float32]] = {}

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.inputs = dict(inputs)
        return {"logits": self.logits[np.newaxis]}


def saying(emotion: Emotion, classes: tuple[Emotion, ...], logit: float = 4.0) -> BranchOutput:
    logits = np.zeros(len(classes), np.float32)
    logits[classes.index(emotion)] = logit
    return BranchOutput(np.full(EMBEDDING, 0.5, np.float32), log_softmax(logits))


def heard(emotion: Emotion, logit: float = 4.0) -> Token:
    return Token(speech=saying(emotion, SPEECH_CLASSES, logit), speech_quality=np.array([0.5, 0.5], np.float32))


def seen(emotion: Emotion, logit: float = 4.0) -> Token:
    return Token(face=saying(emotion, FACE_CLASSES, logit), face_quality=np.array([0.9, 0.5], np.float32))


def both(voice: Emotion, face: Emotion) -> Token:
    return Token(
        speech=saying(voice, SPEECH_CLASSES),
        face=saying(face, FACE_CLASSES),
        speech_quality=np.array([0.5, 0.5], np.float32),
        face_quality=np.array([0.9, 0.5], np.float32),
    )


def history(*tokens: Token) -> TokenHistory:
    result = TokenHistory()
    for token in tokens:
        result.append(token)
    return result


def fused(tokens: TokenHistory, correction: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    network = Correction(np.zeros(8, np.float32) if correction is None else correction)
    return FusionHead(network, CONSTANTS, SPEECH, FACE).run(tokens)


def test_absent_senses_are_zeros_with_mask_zero() -> None:
    tensors = history(heard(Emotion.ANGER), seen(Emotion.FEAR)).tensors(-6.0)
    assert not tensors.evidence[: TOKENS - 2].any()
    assert tensors.evidence[-2, SPEECH_MASK] == 1.0
    assert tensors.evidence[-2, FACE_MASK] == 0.0
    assert not tensors.evidence[-2, FACE_PART].any()
    assert not tensors.face_embeddings[-2].any()
    assert tensors.evidence[-1, FACE_MASK] == 1.0
    assert not tensors.evidence[-1, SPEECH_PART].any()
    assert not tensors.speech_embeddings[-1].any()


def test_history_keeps_the_last_ten_oldest_first() -> None:
    tokens = history(*[heard(Emotion.ANGER)] * 5, *[heard(Emotion.SADNESS)] * TOKENS)
    assert len(tokens) == TOKENS
    evidence = tokens.tensors(-6.0).evidence[:, SPEECH_PART]
    assert (evidence.argmax(axis=1) == SPEECH_CLASSES.index(Emotion.SADNESS)).all()


def test_cleared_history_forgets() -> None:
    tokens = history(heard(Emotion.ANGER))
    tokens.clear()
    assert len(tokens) == 0
    assert not tokens.tensors(-6.0).evidence.any()


def test_one_sense_cannot_veto_a_class() -> None:
    tensors = token_tensors([heard(Emotion.ANGER, 60.0)] * TOKENS, -6.0)
    assert tensors.evidence[:, SPEECH_PART].min() == -6.0


def test_wrong_number_of_tokens_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        token_tensors([Token()], -6.0)


def test_nothing_present_is_evenly_likely() -> None:
    np.testing.assert_allclose(fused(history(Token(), Token())), np.log(1 / 8), atol=1e-6)
    np.testing.assert_allclose(fused(TokenHistory()), np.log(1 / 8), atol=1e-6)


@pytest.mark.parametrize("emotion", SPEECH_CLASSES)
def test_speech_alone_names_what_speech_says(emotion: Emotion) -> None:
    assert EMOTIONS[int(fused(history(*[heard(emotion)] * 3)).argmax())] is emotion


def test_face_alone_names_what_the_face_shows() -> None:
    assert EMOTIONS[int(fused(history(seen(Emotion.SURPRISE))).argmax())] is Emotion.SURPRISE
    assert EMOTIONS[int(fused(history(seen(Emotion.NEUTRAL))).argmax())] is Emotion.NEUTRAL


def test_bored_voice_with_a_neutral_face_is_boredom() -> None:
    assert EMOTIONS[int(fused(history(both(Emotion.BOREDOM, Emotion.NEUTRAL))).argmax())] is Emotion.BOREDOM


def test_both_senses_agreeing_are_surer_than_one() -> None:
    one = fused(history(heard(Emotion.ANGER)))
    two = fused(history(both(Emotion.ANGER, Emotion.ANGER)))
    assert two[Emotion.ANGER.code] > one[Emotion.ANGER.code]


def test_pool_is_bayes_for_independent_senses() -> None:
    """With even priors and one token, the pool is the normalised product of the shared classes' posteriors."""
    token = both(Emotion.ANGER, Emotion.FEAR)
    shared = [e for e in EMOTIONS if e in SPEECH_CLASSES and e in FACE_CLASSES]
    assert token.speech is not None
    assert token.face is not None
    said, shown = token.speech.log_probabilities, token.face.log_probabilities
    product = np.array([said[SPEECH_CLASSES.index(e)] + shown[FACE_CLASSES.index(e)] for e in shared])
    scores = POOL.score(history(token).tensors(-20.0).evidence)[[e.code for e in shared]]
    np.testing.assert_allclose(scores - scores[0], product - product[0], atol=1e-5)


def test_younger_tokens_count_more() -> None:
    turned = fused(history(*[seen(Emotion.SADNESS)] * 3, *[seen(Emotion.HAPPINESS)] * 3))
    assert turned[Emotion.HAPPINESS.code] > turned[Emotion.SADNESS.code]


def test_correction_is_added_to_the_pool() -> None:
    correction = np.zeros(8, np.float32)
    correction[Emotion.DISGUST.code] = 20.0
    assert EMOTIONS[int(fused(history(heard(Emotion.ANGER)), correction).argmax())] is Emotion.DISGUST


@pytest.mark.parametrize(
    "tokens", [(), (heard(Emotion.ANGER),), (seen(Emotion.FEAR),), (both(*[Emotion.SADNESS] * 2),)]
)
def test_released_head_answers_in_all_four_presence_cases(tokens: tuple[Token, ...]) -> None:
    bundle = load_bundle(RELEASED, TFLiteRuntime("tflite-runtime"))
    answer = bundle.fusion.run(history(*tokens * TOKENS))
    assert answer.shape == (len(EMOTIONS),)
    np.testing.assert_allclose(np.exp(answer).sum(), 1.0, atol=1e-4)


def test_released_head_keeps_nothing_between_windows() -> None:
    """The fused LSTM operation keeps its state between calls unless the runtime port resets it."""
    bundle = load_bundle(RELEASED, TFLiteRuntime("tflite-runtime"))
    window = history(*[both(Emotion.ANGER, Emotion.ANGER)] * TOKENS)
    alone = bundle.fusion.run(window)
    bundle.fusion.run(history(*[both(Emotion.SADNESS, Emotion.HAPPINESS)] * TOKENS))
    np.testing.assert_array_equal(bundle.fusion.run(window), alone)
