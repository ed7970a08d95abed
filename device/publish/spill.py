"""The outbox's file: sealed labels that no grant covered in time, so that they outlive a power cut.

A file of records, each `MAGIC`, length of the body (4 bytes), SHA-256 over place and body, and the body: session and
sequence number (8 bytes each), sealed label. A record that was torn by a power cut, damaged by the card, or written for
another place (room, line, unit, gateway key) fails its digest; reading goes on at the next record. The digest finds
accidents and copied files, no attacker: what an entry is worth, its seal and the gateway's signed grant decide.

Nothing here stops a unit. What cannot be written stays in RAM as before, and is said once.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.errors import StorageError
from device.messages.link import Entry
from device.messages.roster import Roster
from device.publish.outbox import RECORDS_PER_PLACE, Append, Replace, SpillingOutbox, SpillStep
from device.system.storage import DISK, Disk, append_durably, read, write_durably

LOG: Final = logging.getLogger(__name__)

MAGIC: Final = b"\xf5MLo"
_HEAD: Final = struct.Struct(">4sI32s")
_NUMBERS: Final = struct.Struct(">QQ")
#: Largest body that is read; a sealed label has 112 bytes, with the hybrid suite some 1,200.
BODY_BYTES: Final = 4_096


def place_digest(roster: Roster, line: str, unit: str) -> bytes:
    """Where entries belong: room, line, unit, and the suite and key of the gateway for which they were sealed."""
    place = f"moodline spill\0{roster.room}\0{line}\0{unit}\0{int(roster.suite)}\0".encode()
    return hashlib.sha256(place + roster.gateway.opening_key).digest()


def encode_record(entry: Entry, place: bytes) -> bytes:
    """One record."""
    body = _NUMBERS.pack(entry.session, entry.sequence) + entry.sealed
    return _HEAD.pack(MAGIC, len(body), hashlib.sha256(place + body).digest()) + body


@dataclass(frozen=True)
class Recovered:
    """What a spill file held. `damaged` bytes between or before readable records, `torn` bytes behind the last one."""

    entries: tuple[Entry, ...] = ()
    damaged: int = 0
    torn: int = 0


def decode_records(content: bytes, place: bytes) -> Recovered:
    """Everything readable, in the file's order; never raises, whatever the bytes."""
    entries: list[Entry] = []
    position = damaged = unreadable = 0
    while position < len(content):
        entry, end = _record_at(content, position, place)
        if entry is None:
            end = content.find(MAGIC, position + 1)
            end = len(content) if end < 0 else end
            unreadable += end - position
        else:
            entries.append(entry)
            damaged, unreadable = damaged + unreadable, 0
        position = end
    return Recovered(tuple(entries), damaged, unreadable)


def _record_at(content: bytes, position: int, place: bytes) -> tuple[Entry | None, int]:
    begins = position + _HEAD.size
    if begins > len(content):
        return None, position
    magic, length, digest = _HEAD.unpack_from(content, position)
    body = content[begins : begins + length]
    if magic != MAGIC or not _NUMBERS.size <= length <= BODY_BYTES or len(body) < length:
        return None, position
    if hashlib.sha256(place + body).digest() != digest:
        return None, position
    session, sequence = _NUMBERS.unpack_from(body)
    return Entry(session, sequence, body[_NUMBERS.size :]), begins + length


class Spill:
    """An outbox and its file. Call `turn` often; `failing` says whether the disk refuses at the moment."""

    def __init__(
        self,
        path: Path,
        place: bytes,
        *,
        session: int,
        capacity: int,
        spill_after_s: float,
        disk: Disk = DISK,
    ) -> None:
        """Bring back what earlier sessions left. Only entries of sessions below `session` come back: a later one shows
        that the session counter and this file are not of one time, and an entry above its link's session stops the
        line for this unit (step 9)."""
        self._path = path
        self._place = place
        self._disk = disk
        self._length = 0
        self.failing = False
        found, whole = self._recover(session, RECORDS_PER_PLACE * capacity * (_HEAD.size + BODY_BYTES))
        kept = found[-capacity:]
        self.outbox = SpillingOutbox(capacity, spill_after_s=spill_after_s, restored=kept)
        if kept:
            LOG.info("%d labels of earlier sessions wait for the gateway.", len(kept))
        if not whole or len(kept) < len(found):
            self._try(Replace(kept))

    def turn(self, now: float) -> None:
        """Write what is due at `now` (monotonic seconds). Never raises for the disk's faults."""
        step = self.outbox.spill_step(now)
        if step is not None:
            self._settle(step, now)

    def flush(self, now: float) -> None:
        """Before a stop: write everything that no grant has covered."""
        step = self.outbox.spill_step(now, at_once=True)
        if isinstance(step, Replace) and not step.entries:
            self._settle(step, now)
            step = self.outbox.spill_step(now, at_once=True)
        if step is not None:
            self._settle(step, now)

    def _settle(self, step: SpillStep, now: float) -> None:
        if self._try(step):
            self.outbox.spilled(step)
        else:
            self.outbox.spill_failed(now)

    def _try(self, step: SpillStep) -> bool:
        try:
            self._write(step)
        except StorageError as error:
            if not self.failing:
                LOG.error(
                    "Labels that wait for the gateway stay in memory only; a power cut would take them. %s", error
                )
            self.failing = True
            return False
        if self.failing:
            LOG.warning("%s can be written again.", self._path)
        self.failing = False
        return True

    def _write(self, step: SpillStep) -> None:
        content = b"".join(encode_record(entry, self._place) for entry in step.entries)
        if isinstance(step, Append) or not content:
            at = self._length if isinstance(step, Append) else 0
            append_durably(self._path, content, at=at, disk=self._disk)
            self._length = at + len(content)
        else:
            write_durably(self._path, content, disk=self._disk)
            self._length = len(content)

    def _recover(self, session: int, limit: int) -> tuple[tuple[Entry, ...], bool]:
        """The entries that may come back, and whether the file holds them and nothing else."""
        if not self._path.exists():
            return (), True
        try:
            content = read(self._path, limit=limit)
        except StorageError as error:
            LOG.error("Labels that waited for the gateway are lost: %s", error)
            return (), False
        found = decode_records(content, self._place)
        entries = _upwards(found.entries, session)
        self._length = len(content)
        self._tell(found, len(entries))
        return entries, not found.damaged and not found.torn and len(entries) == len(found.entries)

    def _tell(self, found: Recovered, kept: int) -> None:
        if found.damaged or (found.torn and not found.entries):
            LOG.error(
                "%s: %d bytes cannot be read; the %d labels around them are kept. They were damaged, or written for"
                " another box, line or gateway key. If it comes again, replace the card.",
                self._path,
                found.damaged + found.torn,
                len(found.entries),
            )
        elif found.torn:
            LOG.info("%s: the last %d bytes were being written when the power went; cut off.", self._path, found.torn)
        if kept < len(found.entries):
            LOG.error(
                "%s: %d labels are not of sessions before this one and are left out. Was this box's state folder put"
                " together from copies? Then enrol the unit anew.",
                self._path,
                len(found.entries) - kept,
            )


def _upwards(entries: Sequence[Entry], below: int) -> tuple[Entry, ...]:
    """Those of sessions from 1 to `below`, itself left out, whose numbers run upwards."""
    kept: list[Entry] = []
    last = (0, 0)
    for entry in entries:
        if last < (entry.session, entry.sequence) and entry.sequence > 0 and 0 < entry.session < below:
            kept.append(entry)
            last = entry.session, entry.sequence
    return tuple(kept)
