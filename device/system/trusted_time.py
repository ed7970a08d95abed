"""The latest time that this box has good reason to believe has come: a floor that outlives the power.

A box without a battery-backed clock wakes up in 1970. What it then still knows is that no time before the floor can be
now. The floor is raised by a clock that NTP has set and by the gateway's verified grants, and never lowered. A grant is
believed only within bounds around what this box knew when the program started, so that a gateway that lies can move it
neither back nor, by many small steps, far ahead.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Final

import msgspec

from device.clock import Clock, TimeSource
from device.errors import StorageError
from device.system.storage import DISK, Disk, read_record, write_record

LOG: Final = logging.getLogger(__name__)

TIME_FILE: Final = "time.json"
"""Its name in a box's state folder."""
DAY_MS: Final = 86_400_000
#: How far beyond what was known at the start a grant may reach: a summer, and a year on a shelf.
AHEAD_MS: Final = 400 * DAY_MS
#: How far before it a grant may lie: clocks of honest machines differ.
BEHIND_MS: Final = 3_600_000
#: The file is written at most so often: a day, and a little more than the day by which certificates are backdated, so
#: that a box that was enrolled just now does not write at once what its certificate says anyhow.
WRITTEN_EVERY_MS: Final = DAY_MS + 3_600_000


class _TimeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    floor_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class TrustedTime:
    """The floor, in milliseconds since 1970, and what may raise it.

    `known_ms` is a time that has surely come, known from elsewhere, such as the beginning of a certificate that this
    box holds; a missing or damaged file means this one. Nothing here raises: a disk that refuses is told once.
    """

    def __init__(self, path: Path, clock: Clock, *, known_ms: int = 0, disk: Disk = DISK) -> None:
        self._path = path
        self._clock = clock
        self._disk = disk
        self._floor_ms = self._known_ms = self._tried_ms = max(_read(path), known_ms)
        self._known_at = clock.monotonic()
        self._refused = False
        self._granted: tuple[int, float] | None = None

    @property
    def floor_ms(self) -> int:
        """No time before this one can be now."""
        return self._floor_ms

    def floor_for_tls(self) -> int | None:
        """The time before which a peer's certificate must not have ended while the clock is not set; else None: then
        the clock itself judges."""
        return self._floor_ms if self._clock.time_source() is TimeSource.UNSET else None

    def now_ms(self) -> int | None:
        """The time now, in milliseconds since 1970: of a clock that is set, else of the newest grant that was believed
        and what has gone by since; None before the first."""
        if self._clock.time_source() is not TimeSource.UNSET:
            return self._clock.wall_ms()
        if self._granted is None:
            return None
        wall_ms, at = self._granted
        return wall_ms + round((self._clock.monotonic() - at) * 1_000)

    def note(self, wall_ms: int, source: TimeSource, *, at_once: bool = False) -> bool:
        """Take in a time from a verified grant or a clock set by NTP; False when it is not believed.

        The file follows at most once in `WRITTEN_EVERY_MS`, or `at_once` when asked for: after enrolment and renewal.
        """
        if source is TimeSource.UNSET or (source is TimeSource.GATEWAY and not self._is_believable(wall_ms)):
            return False
        if source is TimeSource.GATEWAY:
            self._granted = wall_ms, self._clock.monotonic()
        self._floor_ms = max(self._floor_ms, wall_ms)
        if source is TimeSource.NTP and wall_ms > self._known_ms:
            self._known_ms, self._known_at = wall_ms, self._clock.monotonic()
        if self._floor_ms - self._tried_ms >= (1 if at_once else WRITTEN_EVERY_MS):
            self._write()
        return True

    def _is_believable(self, wall_ms: int) -> bool:
        elapsed_ms = round((self._clock.monotonic() - self._known_at) * 1_000)
        believable = self._known_ms - BEHIND_MS <= wall_ms <= self._known_ms + elapsed_ms + AHEAD_MS
        if not believable and not self._refused:
            LOG.error(
                "The gateway says that it is %d ms since 1970; this box knew %d when it started. That time is not"
                " believed. Set the gateway's clock; if it is right, enrol this box anew.",
                wall_ms,
                self._known_ms,
            )
        self._refused = not believable
        return believable

    def _write(self) -> None:
        """Another program of this box may have written meanwhile; what is later stays."""
        self._floor_ms = max(self._floor_ms, _read(self._path))
        self._tried_ms = self._floor_ms
        try:
            write_record(self._path, _TimeRecord(floor_ms=self._floor_ms), disk=self._disk)
        except StorageError as error:
            LOG.error("What time it is cannot be kept for the next start. %s", error)


def _read(path: Path) -> int:
    """The stored floor; 0 when there is none."""
    if not path.exists():
        return 0
    try:
        return read_record(path, _TimeRecord, limit=4_096).floor_ms
    except StorageError as error:
        LOG.warning("The last known time is lost; it is learnt anew. %s", error)
        return 0
