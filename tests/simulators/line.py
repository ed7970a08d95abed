"""The simulated room of tools/simulate for tests that drive it by hand, and in which anyone may cheat."""

from __future__ import annotations

from device.config import LineLimits
from tools.simulate.broker import Faults
from tools.simulate.line import SimulatedLine as WatchedLine

__all__ = ["Faults", "SimulatedLine"]


class SimulatedLine(WatchedLine):
    """A room of which no test has to say who cheats in it."""

    def __init__(
        self, seed: int, *, units: int = 4, faults: Faults | None = None, limits: LineLimits | None = None
    ) -> None:
        super().__init__(seed, units=units, faults=faults, limits=limits, anyone_may_cheat=True)
