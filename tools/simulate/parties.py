"""The boxes of a simulated room: clocks that are wrong, a disk whose writes can fail, and what each box remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from device.line.actions import Alert, ClosedRound
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.messages.grant import Accepted
from device.messages.label import Label
from device.messages.link import Entry
from device.publish.outbox import SpillingOutbox

GATEWAY: Final = "gateway"
EPOCH_MS: Final = 1_800_000_000_000

Number = tuple[int, int]


class PowerCutError(Exception):
    """The power goes while something is being written."""


@dataclass
class Disk:
    """Counts every durable write of the room and cuts the power at one of them.

    With `cut_keeps` the write that is cut is on the medium all the same, but its writer never learns of it.
    """

    writes: int = 0
    cut_at: int | None = None
    cut_keeps: bool = False

    def write(self, what: Callable[[], None]) -> None:
        """Carry out one durable write. Raises PowerCutError when it is the one that is cut."""
        self.writes += 1
        if self.writes != self.cut_at:
            return what()
        if self.cut_keeps:
            what()
        raise PowerCutError


@dataclass
class BoxClock:
    """A box's own time: monotonic seconds at a rate of its own, and wall time that may be stepped anywhere."""

    offset_s: float = 0.0
    rate: float = 1.0
    wall_zero_ms: int = EPOCH_MS

    def monotonic(self, now: float) -> float:
        """Monotonic seconds at a moment of virtual time."""
        return self.offset_s + now * self.rate

    def moment(self, monotonic: float) -> float:
        """The moment of virtual time at which the box's clock shows `monotonic`."""
        return (monotonic - self.offset_s) / self.rate

    def wall_ms(self, now: float) -> int:
        """Milliseconds since 1970 as the box believes; never below 0, as on any system."""
        return max(self.wall_zero_ms + round(now * self.rate * 1_000), 0)


class OutboxWatch(Protocol):
    """Whoever keeps account of what goes into an outbox and out of it."""

    def pushed(self, entry: Entry) -> None:
        """A label was kept."""
        ...

    def overflowed(self, entry: Entry) -> None:
        """A label had to go because the outbox was full."""
        ...

    def acknowledged(self, entries: tuple[Entry, ...]) -> None:
        """Labels went because a grant covered them."""
        ...


class WatchedOutbox(SpillingOutbox):
    """The product's outbox, watched."""

    def __init__(self, capacity: int, *, spill_after_s: float, restored: Sequence[Entry], watch: OutboxWatch) -> None:
        self._watch: OutboxWatch | None = None
        self._places = capacity
        super().__init__(capacity, spill_after_s=spill_after_s, restored=restored)
        self._watch = watch

    def push(self, entry: Entry) -> int:
        """Keep an entry. Returns how many of the oldest were dropped to make room."""
        oldest = self.pending(1) if len(self) == self._places else ()
        dropped = super().push(entry)
        if self._watch is not None:
            self._watch.pushed(entry)
            for old in oldest:
                self._watch.overflowed(old)
        return dropped

    def acknowledge(self, accepted: Accepted) -> int:
        """Let go of every entry that is covered. Returns how many went."""
        before = self.pending(len(self))
        gone = super().acknowledge(accepted)
        if gone and self._watch is not None:
            self._watch.acknowledged(before[:gone])
        return gone


@dataclass
class SimulatedUnit:
    """A unit's shell: durable session counter and spilled labels, inference that takes time, memory that a restart
    loses. `box` names it in the room; a copy of a box has its own, and the `name` of the original."""

    box: str
    name: str
    clock: BoxClock = field(default_factory=BoxClock)
    session: int = 0
    spilled: list[Entry] = field(default_factory=list)
    machine: LineUnit | None = None
    outbox: SpillingOutbox = field(default_factory=lambda: SpillingOutbox(1, spill_after_s=1.0))
    starts: int = 0
    next_own_label: float = 0.0
    labels: int = 0
    given: dict[Number, Label] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)

    @property
    def backlog(self) -> int:
        """Labels that no grant has covered yet."""
        return len(self.outbox)

    @property
    def stopped(self) -> bool:
        """Whether the unit asked to be enrolled anew."""
        return self.machine is not None and self.machine.state in ("leaving", "stopped")

    def waiting(self) -> tuple[Entry, ...]:
        """What is in the outbox."""
        return self.outbox.pending(len(self.outbox))


@dataclass
class SimulatedGateway:
    """The gateway's shell: its disk holds the log and the open grant."""

    clock: BoxClock = field(default_factory=BoxClock)
    machine: LineGateway | None = None
    log: list[ClosedRound] = field(default_factory=list)
    stored_grant: bytes | None = None
    quarantined: frozenset[str] = frozenset()
    starts: int = 0
