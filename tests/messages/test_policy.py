"""The deployment policy: signed, complete, and lawful."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages.envelope import ContentType, seal_envelope
from device.messages.policy import (
    DeploymentPolicy,
    Mode,
    Purpose,
    Setting,
    check_in_force,
    check_policy,
    read_policy,
    sign_policy,
)
from device.messages.schedule import ALWAYS, Hours, Offset, Schedule, ScheduleKind
from tools.vectors import room

AUTHORITY = room.signer(room.AUTHORITY)
LAWFUL = DeploymentPolicy(
    room=room.ROOM,
    purpose=Purpose.DEMONSTRATION,
    setting=Setting.LABORATORY,
    jurisdiction="DE",
    mode=Mode.LABELS,
    min_group=11,
    retention_days=30,
    witness_count=2,
    approved_by="Head of the laboratory",
    not_before_ms=1_000,
    not_after_ms=2_000,
)
LESSONS = Schedule(
    kind=ScheduleKind.SAMPLED,
    zone="UTC-03:30",
    offsets=(Offset(0, -210),),
    hours=(Hours((0, 1, 2, 3, 4), 480, 780),),
    sessions_per_day=3,
)
NIGHTS = Schedule(
    kind=ScheduleKind.HOURS, zone="UTC", offsets=(Offset(0, 0),), hours=(Hours((0, 1, 2, 3, 4, 5, 6), 0, 300),)
)


def test_a_policy_comes_back() -> None:
    raw = sign_policy(LAWFUL, AUTHORITY)
    assert read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM) == LAWFUL
    assert (LAWFUL.capture, LAWFUL.updates) == (ALWAYS, ALWAYS)


def test_a_policy_with_its_hours_comes_back() -> None:
    policy = replace(LAWFUL, capture=LESSONS, updates=NIGHTS)
    raw = sign_policy(policy, AUTHORITY)
    assert read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM) == policy
    assert sign_policy(policy, AUTHORITY) == raw, "the same policy has the same bytes"


@pytest.mark.parametrize("jurisdiction", ["DE", "FR", "EU"])
@pytest.mark.parametrize("setting", [Setting.EDUCATION, Setting.WORKPLACE])
@pytest.mark.parametrize("mode", [Mode.LABELS, Mode.CLASS_AGGREGATE])
def test_emotion_inference_in_eu_education_is_refused_by_article(
    jurisdiction: str, setting: Setting, mode: Mode
) -> None:
    forbidden = replace(LAWFUL, jurisdiction=jurisdiction, setting=setting, mode=mode, purpose=Purpose.EDUCATION)
    with pytest.raises(ConfigError, match=r"Article 5\(1\)\(f\)") as refused:
        check_policy(forbidden)
    assert "medical or safety" in refused.value.next_step
    assert "'presence'" in refused.value.next_step, "what may be had without an emotion is offered"
    with pytest.raises(ConfigError):
        sign_policy(forbidden, AUTHORITY)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": Purpose.MEDICAL},
        {"purpose": Purpose.SAFETY},
        {"mode": Mode.OFF},
        {"mode": Mode.PRESENCE},
        {"jurisdiction": "CH"},
        {"setting": Setting.LABORATORY},
    ],
    ids=["medical", "safety", "off", "presence", "outside the Union", "laboratory"],
)
def test_what_the_article_leaves_open(changes: dict[str, object]) -> None:
    base = replace(LAWFUL, setting=Setting.EDUCATION, purpose=Purpose.EDUCATION)
    check_policy(replace(base, **changes))  # type: ignore[arg-type]


FORBIDDEN: dict[int, object] = {
    1: room.ROOM, 2: 2, 3: 0, 4: "DE", 5: 2, 6: 11, 7: 30, 8: 2, 9: "Head", 10: 1_000, 11: 2_000,
    12: [0, "", [], [], 0], 13: [0, "", [], [], 0],
}  # fmt: skip


def test_a_forbidden_policy_is_refused_at_reading_even_if_signed() -> None:
    raw = seal_envelope(ContentType.POLICY, FORBIDDEN, AUTHORITY, room=room.ROOM)
    with pytest.raises(ConfigError, match=r"Article 5\(1\)\(f\)"):
        read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)
    unknown_mode = seal_envelope(ContentType.POLICY, {**FORBIDDEN, 5: 9}, AUTHORITY, room=room.ROOM)
    with pytest.raises(RemoteMessageError) as refused:
        read_policy(unknown_mode, authority_key=AUTHORITY.public_key, room=room.ROOM)
    assert refused.value.verdict is Verdict.NOT_DECODABLE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({12: [3, "", [], [], 0]}, "unknown kind"),
        ({12: [1, "UTC", [[0, 0]], [[31, 780, 480]], 0]}, "end before"),
        ({12: [1, "UTC", [[0, 0]], [[31, 480, 780], [1, 700, 800]], 0]}, "overlap"),
        ({12: [1, "UTC", [[0, 0]], [[1, 2 * n, 2 * n + 1] for n in range(65)], 0]}, "at most 64"),
        ({12: [2, "UTC", [[0, 0]], [[31, 480, 780]], 0]}, "sessions"),
        ({13: [2, "UTC", [[0, 0]], [[31, 480, 780]], 1]}, "updates"),
        ({13: [0, "", [], []]}, "5"),
        ({13: "always"}, "array"),
        ({14: 0}, "fields"),
    ],
)
def test_a_signed_policy_with_a_malformed_schedule_is_not_decodable(changes: dict[int, object], why: str) -> None:
    raw = seal_envelope(ContentType.POLICY, {**FORBIDDEN, **changes}, AUTHORITY, room=room.ROOM)
    with pytest.raises(RemoteMessageError, match=why) as refused:
        read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)
    assert refused.value.verdict is Verdict.NOT_DECODABLE


def test_a_policy_of_before_the_schedules_is_not_read() -> None:
    old = {key: value for key, value in FORBIDDEN.items() if key < 12}
    raw = seal_envelope(ContentType.POLICY, old, AUTHORITY, room=room.ROOM)
    with pytest.raises(RemoteMessageError, match="fields"):
        read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)


def test_a_policy_signed_by_somebody_else() -> None:
    with pytest.raises(RemoteMessageError) as refused:
        read_policy(sign_policy(LAWFUL, room.signer("desk-1")), authority_key=AUTHORITY.public_key, room=room.ROOM)
    assert refused.value.verdict is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize("wall_ms", [0, 999, 2_000])
def test_a_policy_out_of_its_time(wall_ms: int) -> None:
    with pytest.raises(ConfigError, match="not in force"):
        check_in_force(LAWFUL, wall_ms)
    check_in_force(LAWFUL, 1_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_group": 0},
        {"witness_count": 0},
        {"retention_days": -1},
        {"approved_by": ""},
        {"jurisdiction": "Germany"},
        {"not_after_ms": 1_000},
        {"room": "Lab 1"},
        {"updates": LESSONS},
    ],
)
def test_values_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(LAWFUL, **changes)  # type: ignore[arg-type]
