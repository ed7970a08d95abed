"""Outside its schedule a unit's devices are closed, its memory is empty, and nobody outside can see that."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from device.clock import TimeSource
from device.errors import CaptureError, CaptureReason
from device.inference.decision import Decider, Decision, DecisionParameters
from device.messages.label import SenseState
from device.messages.schedule import ALWAYS, MINUTE_MS, Hours, Offset, Schedule, ScheduleKind
from device.unit.pipeline import Pipeline
from device.unit.schedule import SEED_FILE, CaptureTimes, DailySeed, ScheduledSenses
from models.labels import Emotion
from tests.fakes.capture import FakeAudio, FakeVideo, gone, tone
from tests.fakes.clock import FakeClock
from tests.fakes.inference import FakeBundle, FakeDetector
from tests.fakes.storage import FailingDisk
from tests.unit.test_service import LINK, Unit
from tests.unit.units import ScheduledUnit

#: Friday, 15 January 2027, 08:00 UTC.
EIGHT_MS = 1_800_000_000_000
PICTURE = np.full((60, 80), 100, np.uint8)
#: The hour from eight to nine on Fridays.
LESSON = Schedule(kind=ScheduleKind.HOURS, zone="UTC", offsets=(Offset(0, 0),), hours=(Hours((4,), 8 * 60, 9 * 60),))
SAMPLED = Schedule(
    kind=ScheduleKind.SAMPLED,
    zone="UTC",
    offsets=(Offset(0, 0),),
    hours=(Hours((4, 5), 8 * 60, 9 * 60),),
    sessions_per_day=3,
)


class Desk:
    """A real pipeline on scripted sources, under a schedule."""

    def __init__(self, folder: Path, schedule: Schedule, *, wall_ms: int = EIGHT_MS) -> None:
        self.clock = FakeClock(wall_ms=wall_ms)
        self.knows_the_time = True
        self.audio, self.video = FakeAudio(), FakeVideo()
        pipeline = Pipeline(
            self.clock,
            self.audio,
            self.video,
            FakeBundle().bundle,
            FakeDetector(),
            Decider(DecisionParameters(smoothing=0.0, dwell_ticks=1)),
        )
        self.pipeline = pipeline
        self.senses = ScheduledSenses(
            pipeline,
            CaptureTimes(schedule, DailySeed(folder / SEED_FILE)),
            lambda: self.clock.wall_ms() if self.knows_the_time else None,
        )

    @property
    def devices(self) -> tuple[int, int]:
        """How often microphone and camera were opened and not closed since."""
        return self.audio.starts - self.audio.stops, self.video.starts - self.video.stops

    def half_second(self) -> tuple[Emotion | None, SenseState | None]:
        """Half a second of voice and face, as far as the devices are open; then a tick."""
        now = self.clock.advance(0.5)
        if self.devices == (1, 1):
            self.audio.put(tone(0.5), now)
            self.video.put(PICTURE, now)
        self.senses.pump()
        decision = self.senses.tick(now)
        assert decision is None or isinstance(decision, Decision)
        return (None, None) if decision is None else (decision.label, decision.speech)


def test_an_always_open_schedule_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ALWAYS)
    desk.knows_the_time = False
    desk.senses.start()
    answers = [desk.half_second() for _ in range(4)]
    assert answers[-1] == (Emotion.ANGER, SenseState.PRESENT)
    desk.senses.stop()
    assert desk.devices == (0, 0)


def test_outside_the_hours_no_device_is_opened_and_nothing_is_decided(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LESSON, wall_ms=EIGHT_MS - 60_000)
    desk.senses.start()
    assert {desk.half_second() for _ in range(119)} == {(None, None)}
    assert (desk.audio.starts, desk.video.starts) == (0, 0)
    answers = [desk.half_second() for _ in range(6)]
    assert desk.devices == (1, 1)
    assert answers[-1] == (Emotion.ANGER, SenseState.PRESENT)


def test_when_the_hours_end_both_devices_are_closed_and_the_past_is_forgotten(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LESSON, wall_ms=EIGHT_MS + 59 * MINUTE_MS)
    desk.senses.start()
    assert [desk.half_second() for _ in range(119)][-1] == (Emotion.ANGER, SenseState.PRESENT)
    assert desk.half_second() == (None, None)
    assert desk.devices == (0, 0)
    assert desk.pipeline.evidence is None
    assert desk.senses.sense_states() == {"microphone": "ok", "camera": "ok"}
    desk.clock.advance(7 * 24 * 3_600 - 3_600)
    assert desk.half_second() == (None, SenseState.WARMING_UP), "what was heard a week ago must not speak for now"
    assert desk.senses.window_end == desk.clock.monotonic()
    assert desk.devices == (1, 1)


def test_without_a_time_that_can_be_trusted_the_senses_stay_closed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LESSON)
    desk.knows_the_time = False
    desk.senses.start()
    assert {desk.half_second() for _ in range(4)} == {(None, None)}
    assert desk.devices == (0, 0)
    desk.knows_the_time = True
    desk.half_second()
    assert desk.devices == (1, 1)


def test_devices_that_are_missing_at_the_start_are_told_and_later_tried_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LESSON)
    desk.audio.failure = desk.video.failure = gone(CaptureReason.UNPLUGGED)
    with pytest.raises(CaptureError):
        desk.senses.start()
    later = Desk(tmp_path, LESSON, wall_ms=EIGHT_MS - 1_000)
    later.audio.failure = later.video.failure = gone(CaptureReason.UNPLUGGED)
    later.senses.start()
    assert [later.half_second()[1] for _ in range(4)] == [None, SenseState.FAILED, SenseState.FAILED, SenseState.FAILED]
    later.audio.failure = later.video.failure = None
    for _ in range(6):
        later.half_second()
    assert later.senses.sense_states() == {"microphone": "ok", "camera": "ok"}


def seconds_open(times: CaptureTimes, from_ms: int = EIGHT_MS - 60 * MINUTE_MS) -> list[int]:
    """The seconds of three hours in which the times are open, every tenth."""
    return [second for second in range(0, 3 * 3_600, 10) if times.are_open(from_ms + second * 1_000)]


def test_a_unit_listens_in_three_sessions_of_its_own_and_a_restart_adds_none(tmp_path: Path) -> None:
    heard = seconds_open(CaptureTimes(SAMPLED, DailySeed(tmp_path / SEED_FILE)))
    assert 3 * 30 <= len(heard) <= 3 * 60
    assert heard[0] >= 3_600 and heard[-1] < 2 * 3_600
    assert seconds_open(CaptureTimes(SAMPLED, DailySeed(tmp_path / SEED_FILE))) == heard
    assert seconds_open(CaptureTimes(SAMPLED, DailySeed(tmp_path / "another unit"))) != heard
    times = CaptureTimes(SAMPLED, DailySeed(tmp_path / SEED_FILE))
    assert seconds_open(times, EIGHT_MS + 23 * 60 * MINUTE_MS) != heard, "each day has its own"
    assert not times.are_open(None)


def test_the_seed_is_the_owners_alone_and_is_written_once_a_day(tmp_path: Path) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    seeds = DailySeed(tmp_path / SEED_FILE, disk=disk)
    first = seeds.of(20_000)
    written = list(disk.calls)
    assert seeds.of(20_000) == first and disk.calls == written
    assert (tmp_path / SEED_FILE).stat().st_mode & 0o777 == 0o600
    assert seeds.of(20_001) != first


@pytest.mark.parametrize("content", [b"", b"{}", b'{"day": 20000, "seed": "00"}'])
def test_a_damaged_seed_is_told_and_drawn_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / SEED_FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        seeds = DailySeed(tmp_path / SEED_FILE)
    assert "drawn anew" in caplog.text
    assert DailySeed(tmp_path / SEED_FILE).of(20_000) != seeds.of(20_000) == DailySeed(tmp_path / SEED_FILE).of(20_000)


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seeds = DailySeed(tmp_path / "no folder" / SEED_FILE)
    assert seeds.of(20_000) == seeds.of(20_000)
    assert "would draw" in caplog.text


SUNDAYS = Schedule(kind=ScheduleKind.HOURS, zone="UTC", offsets=(Offset(0, 0),), hours=(Hours((6,), 0, 24 * 60),))


def seen_from_outside(unit: Unit) -> tuple[list[dict[str, object]], list[int]]:
    """A unit's public statuses, and the sizes of the links that it sent."""
    return unit.statuses(), [len(payload) for topic, payload in unit.room.broker.published if topic == LINK]


