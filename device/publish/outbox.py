"""The unit's outbox: bounded, first in first out, emptied only by signed grants."""

from __future__ import annotations

from collections import deque
from itertools import islice

from device.messages.grant import Accepted
from device.messages.link import Entry


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
            newest = self._entries[-1]
            assert (entry.session, entry.sequence) > (newest.session, newest.sequence), "numbers run upwards"
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
