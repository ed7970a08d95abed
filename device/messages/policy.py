"""The deployment policy: what a room may do at all, as the room authority signed it.

Nothing is inferred in a room without a policy in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages.envelope import ContentType, Signer, check_signature, is_identifier, open_envelope, seal_envelope
from device.messages.schedule import ALWAYS, Schedule, ScheduleKind, decode_schedule, encode_schedule

#: Largest policy that is read, in bytes.
POLICY_BYTES: Final = 1 << 16
_TEXT_CHARACTERS: Final = 200

#: Member states of the European Union (ISO 3166-1), and the Union itself.
# fmt: off
EUROPEAN_UNION: Final = frozenset((
    "EU", "AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU",
    "IE", "IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE",
))
# fmt: on


class Mode(StrEnum):
    """How much leaves the gateway; its position is the code on the wire. PRESENCE infers no emotion: a desk tells
    whether a face is seen and how loud it is."""

    OFF = "off"
    CLASS_AGGREGATE = "class-aggregate"
    LABELS = "labels"
    PRESENCE = "presence"

    @property
    def infers_emotions(self) -> bool:
        """Whether boxes run the emotion networks."""
        return self in (Mode.CLASS_AGGREGATE, Mode.LABELS)

    @property
    def shows_desks(self) -> bool:
        """Whether consumers see each desk by itself."""
        return self in (Mode.LABELS, Mode.PRESENCE)


class Purpose(StrEnum):
    """What the labels are for; its position is the code on the wire."""

    MEDICAL = "medical"
    SAFETY = "safety"
    EDUCATION = "education"
    RESEARCH = "research"
    DEMONSTRATION = "demonstration"


class Setting(StrEnum):
    """Where the room stands; its position is the code on the wire. LABORATORY has no learners, pupils or staff: only
    recordings, actors and volunteers."""

    EDUCATION = "education"
    WORKPLACE = "workplace"
    LABORATORY = "laboratory"


@dataclass(frozen=True, kw_only=True)
class DeploymentPolicy:
    """`jurisdiction` is an ISO 3166-1 country code or `EU`. `min_group` is the smallest number of desks in a class
    view; `witness_count` the number of later links after which a label counts as witnessed; `not_before_ms` and
    `not_after_ms` bound the policy in milliseconds since 1970. Outside `capture` nothing is heard or seen; only inside
    `updates` a box may install an update. Raises ValueError on values outside their range."""

    room: str
    purpose: Purpose
    setting: Setting
    jurisdiction: str
    mode: Mode
    min_group: int
    retention_days: int
    witness_count: int
    approved_by: str
    not_before_ms: int
    not_after_ms: int
    capture: Schedule = ALWAYS
    updates: Schedule = ALWAYS

    def __post_init__(self) -> None:
        if not is_identifier(self.room):
            raise ValueError(f"{self.room!r} is no identifier")
        if len(self.jurisdiction) != 2 or not self.jurisdiction.isascii() or not self.jurisdiction.isupper():
            raise ValueError(f"jurisdiction {self.jurisdiction!r} is no country code")
        if not 0 < len(self.approved_by) <= _TEXT_CHARACTERS:
            raise ValueError(f"approved_by names a person in at most {_TEXT_CHARACTERS} characters")
        if min(self.min_group, self.witness_count) < 1 or not 0 <= self.retention_days <= 3_660:
            raise ValueError("min_group and witness_count count from 1, retention_days from 0 to 3660")
        if not 0 <= self.not_before_ms < self.not_after_ms:
            raise ValueError("the policy ends before it begins")
        if self.updates.kind is ScheduleKind.SAMPLED:
            raise ValueError("updates have hours; sessions are sampled for capture alone")


class _Key(IntEnum):
    ROOM = 1
    PURPOSE = 2
    SETTING = 3
    JURISDICTION = 4
    MODE = 5
    MIN_GROUP = 6
    RETENTION_DAYS = 7
    WITNESS_COUNT = 8
    APPROVED_BY = 9
    NOT_BEFORE_MS = 10
    NOT_AFTER_MS = 11
    CAPTURE = 12
    UPDATES = 13


def check_policy(policy: DeploymentPolicy) -> None:
    """Raises ConfigError where the law forbids what the policy asks for.

    Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f), in force since 2 February 2025: no inferring of emotions of
    natural persons in the areas of workplace and education institutions, except for medical or safety reasons.
    """
    if (
        policy.mode.infers_emotions
        and policy.jurisdiction in EUROPEAN_UNION
        and policy.setting in (Setting.EDUCATION, Setting.WORKPLACE)
        and policy.purpose not in (Purpose.MEDICAL, Purpose.SAFETY)
    ):
        raise ConfigError(
            f"policy of room {policy.room}: inferring emotions in the setting {policy.setting.value!r} for the purpose"
            f" {policy.purpose.value!r} is prohibited in {policy.jurisdiction} by Article 5(1)(f) of Regulation (EU)"
            " 2024/1689 (AI Act).",
            next_step="Set the mode to 'presence' (whether a face is seen, and how loud it is; no emotion) or 'off', or"
            " have a policy with a medical or safety purpose approved and signed.",
        )


def check_in_force(policy: DeploymentPolicy, wall_ms: int) -> None:
    """Raises ConfigError outside the policy's time. Call it only with a wall time that can be believed."""
    if not policy.not_before_ms <= wall_ms < policy.not_after_ms:
        raise ConfigError(
            f"policy of room {policy.room}: not in force at this time.",
            next_step="Check the clock, or have a new policy signed by the room authority.",
        )


