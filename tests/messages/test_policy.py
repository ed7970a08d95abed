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


def test_a_policy_comes_back() -> None:
    raw = sign_policy(LAWFUL, AUTHORITY)
    assert read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM) == LAWFUL


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
    with pytest.raises(ConfigError):
        sign_policy(forbidden, AUTHORITY)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": Purpose.MEDICAL},
        {"purpose": Purpose.SAFETY},
        {"mode": Mode.OFF},
        {"jurisdiction": "CH"},
        {"setting": Setting.LABORATORY},
    ],
    ids=["medical", "safety", "off", "outside the Union", "laboratory"],
)
def test_what_the_article_leaves_open(changes: dict[str, object]) -> None:
    base = replace(LAWFUL, setting=Setting.EDUCATION, purpose=Purpose.EDUCATION)
    check_policy(replace(base, **changes))  # type: ignore[arg-type]


def test_a_forbidden_policy_is_refused_at_reading_even_if_signed() -> None:
    fields: dict[int, object] = {
        1: room.ROOM, 2: 2, 3: 0, 4: "DE", 5: 2, 6: 11, 7: 30, 8: 2, 9: "Head", 10: 1_000, 11: 2_000
    }  # fmt: skip
    raw = seal_envelope(ContentType.POLICY, fields, AUTHORITY, room=room.ROOM)
    with pytest.raises(ConfigError, match=r"Article 5\(1\)\(f\)"):
        read_policy(raw, authority_key=AUTHORITY.public_key, room=room.ROOM)
    unknown_mode = seal_envelope(ContentType.POLICY, {**fields, 5: 9}, AUTHORITY, room=room.ROOM)
    with pytest.raises(RemoteMessageError) as refused:
        read_policy(unknown_mode, authority_key=AUTHORITY.public_key, room=room.ROOM)
    assert refused.value.verdict is Verdict.NOT_DECODABLE


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
    ],
)
def test_values_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(LAWFUL, **changes)  # type: ignore[arg-type]
