"""The unit's side of the line: a machine without socket, thread or clock. Events in, actions out.

| state   | event                              | next    | what happens                                              |
| ------- | ---------------------------------- | ------- | --------------------------------------------------------- |
| OFFLINE | CONNECTED                          | IDLE    | waits for the retained grant                              |
| IDLE    | GRANT (round not signed yet)       | WAITING | outbox lets go of what is covered; `Infer`                |
| IDLE    | GRANT_AGAIN (round signed already) | SIGNED  | nothing: one link per session and round, ever             |
| WAITING | APPENDED                           | SIGNED  | `Publish` of our link                                     |
| WAITING | GRANT                              | WAITING | the round went by without us; as above                    |
| SIGNED  | GRANT                              | WAITING | as above                                                  |
| any     | DISCONNECTED                       | OFFLINE | labels go on filling the outbox                           |
| any     | DOUBLED (a later session of ours)  | LEAVING | `Alert`; no label is sealed or sent any more              |
| LEAVING | GRANT (that knows the later one)   | STOPPED | `Publish` of a testimony                                  |
| LEAVING | DISCONNECTED                       | LEAVING | waits for the next grant                                  |
| any     | ENROL_ANEW                         | STOPPED | `Alert`; signs nothing until the program starts again     |
| STOPPED | anything                           | STOPPED | nothing                                                   |

A testimony is a last, ordinary link, in a round in which this program has not signed. Two boxes that have one key would
otherwise often stop or go on without anybody holding two links that exclude each other: the testimony makes the
portable proof. A box that learns from a grant that it is a restored backup, before it has signed, makes none.

Rules for editing: a new state or event gets its row here and in `_NEXT`, nothing else changes `_state`; no row may
lead from SIGNED to WAITING without a grant for a higher round; whatever is published was made under `_state` WAITING,
but for the one testimony.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import Action, Infer, Notice, Publish
from device.line.evidence import Evidence
from device.line.notify import AlertGate
from device.line.ports import Outbox
from device.line.verify import OpenRound, SignedGrant, SignedLink, Verifier, follow_grant, follow_link, step_6_round
from device.messages import topics
from device.messages.envelope import Signer, digest
from device.messages.grant import NOTHING_ACCEPTED, Grant
from device.messages.label import Label
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.roster import Roster
from device.messages.sealing import Place, Sealer
from device.messages.topics import TopicKind

#: Grants that come faster than this share of the round period were queued somewhere: they are followed, but a decision
#: for each of them would give many labels for one moment.
_QUEUED_SHARE: Final = 4

#: For so many rounds the network may still bring a link that we signed before we started again.
_ECHO_ROUNDS: Final = 4


class UnitState(StrEnum):
    """Where the unit stands in the line's life."""

    OFFLINE = "offline"
    IDLE = "idle"
    WAITING = "waiting"
    SIGNED = "signed"
    LEAVING = "leaving"
    STOPPED = "stopped"


class _Event(StrEnum):
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    GRANT = "grant"
    GRANT_AGAIN = "grant_again"
    APPENDED = "appended"
    DOUBLED = "doubled"
    ENROL_ANEW = "enrol_anew"


_NEXT: Final[dict[tuple[UnitState, _Event], UnitState]] = {
    (UnitState.OFFLINE, _Event.CONNECTED): UnitState.IDLE,
    (UnitState.IDLE, _Event.GRANT): UnitState.WAITING,
    (UnitState.IDLE, _Event.GRANT_AGAIN): UnitState.SIGNED,
    (UnitState.WAITING, _Event.APPENDED): UnitState.SIGNED,
    (UnitState.WAITING, _Event.GRANT): UnitState.WAITING,
    (UnitState.SIGNED, _Event.GRANT): UnitState.WAITING,
    **{(state, _Event.DISCONNECTED): UnitState.OFFLINE for state in UnitState if state is not UnitState.STOPPED},
    **{(state, _Event.DOUBLED): UnitState.LEAVING for state in UnitState if state is not UnitState.STOPPED},
    (UnitState.LEAVING, _Event.DISCONNECTED): UnitState.LEAVING,
    (UnitState.LEAVING, _Event.GRANT): UnitState.STOPPED,
    **{(state, _Event.ENROL_ANEW): UnitState.STOPPED for state in UnitState},
}


