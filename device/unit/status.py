"""The unit's retained status, and the last will that the broker says in its place."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

RUNNING: Final = "running"
#: The box found that its identity is in use elsewhere or was restored from a copy: it signs nothing any more.
ENROL_ANEW: Final = "enrol_anew"
#: The room authority's newest roster lets this box speak no more; the last word of its program.
REVOKED: Final = "revoked"


class UnitStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a unit says of itself; docs/mqtt-contract.md has the values.

    Anyone on the broker may read it, so it must not tell a muted desk from a speaking one (G4): `microphone` and
    `camera` are `off` when the configuration names none, else `ok` as long as no fault is known; a muted unit, which
    opens neither, knows of none. What a sense gives at a desk stands in the sealed label.

    `session` pairs birth, death and status: a `lost` of an older session says nothing about a newer one.
    """

    schema: Literal["moodline/unit-status/1"] = "moodline/unit-status/1"
    unit: str
    line: str
    session: int
    process: str
    microphone: str = "unknown"
    camera: str = "unknown"
    policy: str = "unknown"
    model: str = ""


def status_payload(status: UnitStatus) -> bytes:
    """The JSON that is published."""
    return msgspec.json.encode(status)


def last_will(unit: str, line: str, session: int) -> bytes:
    """What the broker publishes when the unit vanishes without a word."""
    return status_payload(UnitStatus(unit=unit, line=line, session=session, process="lost"))
