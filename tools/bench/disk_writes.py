"""What a unit writes to its disk in an hour, in normal work and while the gateway is away: a real unit process.

Bytes come from the kernel (`write_bytes` in /proc/PID/io, proc(5): pages that the process made dirty on a block
device), durable writes from the unit's own `Disk`, which counts here. The file system's journal, which fsync(2) writes
on top, is charged to no process and is not in it; nor is what the journal of the service manager does with log lines.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from device.config import LineLimits, load_unit
from device.errors import MoodlineError
from device.system.storage import Disk
from device.unit.wiring import build
from tools.bench.measurement import Measurement
from tools.soak.room import SoakRoom

UNIT: Final = "a1"
NORMAL_S: Final = 20.0
#: Some batches long, so that their number does not hang on where the span begins.
AWAY_S: Final = 32.0
SETTLE_S: Final = 4.0
HOUR_S: Final = 3_600.0


class Counts(msgspec.Struct, frozen=True):
    """Calls of a unit's `Disk` so far: fsyncs of files and folders, writes, and the bytes that it handed over."""

    fsyncs: int = 0
    writes: int = 0
    content_bytes: int = 0


class CountingDisk(Disk):
    """The real disk, counted."""

    def __init__(self) -> None:
        self.counts = Counts()

    def _add(self, *, fsyncs: int = 0, writes: int = 0, content_bytes: int = 0) -> None:
        before = self.counts
        self.counts = Counts(before.fsyncs + fsyncs, before.writes + writes, before.content_bytes + content_bytes)

    def write(self, descriptor: int, content: bytes) -> int:
        taken = super().write(descriptor, content)
        self._add(writes=1, content_bytes=taken)
        return taken

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        self._add(fsyncs=1)

    def fsync_folder(self, folder: Path) -> None:
        super().fsync_folder(folder)
        self._add(fsyncs=1)


@dataclass(frozen=True)
class Reading:
    """Where the counters of a unit process stand. `write_bytes` and `calls` (write calls of any kind, to sockets, too)
    are the kernel's."""

    at: float
    disk: Counts
    write_bytes: int
    calls: int


class CountedUnit:
    """A unit process with a counting disk."""

    def __init__(self, config: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.disk_writes", "--unit", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def read(self) -> Reading:
        """Ask now. Raises MoodlineError when the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
            disk = msgspec.json.decode(self._process.stdout.readline(), type=Counts)
        except (OSError, msgspec.DecodeError) as error:
            raise MoodlineError(
                "The counted unit ended.", next_step="Start moodline-unit by hand and read it."
            ) from error
        lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        kernel = {name: int(value) for name, value in (line.split(": ") for line in lines)}
        return Reading(time.monotonic(), disk, kernel["write_bytes"], kernel["syscw"])

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def counted_unit(room: SoakRoom) -> Iterator[CountedUnit]:
    """The room's first unit, counted."""
    unit = CountedUnit(room.room.unit_config(UNIT))
    try:
        yield unit
    finally:
        unit.close()


def measure(
    *,
    normal_s: float = NORMAL_S,
    away_s: float = AWAY_S,
    settle_s: float = SETTLE_S,
    limits: LineLimits | None = None,
) -> list[Measurement]:
    """Writes and bytes per unit-hour, scaled from the spans that the rows name; `settle_s` goes before each span.

    Raises ConfigError without mosquitto, ProgramError or MoodlineError when a program ends by itself.
    """
    with tempfile.TemporaryDirectory() as folder, SoakRoom(Path(folder), 1, limits or LineLimits()) as room:
        with counted_unit(room) as unit:
            room.listen(settle_s)
            normal = (unit.read(), _after(room, unit, normal_s))
            room.kill_gateway()
            room.listen(settle_s)
            away = (unit.read(), _after(room, unit, away_s))
        return [
            *_rows("in normal work, after the start", *normal, room.gateway_config.limits, away=False),
            *_rows("while the gateway is away", *away, room.gateway_config.limits, away=True),
            Measurement(
                name="durable writes of a unit at its start, file and folder of the session counter",
                value=normal[0].disk.fsyncs,
                unit="fsyncs",
                goal="2: one number, and its name in the folder",
                met=normal[0].disk.fsyncs == 2,
            ),
        ]


def _after(room: SoakRoom, unit: CountedUnit, seconds: float) -> Reading:
    room.listen(seconds)
    return unit.read()


def _rows(when: str, begin: Reading, end: Reading, limits: LineLimits, *, away: bool) -> list[Measurement]:
    span = end.at - begin.at
    hourly = HOUR_S / span
    labels = HOUR_S * 1_000 / limits.round_period_ms
    fsyncs = (end.disk.fsyncs - begin.disk.fsyncs) * hourly
    # One append in each such time, one more for the label that comes late.
    allowed = HOUR_S * 1_000 / limits.spill_after_ms + hourly if away else 0.0
    place = f"{when} (from {span:.0f} s)"
    return [
        Measurement(
            name=f"durable writes of a unit {place}",
            value=fsyncs,
            unit="fsyncs/h",
            peer="one durable write for each label",
            peer_value=labels,
            ratio=fsyncs / labels,
            goal=f"at most one in {limits.spill_after_ms / 1_000:g} s" if away else "none",
            met=fsyncs <= allowed,
        ),
        Measurement(
            name=f"bytes that a unit makes the kernel write {place}",
            value=(end.write_bytes - begin.write_bytes) * hourly,
            unit="bytes/h",
            goal="" if away else "none",
            met=None if away else end.write_bytes == begin.write_bytes,
        ),
        Measurement(
            name=f"bytes of sealed labels with their records {place}",
            value=(end.disk.content_bytes - begin.disk.content_bytes) * hourly,
            unit="bytes/h",
        ),
        Measurement(
            name=f"write calls of any kind, to sockets, too, {place}",
            value=(end.calls - begin.calls) * hourly,
            unit="/h",
        ),
    ]


def run_counted(config: Path) -> int:
    """Be a unit, and say the counts whenever a line comes in. Ends when the input does."""
    disk = CountingDisk()
    stop = threading.Event()

    def answer() -> None:
        for _ in sys.stdin:
            print(msgspec.json.encode(disk.counts).decode(), flush=True)
        stop.set()

    service = build(load_unit(config), disk=disk)
    threading.Thread(target=answer, daemon=True).start()
    service.run(stop)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; or, with --unit, be the unit that is measured."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.disk_writes", description="Disk writes of a unit.")
    parser.add_argument("--unit", type=Path, metavar="DEVICE_TOML", help="be the counted unit of that configuration")
    options = parser.parse_args(arguments)
    if options.unit is not None:
        return run_counted(options.unit)
    for row in measure():
        print(f"{row.name}: {row.value:.6g} {row.unit}" + (f" (wanted: {row.goal})" if row.goal else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
