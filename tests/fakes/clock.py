"""A clock that a test moves."""

from __future__ import annotations

from device.clock import TimeSource


class FakeClock:
    """A Clock: `monotonic` and wall time stand still until `advance`."""

    def __init__(self, monotonic: float = 1_000.0, wall_ms: int = 1_800_000_000_000) -> None:
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self.source = TimeSource.NTP

    def advance(self, seconds: float) -> float:
        """Let time pass; returns the new monotonic second."""
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)
        return self._monotonic

    def step_wall(self, milliseconds: int) -> None:
        """Step the wall clock alone, as NTP or an empty battery does."""
        self._wall_ms += milliseconds

    def monotonic(self) -> float:
        return self._monotonic

    def wall_ms(self) -> int:
        return self._wall_ms

    def time_source(self) -> TimeSource:
        return self.source
