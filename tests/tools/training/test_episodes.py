"""Pairing by label, and what goes missing in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device.inference.fusion_head import FACE_MASK, FACE_PART, SPEECH_MASK, SPEECH_PART
from models.contract import EMBEDDING, FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, Emotion
from tools.training.episodes import Episodes, FaceTokens, SpeechTokens, draw


def speech_tokens() -> SpeechTokens:
    """One clip a class, each tick sure of its class."""
    classes = len(SPEECH_CLASSES)
    certain = np.where(np.eye(classes), 0.0, -30.0).astype(np.float32)
    return SpeechTokens(
        embeddings=np.ones((classes, 16, EMBEDDING), np.float32),
        log_probabilities=np.repeat(certain[:, np.newaxis], 16, axis=1),
        quality=np.full((classes, 16, 2), 0.5, np.float32),
        labels=np.array([emotion.code for emotion in SPEECH_CLASSES]),
    )


def face_tokens() -> FaceTokens:
    certain = np.where(np.eye(7), 0.0, -30.0).astype(np.float32)
    return FaceTokens(
        embeddings=np.ones((7, 3, EMBEDDING), np.float32),
        log_probabilities=np.repeat(certain[:, np.newaxis], 3, axis=1),
        quality=np.full((7, 3, 2), 0.5, np.float32),
        labels=np.array([emotion.code for emotion in FACE_CLASSES]),
    )


def drawn(*, drop: bool = False, conflicting: bool = False, count: int = 400) -> Episodes:
    generator = np.random.default_rng(0)
    return draw(speech_tokens(), face_tokens(), count, generator, log_floor=-6.0, drop=drop, conflicting=conflicting)


def named(evidence: NDArray[np.float32], part: slice, classes: tuple[Emotion, ...]) -> list[Emotion]:
    return [classes[i] for i in evidence[:, -1, part].argmax(axis=1)]


def test_voice_and_face_of_an_episode_share_the_label() -> None:
    episodes = drawn()
    voices = named(episodes.evidence, SPEECH_PART, SPEECH_CLASSES)
    faces = named(episodes.evidence, FACE_PART, FACE_CLASSES)
    assert set(episodes.labels) == {emotion.code for emotion in EMOTIONS}
    for code, voice, face in zip(episodes.labels, voices, faces, strict=True):
        expressed = EMOTIONS[code]
        assert voice is expressed
        assert face is (Emotion.NEUTRAL if expressed is Emotion.BOREDOM else expressed)


def test_conflicting_faces_show_something_else() -> None:
    episodes = drawn(conflicting=True)
    faces = named(episodes.evidence, FACE_PART, FACE_CLASSES)
    assert all(face is not EMOTIONS[code] for face, code in zip(faces, episodes.labels, strict=True))


def test_an_emotion_that_no_clip_has_comes_without_speech() -> None:
    voices = speech_tokens()
    voices = voices.of(np.flatnonzero(voices.labels != Emotion.SURPRISE.code))
    episodes = draw(voices, face_tokens(), 200, np.random.default_rng(0), log_floor=-6.0, drop=False)
    surprised = episodes.of_labels([Emotion.SURPRISE.code])
    assert len(surprised.labels)
    assert not surprised.evidence[..., SPEECH_MASK].any()
    assert surprised.evidence[:, -1, FACE_MASK].all()


def test_evidence_is_cut_at_the_floor() -> None:
    assert drawn().evidence.min() == -6.0


def test_what_is_dropped_is_zero_everywhere() -> None:
    episodes = drawn(drop=True)
    silent = episodes.evidence[..., SPEECH_MASK] == 0
    blind = episodes.evidence[..., FACE_MASK] == 0
    assert silent.any()
    assert blind.any()
    assert not episodes.evidence[silent][:, SPEECH_PART].any()
    assert not episodes.evidence[blind][:, FACE_PART].any()
    assert not episodes.speech_embeddings[silent].any()
    assert not episodes.face_embeddings[blind].any()


def test_boredom_is_never_left_without_the_sense_that_knows_it() -> None:
    episodes = drawn(drop=True, count=2000)
    bored = episodes.of_labels([Emotion.BOREDOM.code])
    surprised = episodes.of_labels([Emotion.SURPRISE.code])
    assert (bored.evidence[..., SPEECH_MASK].max(axis=1) == 1).mean() > 0.85
    assert 0.5 < (surprised.evidence[..., SPEECH_MASK].max(axis=1) == 1).mean() < 0.85


def test_senses_can_be_taken_away_without_touching_the_original() -> None:
    episodes = drawn(count=20)
    assert not episodes.without(speech=True).evidence[..., SPEECH_MASK].any()
    assert not episodes.without(face=True).face_embeddings.any()
    assert episodes.evidence[..., FACE_MASK].any()
    assert episodes.face_embeddings.any()
