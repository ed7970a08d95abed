"""A broker in memory, and links to it that speak the port of `device.publish.ports` and can lose their connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from device.errors import TransportError
from device.publish.ports import Connected, Disconnected, Event, LastWill, Received


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT filter with `+` and a final `#` takes in a topic."""
    wanted, have = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, have = wanted[:-1], have[: len(wanted) - 1]
    return len(wanted) == len(have) and all(w in ("+", h) for w, h in zip(wanted, have, strict=True))


class FakeBroker:
    """Delivers at once and in order. `down` drops all links, without their last wills, and `up` takes them again."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self.running = True
        self._links: list[FakeLink] = []

    def link(self, subscriptions: Sequence[str] = (), will: LastWill | None = None) -> FakeLink:
        """A link that is not started yet."""
        link = FakeLink(self, subscriptions, will)
        self._links.append(link)
        return link

    def down(self) -> None:
        """The broker stops."""
        self.running = False
        for link in self._links:
            link.lose("The broker stopped.")

    def up(self) -> None:
        """The broker is back, and every started link with it."""
        self.running = True
        for link in self._links:
            link.connect()

    def deliver(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """A message arrives from anybody, also from somebody who is not honest."""
        self.published.append((topic, payload))
        if retain:
            self.retained[topic] = payload
        for link in self._links:
            link.hear(topic, payload, retained=False)


class FakeLink:
    """Implements the `Link` port. `next_event` never waits."""

    def __init__(self, broker: FakeBroker, subscriptions: Sequence[str], will: LastWill | None) -> None:
        self.connected = False
        self.dropped = 0
        self._broker = broker
        self._subscriptions = subscriptions
        self._will = will
        self._started = False
        self._events: deque[Event] = deque()

    def start(self) -> None:
        self._started = True
        self.connect()

    def connect(self) -> None:
        """The broker takes us, when it runs and we were started."""
        if self._started and self._broker.running and not self.connected:
            self.connected = True
            self._events.append(Connected(session_present=False))
            for topic, payload in self._broker.retained.items():
                self.hear(topic, payload, retained=True)

    def lose(self, reason: str) -> None:
        """The connection breaks."""
        if self.connected:
            self.connected = False
            self._events.append(Disconnected(reason))

    def die(self) -> None:
        """The program behind this link is killed: the broker speaks its last will."""
        self.connected = self._started = False
        self._events.clear()
        if self._will is not None:
            self._broker.deliver(self._will.topic, self._will.payload, retain=True)

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Enqueue a message when it is subscribed to."""
        if self.connected and any(matches(wanted, topic) for wanted in self._subscriptions):
            self._events.append(Received(topic, payload, retained))

    def next_event(self, timeout_s: float) -> Event | None:
        return self._events.popleft() if self._events else None

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        if not self.connected:
            raise TransportError(f"{topic}: not published, the broker is away.", next_step="It is tried again.")
        self._broker.deliver(topic, payload, retain=retain)

    def stop(self, *, flush_s: float = 2.0) -> None:
        self.connected = self._started = False
