"""Error families, told apart by whose fault it is. Every error says what is wrong and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class MoodlineError(Exception):
    """Base of all errors that the product raises for the world's faults (not for its own: those are assertions)."""

    def __init__(self, what: str, *, next_step: str) -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class ConfigError(MoodlineError):
    """The operator's: a configuration, key, policy or certificate file is missing, malformed or unsafe."""


class CaptureReason(StrEnum):
    """Why a sense gives nothing."""

    NOT_FOUND = "not_found"
    BUSY = "busy"
    UNPLUGGED = "unplugged"
    SILENT_DRIVER = "silent_driver"
    UNREADABLE = "unreadable"
    WRONG_FORMAT = "wrong_format"
    NOT_INSTALLED = "not_installed"


class CaptureError(MoodlineError):
    """The hardware's, or a recording's: sound or pictures cannot be had."""

    def __init__(self, reason: CaptureReason, what: str, *, next_step: str) -> None:
        super().__init__(what, next_step=next_step)
        self.reason = reason


class InferenceError(MoodlineError):
    """Bundle and contract disagree, or a network gives other answers than its golden vectors."""


class Verdict(StrEnum):
    """Closed list of what verification can find. `VERDICTS` has the step that finds it, and a sentence for people."""

    TOO_LARGE = "too_large"
    NOT_DECODABLE = "not_decodable"
    NOT_DETERMINISTIC = "not_deterministic"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_KIND = "wrong_kind"
    WRONG_ROOM = "wrong_room"
    WRONG_LINE = "wrong_line"
    STALE_EPOCH = "stale_epoch"
    UNKNOWN_EPOCH = "unknown_epoch"
    UNKNOWN_SIGNER = "unknown_signer"
    SIGNER_OF_ANOTHER_LINE = "signer_of_another_line"
    REVOKED = "revoked"
    BAD_SIGNATURE = "bad_signature"
    STALE_ROUND = "stale_round"
    REPLAYED = "replayed"
    UNGRANTED_ROUND = "ungranted_round"
    GRANT_REWRITTEN = "grant_rewritten"
    WRONG_PREVIOUS = "wrong_previous"
    LOST_RACE = "lost_race"
    UNSEEN_HEAD = "unseen_head"
    EQUIVOCATION = "equivocation"
    QUARANTINED = "quarantined"
    STALE_SESSION = "stale_session"
    SECOND_LINK_IN_ROUND = "second_link_in_round"
    ACKNOWLEDGEMENT_WITHDRAWN = "acknowledgement_withdrawn"
    SEQUENCE_DISORDER = "sequence_disorder"
    TOO_MANY_ENTRIES = "too_many_entries"
    WRONG_SEALED_SIZE = "wrong_sealed_size"
    NOT_OPENABLE = "not_openable"
    BAD_LABEL = "bad_label"
    IMPLAUSIBLE_TIME = "implausible_time"


class VerdictRow(NamedTuple):
    """The step of the verification procedure (1 to 10), what was found, and what to do about it.

    `honest` says whether an honest line on a bad network can bring it about, too; else somebody cheats, or a box is
    wrongly set up.
    """

    step: int
    sentence: str
    next_step: str
    honest: bool = False


_REFUSED: Final = "Nothing to do: the message was refused and nothing of it was used."
_ATTACK: Final = "Look for a strange device on the room's network; the message was refused."
_ROSTER: Final = "Publish the newest roster to every box of the room."
_UPDATE: Final = "Update the box that runs the older program."

