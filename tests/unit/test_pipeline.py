"""The pipeline: gates, gaps, presence cases, failing senses; with scripted networks and the real features."""

from __future__ import annotations

import builtins
import io
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device.capture.replay import Replay
from device.errors import CaptureError, CaptureReason
from device.inference.decision import Decider, Decision, DecisionParameters
from device.inference.ports import FaceBox
from device.messages.label import SenseState
from device.unit.pipeline import Pipeline
from models.labels import AbstainReason, Emotion
from tests.fakes.capture import FakeAudio, FakeVideo, gone, tone
from tests.fakes.clock import FakeClock
from tests.fakes.inference import FakeBundle, FakeDetector

PARAMETERS = DecisionParameters(smoothing=0.0, dwell_ticks=1)
PICTURE = np.full((60, 80), 100, np.uint8)
TAKES = Path(__file__).resolve().parents[2] / "tools" / "takes"


class Desk:
    """A pipeline with everything scripted around it."""

    def __init__(self, *, audio: bool = True, video: bool = True, parameters: DecisionParameters = PARAMETERS) -> None:
        self.clock = FakeClock()
        self.audio = FakeAudio()
        self.video = FakeVideo()
        self.networks = FakeBundle()
        self.detector = FakeDetector()
        self.pipeline = Pipeline(
            self.clock,
            self.audio if audio else None,
            self.video if video else None,
            self.networks.bundle,
            self.detector,
            Decider(parameters),
        )
        self.pipeline.start()

    def half_second(
        self, sound: NDArray[np.int16] | None = None, picture: NDArray[np.uint8] | None = None, *, skip: int = 0
    ) -> Decision:
        """Half a second passes, in which this is heard and seen; then a tick."""
        now = self.clock.advance(0.5)
        if sound is not None:
            self.audio.put(sound, now, skip=skip)
        if picture is not None:
            self.video.put(picture, now)
        self.pipeline.pump()
        return self.pipeline.tick(now)

    def speaks(self, seconds: float = 1.0, picture: NDArray[np.uint8] | None = None) -> Decision:
        """So many seconds of voice, half a second at a time."""
        for _ in range(round(seconds * 2)):
            decision = self.half_second(tone(0.5), picture)
        return decision


QUIET = np.zeros(8_000, np.int16)


def test_both_senses_are_fused() -> None:
    desk = Desk()
    decision = desk.speaks(1.0, PICTURE)
    assert (decision.label, decision.speech, decision.face) == (Emotion.ANGER, SenseState.PRESENT, SenseState.PRESENT)
    assert len(desk.networks.fusion.seen) == 1
    assert desk.pipeline.evidence is not None and desk.pipeline.evidence.fused is not None
    assert desk.pipeline.window_end == desk.clock.monotonic()


def test_the_fused_head_sees_the_history_with_the_masks_of_each_tick() -> None:
    desk = Desk()
    desk.half_second(tone(0.5), PICTURE)
    desk.half_second(tone(0.5), PICTURE)
    evidence = desk.networks.fusion.seen[-1]["evidence"][0]
    assert evidence[:, -2].tolist() == [0] * 9 + [1]
    assert evidence[:, -1].tolist() == [0] * 8 + [1, 1]


def test_speech_alone() -> None:
    desk = Desk(video=False)
    decision = desk.speaks()
    assert (decision.label, decision.face) == (Emotion.ANGER, SenseState.OFF)
    assert desk.networks.fusion.seen == [] and desk.detector.pictures == 0


def test_face_alone() -> None:
    desk = Desk(audio=False)
    decision = desk.half_second(None, PICTURE)
    assert (decision.label, decision.speech) == (Emotion.ANGER, SenseState.OFF)
    assert desk.networks.speech.seen == []


def test_neither_speech_nor_face_abstains() -> None:
    desk = Desk()
    desk.detector.boxes = []
    decision = desk.half_second(QUIET, PICTURE)
    assert (decision.label, decision.reason) == (None, AbstainReason.NO_FACE)
    assert desk.networks.speech.seen == [] and desk.networks.face.seen == []


