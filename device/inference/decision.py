"""From evidence to one label, or to an abstention with its reason. Pure: no clock, no I/O.

One call of `Decider.decide` is one tick. The steps, in order:

1. several faces: whose expression it is cannot be known, so abstain whatever the voice says;
2. neither sense usable: abstain, with the reason that says most (`_WHY_NOTHING`), and forget the past;
3. probabilities: those of the fused head when both senses are usable, else those of the single branch, with 0 for the
   class that this branch does not know (they come calibrated: each network's temperature is among its constants);
4. running mean over ticks: p ← smoothing · p + (1 − smoothing) · new;
5. minimum dwell: another class must lead the running mean for `dwell_ticks` ticks before it replaces the label;
6. conflict: both branches sure by themselves, of different classes that both know: abstain;
7. low confidence: the label's running mean is below `confidence_min`: abstain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import InferenceError
from device.inference.ports import BranchOutput, FaceBox
from device.messages.label import SenseState
from models.contract import FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, AbstainReason, Emotion

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DecisionParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The numbers of the decision; section `decision` of the bundle's manifest. Fitted on validation speakers."""

    #: Share of the past in the running mean of probabilities, per tick of 0.5 s.
    smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    #: Ticks that another class must lead before it replaces the label.
    dwell_ticks: Annotated[int, msgspec.Meta(ge=1, le=20)] = 2
    #: Below this probability the answer is `low_confidence`.
    confidence_min: Share = 0.35
    #: Both branches at least this sure, of different classes: `conflict`.
    conflict_confidence: Share = 0.6
    #: Level (dB relative to full scale, root mean square of 20 ms) under which a block of sound counts as silent.
    silence_dbfs: Annotated[float, msgspec.Meta(ge=-96, le=0)] = -60.0
    #: Milliseconds without a louder block after which the speech branch rests.
    silence_after_ms: Annotated[int, msgspec.Meta(ge=100, le=10_000)] = 2_000
    #: 10 ms feature frames that must have arrived since the last start or gap.
    speech_frames_min: Annotated[int, msgspec.Meta(ge=1, le=512)] = 90
    #: Least share of voiced frames in the window for speech to count.
    voiced_share_min: Share = 0.05
    #: Least detector score of a face.
    face_score_min: Share = 0.5
    #: Least sharpness of a face crop, as in the token's quality scalar.
    sharpness_min: Share = 0.0
    #: A second face counts when its area is at least this share of the largest face's.
    other_face_area: Share = 0.35


