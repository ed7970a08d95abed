"""Closed list of what can go wrong in enrolment and renewal: each refusal has a code, a sentence and a next step.

The registrar answers with them, the box shows them, and the operator reads the same words at both ends.
docs/enrolment-refusals.md lists them; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from device.errors import MoodlineError


class Refusal(StrEnum):
    """Code of a refusal."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    OTHER_CHANNEL = "other_channel"
    OTHER_ROOM = "other_room"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_USED = "token_used"
    KEY_IN_USE = "key_in_use"
    SEAT_TAKEN = "seat_taken"
    NO_SUCH_CLAIM = "no_such_claim"
    WRONG_COMMITMENT = "wrong_commitment"
    CLAIM_EXPIRED = "claim_expired"
    CLAIM_REJECTED = "claim_rejected"
    WINDOW_CLOSED = "window_closed"
    REVOKED = "revoked"
    NOT_ENROLLED = "not_enrolled"
    AUTHORITY_CLOSED = "authority_closed"
    STALE_REQUEST = "stale_request"
    TOO_MANY = "too_many"


class RefusalRow(NamedTuple):
    """HTTP status, sentence, next step. `final` says whether asking again without a person's help is in vain."""

    status: int
    sentence: str
    next_step: str
    final: bool = True


_NEW_SEED: Final = "Make a new seed file for this desk (moodline-provision seeds) and put it on the card."
_SAME: Final = "Update the older of the two programs."

REFUSALS: Final[Mapping[Refusal, RefusalRow]] = {
    Refusal.MALFORMED: RefusalRow(400, "The request is not one of this protocol.", _SAME),
    Refusal.BAD_SIGNATURE: RefusalRow(403, "The request is not signed by the key that it names.", _SAME),
    Refusal.OTHER_CHANNEL: RefusalRow(
        403,
        "The box made its request for another registrar: somebody stands between the two.",
        "Look for a strange device on the network; nothing was enrolled.",
    ),
    Refusal.OTHER_ROOM: RefusalRow(403, "The box asks for another room.", "Put this room's seed file on its card."),
    Refusal.TOKEN_UNKNOWN: RefusalRow(403, "The claim token is none of this room.", _NEW_SEED),
    Refusal.TOKEN_EXPIRED: RefusalRow(403, "The claim token has expired.", _NEW_SEED),
    Refusal.TOKEN_USED: RefusalRow(
        403, "The claim token was used by another box.", "Was the card copied? " + _NEW_SEED
    ),
    Refusal.KEY_IN_USE: RefusalRow(
        409,
        "The box's key already belongs to another desk: its storage was copied.",
        "Wipe this box (moodline-box wipe), so that it makes a key of its own.",
    ),
    Refusal.SEAT_TAKEN: RefusalRow(
        409,
        "Another box has, or had, the place that this one asks for.",
        "Replace that box (moodline-provision replace), or give this one a place of its own.",
    ),
    Refusal.NO_SUCH_CLAIM: RefusalRow(
        404, "The registrar does not know this claim.", "The box begins again by itself.", final=False
    ),
    Refusal.WRONG_COMMITMENT: RefusalRow(
        403, "The box showed another key than it had announced.", "Look for a strange device on the network."
    ),
    Refusal.CLAIM_EXPIRED: RefusalRow(
        410, "Nobody accepted the claim in time.", "The box begins again by itself; accept its new code.", final=False
    ),
    Refusal.CLAIM_REJECTED: RefusalRow(403, "An operator rejected the claim.", "Ask the operator of the room."),
    Refusal.WINDOW_CLOSED: RefusalRow(
        403,
        "The room takes no boxes without a seed file now.",
        "Open the claim window at the registrar (moodline-provision window), or use a seed file.",
        final=False,
    ),
    Refusal.REVOKED: RefusalRow(
        403, "This box was revoked.", "Wipe it (moodline-box wipe) and enrol it anew, or take it off the network."
    ),
    Refusal.NOT_ENROLLED: RefusalRow(
        403, "This key stands on no roster of the room.", "Enrol the box: seed file or claim window."
    ),
    Refusal.AUTHORITY_CLOSED: RefusalRow(
        423,
        "A new key needs the room authority, which is closed now.",
        "Open it at the registrar (moodline-registrar --authority), or leave the box its old key.",
        final=False,
    ),
    Refusal.STALE_REQUEST: RefusalRow(
        409, "The request was made under an older challenge.", "The box asks again by itself.", final=False
    ),
    Refusal.TOO_MANY: RefusalRow(
        429, "Too many requests at once.", "The box waits and asks again by itself.", final=False
    ),
}


class RefusalError(MoodlineError):
    """The registrar said no, or we say it: with the code and words of the table; `detail` names the field or peer."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        row = REFUSALS[refusal]
        super().__init__(f"{row.sentence} {detail}".strip(), next_step=row.next_step)
        self.refusal = refusal
        self.detail = detail

    @property
    def row(self) -> RefusalRow:
        """The table's row."""
        return REFUSALS[self.refusal]
