"""The JSON documents that consumers, the page and the store share: one struct for each, with a schema id.

Their JSON Schemas stand in `schemas/`; docs/mqtt-contract.md says which topic carries which. A field is never taken
away or given another meaning under the same schema id.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from device.clock import TimeSource
from device.messages.label import SenseState
from models.labels import AbstainReason, Emotion

StateName = Literal["given", "abstained", "muted", "opted_out", "presence"]
Status = Literal["signed", "witnessed"]
Severity = Literal["refused", "warning", "note"]
Mode = Literal["off", "class-aggregate", "labels", "presence"]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all documents."""


class Shares(Document, frozen=True, kw_only=True):
    """How much speech and face each weighed in the label, 0..1."""

    speech: float
    face: float


class Senses(Document, frozen=True, kw_only=True):
    """What each sense contributed to the window."""

    speech: SenseState
    face: SenseState


class Presence(Document, frozen=True, kw_only=True):
    """What a box says that infers no emotion; null where the sense gives nothing. Levels come in steps of 6 dB."""

    face_seen: bool | None
    level_dbfs: int | None


class LabelDocument(Document, frozen=True, kw_only=True):
    """One verified label. `event_id` is `unit/session/sequence` and names the same label for ever.

    Times are milliseconds since 1970-01-01 UTC; `window_end_ms` is the unit's claim, as good as `time_source` says.
    `delay_ms` is from the window's end to the gateway's acceptance; null when either clock is not set.
    """

    schema: Literal["moodline/label/1"] = "moodline/label/1"
    event_id: str
    room: str
    line: str
    unit: str
    desk: str
    session: int
    sequence: int
    round: int
    state: StateName
    label: Emotion | None
    abstain_reason: AbstainReason | None
    confidence: float
    shares: Shares
    senses: Senses
    status: Status
    witnesses: int
    window_end_ms: int
    time_source: TimeSource
    accepted_ms: int
    delay_ms: int | None
    model: str
    presence: Presence | None = None


class AlertDocument(Document, frozen=True, kw_only=True):
    """Something refused or noticed on the line, in plain words. `peer` is whom the message claimed to be from.

    `refused`: somebody cheats, or a box is wrongly set up; `warning`: have a look; `note`: a bad network does that.
    `sentence` says what it means, `detail` what exactly was found. `step` is the number of the verification step that
    found it (docs/verdicts.md), null when none did. `repeats` counts the same finding since the alert before this one.
    """

    schema: Literal["moodline/alert/1"] = "moodline/alert/1"
    event_id: str
    at_ms: int
    room: str
    line: str
    peer: str
    severity: Severity
    code: str
    step: int | None
    sentence: str
    detail: str
    next_step: str
    repeats: int


class LineState(Document, frozen=True, kw_only=True):
    """Where one line stands."""

    line: str
    round: int | None
    live: list[str]
    absent: list[str]


class GatewayStatusDocument(Document, frozen=True, kw_only=True):
    """Retained state of the gateway. The last will is the same document, `offline`, of the same session."""

    schema: Literal["moodline/gateway-status/1"] = "moodline/gateway-status/1"
    room: str
    gateway: str
    session: int
    state: Literal["online", "offline"]
    mode: Mode
    policy_in_force: bool
    storing: bool
    lines: list[LineState]
    version: str


class ClassDocument(Document, frozen=True, kw_only=True):
    """The class in one time bin: how many desks showed what; no desk is named.

    `desks` and `counts` are null when fewer than `min_group` desks took part. `unnamed` counts every desk without an
    emotion: abstaining, muted and opted out cannot be told apart.
    """

    schema: Literal["moodline/class/1"] = "moodline/class/1"
    event_id: str
    room: str
    from_ms: int
    to_ms: int
    min_group: int
    desks: int | None
    counts: dict[str, int] | None


def encode(document: msgspec.Struct) -> bytes:
    """UTF-8 JSON, one line."""
    return msgspec.json.encode(document)