class LineUnit:
    """One unit of a line. `now` is monotonic seconds everywhere.

    `session` must be durable and raised above every earlier one before this object is made. The unit seals and numbers
    each label itself; the outbox keeps them until a signed grant covers them. Raises ConfigError when the roster does
    not let this unit speak.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        line: str,
        session: int,
        signer: Signer,
        outbox: Outbox,
        limits: LineLimits,
    ) -> None:
        assert session > 0
        if not any(unit.unit == signer.key_id for unit in roster.units_of(line)):
            raise ConfigError(
                f"{signer.key_id} is not on the roster (epoch {roster.epoch}) of line {line}, or was revoked.",
                next_step="Enrol this unit (moodline-provision) and publish the new roster.",
            )
        self._roster = roster
        self._line = line
        self._session = session
        self._signer = signer
        self._outbox = outbox
        self._limits = limits
        self._verifier = Verifier(roster, line, limits)
        self._sealer = Sealer(roster.gateway.opening_key, roster.suite)
        self._evidence = Evidence(limits.rounds_in_memory)
        self._alerts = AlertGate(line)
        self._grants: dict[int, SignedGrant] = {}
        self._objects: dict[int, set[bytes]] = {}
        #: Units whose equivocation we saw. The gateway may not have heard it; as long as a grant names such a unit, its
        #: links are in the chain and we follow them, or ours would stand beside the chain round after round.
        self._quarantined: set[str] = set()
        self._state = UnitState.OFFLINE
        self._round: OpenRound | None = None
        self._opened_at = 0.0
        self._moved_at = 0.0
        self._sequence = 0
        self._own: SignedLink | None = None
        self._echoes: dict[int, bytes] = {}
        self._labelled = False
        self._labelled_at = 0.0
        self._too_late = False
        self._overflowing = False

    @property
    def state(self) -> UnitState:
        """Where the unit stands."""
        return self._state

    @property
    def round(self) -> int:
        """The newest round that a verified grant opened; 0 before the first."""
        return self._round.grant.body.round if self._round else 0

    @property
    def backlog(self) -> int:
        """Labels that no grant has covered yet."""
        return len(self._outbox)

    # --- events --------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> list[Action]:
        """The broker is there; the retained grant will come."""
        if self._state is UnitState.OFFLINE:
            self._step(_Event.CONNECTED)
        return []

    def disconnected(self, now: float) -> list[Action]:
        """The broker is gone."""
        if self._state is not UnitState.STOPPED:
            self._step(_Event.DISCONNECTED)
        return []

    def label(self, label: Label, now: float) -> list[Action]:
        """Seal a label, number it and keep it; append it at once if it is our turn. Also called for muted ones."""
        if self._state in (UnitState.LEAVING, UnitState.STOPPED):
            return []
        self._sequence += 1
        place = Place(self._roster.room, self._line, self._signer.key_id, self._session, self._sequence)
        dropped = self._outbox.push(Entry(self._session, self._sequence, self._sealer.seal(label, place)))
        self._labelled = True
        self._labelled_at = now
        actions: list[Action] = []
        if dropped and not self._overflowing:
            actions += self._alerts.alert(
                Notice.OUTBOX_OVERFLOW, self._signer.key_id, "The outbox is full; the oldest labels are lost."
            )
        self._overflowing = dropped > 0
        return actions + self._append_when_due(now)

    def received(self, topic: str, payload: bytes, now: float) -> list[Action]:
        """A message of the line arrived. Never raises for what a peer sent."""
        parts = topics.parse_line_topic(topic)
        if parts is None or (parts.room, parts.line) != (self._roster.room, self._line):
            return []
        if self._state in (UnitState.STOPPED, UnitState.OFFLINE):
            return []
        try:
            if parts.kind is TopicKind.GRANT:
                return self._take_grant(self._verifier.grant(payload), now)
            if parts.kind is TopicKind.LINK:
                return self._take_link(self._verifier.link(payload), now)
        except RemoteMessageError as error:
            if error.verdict is Verdict.REPLAYED and self._state is UnitState.IDLE:
                return []
            return list(self._alerts.refusal(error, peer=parts.unit))
        return []

    def tick(self, now: float) -> list[Action]:
        """Time went by; call it at `next_deadline` at the latest."""
        return self._append_when_due(now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, in monotonic seconds; None when only an event can move the unit."""
        return self._due()

    # --- grants --------------------------------------------------------------------------------------------------

    def _take_grant(self, grant: SignedGrant, now: float) -> list[Action]:
        newest = self._round.grant if self._round else None
        if newest is not None:
            if newest.digest == grant.digest:
                return self._same_grant(now)
            known = self._grants.get(grant.body.round)
            if known is not None and known.digest == grant.digest:
                return []
            try:
                follow_grant(grant, newest, self._grants)
            except RemoteMessageError as error:
                other = known if error.verdict is Verdict.GRANT_REWRITTEN else newest
                proof = (other.raw, grant.raw) if other and error.verdict is not Verdict.STALE_ROUND else ()
                return list(self._alerts.refusal(error, peer=self._roster.gateway.gateway, proof=proof))
        if self._state is UnitState.LEAVING:
            if grant.body.accepted.get(self._signer.key_id, NOTHING_ACCEPTED).session <= self._session:
                return []
            self._step(_Event.GRANT)
            return self._testimony_of_a_signer(grant)
        if self._is_copied(grant):
            self._step(_Event.ENROL_ANEW)
            copied = self._alerts.alert(
                Notice.ENROL_ANEW,
                self._signer.key_id,
                f"The gateway already knows session {self._session} or a later one of this unit, and they were not"
                " made here: the unit's storage was copied or restored. It signs nothing; enrol it anew.",
                (grant.raw,),
            )
            return [*copied, *self._testimony_of_a_signer(grant)]
        actions = self._unseen_head(grant)
        queued = newest is not None and now - self._opened_at < self._limits.round_period_ms / 1_000 / _QUEUED_SHARE
        self._open(grant, now)
        infer = [] if queued else [Infer(grant.body.round, grant.body.gateway_ms)]
        return [*actions, *infer, *self._append_when_due(now)]

    def _same_grant(self, now: float) -> list[Action]:
        if self._state is UnitState.IDLE:
            signed = self._own is not None and self._own.body.round == self.round
            self._step(_Event.GRANT_AGAIN if signed else _Event.GRANT)
            self._opened_at = self._moved_at = now
            self._too_late = False
        return self._append_when_due(now)

    def _is_copied(self, grant: SignedGrant) -> bool:
        """Whether the gateway accepted from our name what this program, in this session, did not make."""
        accepted = grant.body.accepted.get(self._signer.key_id)
        if accepted is None:
            return False
        if self._own is None:
            return accepted.session >= self._session
        return accepted.session > self._session or (
            accepted.entry_session == self._session and accepted.sequence > self._sequence
        )

    def _unseen_head(self, grant: SignedGrant) -> list[Action]:
        """Step 7 for grants: `prev` should be something we have seen, if we followed the round before."""
        before = self._objects.get(grant.body.round - 1)
        if before is None or any(grant.body.prev in objects for objects in self._objects.values()):
            return []
        return list(
            self._alerts.alert(
                Verdict.UNSEEN_HEAD,
                self._roster.gateway.gateway,
                f"Grant {grant.body.round} continues from an object that this unit has not seen.",
                (self._grants[grant.body.round - 1].raw, grant.raw),
            )
        )

    def _open(self, grant: SignedGrant, now: float) -> None:
        body = grant.body
        self._round = OpenRound(grant, quarantined=self._quarantined - set(body.order))
        self._opened_at = self._moved_at = now
        self._too_late = False
        self._labelled = False
        self._alerts.next_round()
        self._grants[body.round] = grant
        self._objects[body.round] = self._round.objects
        for old in [number for number in self._grants if number <= body.round - self._limits.rounds_in_memory]:
            del self._grants[old], self._objects[old]
            self._echoes.pop(old, None)
        self._evidence.forget_before(body.round)
        accepted = body.accepted.get(self._signer.key_id)
        if accepted is not None:
            self._outbox.acknowledge(accepted)
        self._step(_Event.GRANT)

    # --- links ---------------------------------------------------------------------------------------------------

    def _take_link(self, link: SignedLink, now: float) -> list[Action]:
        unit = link.body.unit
        if self._echoes.get(link.body.round) == link.digest:
            del self._echoes[link.body.round]
            return []
        if self._round is None or link.digest in self._round.objects:
            return []
        if self._evidence.seen(link.digest):
            raise RemoteMessageError(
                Verdict.REPLAYED, f"The link for round {link.body.round} was sent a second time.", peer=unit
            )
        if unit in self._round.quarantined:
            raise RemoteMessageError(Verdict.QUARANTINED, f"{unit} equivocated.", peer=unit)
        if not 0 <= self.round - link.body.round <= self._limits.rounds_in_memory:
            step_6_round(link, self._round)
        proof = self._evidence.add(link)
        if unit == self._signer.key_id:
            return self._own_name(link, proof)
        if proof is not None and unit not in self._quarantined:
            self._quarantined.add(unit)
            self._round.quarantined.add(unit)
            return list(self._alerts.alert(Verdict.EQUIVOCATION, unit, f"{unit} signed two things at once.", proof))
        try:
            follow_link(link, self._round, self._limits, self._roster.suite)
        except RemoteMessageError as error:
            self._round.remember(link)
            if error.verdict is Verdict.LOST_RACE:
                return []
            raise
        self._round.extend(link)
        self._moved_at = now
        return self._append_when_due(now)

    def _own_name(self, link: SignedLink, proof: tuple[bytes, bytes] | None) -> list[Action]:
        """A link in our name that this program did not make: a replay from an earlier start, or a second box."""
        if proof is None and (link.body.session < self._session or link.body.round < self.round):
            if self.round - link.body.round <= _ECHO_ROUNDS and link.body.session < self._session:
                return []
            raise RemoteMessageError(
                Verdict.REPLAYED, f"An old link of this unit (round {link.body.round}) came back.", peer=link.body.unit
            )
        waiting = self._state is UnitState.WAITING and self._round is not None
        here = (self._session, self.round) == (link.body.session, link.body.round)
        self._step(_Event.DOUBLED if link.body.session > self._session else _Event.ENROL_ANEW)
        second = self._alerts.alert(
            Notice.ENROL_ANEW,
            self._signer.key_id,
            f"A second box signs as this unit (session {link.body.session}, round {link.body.round}). This one"
            " stops signing; revoke the unit and enrol it anew.",
            proof or (link.raw,),
        )
        if not (waiting and here and self._round):
            return list(second)
        return [*second, self._published(self._sign(self._round.grant.body, self._round.head))]

    # --- our own link --------------------------------------------------------------------------------------------

    def _closes_at(self) -> float:
        deadline = self._round.grant.body.deadline_ms if self._round else 0
        return self._opened_at + deadline / 1_000

    def _due(self) -> float | None:
        """When we may append: our place behind the expected unit times the hop time-out, and not without the round's
        label unless the round is about to end. None when it is not for us to append any more.

        The time-out counts from our own label at the earliest: all units decide at once when the grant comes, so one
        that has not signed before we have even decided is not late."""
        if self._state is not UnitState.WAITING or self._round is None or self._too_late:
            return None
        hop = self._limits.hop_timeout_ms / 1_000
        since = max(self._moved_at, self._labelled_at) if self._labelled else self._moved_at
        turn = since + self._places_behind(self._round) * hop
        return turn if self._labelled else max(turn, self._closes_at() - 2 * hop)

    def _places_behind(self, view: OpenRound) -> int:
        """How many units that have not signed yet go before us.

        In the grant's order these are the units between the last signer and us, all around. A unit that the order does
        not name, because it was absent, comes after all of it; two such units may meet, and then one loses the race.
        """
        order = [unit for unit in view.grant.body.order if unit not in view.quarantined]
        if self._signer.key_id not in order:
            return sum(unit not in view.links for unit in order)
        signed = [unit for unit in view.links if unit in order]
        start = order.index(signed[-1]) + 1 if signed else 0
        ours = order.index(self._signer.key_id)
        between = (order[start:] + order[:start])[: (ours - start) % len(order)]
        return sum(unit not in view.links for unit in between)

    def _append_when_due(self, now: float) -> list[Action]:
        self._too_late = now >= self._closes_at()
        due = self._due()
        if due is None or now < due or self._round is None:
            return []
        own = self._sign(self._round.grant.body, self._round.head)
        self._own = own
        self._echoes[own.body.round] = own.digest
        self._evidence.add(own)
        self._round.extend(own)
        self._moved_at = now
        self._step(_Event.APPENDED)
        return [self._published(own)]

    def _testimony_of_a_signer(self, grant: SignedGrant) -> list[Action]:
        return [self._published(self._sign(grant.body, grant.digest))] if self._own is not None else []

    def _sign(self, grant: Grant, head: bytes) -> SignedLink:
        entries = self._outbox.pending(self._limits.entries_per_link)
        body = Link(
            room=grant.room,
            line=grant.line,
            epoch=grant.epoch,
            round=grant.round,
            unit=self._signer.key_id,
            session=self._session,
            entries=entries,
            prev=head,
            flags=self._flags(grant, more=len(self._outbox) > len(entries)),
        )
        raw = sign_link(body, self._signer)
        return SignedLink(body, raw, digest(raw))

    def _published(self, link: SignedLink) -> Publish:
        return Publish(topics.link(self._roster.room, self._line, link.body.unit), link.raw)

    def _flags(self, grant: Grant, *, more: bool) -> LinkFlag:
        known = grant.accepted.get(self._signer.key_id, NOTHING_ACCEPTED).session == self._session
        return (LinkFlag.MORE_BACKLOG if more else LinkFlag.NONE) | (LinkFlag.SESSION_KNOWN if known else LinkFlag.NONE)

    def _step(self, event: _Event) -> None:
        self._state = _NEXT[self._state, event]
