"""Time as a port: what is measured (monotonic) and what is claimed (wall time) never mix."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class TimeSource(StrEnum):
    """Where a wall time comes from; its position is the code on the wire."""

    UNSET = "unset"
    NTP = "ntp"
    GATEWAY = "gateway"


class Clock(Protocol):
    """The two times a program may ask for."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC as this machine believes; may step."""
        ...

    def time_source(self) -> TimeSource:
        """How far `wall_ms` can be believed."""
        ...