def test_no_source_at_all_abstains() -> None:
    desk = Desk(audio=False, video=False)
    assert desk.half_second().reason is AbstainReason.LOW_QUALITY
    assert desk.pipeline.sense_states() == {"microphone": "off", "camera": "off"}


def test_silence_is_gated_before_any_network_runs() -> None:
    desk = Desk(video=False)
    for _ in range(6):
        decision = desk.half_second(QUIET)
    assert decision.reason is AbstainReason.SILENCE
    assert desk.networks.speech.seen == []


def test_a_short_pause_is_not_silence_and_a_long_one_ends_the_utterance() -> None:
    desk = Desk(video=False)
    desk.speaks(2.0)
    reasons = [desk.half_second(QUIET).reason for _ in range(4)]
    assert reasons == [None, None, None, AbstainReason.SILENCE]
    resumed = desk.half_second(tone(0.5))
    assert resumed.reason is AbstainReason.WARMING_UP, "what was said before the silence must not speak for now"
    assert desk.half_second(tone(0.5)).label is Emotion.ANGER


def test_noise_without_a_voice_is_low_quality() -> None:
    desk = Desk(video=False)
    generator = np.random.default_rng(1)
    for _ in range(4):
        decision = desk.half_second(np.asarray(generator.normal(0, 3_000, 8_000), np.int16))
    assert decision.reason is AbstainReason.LOW_QUALITY


def test_a_small_gap_keeps_the_window_and_is_counted() -> None:
    desk = Desk(video=False)
    desk.speaks(2.0)
    decision = desk.half_second(tone(0.5), skip=320)
    assert decision.label is Emotion.ANGER
    assert desk.pipeline.gaps == 1


def test_a_large_gap_forgets_sound_picture_tokens_and_smoothing() -> None:
    desk = Desk(parameters=DecisionParameters(smoothing=0.9, dwell_ticks=5))
    desk.speaks(3.0, PICTURE)
    decision = desk.half_second(tone(0.5), skip=16_000)
    assert (decision.reason, decision.speech, decision.face) == (
        AbstainReason.WARMING_UP,
        SenseState.WARMING_UP,
        SenseState.WARMING_UP,
    )
    desk.half_second(tone(0.5), PICTURE)
    assert desk.networks.fusion.seen[-1]["evidence"][0, :, -1].sum() == 1, "no token from before the gap"


def test_a_source_that_starts_over_is_a_gap_too() -> None:
    desk = Desk(video=False)
    desk.speaks(1.0)
    assert desk.half_second(tone(0.5), skip=-16_000).reason is AbstainReason.WARMING_UP


def test_several_faces_abstain() -> None:
    desk = Desk()
    desk.detector.boxes = [FaceBox(0, 0, 40, 40, 0.9), FaceBox(40, 0, 80, 40, 0.9)]
    assert desk.speaks(1.0, PICTURE).reason is AbstainReason.SEVERAL_FACES
    assert desk.networks.face.seen == []


def test_an_old_picture_says_nothing_about_now_and_one_picture_is_looked_at_once() -> None:
    desk = Desk(audio=False)
    labels = [desk.half_second(None, PICTURE).label, *(desk.half_second().label for _ in range(4))]
    assert labels == [Emotion.ANGER] * 4 + [None]
    assert desk.detector.pictures == 1


def test_a_blurred_face_is_low_quality() -> None:
    desk = Desk(audio=False, parameters=DecisionParameters(sharpness_min=0.2))
    assert desk.half_second(None, PICTURE).reason is AbstainReason.LOW_QUALITY
    assert desk.networks.face.seen == []


def test_only_the_newest_picture_is_looked_at() -> None:
    desk = Desk(audio=False)
    for _ in range(5):
        desk.video.put(PICTURE, desk.clock.monotonic())
    desk.half_second(None, PICTURE)
    assert desk.detector.pictures == 1


def test_a_failing_microphone_leaves_the_camera_working_and_comes_back_by_itself() -> None:
    desk = Desk()
    desk.speaks(1.0, PICTURE)
    desk.audio.failure = gone()
    decision = desk.half_second(None, PICTURE)
    assert (decision.label, decision.speech) == (Emotion.ANGER, SenseState.FAILED)
    assert desk.pipeline.sense_states() == {"microphone": "unplugged", "camera": "ok"}
    assert desk.audio.stops == 1, "the failed source is closed before it is opened again"
    desk.audio.failure = None
    for _ in range(3):
        desk.half_second(None, PICTURE)
    assert desk.pipeline.sense_states() == {"microphone": "ok", "camera": "ok"}
    assert desk.speaks(1.0, PICTURE).speech is SenseState.PRESENT


