"""The log that the real gateway leaves, with real units: verified while it runs, over a kill, over retention."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.memory_room import DAY_MS, MemoryRoom
from tests.verify.files import AUTHORITY_HEX, Ran, roster_file, verify
from tools.vectors import room


@pytest.fixture
def memory_room(tmp_path: Path) -> Iterator[MemoryRoom]:
    built = MemoryRoom(tmp_path)
    yield built
    built.store.close()


def checked(memory_room: MemoryRoom, *arguments: object) -> Ran:
    roster = roster_file(memory_room.state, room.roster(4))
    return verify(memory_room.store.path, "--roster", roster, "--authority", AUTHORITY_HEX, *arguments)


def test_a_running_gateways_log_is_verified_over_a_kill_and_no_label_is_missing(memory_room: MemoryRoom) -> None:
    memory_room.run(4.0)
    first = checked(memory_room)
    memory_room.kill_gateway()
    memory_room.clock.advance(0.2)
    memory_room.start_gateway()
    memory_room.run(4.0)
    second = checked(memory_room, "--head", first.document["lines"][0]["head"])
    assert (first.code, second.code) == (0, 0)
    before, after = first.document["lines"][0], second.document["lines"][0]
    assert after["rounds"] > before["rounds"] > 5
    assert [unit["unit"] for unit in after["units"]] == list(room.unit_names(4))
    for unit in after["units"]:
        assert (unit["missing"], unit["session_count"]) == (0, 1)
        assert unit["labels"] == unit["sessions"][0]["last"] > 10


def test_after_retention_the_log_is_verified_from_its_stub_and_a_kept_receipt_is_of_what_went(
    memory_room: MemoryRoom,
) -> None:
    memory_room.run(4.0)
    last = checked(memory_room).document["lines"][0]["last_round"]
    receipt = memory_room.state / "receipt"
    assert checked(memory_room, "--export", receipt, "--from", 1, "--to", last).code == 0
    memory_room.clock.advance(memory_room.policy.retention_days * DAY_MS / 1_000)
    memory_room.settle()
    memory_room.run(3.0)
    ran = checked(memory_room)
    line = ran.document["lines"][0]
    assert (ran.code, line["deleted"]["last_round"], line["first_round"]) == (0, last, last + 1)
    assert checked(memory_room, "--deleted", receipt).code == 0
