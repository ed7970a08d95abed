"""The main job as a stranger starts it: real broker, gateway, units and networks; only the sensors are played.

What this does not prove: microphones and cameras (see tests/capture), and speed (see `make bench`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.mosquitto import free_port
from tests.integration.room_broker import require_mosquitto

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_S = 25


def start_demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.demo", "--plain", "--room", str(folder), "--web-port", str(free_port())]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def programs_of(folder: Path) -> list[int]:
    """Process ids whose command line names the room's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and ("device." in line or "mosquitto" in line):
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    require_mosquitto()
    yield tmp_path / "room"
    assert programs_of(tmp_path / "room") == []


@pytest.mark.slow
def test_recordings_in_verified_labels_out_and_attacks_refused(folder: Path) -> None:
    process = start_demo(folder, "--seconds", str(RUN_S))
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    verified = re.search(r"labels verified\s+(\d+)", text)
    # Four units, two labels a second, minus the start; far fewer would mean that rounds stall.
    assert verified and int(verified.group(1)) >= RUN_S * 4, text
    assert re.search(r"labels lost\s+0\b", text), text
    assert re.search(r"forged link\s+refused: bad_signature", text), text
    assert re.search(r"replayed link\s+refused: (replayed|stale_round)", text), text
    assert re.search(r"accuracy\s+\d+ of [1-9]\d* named windows right", text), text


@pytest.mark.slow
def test_killed_unit_ends_the_demo_with_its_name_and_exit_code_1(folder: Path) -> None:
    process = start_demo(folder)
    try:
        deadline = time.monotonic() + 60
        victims: list[int] = []
        while not victims and time.monotonic() < deadline:
            time.sleep(0.2)
            victims = [pid for pid in programs_of(folder) if b"units/a2" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert victims, "the unit never started"
        subprocess.run(["kill", "-KILL", str(victims[0])], check=True)
        text, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, text
    assert "a2 ended with exit code -9" in text


@pytest.mark.slow
def test_interrupt_stops_every_program_and_still_sums_up(folder: Path) -> None:
    process = start_demo(folder, "--no-attack")
    deadline = time.monotonic() + 60
    while len(programs_of(folder)) < 6 and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(6)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "Summary" in text


def test_folder_without_takes_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    process = start_demo(folder, "--takes", str(tmp_path / "none"))
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "No takes to replay" in text
