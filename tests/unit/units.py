"""A unit's whole service under a schedule or in a room without emotions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from device.messages.policy import DeploymentPolicy
from device.messages.schedule import Schedule
from device.unit.presence import Presence
from device.unit.schedule import SEED_FILE, CaptureTimes, DailySeed, ScheduledSenses
from tests.gateway.memory_room import MemoryRoom
from tests.unit.test_service import ScriptedSenses, Unit


class ScheduledUnit(Unit):
    """A unit whose scripted senses are under a schedule."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        folder.mkdir(exist_ok=True)
        self.times = CaptureTimes(schedule, DailySeed(folder / SEED_FILE))
        super().__init__(folder)

    def start(self, session: int) -> None:
        self.scripted = ScriptedSenses(self.clock)
        self.senses = cast(ScriptedSenses, ScheduledSenses(self.scripted, self.times, self._now))
        super().start(session)

    def is_listening(self) -> bool:
        """Whether the scripted devices are open."""
        return self.scripted.open

    def _now(self) -> int | None:
        return self.time.now_ms()


class ScriptedPresence(ScriptedSenses):
    """Senses that say what a desk without emotions says."""

    answer: Presence

    def tick(self, now: float) -> Any:
        self.window_end = now - 0.02
        return self.answer


class PresenceUnit(Unit):
    """A unit in a room of that policy; with an answer its senses say presence, without one emotions all the same."""

    def __init__(self, folder: Path, policy: DeploymentPolicy, answer: Presence | None) -> None:
        self._policy = policy
        self._answer = answer
        super().__init__(folder)

    def start(self, session: int) -> None:
        self.room.kill_gateway()
        self.room = MemoryRoom(self.folder, self._policy, desks=0)
        self.clock = self.room.clock
        self.senses = ScriptedSenses(self.clock)
        if self._answer is not None:
            self.senses = ScriptedPresence(self.clock)
            self.senses.answer = self._answer
        super().start(session)
