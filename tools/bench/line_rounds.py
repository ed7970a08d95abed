"""What a round costs each machine of the line: real machines that hand each other real bytes, without a network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from device.clock import TimeSource
from device.config import LineLimits
from device.line.actions import Action, Deliver, Publish
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages.envelope import ContentType, external_aad, open_envelope, sig_structure, signature_holds
from device.messages.label import Label, LabelState
from device.publish.outbox import BoundedOutbox
from models.labels import Emotion
from tools.bench.measurement import Measurement
from tools.vectors import room

COUNTS: Final = (2, 8, 40)
_TIMED_ROUNDS: Final = 12
#: Not counted: nothing is acknowledged yet in the first rounds.
_WARM_UP: Final = 3
_WALL_MS: Final = 1_800_000_000_000


@dataclass(frozen=True)
class RoundCost:
    """What a round with one label of each unit costs, in seconds of one core and bytes.

    `unit` is all that one unit does: follow the grant, seal its label, verify the links of the others, sign its own;
    the mean over all units. `gateway` is the way from received links to actions, labels opened; `closing` the next
    grant.
    """

    unit: float
    gateway: float
    closing: float
    link_bytes: int
    grant_bytes: int


class RoundTable:
    """A line whose broker is a loop over its machines."""

    def __init__(self, count: int) -> None:
        limits, roster = LineLimits(), room.roster(count)
        self._period = limits.round_period_ms / 1_000
        self._sign_without_label = (limits.round_deadline_ms - 2 * limits.hop_timeout_ms + 1) / 1_000
        self._keys = {unit.unit: unit.key for unit in roster.units_of(room.LINE)}
        self._links: list[bytes] = []
        self._now = 0.0
        self._gateway = LineGateway(
            roster=roster,
            line=room.LINE,
            signer=room.signer(room.GATEWAY),
            opener=room.opener(),
            limits=limits,
            witness_count=2,
        )
        self._units = {
            name: LineUnit(
                roster=roster,
                line=room.LINE,
                session=1,
                signer=room.signer(name),
                outbox=BoundedOutbox(limits.backlog_entries),
                limits=limits,
            )
            for name in room.unit_names(count)
        }
        for unit in self._units.values():
            unit.connected(self._now)
        self._grant = _published(self._gateway.connected(self._now, _WALL_MS))

    def turn(self, *, labels: bool = True) -> RoundCost:
        """One round in the grant's order, every link accepted. Without labels the units sign shortly before its end."""
        grant, order, now = self._grant, self._gateway.order, self._now
        assert len(order) == len(self._units), "all units live"
        links: list[Publish] = []
        start = time.perf_counter()
        for unit in self._units.values():
            unit.received(grant.topic, grant.payload, now)
        now += 0.0 if labels else self._sign_without_label
        signed: list[Action] = []
        for name in order:
            own = self._units[name]
            links.append(_published(signed or (own.label(_label(), now) if labels else own.tick(now))))
            signed = []
            for other, unit in self._units.items():
                if other != name:
                    # Whoever has waited for its turn signs as soon as the link before arrives.
                    signed += unit.received(links[-1].topic, links[-1].payload, now)
        at_units = time.perf_counter() - start

        start = time.perf_counter()
        actions = [a for link in links for a in self._gateway.received(link.topic, link.payload, now, _WALL_MS)]
        at_gateway = time.perf_counter() - start
        assert len(self._gateway.signed_units) == len(order), "every link is accepted"
        assert sum(isinstance(action, Deliver) for action in actions) == labels * len(order), "every label is verified"
        self._links = [link.payload for link in links]

        self._now += self._period
        start = time.perf_counter()
        self._grant = _published(self._gateway.tick(self._now, _WALL_MS))
        closing = time.perf_counter() - start
        return RoundCost(
            at_units / len(order), at_gateway, closing, sum(len(link.payload) for link in links), len(grant.payload)
        )

    def bare_checks(self) -> float:
        """Seconds of the bare Ed25519 checks of the last round's links, by the library that the verifier uses."""
        checks = []
        for raw in self._links:
            envelope = open_envelope(raw, wanted=ContentType.LINK)
            message = sig_structure(envelope.protected, external_aad(room.ROOM, room.LINE), envelope.payload)
            checks.append((self._keys[envelope.key_id], envelope.signature, message))
        start = time.perf_counter()
        held = [signature_holds(*check) for check in checks]
        taken = time.perf_counter() - start
        assert all(held), "every signature holds"
        return taken


def _label() -> Label:
    return Label(
        window_end_ms=_WALL_MS,
        time_source=TimeSource.GATEWAY,
        state=LabelState.GIVEN,
        emotion=Emotion.HAPPINESS,
        confidence=812,
        bundle="2026.1",
    )


def _published(actions: Iterable[Action]) -> Publish:
    (message,) = (action for action in actions if isinstance(action, Publish))
    return message


def round_cost(count: int) -> RoundCost:
    """Medians over rounds of a line of `count` units."""
    table = RoundTable(count)
    turns = [table.turn() for _ in range(_WARM_UP + _TIMED_ROUNDS)][_WARM_UP:]
    return RoundCost(
        statistics.median(turn.unit for turn in turns),
        statistics.median(turn.gateway for turn in turns),
        statistics.median(turn.closing for turn in turns),
        round(statistics.median(turn.link_bytes for turn in turns)),
        round(statistics.median(turn.grant_bytes for turn in turns)),
    )


def measure() -> list[Measurement]:
    """Bytes and milliseconds a link for lines of 2, 8 and 40 units."""
    rows = []
    for count in COUNTS:
        cost = round_cost(count)
        for name, value, unit in (
            ("bytes a link, its share of the grant included", (cost.link_bytes + cost.grant_bytes) / count, "bytes"),
            ("a unit's own work a round", cost.unit * 1e3, "ms"),
            ("a unit's own work a link", cost.unit * 1e3 / count, "ms"),
            ("the gateway's work a link, label opened", cost.gateway * 1e3 / count, "ms"),
            ("the gateway's next grant", cost.closing * 1e3, "ms"),
        ):
            rows.append(Measurement(name=f"{name}, {count} units", value=value, unit=unit))
    return rows
