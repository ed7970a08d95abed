"""Keeps microphone and camera closed outside the capture schedule of the signed policy.

Closed means closed: the devices are released, and what was heard and seen before is forgotten. The unit then says
*muted* inside its sealed labels, so that from outside its desk looks like every other. A box that does not know what
time it is keeps its senses closed, unless the schedule is always open.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from device.errors import CaptureError, StorageError
from device.inference.decision import Decision
from device.messages.schedule import Schedule, ScheduleKind, Span, draw_sessions, in_session, is_open, local_day
from device.system.storage import DISK, Disk, read_record, write_record
from device.unit.presence import Presence
from device.unit.service import Senses

LOG: Final = logging.getLogger(__name__)
#: Its name in a unit's state folder.
SEED_FILE: Final = "sessions.json"
SEED_BYTES: Final = 16


class _SeedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    day: int
    seed: Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * SEED_BYTES}}}$")]


class DailySeed:
    """The secret from which this unit draws the sessions of a day.

    It stays the same for the day, also through a restart: a unit that is switched off and on gains no sessions. Written
    once a day; when the disk refuses it lives in memory, and nothing here raises.
    """

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        self._path = path
        self._disk = disk
        self._record = _read(path)

    def of(self, day: int) -> bytes:
        """The seed of a local day (days since 1970)."""
        if self._record is None or self._record.day != day:
            self._record = _SeedRecord(day=day, seed=secrets.token_hex(SEED_BYTES))
            try:
                write_record(self._path, self._record, disk=self._disk)
            except StorageError as error:
                LOG.error("A restart today would draw today's sessions anew. %s", error)
        return bytes.fromhex(self._record.seed)


def _read(path: Path) -> _SeedRecord | None:
    if not path.exists():
        return None
    try:
        return read_record(path, _SeedRecord, limit=4_096)
    except StorageError as error:
        LOG.warning("Today's sessions are drawn anew. %s", error)
        return None


class CaptureTimes:
    """When this unit may capture, by the policy's schedule and its own draw of the day."""

    def __init__(self, schedule: Schedule, seeds: DailySeed) -> None:
        self._schedule = schedule
        self._seeds = seeds
        self._day: int | None = None
        self._sessions: tuple[Span, ...] = ()

    def are_open(self, wall_ms: int | None) -> bool:
        """Whether it may capture at `wall_ms` (milliseconds since 1970); None stands for a time that is not known."""
        if self._schedule.kind is ScheduleKind.ALWAYS:
            return True
        if wall_ms is None or not is_open(self._schedule, wall_ms):
            return False
        return self._schedule.kind is ScheduleKind.HOURS or in_session(self._sessions_at(wall_ms), wall_ms)

    def _sessions_at(self, wall_ms: int) -> tuple[Span, ...]:
        day = local_day(self._schedule, wall_ms)
        if day != self._day:
            self._day = day
            self._sessions = draw_sessions(self._schedule, day, random.Random(self._seeds.of(day)))
        return self._sessions


class ScheduledSenses:
    """The `Senses` of a unit, open only when `times` allow it; `wall_ms` gives a time that can be trusted, or None."""

    def __init__(self, senses: Senses, times: CaptureTimes, wall_ms: Callable[[], int | None]) -> None:
        self._senses = senses
        self._times = times
        self._wall_ms = wall_ms
        self._open = False

    def start(self) -> None:
        """Open the sources if the schedule is open. Raises CaptureError when none can be opened."""
        if self._times.are_open(self._wall_ms()):
            self._senses.start()
            self._open = True
        else:
            LOG.info("The capture schedule is closed: microphone and camera stay closed.")

    def pump(self) -> None:
        """Open or close the sources as the schedule says, and drain the open ones."""
        if self._follow():
            self._senses.pump()

    def tick(self, now: float) -> Decision | Presence | None:
        """Decide about the window that ends now; None while the schedule is closed."""
        return self._senses.tick(now) if self._follow() else None

    @property
    def window_end(self) -> float:
        """Monotonic second at which the newest sound or picture of the last tick was captured."""
        return self._senses.window_end

    def sense_states(self) -> dict[str, str]:
        """What is known of the sources, open or closed: the public status does not tell the one from the other."""
        return self._senses.sense_states()

    def stop(self) -> None:
        """Close the sources."""
        self._open = False
        self._senses.stop()

    def _follow(self) -> bool:
        may = self._times.are_open(self._wall_ms())
        if may and not self._open:
            LOG.info("The capture schedule opens: microphone and camera are opened.")
            self._open = True
            try:
                self._senses.start()
            except CaptureError as error:  # each sense tries again by itself
                LOG.error("%s", error)
        elif self._open and not may:
            LOG.info("The capture schedule closes: microphone and camera are closed.")
            self._open = False
            self._senses.stop()
        return may
