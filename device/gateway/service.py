"""The classroom program's loop: one thread, events in, actions out; the page runs on its own thread and only reads.

A newer roster ends the loop as a stop does: the program builds itself anew under it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from device.clock import Clock, TimeSource
from device.errors import ConfigError, StorageError, TransportError
from device.gateway.board import Board
from device.gateway.documents import GatewayStatusDocument, encode
from device.gateway.ingest import Ingest
from device.gateway.roll_out import left_places
from device.gateway.store import Store
from device.gateway.web.app import Health
from device.line.actions import Alert, Notice, Publish
from device.messages import topics
from device.messages.policy import DeploymentPolicy, Mode, check_in_force
from device.messages.roster import Roster
from device.publish.ports import Connected, Disconnected, Event, Link, Received, Refused
from device.system.trusted_time import TrustedTime
from device.trust import Trusted

LOG: Final = logging.getLogger(__name__)

#: Longest wait for an event, in seconds: how late a stop or a second's work can come.
IDLE_S: Final = 0.25
CHORES_S: Final = 1.0
RETENTION_S: Final = 3_600.0
#: When to try again if a reader kept the write-ahead log from being emptied.
SCRUB_AGAIN_S: Final = 60.0
DAY_MS: Final = 86_400_000


class Page(Protocol):
    """The served page."""

    address: str

    @property
    def serving(self) -> bool:
        """Whether it answers."""
        ...

    def start(self) -> None:
        """Begin to serve."""
        ...

    def stop(self) -> None:
        """End."""
        ...


class Notifier(Protocol):
    """The service manager (device/system/systemd.py)."""

    def ready(self) -> None:
        """The service does its work."""
        ...

    def progressed(self) -> None:
        """It is still doing it."""
        ...

    def status(self, text: str) -> None:
        """One line for people."""
        ...

    def stopping(self) -> None:
        """It has begun to stop."""
        ...


class Watch(Protocol):
    """Where a newer roster comes from (device/gateway/roll_out.py)."""

    def poll(self, *, at_once: bool = False) -> Trusted | None:
        """What to serve under from now on, None as long as nothing newer was found. Raises ConfigError."""
        ...


class Ending(StrEnum):
    """Why the loop ended."""

    STOPPED = "stopped"
    NEWER_ROSTER = "newer_roster"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this gateway is. `session` counts its starts; birth, status and last will carry it."""

    room: str
    gateway: str
    session: int
    version: str
    policy: DeploymentPolicy
    roster: Roster


def status_document(
    identity: Identity, *, online: bool, in_force: bool, ingest: Ingest | None
) -> GatewayStatusDocument:
    """The gateway's retained status; without `ingest` and not `online` it is the last will."""
    return GatewayStatusDocument(
        room=identity.room,
        gateway=identity.gateway,
        session=identity.session,
        state="online" if online else "offline",
        mode=identity.policy.mode.value,
        policy_in_force=in_force,
        storing=ingest is not None and ingest.storing,
        lines=ingest.lines() if ingest is not None else [],
        version=identity.version,
    )


