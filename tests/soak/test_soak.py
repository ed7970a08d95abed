"""Small soak runs with real processes, mosquitto and gateway; `make soak` runs large ones."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from device.config import LineLimits
from device.gateway.wiring import STORE_FILE
from tests.integration.room_broker import require_mosquitto
from tools.bench.disk_writes import measure
from tools.soak.__main__ import main
from tools.soak.audit import check_losses, check_record, read_record
from tools.soak.kills import KillPlan, run_kills
from tools.soak.line import LinePlan, run_line
from tools.soak.room import SoakRoom

SPILL_AFTER_S = 0.8


@pytest.fixture
def room(tmp_path: Path) -> Iterator[SoakRoom]:
    require_mosquitto()
    with SoakRoom(tmp_path / "room", 2, LineLimits(spill_after_ms=round(SPILL_AFTER_S * 1_000))) as running:
        yield running


def broken(room: SoakRoom) -> list[str]:
    """Names of the checks of a stopped room that do not hold."""
    record = read_record(room)
    return [check.name for check in [*check_record(room, record), *check_losses(room, record)[0]] if not check.passed]


def test_labels_made_while_the_gateway_is_away_outlive_a_kill_and_the_audit_finds_what_is_taken_out(
    room: SoakRoom,
) -> None:
    for unit in room.units:
        room.start(unit)
    assert room.wait_until_delivered(20.0)
    room.kill_gateway()
    deadline = time.monotonic() + 20.0
    while len(room.spilled("a1")) < 4:
        assert time.monotonic() < deadline, "nothing came to the disk"
        room.listen(0.1)
    killed = room.kill("a1", undisturbed_after_s=1.0)
    assert not killed.undisturbed
    room.start("a1")
    room.start_gateway()
    room.listen(1.0)
    assert room.wait_until_delivered(20.0)
    room.stop_units()
    room.stop_gateway()
    assert broken(room) == []
    store = room.gateway_config.state / STORE_FILE
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("DELETE FROM labels WHERE (unit, session, sequence) = ('a1', ?, ?)", min(killed.spilled))
    assert any("lay on a unit's disk" in name for name in broken(room))
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("DELETE FROM labels WHERE (unit, session, sequence) = ('a2', 1, 1)")
    assert any("a grant acknowledged" in name for name in broken(room))
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("DELETE FROM links WHERE position = (SELECT min(position) FROM links)")
    assert any("log verifies" in name for name in broken(room))


@pytest.mark.slow
def test_units_killed_at_random_lose_nothing_acknowledged_and_use_no_number_twice(tmp_path: Path) -> None:
    require_mosquitto()
    kills: list[int] = []
    report = run_kills(KillPlan(folder=tmp_path, kills=5, units=2, spill_after_s=SPILL_AFTER_S, seed=2), kills.append)
    assert sum(kills) == 5
    assert [check for check in report.checks if not check.passed] == []


@pytest.mark.slow
def test_a_line_goes_on_while_units_die_and_come_back(tmp_path: Path) -> None:
    require_mosquitto()
    plan = LinePlan(folder=tmp_path, units=3, seconds=3.0, outage=False, pace=0.4)
    report = run_line(plan, lambda seconds: None)
    # How long things took is the machine's; the long run judges it, on a quiet one.
    missed = [check.name for check in report.checks if not check.passed]
    assert [name for name in missed if not any(word in name for word in ("later than", "delay", "pause"))] == []
    assert "later than" in " ".join(check.name for check in report.checks), "delays were measured"


def test_a_real_unit_writes_nothing_while_the_gateway_answers_and_in_batches_while_it_is_away() -> None:
    require_mosquitto()
    rows = measure(normal_s=2.5, away_s=3.0, settle_s=2.0, limits=LineLimits(spill_after_ms=1_000))
    values = {row.name.split(" (from")[0]: row.value for row in rows}
    assert values["durable writes of a unit in normal work, after the start"] == 0
    assert values["bytes that a unit makes the kernel write in normal work, after the start"] == 0
    assert values["durable writes of a unit while the gateway is away"] > 0
    assert values["bytes that a unit makes the kernel write while the gateway is away"] > 0
    assert [row.name for row in rows if row.met is False] == []


def test_soak_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["kills", "--kills", "0"])
    assert refused.value.code == 2
    assert main(["line", "--units", "1000", "--folder", str(tmp_path)]) == 2
    assert "A line has 1 to 40 units" in capsys.readouterr().err
