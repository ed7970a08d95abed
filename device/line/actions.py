"""What the line's machines ask their shell to do. The shell carries actions out in order.

When a `Persist` fails, the shell carries out none of the later actions of that list, and stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device.errors import Verdict
from device.messages.label import Label


@dataclass(frozen=True)
class Publish:
    """Send to the broker."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True)
class ClosedRound:
    """A finished round, as it was on the wire: grant and accepted links in chain order."""

    round: int
    epoch: int
    grant: bytes
    links: tuple[bytes, ...]


@dataclass(frozen=True)
class Persist:
    """Gateway: store in one durable transaction, before anything later is done.

    `closed` is the round to append to the log (None at the very first start); `next_grant` replaces the stored open
    grant of the line, and is what `LineGateway` gets back at its next start.
    """

    line: str
    closed: ClosedRound | None
    next_grant: bytes


@dataclass(frozen=True)
class Infer:
    """Unit: a grant opened a round, decide now. `gateway_ms` is the gateway's wall time in that grant."""

    round: int
    gateway_ms: int


@dataclass(frozen=True)
class Deliver:
    """Gateway: a verified, opened label; its status is `signed` until a `Witnessed` says more.

    (unit, session, sequence) names it for ever; after a crash of the gateway the same one may come a second time.
    `arrived` is in monotonic seconds, `arrived_wall_ms` in milliseconds since 1970; `link` is the SHA-256 of the
    signed link. `time_plausible` is False when the label's claimed time lies outside the clock tolerance.
    """

    line: str
    unit: str
    session: int
    sequence: int
    label: Label
    epoch: int
    round: int
    link: bytes
    arrived: float
    arrived_wall_ms: int
    time_plausible: bool


@dataclass(frozen=True)
class Witnessed:
    """Gateway: `count` other units have signed over this link; `enough` when the policy's number is reached."""

    line: str
    unit: str
    round: int
    link: bytes
    count: int
    enough: bool


@dataclass(frozen=True)
class Gap:
    """Gateway: a unit's sequence numbers from `first` to `last` of a session will never come."""

    line: str
    unit: str
    session: int
    first: int
    last: int


class Notice(StrEnum):
    """What a machine reports that is nobody's attack."""

    UNIT_ABSENT = "unit_absent"
    UNIT_RETURNED = "unit_returned"
    OUTBOX_OVERFLOW = "outbox_overflow"
    ENROL_ANEW = "enrol_anew"
    ROSTER_REFUSED = "roster_refused"


@dataclass(frozen=True)
class Alert:
    """Something a person should know. `code` says what, `peer` who, `text` is a sentence; `proof` are the signed
    objects that prove it to anyone (equivocation, contradicting grants), else empty."""

    code: Verdict | Notice
    peer: str
    text: str
    line: str = ""
    proof: tuple[bytes, ...] = ()


Action = Publish | Persist | Infer | Deliver | Witnessed | Gap | Alert
