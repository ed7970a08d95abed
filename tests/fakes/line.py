"""A line's machine that asks for what a test tells it to."""

from __future__ import annotations

from collections import deque

from device.line.actions import Action


class ScriptedLine:
    """Implements the gateway's `LineMachine`: each event takes the next list of actions from `script`."""

    def __init__(self, *script: list[Action]) -> None:
        self.script = deque(script)
        self.events: list[str] = []
        self.round = 1
        self.order: tuple[str, ...] = ("desk-1", "desk-2")
        self.signed_units: tuple[str, ...] = ()
        self.live_units: tuple[str, ...] = ("desk-1", "desk-2")
        self.deadline: float | None = None

    def _next(self, event: str) -> list[Action]:
        self.events.append(event)
        return self.script.popleft() if self.script else []

    def connected(self, now: float, wall_ms: int) -> list[Action]:
        return self._next("connected")

    def disconnected(self, now: float) -> list[Action]:
        return self._next("disconnected")

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> list[Action]:
        return self._next("received")

    def tick(self, now: float, wall_ms: int) -> list[Action]:
        return []

    def next_deadline(self) -> float | None:
        return self.deadline
