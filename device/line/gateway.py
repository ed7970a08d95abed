"""The gateway's side of the line: a machine without socket, thread or clock. Events in, actions out.

| state   | event        | next    | what happens                                                            |
| ------- | ------------ | ------- | ----------------------------------------------------------------------- |
| FRESH   | CONNECTED    | OPEN    | `Persist` of the first grant, then `Publish` of it                      |
| RESUMED | CONNECTED    | OPEN    | `Publish` of the stored open grant, the same bytes as before            |
| OPEN    | PERIOD_ENDED | OPEN    | `Persist` of round and next grant in one transaction, then `Publish`    |
| OPEN    | DISCONNECTED | RESUMED | the round stays open; links that were accepted stay accepted            |

While OPEN, links are verified as they come: `Deliver`, `Witnessed` and `Gap` for accepted ones, `Alert` for refused.

Rules for editing: a new state or event gets its row here and in `_NEXT`, nothing else changes `_state`; no grant is
published that was not persisted before, in the same list of actions or in an earlier one; two grants for one round
never exist; `accepted` never runs backwards.

Round and period are one: a round stays open for the whole round period, so that units that come late or come back are
let in, and grants leave at a steady pace even when every unit has signed early. In the round in which the broker comes
back it may deliver once more what it had delivered before (MQTT, QoS 1): that is no replay worth an alert.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import Action, ClosedRound, Deliver, Gap, Notice, Persist, Publish, Witnessed
from device.line.evidence import Evidence
from device.line.notify import AlertGate
from device.line.verify import (
    OpenRound,
    SignedGrant,
    SignedLink,
    Verifier,
    follow_link,
    step_2_grant,
    step_6_round,
    step_10_open,
    step_10_time,
)
from device.messages import topics
from device.messages.envelope import Signer, digest
from device.messages.grant import NO_PREVIOUS, NOTHING_ACCEPTED, Accepted, Grant, sign_grant
from device.messages.link import Entry, Link
from device.messages.roster import Roster
from device.messages.sealing import Opener
from device.messages.topics import TopicKind


class GatewayState(StrEnum):
    """Where the gateway stands with this line."""

    FRESH = "fresh"
    RESUMED = "resumed"
    OPEN = "open"


class _Event(StrEnum):
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    PERIOD_ENDED = "period_ended"


_NEXT: Final[dict[tuple[GatewayState, _Event], GatewayState]] = {
    (GatewayState.FRESH, _Event.CONNECTED): GatewayState.OPEN,
    (GatewayState.RESUMED, _Event.CONNECTED): GatewayState.OPEN,
    (GatewayState.OPEN, _Event.PERIOD_ENDED): GatewayState.OPEN,
    (GatewayState.OPEN, _Event.DISCONNECTED): GatewayState.RESUMED,
}


@dataclass
class _Pending:
    """An accepted link that too few other units have signed over yet."""

    unit: str
    round: int
    witnesses: set[str] = field(default_factory=set)


class LineGateway:
    """The gateway's machine for one line. `now` is monotonic seconds, `wall_ms` milliseconds since 1970.

    `stored_grant` is the `next_grant` of the last `Persist` that was carried out for this line, None at the very
    first start. `witness_count` comes from the deployment policy. `quarantined` are the units against which a
    proof of equivocation is stored: they are not listened to. `recent` are the stored links of the newest rounds, which
    what a unit signs later may contradict. Raises ConfigError when roster, signer, line and stored grant do not belong
    together.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        line: str,
        signer: Signer,
        opener: Opener,
        limits: LineLimits,
        witness_count: int,
        stored_grant: bytes | None = None,
        quarantined: frozenset[str] = frozenset(),
        recent: Iterable[bytes] = (),
    ) -> None:
        if line not in roster.lines or signer.key_id != roster.gateway.gateway:
            raise ConfigError(
                f"{signer.key_id} is not the gateway of line {line} on the roster (epoch {roster.epoch}).",
                next_step="Give the gateway the key and the roster of its own room.",
            )
        self._roster = roster
        self._line = line
        self._signer = signer
        self._opener = opener
        self._limits = limits
        self._witness_count = witness_count
        self._verifier = Verifier(roster, line, limits)
        self._evidence = Evidence(limits.rounds_in_memory)
        self._alerts = AlertGate(line)
        self._quarantined: set[str] = set(quarantined)
        self._units = tuple(unit.unit for unit in roster.units_of(line))
        self._missed = dict.fromkeys(self._units, 0)
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()
        self._closes_at = 0.0
        self._just_connected = False
        self._round: OpenRound | None = None
        self._state = GatewayState.FRESH
        if stored_grant is not None:
            self._round = OpenRound(_own_grant(stored_grant, roster, line), quarantined=self._quarantined)
            self._state = GatewayState.RESUMED
        self._remember(recent)

    def _remember(self, recent: Iterable[bytes]) -> None:
        """A link of an older epoch, or of a unit that was revoked since, can no longer be held against anyone here."""
        for raw in recent:
            with suppress(RemoteMessageError):
                self._evidence.add(self._verifier.link(raw))

    @property
    def state(self) -> GatewayState:
        """Where the gateway stands."""
        return self._state

    @property
    def round(self) -> int:
        """The open round; 0 before the first."""
        return self._round.grant.body.round if self._round else 0

    @property
    def head(self) -> bytes:
        """Digest of the newest accepted object."""
        return self._round.head if self._round else NO_PREVIOUS

    @property
    def order(self) -> tuple[str, ...]:
        """Units in the order that the open grant prefers: the first has the right to open the round."""
        return self._round.grant.body.order if self._round else ()

    @property
    def signed_units(self) -> tuple[str, ...]:
        """Units whose links of the open round are accepted, in the order of the chain."""
        return tuple(self._round.links) if self._round else ()

    @property
    def live_units(self) -> tuple[str, ...]:
        """Units that signed lately, in desk order."""
        return tuple(unit for unit in self._units if self._is_live(unit))

    # --- events --------------------------------------------------------------------------------------------------

    def connected(self, now: float, wall_ms: int) -> list[Action]:
        """The broker is there: open the first round, or publish the open grant again."""
        if self._state is GatewayState.OPEN:
            return []
        self._step(_Event.CONNECTED)
        self._just_connected = True
        self._closes_at = now + self._limits.round_period_ms / 1_000
        if self._round is None or self._round.grant.body.epoch != self._roster.epoch:
            return self._open_next(now, wall_ms)
        return [self._publish(self._round.grant.raw)]

    def disconnected(self, now: float) -> list[Action]:
        """The broker is gone; the round waits."""
        if self._state is GatewayState.OPEN:
            self._step(_Event.DISCONNECTED)
        return []

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> list[Action]:
        """A message of the line arrived. Never raises for what a peer sent."""
        parts = topics.parse_line_topic(topic)
        if parts is None or parts.kind is not TopicKind.LINK or self._round is None:
            return []
        if (parts.room, parts.line) != (self._roster.room, self._line):
            return []
        try:
            return self._take_link(self._verifier.link(payload), self._round, now, wall_ms)
        except RemoteMessageError as error:
            if error.verdict is Verdict.REPLAYED and self._just_connected:
                return []
            return list(self._alerts.refusal(error, peer=parts.unit))

    def tick(self, now: float, wall_ms: int) -> list[Action]:
        """Time went by; call it at `next_deadline` at the latest."""
        if self._state is not GatewayState.OPEN or now < self._closes_at:
            return []
        self._step(_Event.PERIOD_ENDED)
        self._just_connected = False
        period = self._limits.round_period_ms / 1_000
        self._closes_at = max(self._closes_at + period, now + period / 2)
        absent = self._count_absent()
        return [*self._open_next(now, wall_ms), *absent]

    def next_deadline(self) -> float | None:
        """When the open round ends, in monotonic seconds; None while the broker is away."""
        return self._closes_at if self._state is GatewayState.OPEN else None

    # --- rounds --------------------------------------------------------------------------------------------------

    def _open_next(self, now: float, wall_ms: int) -> list[Action]:
        """Close the open round, if there is one, and open the next: persist both, then publish."""
        before = self._round
        number = self.round + 1
        grant = Grant(
            room=self._roster.room,
            line=self._line,
            epoch=self._roster.epoch,
            round=number,
            order=self._order(number),
            accepted=dict(before.accepted) if before else {},
            prev=self.head,
            gateway_ms=wall_ms,
            deadline_ms=self._limits.round_deadline_ms,
        )
        raw = sign_grant(grant, self._signer)
        closed = None
        if before is not None:
            body = before.grant.body
            links = tuple(link.raw for link in before.links.values())
            closed = ClosedRound(body.round, body.epoch, before.grant.raw, links)
        self._round = OpenRound(SignedGrant(grant, raw, digest(raw)), quarantined=self._quarantined)
        self._alerts.next_round()
        self._evidence.forget_before(number)
        for old in [link for link, at in self._pending.items() if at.round <= number - self._limits.rounds_in_memory]:
            del self._pending[old]
        return [Persist(self._line, closed, raw), self._publish(raw)]

    def _publish(self, raw: bytes) -> Publish:
        return Publish(topics.grant(self._roster.room, self._line), raw, retain=True)

    def _order(self, number: int) -> tuple[str, ...]:
        """Live units in desk order, rotated by one each round."""
        live = [unit for unit in self._units if self._is_live(unit) and unit not in self._quarantined]
        start = number % len(live) if live else 0
        return tuple(live[start:] + live[:start])

    def _is_live(self, unit: str) -> bool:
        return self._missed[unit] < self._limits.absent_after_rounds

    def _count_absent(self) -> list[Action]:
        actions: list[Action] = []
        signed = self._round.links.keys() if self._round else set()
        for unit in self._units:
            self._missed[unit] = 0 if unit in signed else self._missed[unit] + 1
            if self._missed[unit] == self._limits.absent_after_rounds:
                actions += self._alerts.alert(
                    Notice.UNIT_ABSENT, unit, f"{unit} has not signed for {self._missed[unit]} rounds."
                )
        return actions

    # --- links ---------------------------------------------------------------------------------------------------

    def _take_link(self, link: SignedLink, view: OpenRound, now: float, wall_ms: int) -> list[Action]:
        unit = link.body.unit
        if link.digest in view.objects:
            return []
        if self._evidence.seen(link.digest):
            raise RemoteMessageError(
                Verdict.REPLAYED, f"The link for round {link.body.round} was sent a second time.", peer=unit
            )
        if unit in self._quarantined:
            raise RemoteMessageError(Verdict.QUARANTINED, f"{unit} equivocated.", peer=unit)
        if not 0 <= view.grant.body.round - link.body.round <= self._limits.rounds_in_memory:
            step_6_round(link, view)
        proof = self._evidence.add(link)
        if proof is not None:
            self._quarantined.add(unit)
            text = f"{unit} signed two things that exclude each other."
            return list(self._alerts.alert(Verdict.EQUIVOCATION, unit, text, proof))
        returned = self._note_life(link)
        try:
            follow_link(link, view, self._limits, self._roster.suite)
        except RemoteMessageError as error:
            view.remember(link)
            if error.verdict is Verdict.LOST_RACE:
                return list(returned)
            return [*returned, *self._alerts.refusal(error, peer=unit)]
        before = view.accepted.get(unit, NOTHING_ACCEPTED)
        view.extend(link)
        return [*returned, *self._gaps(link.body, before), *self._open(link, now, wall_ms), *self._witness(link)]

    def _note_life(self, link: SignedLink) -> list[Action]:
        """An authentic link of the newest rounds shows that its unit lives, even if it came too late."""
        unit = link.body.unit
        if abs(link.body.round - self.round) > 1:
            return []
        was_live = self._is_live(unit)
        self._missed[unit] = 0
        return [] if was_live else list(self._alerts.alert(Notice.UNIT_RETURNED, unit, f"{unit} signs again."))

    def _gaps(self, link: Link, before: Accepted) -> list[Action]:
        """Numbers that were passed over: the unit's outbox lost them, they will never come."""
        gaps: list[Action] = []
        session, sequence = before.entry_session, before.sequence
        for entry in link.entries:
            first = sequence + 1 if entry.session == session else 1
            if entry.sequence > first:
                gaps.append(Gap(self._line, link.unit, entry.session, first, entry.sequence - 1))
            session, sequence = entry.session, entry.sequence
        return gaps

    def _open(self, link: SignedLink, now: float, wall_ms: int) -> list[Action]:
        """Step 10 for each entry. A bad entry is reported and passed over: it must not stop those behind it."""
        actions: list[Action] = []
        for entry in link.body.entries:
            try:
                actions += self._open_entry(link, entry, now, wall_ms)
            except RemoteMessageError as error:
                actions += self._alerts.refusal(error, peer=link.body.unit)
        return actions

    def _open_entry(self, link: SignedLink, entry: Entry, now: float, wall_ms: int) -> list[Action]:
        body = link.body
        label = step_10_open(self._opener, body, entry)
        plausible = step_10_time(label, wall_ms, self._limits)
        delivered = Deliver(
            line=self._line,
            unit=body.unit,
            session=entry.session,
            sequence=entry.sequence,
            label=label,
            epoch=body.epoch,
            round=body.round,
            link=link.digest,
            arrived=now,
            arrived_wall_ms=wall_ms,
            time_plausible=plausible,
        )
        if plausible:
            return [delivered]
        text = f"A label of {body.unit} claims a time that cannot be; its number decides its place."
        return [delivered, *self._alerts.alert(Verdict.IMPLAUSIBLE_TIME, body.unit, text)]

    def _witness(self, link: SignedLink) -> list[Action]:
        """Signing `prev` witnesses every link before it; units count once each, and never for themselves."""
        unit = link.body.unit
        actions: list[Action] = []
        for name, pending in list(self._pending.items()):
            if unit == pending.unit or unit in pending.witnesses:
                continue
            pending.witnesses.add(unit)
            enough = len(pending.witnesses) >= self._witness_count
            actions.append(Witnessed(self._line, pending.unit, pending.round, name, len(pending.witnesses), enough))
            if enough:
                del self._pending[name]
        self._pending[link.digest] = _Pending(unit, link.body.round)
        return actions

    def _step(self, event: _Event) -> None:
        self._state = _NEXT[self._state, event]


def _own_grant(raw: bytes, roster: Roster, line: str) -> SignedGrant:
    """The gateway's own stored grant; it may be of an older epoch than the roster in force."""
    try:
        body, _ = step_2_grant(raw)
    except RemoteMessageError as error:
        raise ConfigError(
            f"line {line}: the stored grant cannot be read ({error.what})",
            next_step="The gateway's state is damaged: restore it, or begin the line anew under a new epoch.",
        ) from error
    if (body.room, body.line) != (roster.room, line) or body.epoch > roster.epoch:
        raise ConfigError(
            f"line {line}: the stored grant is of {body.room}/{body.line}, epoch {body.epoch}.",
            next_step="Give the gateway its own state folder and the newest roster.",
        )
    return SignedGrant(body, raw, digest(raw))
