"""How long each stage of the pipeline took, for `make bench` and for the status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from device.clock import Clock


class StageTimes:
    """Seconds per stage, added up until `clear`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock.monotonic() - began

    def clear(self) -> dict[str, float]:
        """Start over; returns what was added up."""
        taken, self.seconds = self.seconds, {}
        return taken
