"""Fusion on synthetic pairs: EMO-DB's fixed test speakers and FER+ valid, one face a window; int8 beside float32.

Given the label both senses are independent here, so the log-opinion pool is the Bayes answer by construction. Speech
tokens are out of fold and face tokens come from test pictures, both from the branches in float32; the head runs in
int8 in the runtime of the box.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.constants import FaceConstants
from device.inference.decision import Decider, DecisionParameters, Evidence, SenseEvidence
from device.inference.fusion_head import (
    FACE_MASK,
    FACE_PART,
    FACE_QUALITY_PART,
    SPEECH_MASK,
    SPEECH_PART,
    OpinionPool,
)
from device.inference.ports import BranchOutput
from device.inference.quality import face_quality
from device.inference.speech_branch import log_softmax
from device.messages.label import SenseState
from models.contract import EMBEDDING, FACE_CLASSES, FUSION, SPEECH, SPEECH_CLASSES
from models.labels import EMOTIONS, AbstainReason, Emotion
from tools.dataset.corpora import emodb
from tools.evaluate.predictions import Row
from tools.evaluate.studies import shelf
from tools.evaluate.studies.findings import Finding, percent
from tools.evaluate.studies.pieces import Made, Piece, Study, among, file_mark, files_of, names
from tools.evaluate.studies.shelf import FACE_FIRST, RESULT, Shelf
from tools.evaluate.system import CLASSES
from tools.training import episodes, ferplus, fusion, fusion_release, scores, speech, speech_release
from tools.training.episodes import Episodes, FaceTokens, SpeechTokens, draw
from tools.training.face_pictures import normalised, upscaled
from tools.training.fusion_release import corrected_int8, face_tokens, speech_tokens
from tools.training.splits import FIXED_TEST

SIX: Final = tuple(emotion for emotion in CLASSES if emotion is not Emotion.BOREDOM)
EPISODES_A_SPEAKER: Final = 1200
BUNDLE: Final = Path("models/bundle")
NOTE: Final = (
    "EMO-DB's fixed test speakers (out-of-fold tokens) and FER+ valid, one face a window, distorted copies as in "
    "training; errors independent by construction; int8 head, float32 branches."
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Episodes with the speaker of each, (n,)."""

    episodes: Episodes
    speakers: NDArray[np.str_]

    def of_labels(self, classes: tuple[Emotion, ...]) -> Pairs:
        """The episodes with one of these labels."""
        codes = [emotion.code for emotion in classes]
        return Pairs(self.episodes.of_labels(codes), self.speakers[np.isin(self.episodes.labels, codes)])

    def dealt_anew(self, generator: np.random.Generator) -> Pairs:
        """Control: every episode with another one's face, whatever its label."""
        order = generator.permutation(len(self.speakers))
        evidence = self.episodes.evidence.copy()
        for part in (FACE_PART, FACE_QUALITY_PART, slice(FACE_MASK, FACE_MASK + 1)):
            evidence[..., part] = evidence[order][..., part]
        one = self.episodes
        return Pairs(Episodes(one.speech_embeddings, one.face_embeddings[order], evidence, one.labels), self.speakers)


def pairs(
    speech_of: Mapping[str, SpeechTokens], face: FaceTokens, count: int, generator: np.random.Generator, *, differ: bool
) -> Pairs:
    """About `count` episodes a speaker, both senses present; `differ`: the face is of another label than the clip."""
    parts, speakers = [], []
    for speaker, tokens in speech_of.items():
        drawn = draw(tokens, face, count, generator, log_floor=fusion.LOG_FLOOR, drop=False, conflicting=differ)
        heard = drawn.evidence[:, -1, SPEECH_MASK] > 0
        parts.append(Episodes(*(array[heard] for array in vars(drawn).values())))
        speakers += [speaker] * int(heard.sum())
    joined = (np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0]))
    return Pairs(Episodes(*joined), np.array(speakers))


