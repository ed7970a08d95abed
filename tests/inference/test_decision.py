"""The decision: four presence cases, reasons to abstain, smoothing, dwell, conflict."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from device.errors import InferenceError
from device.inference.decision import (
    Decider,
    Decision,
    DecisionParameters,
    Evidence,
    SenseEvidence,
    choose_face,
    over_vocabulary,
)
from device.inference.ports import BranchOutput, FaceBox
from device.messages.label import SenseState
from models.contract import EMBEDDING, FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, AbstainReason, Emotion

PLAIN = DecisionParameters(smoothing=0.0, dwell_ticks=1)
QUIET = SenseEvidence(SenseState.SILENT)
AWAY = SenseEvidence(SenseState.NO_FACE)


def log_probabilities(emotion: Emotion, classes: tuple[Emotion, ...], probability: float) -> NDArray[np.float32]:
    rest = (1.0 - probability) / (len(classes) - 1)
    return np.asarray(np.log([probability if e is emotion else rest for e in classes]), np.float32)


def sense(emotion: Emotion, classes: tuple[Emotion, ...], probability: float = 0.9) -> SenseEvidence:
    output = BranchOutput(np.zeros(EMBEDDING, np.float32), log_probabilities(emotion, classes, probability))
    return SenseEvidence(SenseState.PRESENT, output, np.ones(2, np.float32))


def speech(emotion: Emotion, probability: float = 0.9) -> SenseEvidence:
    return sense(emotion, SPEECH_CLASSES, probability)


def face(emotion: Emotion, probability: float = 0.9) -> SenseEvidence:
    return sense(emotion, FACE_CLASSES, probability)


def fused(emotion: Emotion, probability: float = 0.9) -> NDArray[np.float32]:
    return log_probabilities(emotion, EMOTIONS, probability)


def decide(evidence: Evidence, parameters: DecisionParameters = PLAIN) -> Decision:
    return Decider(parameters).decide(evidence)


def test_both_senses_present_the_fused_head_decides() -> None:
    decision = decide(Evidence(speech(Emotion.FEAR, 0.5), face(Emotion.FEAR, 0.5), fused(Emotion.FEAR, 0.8)))
    assert (decision.label, decision.reason) == (Emotion.FEAR, None)
    assert decision.confidence == pytest.approx(0.8, abs=1e-6)
    assert (decision.share_speech, decision.share_face) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_speech_alone_decides_and_knows_the_whole_vocabulary(emotion: Emotion) -> None:
    decision = decide(Evidence(speech(emotion), AWAY))
    assert decision.label is emotion
    assert decision.probabilities.all()
    assert (decision.share_speech, decision.share_face) == (1.0, 0.0)
    assert decision.face is SenseState.NO_FACE


def test_face_alone_decides_and_knows_no_boredom() -> None:
    decision = decide(Evidence(QUIET, face(Emotion.SURPRISE)))
    assert decision.label is Emotion.SURPRISE
    assert decision.probabilities[Emotion.BOREDOM.code] == 0
    assert (decision.share_speech, decision.share_face) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("heard", "seen", "reason"),
    [
        (SenseState.SILENT, SenseState.OFF, AbstainReason.SILENCE),
        (SenseState.OFF, SenseState.NO_FACE, AbstainReason.NO_FACE),
        (SenseState.SILENT, SenseState.NO_FACE, AbstainReason.NO_FACE),
        (SenseState.LOW_QUALITY, SenseState.NO_FACE, AbstainReason.LOW_QUALITY),
        (SenseState.WARMING_UP, SenseState.NO_FACE, AbstainReason.WARMING_UP),
        (SenseState.FAILED, SenseState.FAILED, AbstainReason.LOW_QUALITY),
        (SenseState.FAILED, SenseState.NO_FACE, AbstainReason.NO_FACE),
        (SenseState.OFF, SenseState.OFF, AbstainReason.LOW_QUALITY),
    ],
)
def test_neither_sense_usable_abstains_with_the_reason(
    heard: SenseState, seen: SenseState, reason: AbstainReason
) -> None:
    decision = decide(Evidence(SenseEvidence(heard), SenseEvidence(seen)))
    assert (decision.label, decision.reason, decision.confidence) == (None, reason, 0.0)
    assert not decision.probabilities.any()


def test_every_pair_of_unusable_states_has_a_reason() -> None:
    unusable = [state for state in SenseState if state is not SenseState.PRESENT]
    for heard in unusable:
        for seen in unusable:
            decision = decide(Evidence(SenseEvidence(heard), SenseEvidence(seen)))
            assert decision.reason is not None, (heard, seen)


def test_several_faces_abstain_even_when_somebody_speaks() -> None:
    decision = decide(Evidence(speech(Emotion.ANGER), SenseEvidence(SenseState.SEVERAL_FACES)))
    assert (decision.label, decision.reason) == (None, AbstainReason.SEVERAL_FACES)


def test_sure_branches_of_different_opinion_are_a_conflict() -> None:
    evidence = Evidence(speech(Emotion.ANGER, 0.9), face(Emotion.HAPPINESS, 0.9), fused(Emotion.ANGER, 0.9))
    decision = decide(evidence)
    assert (decision.label, decision.reason) == (None, AbstainReason.CONFLICT)
    assert decision.confidence == pytest.approx(0.9, abs=1e-6)


def test_an_unsure_branch_makes_no_conflict() -> None:
    evidence = Evidence(speech(Emotion.ANGER, 0.9), face(Emotion.HAPPINESS, 0.5), fused(Emotion.ANGER, 0.9))
    assert decide(evidence).label is Emotion.ANGER


def test_a_class_that_one_branch_cannot_know_makes_no_conflict() -> None:
    evidence = Evidence(speech(Emotion.BOREDOM), face(Emotion.NEUTRAL), fused(Emotion.BOREDOM))
    assert decide(evidence).label is Emotion.BOREDOM


def test_low_confidence_abstains_and_says_how_low() -> None:
    decision = decide(Evidence(speech(Emotion.FEAR, 0.3), AWAY))
    assert (decision.label, decision.reason) == (None, AbstainReason.LOW_CONFIDENCE)
    assert decision.confidence == pytest.approx(0.3, abs=1e-6)


def test_the_first_usable_tick_is_answered_at_once() -> None:
    decider = Decider(DecisionParameters(smoothing=0.9, dwell_ticks=5))
    assert decider.decide(Evidence(speech(Emotion.SADNESS), AWAY)).label is Emotion.SADNESS


def test_one_stray_tick_does_not_change_the_label() -> None:
    decider = Decider(DecisionParameters(smoothing=0.0, dwell_ticks=2, confidence_min=0.0))
    shown = [
        decider.decide(Evidence(speech(emotion), AWAY)).label
        for emotion in (Emotion.SADNESS, Emotion.ANGER, Emotion.SADNESS, Emotion.ANGER, Emotion.ANGER)
    ]
    assert shown == [Emotion.SADNESS, Emotion.SADNESS, Emotion.SADNESS, Emotion.SADNESS, Emotion.ANGER]


def test_two_challengers_in_turn_do_not_add_up_to_a_dwell() -> None:
    decider = Decider(DecisionParameters(smoothing=0.0, dwell_ticks=2, confidence_min=0.0))
    shown = [
        decider.decide(Evidence(speech(emotion), AWAY)).label
        for emotion in (Emotion.SADNESS, Emotion.ANGER, Emotion.FEAR, Emotion.ANGER)
    ]
    assert shown == [Emotion.SADNESS] * 4


def test_the_running_mean_weighs_the_past_by_the_smoothing() -> None:
    decider = Decider(DecisionParameters(smoothing=0.75, dwell_ticks=1))
    decider.decide(Evidence(speech(Emotion.SADNESS, 0.8), AWAY))
    decision = decider.decide(Evidence(speech(Emotion.ANGER, 0.8), AWAY))
    assert decision.label is Emotion.SADNESS
    assert decision.confidence == pytest.approx(0.75 * 0.8 + 0.25 * 0.2 / (len(SPEECH_CLASSES) - 1), abs=1e-6)
    assert decision.probabilities.sum() == pytest.approx(1.0, abs=1e-6)


def test_a_held_label_that_lost_its_evidence_is_low_confidence_not_a_lie() -> None:
    decider = Decider(DecisionParameters(smoothing=0.0, dwell_ticks=3))
    decider.decide(Evidence(speech(Emotion.SADNESS), AWAY))
    decision = decider.decide(Evidence(speech(Emotion.ANGER), AWAY))
    assert (decision.label, decision.reason) == (None, AbstainReason.LOW_CONFIDENCE)


@pytest.mark.parametrize(
    "pause", [Evidence(QUIET, AWAY), Evidence(speech(Emotion.FEAR), SenseEvidence(SenseState.SEVERAL_FACES))]
)
def test_after_silence_or_absence_the_past_is_forgotten(pause: Evidence) -> None:
    decider = Decider(DecisionParameters(smoothing=0.9, dwell_ticks=5))
    decider.decide(Evidence(speech(Emotion.SADNESS), AWAY))
    decider.decide(pause)
    decision = decider.decide(Evidence(speech(Emotion.ANGER, 0.7), AWAY))
    assert decision.label is Emotion.ANGER
    assert decision.confidence == pytest.approx(0.7, abs=1e-6)


def test_a_network_that_answers_nan_is_a_fault_of_the_bundle_not_a_label() -> None:
    output = BranchOutput(np.zeros(EMBEDDING, np.float32), np.full(len(SPEECH_CLASSES), np.nan, np.float32))
    with pytest.raises(InferenceError, match="not log-probabilities"):
        decide(Evidence(SenseEvidence(SenseState.PRESENT, output), AWAY))


def test_a_returned_decision_does_not_change_with_the_next_tick() -> None:
    decider = Decider(DecisionParameters(smoothing=0.5, dwell_ticks=1))
    first = decider.decide(Evidence(speech(Emotion.SADNESS), AWAY))
    before = first.probabilities.copy()
    decider.decide(Evidence(speech(Emotion.ANGER), AWAY))
    np.testing.assert_array_equal(first.probabilities, before)


@given(arrays.arrays(np.float32, len(FACE_CLASSES), elements=st.floats(-80, 0, width=32)))
def test_probabilities_over_the_vocabulary_add_up_to_one(values: NDArray[np.float32]) -> None:
    spread = over_vocabulary(values, FACE_CLASSES)
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    assert spread[Emotion.BOREDOM.code] == 0


BIG, SMALL = FaceBox(0, 0, 100, 100, 0.8), FaceBox(200, 0, 240, 40, 0.95)


@pytest.mark.parametrize(
    ("boxes", "state", "chosen"),
    [
        ([], SenseState.NO_FACE, None),
        ([BIG], SenseState.PRESENT, BIG),
        ([SMALL, BIG], SenseState.PRESENT, BIG),
        ([BIG, FaceBox(200, 0, 290, 90, 0.7)], SenseState.SEVERAL_FACES, None),
        ([FaceBox(0, 0, 100, 100, 0.2)], SenseState.LOW_QUALITY, None),
        ([SMALL, FaceBox(0, 0, 300, 300, 0.2)], SenseState.PRESENT, SMALL),
        ([FaceBox(10, 10, 5, 5, 0.9)], SenseState.NO_FACE, None),
    ],
)
def test_the_learners_face_is_the_largest_and_a_second_near_one_abstains(
    boxes: list[FaceBox], state: SenseState, chosen: FaceBox | None
) -> None:
    assert choose_face(boxes, DecisionParameters()) == (state, chosen)


@pytest.mark.parametrize(
    "wrong", [{"dwell_ticks": 0}, {"smoothing": 1.0}, {"confidence_min": 1.5}, {"silence_dbfs": 3}, {"unheard_of": 1}]
)
def test_parameters_out_of_range_or_unknown_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(wrong), type=DecisionParameters)
