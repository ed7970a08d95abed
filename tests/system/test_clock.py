"""The system's clock and how far it is believed."""

from __future__ import annotations

import time
from pathlib import Path

from device.clock import Clock, TimeSource
from device.system.clock import SystemClock


def test_monotonic_time_never_runs_backwards() -> None:
    clock: Clock = SystemClock()
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)


def test_wall_time_is_this_machines() -> None:
    before = int(time.time() * 1_000)
    now = SystemClock().wall_ms()
    assert before <= now <= int(time.time() * 1_000) + 1


def test_time_is_unset_until_the_time_daemon_has_synchronised(tmp_path: Path) -> None:
    clock = SystemClock(tmp_path / "synchronized")
    assert clock.time_source() is TimeSource.UNSET
    (tmp_path / "synchronized").touch()
    assert clock.time_source() is TimeSource.NTP