#: docs/verdicts.md says the same at more length; a test keeps the two in step.
VERDICTS: Final[Mapping[Verdict, VerdictRow]] = {
    Verdict.TOO_LARGE: VerdictRow(1, "The message is larger than the line allows.", _ATTACK),
    Verdict.NOT_DECODABLE: VerdictRow(2, "The bytes are no message of this protocol.", _ATTACK),
    Verdict.NOT_DETERMINISTIC: VerdictRow(2, "The message is not in its one proper encoding.", _ATTACK),
    Verdict.UNKNOWN_VERSION: VerdictRow(2, "The message is of another protocol version.", _UPDATE, honest=True),
    Verdict.WRONG_KIND: VerdictRow(2, "The message is of another kind than its topic says.", _ATTACK),
    Verdict.WRONG_ROOM: VerdictRow(3, "The message belongs to another room.", _ATTACK),
    Verdict.WRONG_LINE: VerdictRow(3, "The message belongs to another line.", _ATTACK),
    Verdict.STALE_EPOCH: VerdictRow(3, "The message was made under an older roster.", _ROSTER, honest=True),
    Verdict.UNKNOWN_EPOCH: VerdictRow(
        3, "The message was made under a roster that this box does not have.", _ROSTER, honest=True
    ),
    Verdict.UNKNOWN_SIGNER: VerdictRow(4, "The signer is not on the roster.", _ATTACK),
    Verdict.SIGNER_OF_ANOTHER_LINE: VerdictRow(4, "The signer belongs to another line.", _ATTACK),
    Verdict.REVOKED: VerdictRow(4, "The signer was revoked.", "Find the revoked box and take it off the network."),
    Verdict.BAD_SIGNATURE: VerdictRow(5, "The signature is not by the unit that it names.", _ATTACK),
    Verdict.STALE_ROUND: VerdictRow(6, "The message belongs to a round that is over.", _REFUSED, honest=True),
    Verdict.REPLAYED: VerdictRow(6, "The message was taken once already; somebody sent it again.", _ATTACK),
    Verdict.UNGRANTED_ROUND: VerdictRow(6, "The message belongs to a round that nobody opened.", _REFUSED, honest=True),
    Verdict.GRANT_REWRITTEN: VerdictRow(
        6, "The gateway signed two different grants for one round.", "Keep the proof and examine the gateway."
    ),
    Verdict.WRONG_PREVIOUS: VerdictRow(
        7, "The message continues from something that is not in the chain.", _REFUSED, honest=True
    ),
    Verdict.LOST_RACE: VerdictRow(
        7,
        "Another link was first on the same place of the chain.",
        "Nothing to do: its labels come in the next round.",
        honest=True,
    ),
    Verdict.UNSEEN_HEAD: VerdictRow(
        7,
        "The gateway continues from an object that this unit has not seen.",
        "If it repeats, check the network.",
        honest=True,
    ),
    Verdict.EQUIVOCATION: VerdictRow(
        8, "One unit signed two things that exclude each other.", "Keep the proof, revoke the unit, enrol it anew."
    ),
    Verdict.QUARANTINED: VerdictRow(8, "The signer equivocated and is not listened to.", "Revoke it, enrol it anew."),
    Verdict.STALE_SESSION: VerdictRow(
        8, "The session is older than one already used: an old message or a restored backup.", "Enrol the unit anew."
    ),
    Verdict.SECOND_LINK_IN_ROUND: VerdictRow(
        8,
        "The unit restarted and signed again in one round.",
        "Nothing to do: its labels come in the next round.",
        honest=True,
    ),
    Verdict.ACKNOWLEDGEMENT_WITHDRAWN: VerdictRow(
        8, "The gateway took back what it had acknowledged.", "Keep the proof and examine the gateway."
    ),
    Verdict.SEQUENCE_DISORDER: VerdictRow(9, "The entries' numbers do not run upwards.", "Examine the unit."),
    Verdict.TOO_MANY_ENTRIES: VerdictRow(9, "The link holds more entries than the line allows.", "Examine the unit."),
    Verdict.WRONG_SEALED_SIZE: VerdictRow(9, "A sealed entry has another size than all labels have.", _ATTACK),
    Verdict.NOT_OPENABLE: VerdictRow(
        10, "A sealed entry does not open: it was sealed for another place, number or gateway.", _ATTACK
    ),
    Verdict.BAD_LABEL: VerdictRow(10, "An opened entry is no label.", "Update or examine the unit."),
    Verdict.IMPLAUSIBLE_TIME: VerdictRow(
        10, "A label claims an impossible time.", "Check the unit's clock.", honest=True
    ),
}


class RemoteMessageError(MoodlineError):
    """A peer's bytes: the only family that verification may raise."""

    def __init__(self, verdict: Verdict, what: str, *, peer: str = "") -> None:
        super().__init__(what, next_step=VERDICTS[verdict].next_step)
        self.verdict = verdict
        self.peer = peer

    @property
    def step(self) -> int:
        """The number of the verification step that found it."""
        return VERDICTS[self.verdict].step


class TransportError(MoodlineError):
    """The network's: retried by whoever met it."""


class StorageError(MoodlineError):
    """The disk's: a durable write did not happen."""


class UpdateError(MoodlineError):
    """A model update could not be taken; the running bundle stays."""
