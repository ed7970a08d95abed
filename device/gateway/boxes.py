"""What units say of themselves, unsigned: it helps people to find a fault and decides nothing."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

STATUS_BYTES: Final = 4_096
#: `process` of a box that has met its own identity elsewhere, or found itself restored from a copy.
ENROL_ANEW: Final = "enrol_anew"

Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}$")]


class BoxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a unit's status that the page shows; docs/mqtt-contract.md has the values."""

    unit: str
    session: Annotated[int, msgspec.Meta(ge=0)]
    process: Word
    microphone: Word = "unknown"
    camera: Word = "unknown"


def read_status(payload: bytes, unit: str) -> BoxStatus | None:
    """The status of that unit, or None when the bytes are not one."""
    if len(payload) > STATUS_BYTES:
        return None
    try:
        status = msgspec.json.decode(payload, type=BoxStatus)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return status if status.unit == unit else None


def is_news(status: BoxStatus, known: BoxStatus | None) -> bool:
    """Whether it replaces what is known: a last will of an older session says nothing about a newer one."""
    return known is None or status.session >= known.session
