"""The unit's outbox: bounded, first in first out, emptied only by signed grants; and what of it belongs on the disk.

A label that no grant has covered for `spill_after_s` seconds goes to the disk, with all that were made since: one
durable append for each so many seconds, and none as long as the gateway answers. What a power cut takes is what was
made since the last append. When grants have covered all that is on the disk, it is let go of at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from device.messages.grant import Accepted
from device.messages.link import Entry

#: The file may hold so many times the outbox's capacity, covered and dropped entries included, before it is made anew.
RECORDS_PER_PLACE: Final = 2


class BoundedOutbox:
    """Sealed labels in RAM, at most `capacity`. When full, the oldest goes and is counted in `dropped`: the gateway
    sees the hole in the sequence numbers and reports its bounds."""

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self.dropped = 0

    def push(self, entry: Entry) -> int:
        """Keep an entry, newer than all before. Returns 1 if the oldest had to go, else 0."""
        if self._entries:
            assert _number(entry) > _number(self._entries[-1]), "numbers run upwards"
        self._entries.append(entry)
        if len(self._entries) <= self._capacity:
            return 0
        self._entries.popleft()
        self.dropped += 1
        return 1

    def pending(self, limit: int) -> tuple[Entry, ...]:
        """The oldest entries, at most `limit`; they stay."""
        return tuple(islice(self._entries, limit))

    def acknowledge(self, accepted: Accepted) -> int:
        """Let go of every entry that is covered. Returns how many went."""
        gone = 0
        while self._entries and accepted.covers(self._entries[0].session, self._entries[0].sequence):
            self._entries.popleft()
            gone += 1
        return gone

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._entries)


@dataclass(frozen=True)
class Append:
    """Add these entries to those on the disk."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Replace:
    """Let these entries, or nothing, stand on the disk in place of what is there."""

    entries: tuple[Entry, ...]


SpillStep = Append | Replace


class SpillingOutbox(BoundedOutbox):
    """A bounded outbox that says what is to be written where its entries must outlive the power.

    Ask `spill_step` often, carry the step out, and answer with `spilled` or `spill_failed`. `restored` are entries that
    are on the disk already, oldest first; of more than `capacity` the newest are kept. All times are monotonic seconds.
    """

    def __init__(self, capacity: int, *, spill_after_s: float, restored: Sequence[Entry] = ()) -> None:
        super().__init__(capacity)
        self._after_s = spill_after_s
        for entry in restored:
            self.push(entry)
        self._on_disk = len(restored)
        self._newest_on_disk = _number(restored[-1]) if restored else (0, 0)
        #: (when, number): at that moment all entries up to that number were there.
        self._seen: deque[tuple[float, tuple[int, int]]] = deque()
        self._not_before = float("-inf")

    @property
    def newest(self) -> tuple[int, int] | None:
        """Session and sequence number of the newest entry; None when there is none."""
        return _number(self._entries[-1]) if self._entries else None

    def spill_step(self, now: float, *, at_once: bool = False) -> SpillStep | None:
        """What to write now, None when nothing is due. With `at_once` every entry that is not on the disk is due."""
        self._look(now)
        if now < self._not_before and not at_once:
            return None
        if self._on_disk and not self._holds_spilled():
            return Replace(())
        if not self._seen or (now - self._seen[0][0] < self._after_s and not at_once):
            return None
        fresh = tuple(self._not_on_disk())[::-1]
        if self._on_disk + len(fresh) > RECORDS_PER_PLACE * self._capacity:
            return Replace(tuple(self._entries))
        return Append(fresh)

    def spilled(self, step: SpillStep) -> None:
        """The step is durable."""
        self._on_disk = len(step.entries) + (self._on_disk if isinstance(step, Append) else 0)
        if step.entries:
            self._newest_on_disk = _number(step.entries[-1])

    def spill_failed(self, now: float) -> None:
        """The step could not be carried out; it comes again after a while, with what was made meanwhile."""
        self._not_before = now + self._after_s

    def _look(self, now: float) -> None:
        """Note when the newest entry was first there, and forget moments that no waiting entry needs."""
        newest = self.newest
        if newest is not None and newest > max(self._newest_on_disk, self._seen[-1][1] if self._seen else (0, 0)):
            self._seen.append((now, newest))
        oldest = _number(self._entries[0]) if self._entries else None
        while self._seen and (oldest is None or not max(oldest, self._after_disk()) <= self._seen[0][1]):
            self._seen.popleft()

    def _after_disk(self) -> tuple[int, int]:
        session, sequence = self._newest_on_disk
        return session, sequence + 1

    def _holds_spilled(self) -> bool:
        return bool(self._entries) and _number(self._entries[0]) <= self._newest_on_disk

    def _not_on_disk(self) -> Iterator[Entry]:
        """Newest first."""
        for entry in reversed(self._entries):
            if _number(entry) <= self._newest_on_disk:
                return
            yield entry


def _number(entry: Entry) -> tuple[int, int]:
    return entry.session, entry.sequence
