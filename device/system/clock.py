"""The operating system's clocks behind `device.clock.Clock`."""

from __future__ import annotations

import time
from pathlib import Path

from device.clock import TimeSource

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


class SystemClock:
    """CLOCK_MONOTONIC and CLOCK_REALTIME.

    The wall time counts as set by NTP once systemd-timesyncd has said so since boot: it then makes the file
    `SYNCHRONISED` (systemd-timesyncd.service(8)). Under any other time daemon the time stays `UNSET`, which is the
    careful answer.
    """

    def __init__(self, synchronised: Path = SYNCHRONISED) -> None:
        self._synchronised = synchronised

    def monotonic(self) -> float:
        """Seconds since boot, roughly; never steps."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC as this machine believes."""
        return time.time_ns() // 1_000_000

    def time_source(self) -> TimeSource:
        """NTP when timesyncd has synchronised since boot, else UNSET."""
        return TimeSource.NTP if self._synchronised.exists() else TimeSource.UNSET
