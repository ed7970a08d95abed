"""The light shows what the table says, changes at once, and a box without one goes on all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from provisioning.box_light import PATTERNS, Light, NoLight, Sign, open_light
from tests.integration.room_broker import wait_until


@pytest.fixture
def led(tmp_path: Path) -> Path:
    (tmp_path / "trigger").write_text("mmc0")
    (tmp_path / "brightness").write_text("1")
    return tmp_path


def test_every_sign_has_a_pattern_of_its_own_that_a_person_can_follow() -> None:
    assert set(PATTERNS) == set(Sign)
    assert len(set(PATTERNS.values())) == len(Sign)
    for pattern in PATTERNS.values():
        assert len(pattern) % 2 == 0
        assert sum(pattern) > 0
        assert all(step == 0 or step >= 100 for step in pattern)


def test_light_is_taken_from_the_kernels_trigger_and_blinks(led: Path) -> None:
    light = open_light(led)
    assert isinstance(light, Light)
    assert (led / "trigger").read_text() == "none"
    assert (led / "brightness").read_text() == "0"
    light.show(Sign.REFUSED)
    seen: set[str] = set()
    ends = time.monotonic() + 5.0
    while len(seen) < 2 and time.monotonic() < ends:
        seen.add((led / "brightness").read_text())
        seen.discard("")
    assert seen == {"0", "1"}
    light.show(Sign.ENROLLED)
    wait_until(lambda: (led / "brightness").read_text() == "1", "the light is on")


def test_no_light_is_no_reason_not_to_enrol(tmp_path: Path) -> None:
    light = open_light(tmp_path / "absent")
    assert isinstance(light, NoLight)
    light.show(Sign.REFUSED)