def sign_policy(policy: DeploymentPolicy, authority: Signer) -> bytes:
    """The policy as bytes, signed by the room authority. Raises ConfigError where the law forbids it."""
    check_policy(policy)
    fields: dict[int, object] = {
        _Key.ROOM: policy.room,
        _Key.PURPOSE: _code(policy.purpose),
        _Key.SETTING: _code(policy.setting),
        _Key.JURISDICTION: policy.jurisdiction,
        _Key.MODE: _code(policy.mode),
        _Key.MIN_GROUP: policy.min_group,
        _Key.RETENTION_DAYS: policy.retention_days,
        _Key.WITNESS_COUNT: policy.witness_count,
        _Key.APPROVED_BY: policy.approved_by,
        _Key.NOT_BEFORE_MS: policy.not_before_ms,
        _Key.NOT_AFTER_MS: policy.not_after_ms,
        _Key.CAPTURE: encode_schedule(policy.capture),
        _Key.UPDATES: encode_schedule(policy.updates),
    }
    return seal_envelope(ContentType.POLICY, fields, authority, room=policy.room)


def _code(member: Purpose | Setting | Mode) -> int:
    return list(type(member)).index(member)


def read_policy(raw: bytes, *, authority_key: bytes, room: str) -> DeploymentPolicy:
    """The policy of `room`.

    Raises RemoteMessageError when it is not one or not signed by the authority's key, ConfigError where the law
    forbids it.
    """
    if len(raw) > POLICY_BYTES:
        raise RemoteMessageError(Verdict.TOO_LARGE, f"A policy of {len(raw)} bytes; at most {POLICY_BYTES} are read.")
    envelope = open_envelope(raw, wanted=ContentType.POLICY)
    check_signature(envelope, authority_key, room=room)
    fields = envelope.fields(_Key)
    if fields.text(_Key.ROOM) != room:
        raise RemoteMessageError(Verdict.WRONG_ROOM, f"The policy is not of room {room}.", peer=envelope.key_id)
    try:
        policy = DeploymentPolicy(
            room=room,
            purpose=list(Purpose)[fields.unsigned(_Key.PURPOSE)],
            setting=list(Setting)[fields.unsigned(_Key.SETTING)],
            jurisdiction=fields.text(_Key.JURISDICTION),
            mode=list(Mode)[fields.unsigned(_Key.MODE)],
            min_group=fields.unsigned(_Key.MIN_GROUP),
            retention_days=fields.unsigned(_Key.RETENTION_DAYS),
            witness_count=fields.unsigned(_Key.WITNESS_COUNT),
            approved_by=fields.text(_Key.APPROVED_BY),
            not_before_ms=fields.unsigned(_Key.NOT_BEFORE_MS),
            not_after_ms=fields.unsigned(_Key.NOT_AFTER_MS),
            capture=decode_schedule(fields.array(_Key.CAPTURE)),
            updates=decode_schedule(fields.array(_Key.UPDATES)),
        )
    except (ValueError, IndexError) as error:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The policy is malformed: {error}.") from error
    check_policy(policy)
    return policy
