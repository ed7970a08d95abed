"""What the line's machines ask for. Adapter of `Outbox`: device/publish/outbox.py."""

from __future__ import annotations

from typing import Protocol

from device.messages.grant import Accepted
from device.messages.link import Entry


class Outbox(Protocol):
    """A unit's sealed labels that no grant has covered yet, oldest first."""

    def push(self, entry: Entry) -> int:
        """Keep an entry. Returns how many of the oldest were dropped to make room (0 or more)."""
        ...

    def pending(self, limit: int) -> tuple[Entry, ...]:
        """The oldest entries, at most `limit`; they stay."""
        ...

    def acknowledge(self, accepted: Accepted) -> int:
        """Let go of every entry that is covered. Returns how many went."""
        ...

    def __len__(self) -> int:
        """How many entries are kept."""
        ...
