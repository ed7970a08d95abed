"""The retained status and the last will."""

from __future__ import annotations

import json

from device.unit.status import UnitStatus, last_will, status_payload


def test_last_will_carries_the_session_so_that_an_old_death_is_not_taken_for_a_new_one() -> None:
    will = json.loads(last_will("desk-1", "a", 7))
    assert (will["unit"], will["session"], will["process"]) == ("desk-1", 7, "lost")
    assert will["microphone"] == will["camera"] == "unknown"


def test_status_is_json_with_its_schema() -> None:
    said = json.loads(status_payload(UnitStatus(unit="desk-1", line="a", session=2, process="running")))
    assert said["schema"] == "moodline/unit-status/1"
    assert said["process"] == "running"
