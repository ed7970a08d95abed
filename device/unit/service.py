"""The desk program's loop: one thread, events in, actions out.

It phase-locks to the line: a grant asks for a decision at once (`Infer`); without grants the unit decides on its own
clock and its outbox fills. Nothing a peer sends can stop it, nor a disk that refuses what the outbox spills; what its
configuration does wrong does. What does end the loop, beside a stop, is a newer roster: the program builds itself anew
under it, or refuses to, as at any start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from device.clock import Clock, TimeSource
from device.errors import ConfigError, RemoteMessageError, StorageError, TransportError
from device.inference.decision import Decision
from device.line.actions import Action, Alert, Infer, Notice, Publish
from device.line.unit import LineUnit, UnitState
from device.messages.label import PERMILLE, Label, LabelState
from device.publish.ports import Connected, Disconnected, Event, Link, Received, Refused
from device.publish.spill import Spill
from device.system.systemd import ServiceNotifier
from device.system.trusted_time import TrustedTime
from device.trust import TrustChange, line_in
from device.unit.presence import Presence
from device.unit.proofs import ProofFolder
from device.unit.status import ENROL_ANEW, REVOKED, RUNNING, UnitStatus, status_payload

LOG: Final = logging.getLogger(__name__)
#: How often the senses are drained between ticks, in seconds.
PUMP_S: Final = 0.05
#: Without a grant for this many periods the unit ticks by itself.
OWN_TICK_PERIODS: Final = 1.5
#: A bundle that disk or policy did not let us take is tried again after so long, in seconds.
BUNDLE_AGAIN_S: Final = 60.0
#: At a stop so many periods are left to the gateway to cover the last labels; what it has not covered then is spilled.
LAST_PERIODS: Final = 2


class Senses(Protocol):
    """What the service asks of the pipeline (device/unit/pipeline.py)."""

    def start(self) -> None:
        """Open the sources."""
        ...

    def pump(self) -> None:
        """Drain the sources."""
        ...

    def tick(self, now: float) -> Decision | Presence | None:
        """Decide about the window that ends now; None when nothing may be captured."""
        ...

    @property
    def window_end(self) -> float:
        """Monotonic second at which the newest sound or picture of the last tick was captured."""
        ...

    def sense_states(self) -> dict[str, str]:
        """State of `microphone` and `camera`: ok, off, or a reason of CaptureReason."""
        ...

    def stop(self) -> None:
        """Close the sources."""
        ...


class Newer(Protocol):
    """What the service asks of `device.trust.TrustStore`."""

    def offer(self, bundle_raw: bytes) -> TrustChange | None:
        """Verify a trust bundle and keep it when it is newer. Raises RemoteMessageError, ConfigError, StorageError."""
        ...


class Ending(StrEnum):
    """Why the loop ended."""

    STOPPED = "stopped"
    NEWER_ROSTER = "newer_roster"


@dataclass(frozen=True)
class Identity:
    """Who and where this unit is, with which public key (32 bytes), and which bundle it runs."""

    room: str
    line: str
    unit: str
    session: int
    bundle: str
    policy: str
    key: bytes


class UnitService:
    """Runs one unit until told to stop."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock,
        senses: Senses | None,
        machine: LineUnit,
        spill: Spill,
        link: Link,
        status_topic: str,
        trust_topic: str,
        trust: Newer,
        time: TrustedTime,
        notifier: ServiceNotifier,
        period_s: float,
        resting: Mapping[str, str] = MappingProxyType({"microphone": "ok", "camera": "ok"}),
        on_tick: Callable[[int], None] | None = None,
        proofs: ProofFolder | None = None,
    ) -> None:
        """`senses` is None when the unit is muted: then nothing is captured, the sealed labels say so, and the public
        status shows `resting` for the senses, as of a unit without a fault. `proofs` keeps what the unit finds against
        others. `time` says which of the gateway's times can be believed."""
        self._identity = identity
        self._clock = clock
        self._senses = senses
        self._resting = resting
        self._machine = machine
        self._spill = spill
        self._link = link
        self._status_topic = status_topic
        self._trust_topic = trust_topic
        self._trust = trust
        self._time = time
        self._notifier = notifier
        self._period_s = period_s
        self._on_tick = on_tick
        self._proofs = proofs
        self._process = RUNNING
        now = clock.monotonic()
        self._next_pump = now
        self._next_own_tick = now + period_s
        self._status: UnitStatus | None = None
        self._line_state = "away"
        self._away_because = ""
        self._gateway_offset_ms: float | None = None
        self._stopping = False
        self._newer: TrustChange | None = None
        self._postponed = b""
        self._postponed_until = 0.0
        self._refused = ""
        self._told = ""

    def run(self, stop: threading.Event) -> Ending:
        """Until `stop` is set or a newer roster is taken; leaves everything closed.

        Raises CaptureError only when no sense at all can be opened at the start.
        """
        if self._senses is not None:
            self._senses.start()
        self._link.start()
        self._notifier.ready()
        try:
            while not stop.is_set() and self._newer is None:
                self.step()
            # Under a newer roster the gateway covers nothing of before: what waits comes again in the next session.
            if self._newer is None:
                self._await_last_grant()
        finally:
            if self._newer is None:
                self._notifier.stopping()
            self._keep_safe(self._spill.flush)
            self._say_status(process=REVOKED if self._process == REVOKED else "stopped")
            self._link.stop()
            if self._senses is not None:
                self._senses.stop()
        return Ending.STOPPED if self._newer is None else Ending.NEWER_ROSTER

    def step(self) -> None:
        """One turn of the loop: wait for an event or a deadline, then do what is due."""
        now = self._clock.monotonic()
        deadline = self._machine.next_deadline()
        due = min(self._next_pump, self._next_own_tick, now + 1.0 if deadline is None else deadline)
        event = self._link.next_event(max(due - now, 0.0))
        if event is not None:
            self._handle(event)
        if self._postponed and self._clock.monotonic() >= self._postponed_until:
            self._take_bundle(self._postponed)
        if self._newer is not None:
            return
        now = self._clock.monotonic()
        if now >= self._next_pump:
            if self._senses is not None:
                self._senses.pump()
            self._next_pump = now + PUMP_S
        self._carry_out(self._machine.tick(now))
        if now >= self._next_own_tick:
            self._decide(granted=False)
        self._keep_safe(self._spill.turn)

    def _await_last_grant(self) -> None:
        """Make no more labels, and give the gateway a moment to cover those that it has."""
        self._stopping = True
        ends = self._clock.monotonic() + LAST_PERIODS * self._period_s
        while self._machine.backlog and self._link.connected and self._clock.monotonic() < ends:
            self.step()

    def _keep_safe(self, spill: Callable[[float], None]) -> None:
        # A unit that met its double writes nothing more: what it made may exist twice. Nor does one that was put out.
        if self._machine.state not in (UnitState.LEAVING, UnitState.STOPPED) and self._process != REVOKED:
            spill(self._clock.monotonic())

    def _handle(self, event: Event) -> None:
        now = self._clock.monotonic()
        match event:
            case Connected():
                self._line_state, self._away_because = "connected", ""
                self._status = None
                self._say_status()
                self._carry_out(self._machine.connected(now))
            case Disconnected(reason):
                if reason != self._away_because:
                    LOG.warning("The line is away: %s", reason)
                self._line_state, self._away_because = "away", reason
                self._carry_out(self._machine.disconnected(now))
            case Refused(what, reason):
                LOG.error("The broker refused %s: %s. Is this unit on the room's access list?", what, reason)
            case Received(topic, payload, _) if topic == self._trust_topic:
                self._take_bundle(payload)
            case Received(topic, payload, _):
                self._carry_out(self._machine.received(topic, payload, now))

    def _take_bundle(self, bundle: bytes) -> None:
        self._postponed = b""
        try:
            self._newer = self._trust.offer(bundle)
        except (RemoteMessageError, ConfigError, StorageError) as error:
            if not isinstance(error, RemoteMessageError):
                self._postponed, self._postponed_until = bundle, self._clock.monotonic() + BUNDLE_AGAIN_S
            if error.what != self._refused:
                LOG.error("A trust bundle was not taken; the roster that stood stands. %s", error)
            self._refused = error.what
            return
        if self._newer is None:
            return
        roster, identity = self._newer.trusted.roster, self._identity
        line = line_in(roster, identity.unit, identity.key)
        if line is None:
            self._process = REVOKED
            LOG.error("The roster of epoch %d does not let this unit speak any more. It signs nothing.", roster.epoch)
        else:
            where = "" if line == identity.line else f", and this unit moves to line {line}"
            LOG.info(
                "The roster of epoch %d takes the place of epoch %d%s.", roster.epoch, self._newer.from_epoch, where
            )

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Publish(topic, payload, qos, retain):
                    try:
                        self._link.publish(topic, payload, qos=qos, retain=retain)
                    except TransportError as error:
                        LOG.info("%s", error)
                case Infer(_, gateway_ms):
                    if self._time.note(gateway_ms, TimeSource.GATEWAY):
                        self._gateway_offset_ms = gateway_ms - self._clock.monotonic() * 1000
                    self._decide(granted=True)
                case Alert():
                    self._tell(action)
                case _:
                    raise AssertionError(f"a unit's line asked for {type(action).__name__}")

    def _tell(self, alert: Alert) -> None:
        kept = self._proofs.keep(alert.proof) if self._proofs is not None else None
        where = f" The proof is kept in {kept}." if kept is not None else ""
        LOG.warning("%s from %s: %s%s", alert.code.value, alert.peer or "unknown", alert.text, where)
        if alert.code is Notice.ENROL_ANEW:
            self._process = ENROL_ANEW
            self._say_status()

    def _decide(self, *, granted: bool) -> None:
        now = self._clock.monotonic()
        self._next_own_tick = now + self._period_s * (OWN_TICK_PERIODS if granted else 1.0)
        if self._stopping:
            return
        if self._clock.time_source() is TimeSource.NTP:
            self._time.note(self._clock.wall_ms(), TimeSource.NTP)
        label = self._muted_label(now) if self._senses is None else self._sensed_label(self._senses, now)
        if self._on_tick is not None:
            self._on_tick(label.window_end_ms)
        self._carry_out(self._machine.label(label, self._clock.monotonic()))
        LOG.debug("Labels up to %s made, %d wait", self._spill.outbox.newest, self._machine.backlog)
        self._notifier.progressed()
        self._say_status()
        self._tell_service_manager()

    def _sensed_label(self, senses: Senses, now: float) -> Label:
        senses.pump()
        decision = senses.tick(now)
        if decision is None:
            return self._muted_label(now)
        wall_ms, source = self._time_at(senses.window_end)
        if isinstance(decision, Presence):
            return Label(
                window_end_ms=wall_ms,
                time_source=source,
                state=LabelState.PRESENCE,
                speech=decision.speech,
                face=decision.face,
                level=decision.level,
            )
        given = decision.label is not None
        return Label(
            window_end_ms=wall_ms,
            time_source=source,
            state=LabelState.GIVEN if given else LabelState.ABSTAINED,
            emotion=decision.label,
            confidence=_permille(decision.confidence),
            share_speech=_permille(decision.share_speech),
            share_face=_permille(decision.share_face),
            speech=decision.speech,
            face=decision.face,
            abstain_reason=decision.reason,
            bundle=self._identity.bundle,
        )

    def _muted_label(self, now: float) -> Label:
        wall_ms, source = self._time_at(now)
        return Label(window_end_ms=wall_ms, time_source=source, state=LabelState.MUTED, bundle=self._identity.bundle)

    def _time_at(self, moment: float) -> tuple[int, TimeSource]:
        """A monotonic second as wall milliseconds: by our clock when it is set, else by the gateway's last grant."""
        source = self._clock.time_source()
        if source is TimeSource.UNSET and self._gateway_offset_ms is not None:
            return max(round(moment * 1000 + self._gateway_offset_ms), 0), TimeSource.GATEWAY
        return max(round(self._clock.wall_ms() - (self._clock.monotonic() - moment) * 1000), 0), source

    def _say_status(self, process: str = "") -> None:
        """Publish the retained status when it differs from the last one said."""
        senses = self._resting if self._senses is None else self._senses.sense_states()
        status = UnitStatus(
            unit=self._identity.unit,
            line=self._identity.line,
            session=self._identity.session,
            process=process or self._process,
            microphone=senses["microphone"],
            camera=senses["camera"],
            policy=self._identity.policy,
            model=self._identity.bundle,
        )
        if status == self._status or not self._link.connected:
            return
        try:
            self._link.publish(self._status_topic, status_payload(status), qos=1, retain=True)
        except TransportError as error:
            LOG.info("%s", error)
            return
        self._status = status

    def _tell_service_manager(self) -> None:
        senses = self._resting if self._senses is None else self._senses.sense_states()
        told = f"running, microphone {senses['microphone']}, camera {senses['camera']}, line {self._line_state}"
        if self._spill.failing:
            told += ", disk failing: labels that wait for the gateway are in memory only"
        if told != self._told:
            self._notifier.status(told)
            self._told = told


def _permille(share: float) -> int:
    return min(max(round(share * PERMILLE), 0), PERMILLE)
