"""Broker, gateway and units of the demo room as the separate programs that they are on real boxes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.errors import MoodlineError
from provisioning.demo_room import DemoRoom
from provisioning.mosquitto import Mosquitto

STOP_S: Final = 10.0
LOG_LINES: Final = 8
REPLAYING: Final = re.compile(r"Replaying (\S+) from window (\d+)")


class ProgramError(MoodlineError):
    """One of the room's programs ended by itself."""


@dataclass
class Program:
    """A running program and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises ProgramError with the end of the log when the program has ended."""
        code = self.process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise ProgramError(
                f"{self.name} ended with exit code {code}:\n{tail}\n", next_step=f"The log is {self.log}."
            )

    def resident_bytes(self) -> int:
        """Resident memory now, from /proc; 0 when the program has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found.group(1)) * 1024 if found else 0

    def processor_seconds(self) -> float:
        """User and system time used so far, from /proc; 0 when the program has ended."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ask it to end, wait, and insist when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Programs:
    """Starts the room's programs, watches them, and stops them in order."""

    def __init__(self, room: DemoRoom) -> None:
        self._room = room
        self.broker = Mosquitto(room.broker, room.plan.host, room.plan.port)
        self.gateway: Program | None = None
        self.units: dict[str, Program] = {}

    def start(self) -> None:
        """Gateway, then units; the broker runs already."""
        self.gateway = self._run("gateway", "device.gateway", self._room.gateway_config, self._room.gateway)
        for name in self._room.units:
            self.units[name] = self._run(name, "device.unit", self._room.unit_config(name), self._room.unit(name))

    def check(self) -> None:
        """Raises ProgramError when one has ended."""
        for program in self.running:
            program.check()

    @property
    def running(self) -> list[Program]:
        """Gateway and units."""
        return [*([self.gateway] if self.gateway else []), *self.units.values()]

    def stop_units(self) -> None:
        """End the units; the gateway goes on, so that what they sent last is still verified."""
        for program in self.units.values():
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGTERM)
        for program in self.units.values():
            program.stop()

    def stop(self) -> None:
        """End everything; may be called twice."""
        self.stop_units()
        if self.gateway is not None:
            self.gateway.stop()
        self.broker.stop()

    def takes_of(self, unit: str) -> list[tuple[int, str]]:
        """What a unit has replayed so far: (end of the first window in ms, name of the recording), in order."""
        text = self.units[unit].log.read_text(errors="replace")
        return [(int(window), name) for name, window in REPLAYING.findall(text)]

    def _run(self, name: str, module: str, config: Path, folder: Path) -> Program:
        log = folder / "log.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C in the terminal is for the demo, which then stops its programs in order.
                process_group=0,
            )
        return Program(name, process, log)
