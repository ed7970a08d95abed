"""The last known time: never backwards, moved by a grant within bounds only, and hardly ever written."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from device.clock import TimeSource
from device.system.trusted_time import AHEAD_MS, BEHIND_MS, DAY_MS, TIME_FILE, WRITTEN_EVERY_MS, TrustedTime
from tests.fakes.clock import FakeClock
from tests.fakes.storage import FailingDisk

NOW_MS = 1_800_000_000_000


@pytest.fixture
def clock() -> FakeClock:
    """A box that was just switched on and believes that it is 1970."""
    made = FakeClock(wall_ms=0)
    made.source = TimeSource.UNSET
    return made


def stored(path: Path) -> int:
    return int(json.loads(path.read_text())["floor_ms"])


def keep(path: Path, floor_ms: int) -> None:
    path.write_text(json.dumps({"floor_ms": floor_ms}))


def test_a_grant_within_the_bounds_raises_the_floor_and_an_older_one_never_lowers_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    keep(tmp_path / TIME_FILE, NOW_MS)
    time = TrustedTime(tmp_path / TIME_FILE, clock)
    assert time.floor_ms == NOW_MS
    assert time.note(NOW_MS + 70 * DAY_MS, TimeSource.GATEWAY)
    assert time.note(NOW_MS, TimeSource.GATEWAY)
    assert time.floor_ms == NOW_MS + 70 * DAY_MS
    assert TrustedTime(tmp_path / TIME_FILE, clock).floor_ms == NOW_MS + 70 * DAY_MS


@pytest.mark.parametrize("off_ms", [AHEAD_MS + 1, -BEHIND_MS - 1])
def test_a_grant_beyond_the_bounds_is_refused_and_told_once(
    tmp_path: Path, clock: FakeClock, off_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path / TIME_FILE, NOW_MS)
    time = TrustedTime(tmp_path / TIME_FILE, clock)
    for _ in range(3):
        assert not time.note(NOW_MS + off_ms, TimeSource.GATEWAY)
    assert time.floor_ms == NOW_MS == stored(tmp_path / TIME_FILE)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "is not believed" in caplog.text


def test_many_small_steps_of_a_lying_gateway_reach_no_further_than_one_large_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    keep(tmp_path / TIME_FILE, NOW_MS)
    time = TrustedTime(tmp_path / TIME_FILE, clock)
    for days in range(0, 2_000, 100):
        time.note(NOW_MS + days * DAY_MS, TimeSource.GATEWAY)
    assert time.floor_ms == NOW_MS + 400 * DAY_MS


def test_a_program_that_runs_for_years_goes_on_believing_its_gateway(tmp_path: Path, clock: FakeClock) -> None:
    time = TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS)
    for day in range(1_000):
        clock.advance(DAY_MS / 1_000)
        assert time.note(NOW_MS + (day + 1) * DAY_MS, TimeSource.GATEWAY)


def test_a_clock_that_nobody_set_says_nothing_and_one_set_by_ntp_is_believed(tmp_path: Path, clock: FakeClock) -> None:
    time = TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS)
    assert not time.note(NOW_MS + DAY_MS, TimeSource.UNSET)
    assert time.floor_for_tls() == NOW_MS
    clock.source = TimeSource.NTP
    assert time.note(NOW_MS + 900 * DAY_MS, TimeSource.NTP)
    assert time.floor_for_tls() is None
    assert time.note(NOW_MS + 1_299 * DAY_MS, TimeSource.GATEWAY), "bounds count from what NTP said"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"floor_ms": -1}', b'{"floor_ms": "now"}', b"\xff" * 100, b"9" * 9_999]
)
def test_a_missing_or_damaged_file_means_what_is_known_from_elsewhere(
    tmp_path: Path, clock: FakeClock, content: bytes
) -> None:
    assert TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS).floor_ms == NOW_MS
    (tmp_path / TIME_FILE).write_bytes(content)
    time = TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS)
    assert time.floor_ms == NOW_MS
    time.note(NOW_MS + 1, TimeSource.GATEWAY, at_once=True)
    assert stored(tmp_path / TIME_FILE) == NOW_MS + 1


def test_the_file_is_written_once_a_day_and_not_at_the_start(tmp_path: Path, clock: FakeClock) -> None:
    keep(tmp_path / TIME_FILE, NOW_MS)
    disk = FailingDisk(bytes_per_write=1_000)
    time = TrustedTime(tmp_path / TIME_FILE, clock, disk=disk)
    for hour in range(10 * 24):
        time.note(NOW_MS + hour * DAY_MS // 24, TimeSource.GATEWAY)
    assert disk.calls.count("rename") == (10 * 24 - 1) * DAY_MS // 24 // WRITTEN_EVERY_MS == 9
    early = FailingDisk()
    TrustedTime(tmp_path / TIME_FILE, clock, disk=early).note(stored(tmp_path / TIME_FILE) + 1_000, TimeSource.GATEWAY)
    assert early.calls == []


def test_two_programs_of_a_box_never_write_it_back(tmp_path: Path, clock: FakeClock) -> None:
    one, other = (TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS) for _ in range(2))
    one.note(NOW_MS + 9 * DAY_MS, TimeSource.GATEWAY, at_once=True)
    other.note(NOW_MS + 5 * DAY_MS, TimeSource.GATEWAY, at_once=True)
    assert stored(tmp_path / TIME_FILE) == NOW_MS + 9 * DAY_MS == other.floor_ms


def test_a_disk_that_refuses_is_told_and_stops_nothing(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    time = TrustedTime(tmp_path / TIME_FILE, clock, known_ms=NOW_MS, disk=FailingDisk(fail_at=0))
    for second in range(5):
        assert time.note(NOW_MS + 2 * DAY_MS + second, TimeSource.GATEWAY)
    assert time.floor_ms == NOW_MS + 2 * DAY_MS + 4
    assert len(caplog.records) == 1 and "cannot be kept" in caplog.text
    assert time.note(NOW_MS + 4 * DAY_MS, TimeSource.GATEWAY)
    assert stored(tmp_path / TIME_FILE) == NOW_MS + 4 * DAY_MS


def test_the_time_now_is_the_set_clocks_or_the_newest_believed_grants(tmp_path: Path, clock: FakeClock) -> None:
    time = TrustedTime(tmp_path / TIME_FILE, clock, known_ms=clock.wall_ms())
    clock.source = TimeSource.NTP
    assert time.now_ms() == clock.wall_ms()
    clock.source = TimeSource.UNSET
    assert time.now_ms() is None, "the floor says what time it is not, and no more"
    granted = clock.wall_ms() + 60_000
    assert time.note(granted, TimeSource.GATEWAY)
    assert not time.note(granted + 2 * AHEAD_MS, TimeSource.GATEWAY)
    clock.advance(2.5)
    assert time.now_ms() == granted + 2_500
