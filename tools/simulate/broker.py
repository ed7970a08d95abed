"""The simulated broker: it drops, doubles, delays, reorders, cuts off, forgets, and brings old things back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Schedule = Callable[[float, Callable[[], None]], None]
Arrive = Callable[[str, str, bytes], None]

#: Seconds a message takes from one box to the broker and on to another, when nothing is wrong.
DELAY_S: Final = (0.001, 0.004)
#: Grants that the broker could fall back to after a restart from an old image of itself.
_IMAGES: Final = 40


@dataclass(frozen=True)
class Faults:
    """Chances per delivery, 0..1, and times in seconds. Only `late` ones overtake each other, as in MQTT over TCP."""

    drop: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_by: float = 0.2
    delay: tuple[float, float] = DELAY_S

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return self != Faults()


class Retained(StrEnum):
    """What a broker still knows after a restart."""

    KEPT = "kept"
    LOST = "lost"
    OLD = "old"


class Cut(StrEnum):
    """How a box is cut off without noticing: its messages are lost, or they wait and come in one burst."""

    LOSES = "loses"
    HOLDS = "holds"


class Broker:
    """Passes messages on to every box that is online, in virtual time."""

    def __init__(self, dice: random.Random, schedule: Schedule, arrive: Arrive) -> None:
        self._dice = dice
        self._schedule = schedule
        self._arrive = arrive
        self._newest_arrival: dict[str, float] = {}
        self._held: dict[str, list[Callable[[], None]]] = {}
        self._retained: dict[str, bytes] = {}
        self._images: list[dict[str, bytes]] = []
        self.faults = Faults()
        self.now = 0.0
        self.online: dict[str, bool] = {}
        self.cuts: dict[str, Cut] = {}
        self.wire: list[tuple[str, bytes]] = []
        self.lies: dict[str, bytes] = {}
        self.up = True

    def subscribe(self, box: str) -> None:
        """A box is there; retained messages come, or what `lies` has for this box in place of them, once."""
        self.online[box] = True
        lie = self.lies.pop(box, None)
        for topic, payload in self._retained.items():
            self.pass_on(box, topic, payload if lie is None else lie)

    def leave(self, box: str) -> None:
        """A box is gone; what arrives before it is back is lost."""
        self.online[box] = False

    def reaches(self, box: str) -> bool:
        """Whether messages go to and fro."""
        return self.up and self.online.get(box, False) and box not in self.cuts

    def publish(self, sender: str, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Take a message, also from an attacker, and pass it on as the faults say."""
        match self.cuts.get(sender):
            case Cut.LOSES:
                return
            case Cut.HOLDS:
                self._held[sender].append(lambda: self.publish(sender, topic, payload, retain=retain))
                return
        if not self.up:
            return
        self.wire.append((topic, payload))
        if retain:
            self._retained[topic] = payload
            self._images = [*self._images[-_IMAGES:], dict(self._retained)]
        for box, online in self.online.items():
            if online:
                self.pass_on(box, topic, payload)

    def pass_on(self, box: str, topic: str, payload: bytes) -> None:
        """Bring one message to one box, or not, or twice, or late."""
        faults, dice = self.faults, self._dice
        copies = 0 if dice.random() < faults.drop else 2 if dice.random() < faults.duplicate else 1
        for _ in range(copies):
            when = max(self.now + dice.uniform(*faults.delay), self._newest_arrival.get(box, 0.0))
            if dice.random() < faults.late:
                when += faults.late_by * dice.uniform(0.5, 1.5)
            else:
                self._newest_arrival[box] = when
            self._schedule(when, lambda: self._bring(box, topic, payload))

    def _bring(self, box: str, topic: str, payload: bytes) -> None:
        match self.cuts.get(box):
            case Cut.LOSES:
                return
            case Cut.HOLDS:
                self._held[box].append(lambda: self._bring(box, topic, payload))
                return
        if self.online.get(box):
            self._arrive(box, topic, payload)

    def cut(self, box: str, how: Cut) -> None:
        """Cut a box off; it does not notice."""
        self.cuts[box] = how
        self._held.setdefault(box, [])

    def holds(self, box: str) -> bool:
        """Whether the network holds messages of or for a box that is cut off."""
        return bool(self._held.get(box))

    def heal(self, box: str) -> None:
        """The box is back; what was held comes in one burst, in its order."""
        self.cuts.pop(box, None)
        for what in self._held.pop(box, []):
            what()

    def stop(self) -> None:
        """Down: nothing is passed on."""
        self.up = False

    def start(self, retained: Retained) -> None:
        """Up again, knowing all, nothing, or what it knew some rounds ago."""
        self.up = True
        match retained:
            case Retained.LOST:
                self._retained = {}
            case Retained.OLD if self._images:
                self._retained = dict(self._dice.choice(self._images))