def plain_faces(
    network: object, pictures: ferplus.Pictures, constants: FaceConstants, *, score: float = 1.0
) -> FaceTokens:
    """As `fusion_release.face_tokens`, of undistorted pictures: one copy each."""
    labels = ferplus.majority(pictures.votes)
    known = labels >= 0
    crops = upscaled(pictures.pixels[known])
    embeddings, logits = network.predict(normalised(crops), batch_size=256, verbose=0)  # type: ignore[attr-defined]
    quality = np.array([face_quality(score, crop[..., 0]) for crop in crops], np.float32)
    codes = np.array([emotion.code for emotion in FACE_CLASSES])
    return FaceTokens(
        embeddings=embeddings[:, np.newaxis],
        log_probabilities=log_softmax(logits, constants.temperature)[:, np.newaxis],
        quality=quality[:, np.newaxis],
        labels=codes[labels[known]],
    )


@dataclass(frozen=True, eq=False)
class Head:
    """The fused head with everything that answers an episode."""

    network: object
    file: Path
    pool: OpinionPool
    temperature: float
    decision: DecisionParameters

    def int8(self, given: Episodes) -> NDArray[np.float32]:
        """Log-scores (n, 8) by the int8 file."""
        return corrected_int8(self.file, self.pool, given)

    def float32(self, given: Episodes) -> NDArray[np.float32]:
        """Log-scores (n, 8) by the float32 network."""
        return fusion.corrected(self.network, self.pool, given)


def rows_of(head: Head, given: Pairs, protocol: str, classes: tuple[Emotion, ...], seed: int, note: str) -> list[Row]:
    """The head's and the pool's rows on the episodes with one of `classes`, answers among these alone."""
    chosen = given.of_labels(classes)
    rows = []
    for system, logits in (("fused", head.int8(chosen.episodes)), ("pool", head.pool.score(chosen.episodes.evidence))):
        answers, labels = among(logits, chosen.episodes.labels, classes, head.temperature)
        rows.append(
            Row(
                name="synthetic pairs",
                system=system,
                protocol=protocol,
                classes=names(classes),
                scores=answers,
                labels=labels,
                seed=seed,
                note=note,
                groups=chosen.speakers,
            )
        )
    return rows


def parity(head: Head, given: Pairs, seed: int) -> Row:
    """The head in int8 beside float32, over the whole vocabulary."""
    values = given.episodes
    return Row(
        name="fused head",
        system="fused",
        protocol="int8",
        classes=names(EMOTIONS),
        scores=log_softmax(head.int8(values), head.temperature),
        labels=values.labels,
        seed=seed,
        note="Synthetic pairs of EMO-DB's fixed test speakers and FER+ valid.",
        other=log_softmax(head.float32(values), head.temperature),
    )


def conflicts(head: Head, matching: Pairs, differing: Pairs) -> list[Finding]:
    """How often the box's decision abstains with `conflict`, one tick at a time, beside pairs that belong together."""
    found = []
    for what, given in (("labels differ", differing), ("labels agree", matching)):
        fused = log_softmax(head.int8(given.episodes), head.temperature)
        reasons = [
            _reason(head.decision, token, answer)
            for token, answer in zip(given.episodes.evidence[:, -1], fused, strict=True)
        ]
        called = np.array([reason is AbstainReason.CONFLICT for reason in reasons])
        figure = scores.accuracy(called.astype(np.int64), np.ones(len(called), np.int64))
        beside = "" if what == "labels differ" else "threshold chosen for at most 5 % on the training side"
        note = "The decision's rule on an episode's last tick: both senses sure, of different classes that both know."
        found.append(percent("fused", f"abstains with conflict, {what}", figure, len(called), beside=beside, note=note))
        if what == "labels differ":
            follows = (fused.argmax(axis=1) == given.episodes.labels)[~called].astype(np.int64)
            kept = scores.accuracy(follows, np.ones(len(follows), np.int64))
            found.append(percent("fused", "of the rest, follows the voice, labels differ", kept, len(follows)))
    return found


def _reason(
    decision: DecisionParameters, token: NDArray[np.float32], fused: NDArray[np.float32]
) -> AbstainReason | None:
    blank = np.zeros(EMBEDDING, np.float32)
    voice, sight = (
        SenseEvidence(SenseState.PRESENT, BranchOutput(blank, token[part])) for part in (SPEECH_PART, FACE_PART)
    )
    return Decider(decision).decide(Evidence(voice, sight, fused)).reason


