"""`play`: a unit's or the gateway's machine, fed with events, and what it answers to each."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from device.config import LineLimits
from device.line.actions import Action
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.envelope import Signer
from device.messages.roster import Roster
from device.messages.sealing import Opener
from device.publish.outbox import BoundedOutbox
from tools.vectors.sequences import GRANT, TICK, answer


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """`event` is `grant`, `tick`, or the unit on whose topic a link comes; `at_ms` counts from the machine's start."""

    at_ms: int
    event: str
    message: str


class Start(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A machine that starts connected: a unit with an empty outbox, to which no label is given, or a gateway with a
    stored grant. `wall_ms` is the gateway's time then."""

    machine: Literal["unit", "gateway"]
    session: int = 0
    stored_grant: str = ""
    wall_ms: int = 0


class Machine:
    """The machine of a start. `opener` is the gateway's alone."""

    def __init__(
        self, start: Start, *, roster: Roster, line: str, signer: Signer, opener: Opener | None, limits: LineLimits
    ) -> None:
        self._room, self._line, self._wall_ms = roster.room, line, start.wall_ms
        self._unit: LineUnit | None = None
        if start.machine == "unit":
            outbox = BoundedOutbox(limits.backlog_entries)
            self._unit = LineUnit(
                roster=roster, line=line, session=start.session, signer=signer, outbox=outbox, limits=limits
            )
            self._unit.connected(0.0)
            return
        if opener is None:
            raise ValueError("a gateway needs `opening_key`")
        self._gateway = LineGateway(
            roster=roster,
            line=line,
            signer=signer,
            opener=opener,
            limits=limits,
            witness_count=2,
            stored_grant=bytes.fromhex(start.stored_grant),
        )
        self._gateway.connected(0.0, self._wall_ms)

    def answer(self, event: Event) -> dict[str, Any]:
        """What the machine asks for after an event, as JSON."""
        return answer(self._take(event))

    def _take(self, event: Event) -> list[Action]:
        now, wall_ms = event.at_ms / 1_000, self._wall_ms + event.at_ms
        grants = topics.grant(self._room, self._line)
        topic = grants if event.event == GRANT else topics.link(self._room, self._line, event.event)
        raw = bytes.fromhex(event.message)
        if self._unit is not None:
            return self._unit.tick(now) if event.event == TICK else self._unit.received(topic, raw, now)
        if event.event == TICK:
            return self._gateway.tick(now, wall_ms)
        return self._gateway.received(topic, raw, now, wall_ms)