class GatewayService:
    """Runs the room's gateway until told to stop."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock,
        link: Link,
        ingest: Ingest,
        store: Store,
        board: Board,
        page: Callable[[Callable[[], Health]], Page],
        notifier: Notifier,
        watch: Watch,
        time: TrustedTime,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._link = link
        self._ingest = ingest
        self._store = store
        self._board = board
        self._page = page(self.health)
        self._notifier = notifier
        self._watch = watch
        self._time = time
        self._newer: Trusted | None = None
        self._broker = "away"
        self._why_not: str | None = None
        self._said: GatewayStatusDocument | None = None
        self._told = ""
        self._chores_at = self._retention_at = clock.monotonic()
        self._moved_at = clock.monotonic()

    @property
    def address(self) -> str:
        """Where the page is, as a URL."""
        return self._page.address

    def run(self, stop: threading.Event, look: threading.Event | None = None) -> Ending:
        """Until `stop` is set or a newer roster is found; `look` asks to look for one at once.

        Raises ConfigError for unusable trust files; leaves everything closed.
        """
        look = look or threading.Event()
        self._do_chores(self._clock.monotonic(), self._clock.wall_ms())
        self._page.start()
        try:
            self._link.start()
            self._notifier.ready()
            while not stop.is_set() and self._newer is None:
                self.step()
                if look.is_set():
                    look.clear()
                    self._look_for_roster(at_once=True)
        finally:
            if self._newer is None:
                self._notifier.stopping()
            else:
                self._ingest.clear_labels(left_places(self._identity.roster, self._newer.roster))
            self._say_status(online=False)
            self._link.stop()
            self._page.stop()
            self._store.close()
        return Ending.STOPPED if self._newer is None else Ending.NEWER_ROSTER

    def step(self) -> None:
        """One turn: wait for an event or a deadline, then do what is due."""
        now = self._clock.monotonic()
        deadline = self._ingest.next_deadline() if self._why_not is None else None
        wait = IDLE_S if deadline is None else min(max(deadline - now, 0.0), IDLE_S)
        event = self._link.next_event(wait)
        now, wall_ms = self._clock.monotonic(), self._clock.wall_ms()
        if event is not None:
            self._handle(event, now, wall_ms)
        if self._why_not is None:
            self._ingest.tick(now, wall_ms)
        if now >= self._chores_at:
            self._chores_at = now + CHORES_S
            self._do_chores(now, wall_ms)
        self._moved_at = now

    def health(self) -> Health:
        """For /healthz; asked from the page's thread."""
        moving = self._clock.monotonic() - self._moved_at < 10 * CHORES_S
        checks = {
            "loop": "running" if moving else "stuck",
            "broker": self._broker,
            "storing": "yes" if self._ingest.storing else "no",
            "policy": "in force" if self._why_not is None else "not in force",
        }
        return Health(moving and self._broker == "connected" and self._ingest.storing, checks)

    def _handle(self, event: Event, now: float, wall_ms: int) -> None:
        match event:
            case Connected():
                LOG.info("The broker is there.")
                self._broker = "connected"
                self._said = None
                self._say_status(online=True)
                self._ingest.connected(now, wall_ms)
                self._show_room()
            case Disconnected(reason):
                if self._broker != "away":
                    LOG.warning("The broker is away: %s", reason)
                self._broker = "away"
                self._ingest.disconnected(now, wall_ms)
                self._show_room()
            case Refused(what, reason):
                LOG.error("The broker refused %s: %s. Is this gateway on the room's access list?", what, reason)
            case Received(topic, payload, _):
                if self._why_not is None:
                    self._ingest.received(topic, payload, now, wall_ms)

    def _look_for_roster(self, *, at_once: bool = False) -> None:
        try:
            self._newer = self._watch.poll(at_once=at_once)
        except ConfigError as error:
            LOG.error("What was put beside the roster that stands is not taken. %s", error)
            alert = Alert(Notice.ROSTER_REFUSED, self._identity.gateway, error.what)
            self._ingest.tell(alert, self._clock.monotonic(), self._clock.wall_ms())
            return
        if self._newer is not None:
            before, after = self._identity.roster.epoch, self._newer.roster.epoch
            LOG.info("Epoch %d of the roster takes the place of epoch %d.", after, before)

    def _do_chores(self, now: float, wall_ms: int) -> None:
        self._check_policy(wall_ms)
        if self._clock.time_source() is TimeSource.NTP:
            self._time.note(wall_ms, TimeSource.NTP)
        self._look_for_roster()
        if now >= self._retention_at:
            self._retention_at = now + RETENTION_S
            self._forget_old(wall_ms)
        if self._link.connected:
            self._say_status(online=True)
        self._show_room()
        if self._page.serving:
            self._notifier.progressed()
        self._tell_service_manager()

    def _tell_service_manager(self) -> None:
        lines = self._ingest.lines()
        live, all_desks = sum(len(line.live) for line in lines), sum(len(line.live + line.absent) for line in lines)
        text = f"broker {self._broker}, {live} of {all_desks} desks live" if self._why_not is None else self._why_not
        if text != self._told:
            self._notifier.status(text)
            self._told = text

    def _check_policy(self, wall_ms: int) -> None:
        """A clock that was never set stands in the past: then only the policy's end can be judged."""
        policy, why_not = self._identity.policy, None
        if policy.mode is Mode.OFF:
            why_not = "The room's policy keeps recognition off."
        elif self._clock.time_source() is not TimeSource.UNSET or wall_ms >= policy.not_before_ms:
            try:
                check_in_force(policy, wall_ms)
            except ConfigError as error:
                why_not = str(error)
        if why_not != self._why_not:
            LOG.warning("%s", why_not or "The policy is in force.")
        self._why_not = why_not

    def _forget_old(self, wall_ms: int) -> None:
        if self._why_not is not None:
            return
        try:
            gone = self._store.forget(wall_ms - self._identity.policy.retention_days * DAY_MS)
            if not self._store.scrub():
                self._retention_at = self._clock.monotonic() + SCRUB_AGAIN_S
        except StorageError as error:
            LOG.error("Retention: %s", error)
            return
        if gone:
            LOG.info("Retention: %d labels deleted, as the policy asks.", gone)

    def _say_status(self, *, online: bool) -> None:
        status = status_document(self._identity, online=online, in_force=self._why_not is None, ingest=self._ingest)
        # Rounds go by all the time; they alone are no news.
        quiet = _without_rounds(status)
        if quiet == self._said or not self._link.connected:
            return
        self._publish_status(status)
        self._said = quiet

    def _publish_status(self, status: GatewayStatusDocument) -> None:
        message = Publish(topics.gateway_status(self._identity.room), encode(status), qos=1, retain=True)
        try:
            self._link.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        except TransportError as error:
            LOG.info("%s", error)

    def _show_room(self) -> None:
        policy = self._identity.policy
        self._board.put(
            "room",
            {
                "room": self._identity.room,
                "gateway": self._identity.gateway,
                "version": self._identity.version,
                "mode": policy.mode.value,
                "broker": self._broker,
                "storing": self._ingest.storing,
                "policy": {
                    "in_force": self._why_not is None,
                    "why_not": self._why_not or "",
                    "purpose": policy.purpose.value,
                    "setting": policy.setting.value,
                    "jurisdiction": policy.jurisdiction,
                    "approved_by": policy.approved_by,
                    "retention_days": policy.retention_days,
                    "not_after_ms": policy.not_after_ms,
                },
            },
        )


def _without_rounds(status: GatewayStatusDocument) -> GatewayStatusDocument:
    lines = [msgspec.structs.replace(line, round=None) for line in status.lines]
    return msgspec.structs.replace(status, lines=lines)