def _same_as_shipped(file: Path, name: str) -> str:
    """Whether a file made here is the released one."""
    released = BUNDLE / name
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in (file, released) if path.exists()]
    same = len(digests) == 2 and digests[0] == digests[1]
    return "The file equals the released one." if same else "Made anew by the same call; the released file differs."


def fused(given: Shelf) -> Study:
    """Synthetic pairs, the control, conflicts, and int8 beside float32 of the head and of the speech branch."""

    def make_pairs() -> Made:
        voice, sight, release = given.speech, given.face, given.fusion
        pool = OpinionPool(release.constants, voice.constants.prior, sight.constants.prior)
        file = given.own / "head" / FUSION.file
        head = Head(release.network, file, pool, release.constants.temperature, release.decision)
        tokens = speech_tokens(voice)
        clips = [voice.voices.clips[row] for row in voice.voices.streamed]
        of_speaker = np.array([clip.speaker if clip.corpus == emodb.KEY else "" for clip in clips])
        speech_of = {one: tokens.of(np.flatnonzero(of_speaker == one)) for one in FIXED_TEST}
        seed = given.recipe.seed
        seen = face_tokens(sight.network, given.pictures.test, sight.constants, seed + 1)
        plain = plain_faces(sight.network, given.pictures.test, sight.constants)
        generator = np.random.default_rng(seed)
        deal = partial(pairs, speech_of, count=EPISODES_A_SPEAKER, generator=generator)
        matching, differing = deal(face=seen, differ=False), deal(face=seen, differ=True)
        undistorted = deal(face=plain, differ=False)
        note = f"{NOTE} {_same_as_shipped(file, FUSION.file)}"
        shuffled = f"Control: faces dealt at random over all labels. {NOTE}"
        rows = [
            *rows_of(head, matching, "fused-six", SIX, seed, note),
            *rows_of(head, matching, "fused-seven", CLASSES, seed, note),
            *rows_of(head, undistorted, "fused-six-undistorted-faces", SIX, seed, "As fused-six, faces undistorted."),
            *rows_of(head, matching.dealt_anew(generator), "fused-six-shuffled", SIX, seed, shuffled),
            parity(head, matching, seed),
        ]
        return Made(rows, conflicts(head, matching, differing))

    mark = file_mark(given.face_folder / RESULT, FACE_FIRST)
    released = [file_mark(BUNDLE / name, "Restore models/bundle.") for name in (FUSION.file, SPEECH.file)]
    pieces = [
        Piece("pairs", make_pairs, 15.0, f"{mark} {released}"),
        Piece("speech int8", partial(speech_parity, given), 3.0, str(released)),
    ]
    modules = (shelf, episodes, fusion, fusion_release, speech, speech_release)
    return Study("fused", pieces, (__file__, *files_of(*modules)), given.recipe_mark)


def speech_parity(given: Shelf) -> Made:
    """The shipped speech branch in int8 beside float32, EMO-DB's clean windows."""
    voice = given.speech
    corpus = given.corpora[emodb.KEY]
    file = given.own / "head" / SPEECH.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(voice.tflite)
    int8 = speech.predict_int8(file, corpus.clean, voice.constants)
    frames, contours = speech.normalised(corpus.clean, voice.constants)
    answers = voice.network.predict([frames, contours], batch_size=64, verbose=0)[1]
    float32 = answers.reshape(*corpus.clean.contours.shape[:2], -1).mean(axis=1)
    row = Row(
        name="speech branch",
        system="speech",
        protocol="int8",
        classes=names(SPEECH_CLASSES),
        scores=log_softmax(int8, voice.constants.temperature),
        labels=corpus.labels,
        seed=given.recipe.seed,
        note="EMO-DB, which the shipped network has heard: parity, not accuracy. "
        + _same_as_shipped(file, SPEECH.file),
        other=log_softmax(float32.astype(np.float32), voice.constants.temperature),
    )
    return Made([row])