@dataclass(frozen=True, eq=False)
class SenseEvidence:
    """One sense in one tick.

    `output` is the branch's when `state` is present, else None; `quality` is the token's scalars, float32 (2,), 0..1.
    """

    state: SenseState
    output: BranchOutput | None = None
    quality: NDArray[np.float32] = field(default_factory=lambda: np.zeros(2, np.float32))

    def __post_init__(self) -> None:
        assert (self.state is SenseState.PRESENT) == (self.output is not None)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that is known at one tick. `fused` is float32 (8,) log-probabilities over `EMOTIONS`, or None."""

    speech: SenseEvidence
    face: SenseEvidence
    fused: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Decision:
    """One tick's answer. Exactly one of `label` and `reason` is set.

    `confidence` is the calibrated, smoothed probability of the label (of the leading class when abstaining; 0 without
    evidence); `probabilities` float32 (8,) over `EMOTIONS`, all 0 without evidence. `share_speech` and `share_face`
    say how far each sense alone backs the leading class; they add up to 1, or are both 0 without evidence.
    """

    label: Emotion | None
    reason: AbstainReason | None
    confidence: float
    probabilities: NDArray[np.float32]
    share_speech: float
    share_face: float
    speech: SenseState
    face: SenseState


_KNOWN_TO_BOTH: Final = frozenset(e.code for e in SPEECH_CLASSES) & frozenset(e.code for e in FACE_CLASSES)

#: Reason when neither sense is usable: the first state in this order that a sense is in.
_WHY_NOTHING: Final[tuple[tuple[SenseState, AbstainReason], ...]] = (
    (SenseState.WARMING_UP, AbstainReason.WARMING_UP),
    (SenseState.LOW_QUALITY, AbstainReason.LOW_QUALITY),
    (SenseState.NO_FACE, AbstainReason.NO_FACE),
    (SenseState.SILENT, AbstainReason.SILENCE),
    (SenseState.FAILED, AbstainReason.LOW_QUALITY),
    (SenseState.OFF, AbstainReason.LOW_QUALITY),
)


def over_vocabulary(log_probabilities: NDArray[np.float32], classes: Sequence[Emotion]) -> NDArray[np.float32]:
    """Log-probabilities (n_classes,) as probabilities (8,) over `EMOTIONS`; 0 for a class that is not in `classes`.

    Raises InferenceError when a network answered something that is not a number.
    """
    if np.isnan(log_probabilities).any() or np.isposinf(log_probabilities).any():
        raise InferenceError(
            f"A network answered {log_probabilities.tolist()}, which are not log-probabilities.",
            next_step="Install a released bundle, and test it with moodline-classify.",
        )
    powers = np.exp(log_probabilities.astype(np.float64) - log_probabilities.max())
    spread = np.zeros(len(EMOTIONS), np.float32)
    spread[[emotion.code for emotion in classes]] = powers / powers.sum()
    return spread


def choose_face(boxes: Sequence[FaceBox], parameters: DecisionParameters) -> tuple[SenseState, FaceBox | None]:
    """The learner's face among the detected ones: the largest. Small faces behind it do not count.

    Returns (present, box), or (no_face, None), (low_quality, None) for faces too uncertain, (several_faces, None).
    """
    proper = [box for box in boxes if _area(box) > 0]
    if not proper:
        return SenseState.NO_FACE, None
    sure = [box for box in proper if box.score >= parameters.face_score_min]
    if not sure:
        return SenseState.LOW_QUALITY, None
    largest = max(sure, key=_area)
    near = [box for box in sure if _area(box) >= parameters.other_face_area * _area(largest)]
    return (SenseState.PRESENT, largest) if len(near) == 1 else (SenseState.SEVERAL_FACES, None)


def _area(box: FaceBox) -> float:
    return max(box.right - box.left, 0.0) * max(box.bottom - box.top, 0.0)


class Decider:
    """Keeps the running mean and the held label between ticks."""

    def __init__(self, parameters: DecisionParameters) -> None:
        self.parameters = parameters
        self._mean: NDArray[np.float32] | None = None
        self._held: int | None = None
        self._challenger: int | None = None
        self._challenger_ticks = 0

    def reset(self) -> None:
        """Forget the past, as after a silence: the next usable tick is answered by itself."""
        self._mean = None
        self._held = None
        self._challenger = None
        self._challenger_ticks = 0

    def decide(self, evidence: Evidence) -> Decision:
        """Answer one tick (see the steps on top of this file)."""
        states = (evidence.speech.state, evidence.face.state)
        if SenseState.SEVERAL_FACES in states:
            return self._nothing(evidence, AbstainReason.SEVERAL_FACES)
        if SenseState.PRESENT not in states:
            reason = next(reason for state, reason in _WHY_NOTHING if state in states)
            return self._nothing(evidence, reason)

        speech, face = self._by_sense(evidence)
        self._smooth(self._current(evidence, speech, face))
        leading = self._dwell()
        assert self._mean is not None
        share_speech, share_face = _shares(leading, speech, face)
        confidence = float(self._mean[leading])
        reason_or_none: AbstainReason | None = None
        if self._in_conflict(speech, face):
            reason_or_none = AbstainReason.CONFLICT
        elif confidence < self.parameters.confidence_min:
            reason_or_none = AbstainReason.LOW_CONFIDENCE
        return Decision(
            label=None if reason_or_none else EMOTIONS[leading],
            reason=reason_or_none,
            confidence=confidence,
            probabilities=self._mean.copy(),
            share_speech=share_speech,
            share_face=share_face,
            speech=evidence.speech.state,
            face=evidence.face.state,
        )

    def _nothing(self, evidence: Evidence, reason: AbstainReason) -> Decision:
        self.reset()
        nothing = np.zeros(len(EMOTIONS), np.float32)
        return Decision(None, reason, 0.0, nothing, 0.0, 0.0, evidence.speech.state, evidence.face.state)

    def _by_sense(self, evidence: Evidence) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        speech, face = evidence.speech.output, evidence.face.output
        return (
            None if speech is None else over_vocabulary(speech.log_probabilities, SPEECH_CLASSES),
            None if face is None else over_vocabulary(face.log_probabilities, FACE_CLASSES),
        )

    def _current(
        self, evidence: Evidence, speech: NDArray[np.float32] | None, face: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        if speech is not None and face is not None:
            assert evidence.fused is not None, "both senses are present: the fused head must have run"
            return over_vocabulary(evidence.fused, EMOTIONS)
        single = speech if speech is not None else face
        assert single is not None
        return single

    def _smooth(self, current: NDArray[np.float32]) -> None:
        if self._mean is None:
            self._mean = current
        else:
            past = self.parameters.smoothing
            self._mean = (past * self._mean + (1 - past) * current).astype(np.float32)

    def _dwell(self) -> int:
        """Index of the label to show after this tick."""
        assert self._mean is not None
        leader = int(self._mean.argmax())
        if self._held is None or leader == self._held:
            self._held, self._challenger, self._challenger_ticks = leader, None, 0
            return leader
        self._challenger_ticks = self._challenger_ticks + 1 if leader == self._challenger else 1
        self._challenger = leader
        if self._challenger_ticks >= self.parameters.dwell_ticks:
            self._held, self._challenger, self._challenger_ticks = leader, None, 0
        return self._held

    def _in_conflict(self, speech: NDArray[np.float32] | None, face: NDArray[np.float32] | None) -> bool:
        if speech is None or face is None:
            return False
        said, shown = int(speech.argmax()), int(face.argmax())
        sure = min(float(speech[said]), float(face[shown])) >= self.parameters.conflict_confidence
        return sure and said != shown and {said, shown} <= _KNOWN_TO_BOTH


def _shares(leading: int, speech: NDArray[np.float32] | None, face: NDArray[np.float32] | None) -> tuple[float, float]:
    """Each branch's own probability of the leading class, made to add up to 1."""
    if speech is None or face is None:
        return float(speech is not None), float(face is not None)
    backing_speech, backing_face = float(speech[leading]), float(face[leading])
    total = backing_speech + backing_face
    return (0.5, 0.5) if total == 0 else (backing_speech / total, backing_face / total)
