"""What a service asks of its broker link. Adapter: mqtt.py; the outbox above it is what loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Connected:
    """The broker has taken us; `session_present` says whether it still had our session and its queued messages."""

    session_present: bool


@dataclass(frozen=True)
class Disconnected:
    """The link is down, or a try to connect failed; the link tries again by itself. `reason` is one plain sentence."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """The broker answered no: to a publish (`what` = its topic) or a subscription (`what` = its filter)."""

    what: str
    reason: str


@dataclass(frozen=True)
class Received:
    """One message. `retained` is true when the broker had kept it from before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


Event = Connected | Disconnected | Refused | Received


@dataclass(frozen=True)
class LastWill:
    """What the broker publishes for us, retained, when we vanish without a word."""

    topic: str
    payload: bytes


class Link(Protocol):
    """A connection to the room's broker that comes back by itself. One thread uses it; it never blocks for long."""

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance now."""
        ...

    @property
    def dropped(self) -> int:
        """Received messages that found the event queue full, since start."""
        ...

    def start(self) -> None:
        """Begin to connect, and return at once. Raises ConfigError for unusable trust files."""
        ...

    def next_event(self, timeout_s: float) -> Event | None:
        """The oldest event, waiting at most `timeout_s` seconds for one; None when there is none."""
        ...

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand one message to the connection. Raises TransportError when it is down or too much is under way.

        Nothing is kept for later while the link is down: whoever must not lose a message keeps it until it is
        acknowledged.
        """
        ...

    def stop(self, *, flush_s: float = 2.0) -> None:
        """Wait at most `flush_s` seconds for what is under way, say goodbye (no last will), and free everything."""
        ...
