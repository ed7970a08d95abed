"""Error families, told apart by whose fault it is. Every error says what is wrong and what to do next."""

from __future__ import annotations

from enum import StrEnum


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
    """Closed list of what verification can find; the number of the step that finds it stands in `STEP_OF`."""

    TOO_LARGE = "too_large"
    NOT_DECODABLE = "not_decodable"
    NOT_DETERMINISTIC = "not_deterministic"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_ROOM = "wrong_room"
    WRONG_LINE = "wrong_line"
    STALE_EPOCH = "stale_epoch"
    UNKNOWN_EPOCH = "unknown_epoch"
    UNKNOWN_SIGNER = "unknown_signer"
    SIGNER_OF_ANOTHER_LINE = "signer_of_another_line"
    REVOKED = "revoked"
    BAD_SIGNATURE = "bad_signature"
    STALE_ROUND = "stale_round"
    UNGRANTED_ROUND = "ungranted_round"
    WRONG_PREVIOUS = "wrong_previous"
    STALE_SESSION = "stale_session"
    SECOND_LINK_IN_ROUND = "second_link_in_round"
    SEQUENCE_DISORDER = "sequence_disorder"
    TOO_MANY_ENTRIES = "too_many_entries"
    WRONG_SEALED_SIZE = "wrong_sealed_size"
    NOT_OPENABLE = "not_openable"
    BAD_LABEL = "bad_label"
    IMPLAUSIBLE_TIME = "implausible_time"


class RemoteMessageError(MoodlineError):
    """A peer's bytes: the only family that verification may raise."""

    def __init__(self, verdict: Verdict, what: str, *, peer: str = "") -> None:
        super().__init__(what, next_step="")
        self.verdict = verdict
        self.peer = peer


class TransportError(MoodlineError):
    """The network's: retried by whoever met it."""


class StorageError(MoodlineError):
    """The disk's: a durable write did not happen."""


class UpdateError(MoodlineError):
    """A model update could not be taken; the running bundle stays."""