def test_g4_a_desk_outside_its_hours_looks_from_outside_like_a_speaking_and_like_a_muted_one(tmp_path: Path) -> None:
    closed = ScheduledUnit(tmp_path / "closed", SUNDAYS)
    speaking = ScheduledUnit(tmp_path / "speaking", ALWAYS)
    muted = Unit(tmp_path / "muted", muted=True)
    for unit in (closed, speaking, muted):
        unit.run(5.0)
    assert seen_from_outside(closed) == seen_from_outside(speaking) == seen_from_outside(muted)
    assert len(seen_from_outside(closed)[1]) >= 8
    assert (closed.scripted.ticks, closed.is_listening()) == (0, False)
    assert {label["state"] for label in closed.labels()} == {"muted"}
    assert {label["state"] for label in speaking.labels()} == {"given"}


def test_a_box_without_a_clock_opens_its_senses_when_a_grant_tells_the_time(tmp_path: Path) -> None:
    fridays = Schedule(kind=ScheduleKind.HOURS, zone="UTC", offsets=(Offset(0, 0),), hours=(Hours((4,), 0, 24 * 60),))
    unit = ScheduledUnit(tmp_path, fridays)
    unit.link.die()
    unit.clock.source = TimeSource.UNSET
    unit.start(session=4)
    assert not unit.is_listening()
    unit.run(2.0, gateway=False)
    assert (unit.scripted.ticks, unit.is_listening()) == (0, False)
    unit.run(3.0)
    assert unit.is_listening() and unit.scripted.ticks > 0


def test_the_hours_open_and_close_while_the_service_runs(tmp_path: Path) -> None:
    unit = ScheduledUnit(tmp_path, LESSON)
    unit.run(2.0)
    assert unit.labels()[-1]["state"] == "given"
    unit.clock.step_wall(3_600_000)
    unit.run(2.0)
    assert unit.labels()[-1]["state"] == "muted" and not unit.is_listening()
    unit.clock.step_wall(-3_600_000)
    unit.run(2.0)
    assert unit.labels()[-1]["state"] == "given" and unit.is_listening()
    sequences = {label["sequence"] for label in unit.labels()}
    assert sequences == set(range(1, len(sequences) + 1)), "no label is lost over the change"