def test_a_failing_camera_leaves_the_microphone_working() -> None:
    desk = Desk()
    desk.video.failure = gone(CaptureReason.SILENT_DRIVER)
    decision = desk.speaks(1.0)
    assert (decision.label, decision.face) == (Emotion.ANGER, SenseState.FAILED)
    assert desk.pipeline.sense_states() == {"microphone": "ok", "camera": "silent_driver"}


def test_a_sense_that_stays_away_is_tried_less_and_less_often() -> None:
    desk = Desk()
    desk.audio.failure = gone()
    for _ in range(240):
        desk.half_second(None, PICTURE)
    starts_in_two_minutes = desk.audio.starts - 1
    assert 5 <= starts_in_two_minutes <= 10


def test_start_fails_only_when_no_sense_can_be_opened() -> None:
    clock, audio, video = FakeClock(), FakeAudio(), FakeVideo()
    pipeline = Pipeline(clock, audio, video, FakeBundle().bundle, FakeDetector(), Decider(PARAMETERS))
    audio.failure = gone()
    pipeline.start()
    assert pipeline.sense_states() == {"microphone": "unplugged", "camera": "ok"}
    pipeline.stop()
    video.failure = gone(CaptureReason.BUSY)
    with pytest.raises(CaptureError):
        pipeline.start()


def test_the_age_of_the_last_sound_and_picture_tells_a_dead_sense() -> None:
    desk = Desk()
    assert desk.pipeline.sense_ages() == {"microphone": None, "camera": None}
    desk.half_second(tone(0.5), PICTURE)
    desk.half_second(tone(0.5))
    assert desk.pipeline.sense_ages() == {"microphone": 0.0, "camera": 0.5}


def test_each_stage_of_a_tick_is_timed() -> None:
    desk = Desk()
    desk.speaks(1.0, PICTURE)
    assert set(desk.pipeline.stage_seconds) == {
        "features",
        "contours",
        "speech",
        "detector",
        "face",
        "fusion",
        "decision",
    }


@pytest.mark.parametrize("take", ["anger", "sadness"])
def test_nothing_is_written_and_nothing_is_sent_while_hearing_and_seeing(
    take: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    replay = Replay(TAKES / take, clock)
    networks = FakeBundle()
    pipeline = Pipeline(clock, replay.audio, replay.video, networks.bundle, FakeDetector(), Decider(PARAMETERS))
    pipeline.start()
    opened: list[str] = []
    real_open = builtins.open

    def watched(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        opened.append(mode)
        return real_open(file, mode, *more, **named)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket or a file for writing was asked for")

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(io, "open", watched)
    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr("socket.socket", refused)
    for _ in range(6):
        now = clock.advance(0.5)
        pipeline.pump()
        pipeline.tick(now)
    pipeline.stop()
    assert len(networks.face.seen) > 0
    assert set(opened) <= {"r", "rb"}


def test_takes_that_follow_each_other_are_never_mixed_in_one_window() -> None:
    clock = FakeClock()
    replay = Replay(TAKES, clock)
    networks = FakeBundle()
    pipeline = Pipeline(clock, replay.audio, replay.video, networks.bundle, FakeDetector(), Decider(PARAMETERS))
    pipeline.start()
    tokens: list[tuple[Emotion | None, int]] = []
    for _ in range(60):
        now = clock.advance(0.5)
        pipeline.pump()
        seen = len(networks.fusion.seen)
        pipeline.tick(now)
        if len(networks.fusion.seen) > seen:
            evidence = networks.fusion.seen[-1]["evidence"][0]
            tokens.append((replay.truth, int(evidence[:, -1].sum())))
    assert len({truth for truth, _ in tokens}) == 7
    for (truth, count), (next_truth, next_count) in itertools.pairwise(tokens):
        assert (next_count == count + 1) if truth is next_truth else (next_count < count)
