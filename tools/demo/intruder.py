"""Stages what a dishonest broker could do: it reads every link and writes to every unit's topic, but holds no key."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from device.errors import Verdict
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.link import Link, decode_link
from device.publish.ports import Link as BrokerLink
from device.publish.ports import Received
from provisioning.demo_room import DemoRoom
from tools.attacks import forge_link

OLD_ROUNDS: Final = 3
KEPT: Final = 200


@dataclass(frozen=True)
class Attack:
    """What was sent, and what the gateway must answer."""

    name: str
    sentence: str
    victim: str
    expected: frozenset[Verdict]


FORGED: Final = "forged link"
REPLAYED: Final = "replayed link"
_FORGED: Final = frozenset({Verdict.BAD_SIGNATURE})
_REPLAYED: Final = frozenset({Verdict.REPLAYED, Verdict.STALE_ROUND})


class Intruder:
    """Listens to the line and strikes when told."""

    def __init__(self, room: DemoRoom, link: BrokerLink) -> None:
        self._room = room
        self._link = link
        self._heard: deque[tuple[bytes, Link]] = deque(maxlen=KEPT)

    def start(self) -> None:
        """Connect to the broker."""
        self._link.start()

    def stop(self) -> None:
        """Leave."""
        self._link.stop()

    def listen(self) -> None:
        """Take in what the line has said."""
        while (event := self._link.next_event(0.0)) is not None:
            if isinstance(event, Received):
                envelope = open_envelope(event.payload, wanted=ContentType.LINK)
                self._heard.append((event.payload, decode_link(envelope)))

    def strike(self) -> list[Attack]:
        """Send one forged and one replayed link; empty while too little was heard."""
        if not self._heard:
            return []
        raw, newest = self._heard[-1]
        old = next((entry for entry in self._heard if entry[1].round <= newest.round - OLD_ROUNDS), None)
        if old is None:
            return []
        self._publish(newest.unit, forge_link(raw))
        self._publish(old[1].unit, old[0])
        return [
            Attack(FORGED, f"in the name of {newest.unit}, with another key", newest.unit, _FORGED),
            Attack(REPLAYED, f"of {old[1].unit}, from round {old[1].round}", old[1].unit, _REPLAYED),
        ]

    def _publish(self, unit: str, payload: bytes) -> None:
        plan = self._room.plan
        self._link.publish(topics.link(plan.room, plan.line, unit), payload, qos=1, retain=False)
