"""The line under packet loss: a short real cell, going on with results, and what the page says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device.errors import ConfigError
from provisioning.mosquitto import find_mosquitto
from tests.integration.room_broker import wait_until
from tests.tools.evaluate.test_line_rates import GOOD_LOG, RIGHT, predictions, trial
from tools.bench.line_cells import Cell, CellRow, MachineLoad, Settings, WireCost
from tools.bench.line_loss import RESULTS, Results, about, cells, load_results, machine, main, write
from tools.bench.line_page import PAGE, PLOT
from tools.bench.packet_loss import TUN
from tools.evaluate.line_rates import row_of

REPOSITORY = Path(__file__).resolve().parents[3]
QUIET = MachineLoad(busy=0.4, others=0.01, cores={"gateway": 0.1})


def why_not() -> str:
    """Why no namespaces with TUN devices can be made here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not TUN.exists() or shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        return "needs /dev/net/tun and iproute2"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"needs network namespaces: {tried.stderr.strip()}"
    return "" if find_mosquitto() else "mosquitto is not installed"


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "units": 3,
        "seconds": 2.0,
        "seed": 4,
        "programs": 2,
        "each_verifies": False,
        "round_period_ms": 500,
        "answers": "made up",
    }
    return Settings(**(fields | changes))


def cell_row(rate_hz: float = 1.0, loss_percent: float = 5.0, **changes: Any) -> CellRow:
    fields: dict[str, Any] = {
        "cell": Cell(rate_hz, loss_percent, 10),
        "line": row_of(trial([RIGHT, RIGHT]), GOOD_LOG),
        "packets": 1_000,
        "packets_dropped": 51,
        "recovered_s": 0.2,
        "rounds_per_s": 2.0,
        "signed_in_round": 0.97,
        "machine": QUIET,
        "no_figure": [],
    }
    return CellRow(**(fields | changes))


def results(rows: list[CellRow], **changes: Any) -> Results:
    fields: dict[str, Any] = {
        "command": "command",
        "machine": machine(),
        "settings": settings(),
        "wire": WireCost(60.0, 30.0),
        "about": about(),
        "rows": rows,
    }
    return Results(**(fields | changes))


def test_the_grid_has_every_rate_at_every_loss_and_the_kernels_time_out_beside_it() -> None:
    grid = cells((1.0, 2.0), (0.0, 5.0), 10)
    assert grid[:4] == [Cell(1.0, 0.0, 10), Cell(2.0, 0.0, 10), Cell(1.0, 5.0, 10), Cell(2.0, 5.0, 10)]
    assert grid[4:] == [Cell(2.0, 5.0, None)]
    assert cells((2.0,), (5.0,), None) == [Cell(2.0, 5.0, None)]


def test_a_run_goes_on_with_what_is_measured_and_repeats_what_was_no_figure(tmp_path: Path) -> None:
    write(tmp_path, results([cell_row(), cell_row(2.0, no_figure=["the machine was 99% busy"])]))
    before = load_results(tmp_path, results([]))
    assert (before.good(Cell(1.0, 5.0, 10)), before.good(Cell(2.0, 5.0, 10))) == (True, False)
    before.put(cell_row(2.0))
    assert [row.no_figure for row in before.rows] == [[], []]


@pytest.mark.parametrize("changes", [{"settings": settings(units=4)}, {"machine": {"cores": 64}}])
def test_results_of_another_measurement_are_not_mixed_in(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, results([cell_row()]))
    with pytest.raises(ConfigError, match=RESULTS):
        load_results(tmp_path, results([], **changes))


def test_a_damaged_results_file_is_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text("{")
    with pytest.raises(ConfigError, match=RESULTS):
        load_results(tmp_path, results([]))


def test_the_page_marks_what_is_no_figure_and_stands_beside_the_papers_bounds(tmp_path: Path) -> None:
    slow = row_of(trial([RIGHT, RIGHT], verified={}), GOOD_LOG)
    write(tmp_path, results([cell_row(), cell_row(2.0, line=slow, recovered_s=None, no_figure=["busy"])]))
    text = (tmp_path / PAGE).read_text()
    assert "delay 340 ms, loss at most 5 %, leakage at most 15 %" in text
    assert "| 5 % | 1 | 1 | 40 | 40 | 40 | 30 | yes | 0 of 2 | 0 | 0.2 |" in text
    assert "| 5 % | 2 ○ |" in text
    assert "| 2 of 2 | 0 |  |" in text
    assert (tmp_path / PLOT).read_text().startswith("<svg")


def test_a_lost_label_fails_the_run_whatever_the_machine() -> None:
    row = cell_row(line=row_of(trial([RIGHT, RIGHT], verified={}), GOOD_LOG), no_figure=["busy"])
    assert any("2 of 2 labels were lost" in problem for problem in row.problems())


@pytest.mark.parametrize("wrong", [["--rates", "0"], ["--loss", "100"], ["--rates", "x"], ["--seconds", "0"]])
def test_wrong_arguments_end_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2


def test_without_namespaces_it_says_what_to_do_and_ends_with_2(tmp_path: Path) -> None:
    program = (
        "import sys; from tools.bench import packet_loss, line_loss\n"
        "packet_loss.TUN = packet_loss.Path('/dev/net/nothing')\n"
        "sys.exit(line_loss.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--out", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Run it as root" in done.stderr


def command(tmp_path: Path, *more: str) -> list[str]:
    answers = predictions(tmp_path / "answers.npz", ("anger", "fear"))
    return [
        *(sys.executable, "-m", "tools.bench.line_loss", "--units", "3", "--rates", "2", "--loss", "5"),
        *("--rto-min-ms", "0", "--answers", str(answers), "--out", str(tmp_path / "out"), *more),
    ]


def environment(tmp_path: Path) -> dict[str, str]:
    """So that every program of the room has `tmp_path` in its command line or environment."""
    (tmp_path / "room").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "room")}


def left_over(tmp_path: Path) -> list[str]:
    """Programs that belong to the room, and files of it."""
    found = [path.name for path in (tmp_path / "room").iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, line = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"TMPDIR={tmp_path}/room".encode() in environ and line:
            found.append(line.decode(errors="replace"))
    return found


REAL = pytest.mark.skipif(bool(why_not()), reason=why_not() or "all there")


@REAL
def test_under_five_percent_packet_loss_three_units_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--seconds", "3"),
        env=environment(tmp_path),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = msgspec.json.decode((tmp_path / "out" / RESULTS).read_bytes(), type=Results)
    (row,) = written.rows
    assert 0 < row.packets_dropped < 0.15 * row.packets
    assert row.line.sent >= 12
    assert (row.line.lost, row.line.altered, row.line.readable, row.line.forged_accepted) == (0, 0, 0, 0)
    assert row.line.recognition_kept == 1.0
    assert row.line.attempts > 100
    assert row.recovered_s is not None
    assert left_over(tmp_path) == []


@REAL
def test_ctrl_c_ends_every_program_of_the_room(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--seconds", "60"),
        env=environment(tmp_path),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any("line_boxes" in name for name in left_over(tmp_path)), "the boxes run")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert left_over(tmp_path) == []
