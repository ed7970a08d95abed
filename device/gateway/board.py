"""The newest state of everything the page shows, kept as named parts with a revision each.

One thread puts, any thread reads. A reader says which revision it has seen and gets what changed since, each part once
and only in its newest form: so a slow reader never makes a queue grow, it just skips what is out of date.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Change:
    """`parts` are JSON documents by name; `whole` says that they are all there are."""

    revision: int
    parts: dict[str, msgspec.Raw]
    whole: bool


class Board:
    """Parts by name: `room`, `line/<line>`, `desk/<line>/<unit>`, `box/<line>/<unit>`, `class`, `alerts`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revision = 0
        self._parts: dict[str, tuple[int, msgspec.Raw]] = {}
        self._wake: Callable[[], None] | None = None

    def put(self, name: str, document: object) -> None:
        """Replace a part. A document that has not changed is no news."""
        encoded = msgspec.Raw(msgspec.json.encode(document))
        with self._lock:
            known = self._parts.get(name)
            if known is not None and bytes(known[1]) == bytes(encoded):
                return
            self._revision += 1
            self._parts[name] = (self._revision, encoded)
            wake = self._wake
        if wake is not None:
            wake()

    def since(self, revision: int) -> Change:
        """What changed after that revision; everything for a revision of 0 or one that this board never had."""
        with self._lock:
            whole = not 0 < revision <= self._revision
            parts = {name: part for name, (at, part) in self._parts.items() if whole or at > revision}
            return Change(self._revision, parts, whole)

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """Have `wake` called after each change, on the thread that puts; None to end that."""
        with self._lock:
            self._wake = wake
