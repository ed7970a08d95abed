"""The mode without emotions: a face or none, a coarse level, and no emotion network anywhere near."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.config import load_unit
from device.errors import CaptureError, CaptureReason
from device.gateway.store import LabelReader
from device.inference import tflite
from device.inference.ports import FaceBox, Network
from device.messages import topics
from device.messages.label import SenseState
from device.messages.policy import Mode
from device.unit import wiring
from device.unit.presence import Presence, PresencePipeline, level_step
from models.contract import NetworkContract
from provisioning.authority import read_policy_file
from provisioning.demo_room import DemoPlan, build
from tests.fakes.capture import FakeAudio, FakeVideo, gone, tone
from tests.fakes.clock import FakeClock
from tests.fakes.inference import FakeDetector
from tests.gateway import schemas
from tests.gateway.memory_room import MemoryRoom, a_policy
from tests.unit.test_service import LABELS, Unit
from tests.unit.units import PresenceUnit
from tools.vectors import room

TAKES = Path(__file__).resolve().parents[2] / "tools" / "takes"
PICTURE = np.full((60, 80), 100, np.uint8)
FULL_SCALE = 32_768.0


class Desk:
    """A presence pipeline on scripted sources."""

    def __init__(self, *, audio: bool = True, video: bool = True) -> None:
        self.clock = FakeClock()
        self.audio, self.video, self.detector = FakeAudio(), FakeVideo(), FakeDetector()
        self.pipeline = PresencePipeline(
            self.clock, self.audio if audio else None, self.video if video else None, self.detector
        )
        self.pipeline.start()

    def half_second(self, amplitude: float | None = None, *, picture: bool = False) -> Presence:
        now = self.clock.advance(0.5)
        if amplitude is not None:
            self.audio.put(tone(0.5, amplitude=amplitude), now)
        if picture:
            self.video.put(PICTURE, now)
        self.pipeline.pump()
        return self.pipeline.tick(now)


@pytest.mark.parametrize(
    ("dbfs", "step"),
    [(-200, 0), (-96, 0), (-90.01, 0), (-89.99, 1), (-48.01, 7), (-47.99, 8), (-6.01, 14), (-5.99, 15), (0, 15)],
)
def test_the_level_comes_in_steps_of_six_decibels(dbfs: float, step: int) -> None:
    assert level_step(FULL_SCALE**2 * 10 ** (dbfs / 10)) == step
    assert level_step(0.0) == 0


def test_a_face_and_a_level_are_told() -> None:
    desk = Desk()
    assert desk.half_second() == Presence(SenseState.WARMING_UP, SenseState.WARMING_UP, 0)
    # A saw tooth of amplitude a has a mean square of a²/3: 0.3 is -15.2 dB, 0.003 is -55.2 dB.
    assert desk.half_second(0.3, picture=True) == Presence(SenseState.PRESENT, SenseState.PRESENT, 13)
    assert desk.half_second(0.003, picture=True).level == 6
    assert desk.half_second(0.0, picture=True) == Presence(SenseState.PRESENT, SenseState.PRESENT, 0)
    assert desk.pipeline.window_end == desk.clock.monotonic()


def test_how_many_faces_there_are_is_not_told() -> None:
    desk = Desk()
    desk.detector.boxes = [FaceBox(0, 0, 40, 40, 0.9), FaceBox(40, 0, 80, 40, 0.9)]
    assert desk.half_second(picture=True).face is SenseState.PRESENT
    for boxes in ([], [FaceBox(0, 0, 40, 40, 0.2)]):
        desk.detector.boxes = boxes
        assert desk.half_second(picture=True).face is SenseState.NO_FACE


def test_one_picture_is_looked_at_once_and_an_old_one_says_nothing_about_now() -> None:
    desk = Desk()
    seen = [desk.half_second(picture=number == 0).face for number in range(5)]
    assert seen == [SenseState.PRESENT] * 4 + [SenseState.WARMING_UP]
    assert desk.detector.pictures == 1


def test_a_sense_that_is_off_or_fails_leaves_the_other_working() -> None:
    assert Desk(audio=False).half_second(picture=True) == Presence(SenseState.OFF, SenseState.PRESENT, 0)
    assert Desk(video=False).half_second(0.3) == Presence(SenseState.PRESENT, SenseState.OFF, 13)
    desk = Desk()
    desk.audio.failure = gone()
    assert desk.half_second(picture=True) == Presence(SenseState.FAILED, SenseState.PRESENT, 0)
    assert desk.pipeline.sense_states() == {"microphone": "unplugged", "camera": "ok"}
    desk.video.failure = gone(CaptureReason.BUSY)
    with pytest.raises(CaptureError):
        desk.pipeline.start()


def test_nothing_is_remembered_over_a_stop() -> None:
    desk = Desk()
    desk.half_second(0.3, picture=True)
    desk.audio.put(tone(0.5), desk.clock.monotonic())
    desk.pipeline.pump()
    desk.pipeline.stop()
    desk.pipeline.start()
    assert desk.half_second() == Presence(SenseState.WARMING_UP, SenseState.WARMING_UP, 0)


def test_no_emotion_network_is_loaded_and_a_real_face_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = tflite.TFLiteRuntime.load

    def watched(runtime: tflite.TFLiteRuntime, path: Path, contract: NetworkContract) -> Network:
        loaded.append(path.name)
        return load(runtime, path, contract)

    monkeypatch.setattr(tflite.TFLiteRuntime, "load", watched)
    built = build(tmp_path, DemoPlan(takes=[TAKES / "happiness"], units=1))
    policy = replace(read_policy_file(built.authority), mode=Mode.PRESENCE)
    clock = FakeClock()
    senses, _, bundle = wiring._senses(load_unit(built.unit_config("a1")), policy, clock)
    assert isinstance(senses, PresencePipeline) and bundle == ""
    assert len(loaded) == 1 and loaded[0] not in ("speech.tflite", "face.tflite", "fusion.tflite")
    senses.start()
    answers = []
    for _ in range(4):
        now = clock.advance(0.5)
        senses.pump()
        answers.append(senses.tick(now))
    senses.stop()
    assert answers[-1].face is SenseState.PRESENT and answers[-1].speech is SenseState.PRESENT
    assert max(answer.level for answer in answers) > 5


def documents(unit: Unit, topic: str) -> list[dict[str, Any]]:
    """What stands on a topic, in order; without the empty messages that clear it."""
    return [json.loads(payload) for where, payload in unit.room.broker.published if where == topic and payload]


def test_what_consumers_get_of_a_desk_without_emotions(tmp_path: Path) -> None:
    unit = PresenceUnit(tmp_path, a_policy(Mode.PRESENCE), Presence(SenseState.PRESENT, SenseState.NO_FACE, 9))
    unit.run(5.0)
    found = documents(unit, LABELS)
    assert len({label["sequence"] for label in found}) >= 8
    assert {label["state"] for label in found} == {"presence"}
    assert (found[-1]["label"], found[-1]["confidence"], found[-1]["model"]) == (None, 0, "")
    assert found[-1]["presence"] == {"face_seen": False, "level_dbfs": -42}
    schemas.check("label", json.dumps(found[-1]).encode())
    assert LabelReader(tmp_path / "gateway.sqlite").latest() == [], "nothing of it is kept"


def test_an_emotion_is_refused_where_the_policy_lets_none_be_inferred(tmp_path: Path) -> None:
    unit = PresenceUnit(tmp_path, a_policy(Mode.PRESENCE), None)
    unit.run(5.0)
    assert documents(unit, LABELS) == []
    refused = [alert for alert in documents(unit, topics.alerts(room.ROOM)) if alert["severity"] == "refused"]
    assert {(alert["code"], alert["step"], alert["peer"]) for alert in refused} == {("bad_label", 10, "desk-1")}


def test_an_emotion_that_an_earlier_policy_let_the_broker_keep_is_cleared_and_shown_no_more(tmp_path: Path) -> None:
    before = MemoryRoom(tmp_path)
    before.run(3.0)
    before.kill_gateway()
    before.policy = a_policy(Mode.PRESENCE)
    before.start_gateway()
    before.clock.advance(0.1)
    before.service.step()
    assert before.shown(f"desk/{room.LINE}/desk-1") is None
    kept = [payload for topic, payload in before.broker.published if topic == LABELS]
    assert kept[-1] == b"" and json.loads(kept[-2])["state"] == "given"
