"""One running room behind a network that loses packets, measured cell by cell: a transmission rate at a packet loss."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from tqdm import tqdm

from device.config import LineLimits
from tools.bench.line_boxes import Boxes
from tools.bench.packet_loss import NEAR, Counted, LossyNetwork, round_trip_us
from tools.demo.programs import ProgramError
from tools.evaluate.line_parties import Answer
from tools.evaluate.line_rates import RateRow, row_of
from tools.evaluate.line_room import LineRoom, Trial, links_of, room_plan, trial_of, until

START_S: Final = 60.0
#: After a cell's last label packets are lost for so long, or until all labels are verified; then the network recovers,
#: and so long may it take until they are.
STILL_LOSSY_S: Final = 10.0
RECOVERY_S: Final = 60.0
#: Sealed labels of a cell, drawn by chance, on which everybody's keys are tried.
ENTRIES_TRIED: Final = 40
#: Above these shares the machine, not the line, may have made a delay: all its cores, and what other programs took.
MOST_BUSY: Final = 0.9
MOST_OTHERS: Final = 0.1
LEAST_RATE: Final = 0.95
_BACKLOG: Final = 256


class Cell(msgspec.Struct, frozen=True):
    """What is asked for. `rto_min_ms`: TCP's least retransmission time-out, None for the kernel's own (200 ms)."""

    rate_hz: float
    loss_percent: float
    rto_min_ms: int | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all cells of a run."""

    units: int
    seconds: float
    seed: int
    programs: int
    each_verifies: bool
    round_period_ms: int
    answers: str


class MachineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of all cores while labels were made and verified, and cores that each part took."""

    busy: float
    others: float
    cores: dict[str, float]


class CellRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one cell showed.

    `packets` are those of the time in which packets were dropped; `recovered_s` is when the last label was verified, in
    seconds after the last was made, None when one was lost. `no_figure` says why its delays are not the line's; empty
    when they are.
    """

    cell: Cell
    line: RateRow
    packets: int
    packets_dropped: int
    recovered_s: float | None
    rounds_per_s: float
    signed_in_round: float
    machine: MachineLoad
    no_figure: list[str]

    def problems(self) -> list[str]:
        """Why this cell counts as failed, whatever the machine; empty when all is well."""
        return [f"{self.cell.loss_percent:g} % loss, {problem}" for problem in self.line.problems()]


class WireCost(msgspec.Struct, frozen=True):
    """A TCP connection's making in microseconds, median: one packet there and one back."""

    through_forwarder_us: float
    over_loopback_us: float


class _Spent:
    """Processor seconds of the machine and of our programs, from one moment on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self._machine = _machine_seconds()
        self._ours = {name: _seconds_of(pid) for name, pid in pids.items()}

    def load(self) -> MachineLoad:
        """The load since then."""
        seconds, (total, busy) = time.monotonic() - self._began, _machine_seconds()
        capacity = max(total - self._machine[0], 1e-9)
        spent = {name: _seconds_of(pid) - self._ours[name] for name, pid in self._pids.items()}
        others = busy - self._machine[1] - sum(spent.values())
        return MachineLoad(
            busy=round((busy - self._machine[1]) / capacity, 3),
            others=round(max(others, 0.0) / capacity, 3),
            cores={name: round(each / seconds, 3) for name, each in spent.items()},
        )


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine_seconds() -> tuple[float, float]:
    """(all, busy) processor seconds of all cores since start, from /proc/stat (proc(5))."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    per_second = os.sysconf("SC_CLK_TCK")
    return sum(ticks) / per_second, (sum(ticks) - ticks[3] - ticks[4]) / per_second


class LossRoom:
    """Broker, gateway, reader and outsider here, units beyond the forwarder. `close` stops all of it.

    This process must be in a network namespace of its own (`packet_loss.enter_own_network`). Raises ConfigError,
    ProgramError or StorageError when it cannot run.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        answers: Sequence[Answer],
        stop: threading.Event,
        *,
        rto_min_ms: int | None,
    ) -> None:
        self._settings = settings
        self._stop = stop
        defaults = LineLimits()
        # What is left of a period after the deadline stays the same.
        slack = defaults.round_period_ms - defaults.round_deadline_ms
        limits = LineLimits(
            round_period_ms=settings.round_period_ms, round_deadline_ms=settings.round_period_ms - slack
        )
        with ExitStack() as stack:
            self.network = LossyNetwork(seed=settings.seed)
            stack.callback(self.network.stop)
            # Connections that stand keep the time-out that they began with.
            self.network.set_rto_min(rto_min_ms)
            self.rto_min_ms = rto_min_ms
            self.wire = _wire_cost(self.network)
            self.line = LineRoom(
                folder / "room",
                room_plan(settings.units, host=NEAR, limits=limits),
                lambda room: self._boxes([room.unit_config(name) for name in room.units], answers, folder),
            )
            stack.callback(self.line.close)
            if not until(self.line, lambda: self.line.is_live, START_S, stop):
                raise ProgramError(
                    f"Not every unit signs after {START_S:g} s.", next_step="The machine may be too busy; try again."
                )
            self._stack = stack.pop_all()

    def _boxes(self, configs: Sequence[Path], answers: Sequence[Answer], folder: Path) -> Boxes:
        settings = self._settings
        self.boxes = Boxes(
            configs,
            answers,
            folder,
            programs=settings.programs,
            each_verifies=settings.each_verifies,
            enter=self.network.far,
        )
        return self.boxes

    def run(self, cell: Cell, bar: tqdm[NoReturn]) -> CellRow:
        """Measure one cell. Raises StoppedError, ProgramError."""
        assert cell.rto_min_ms == self.rto_min_ms, "a room has one time-out"
        line, everybody = self.line, len(self.line.room.units)
        until(line, lambda: len(line.state().get("live", ())) == everybody, START_S, self._stop)
        ends: list[tuple[float, int, MachineLoad]] = []
        counted: list[Counted] = []

        def mend() -> float:
            counted.append(self.network.set_loss(0.0))
            return RECOVERY_S

        spent = _Spent(self._pids())
        first, began = self._round(), time.monotonic()
        self.network.set_loss(cell.loss_percent / 100)
        try:
            trial = trial_of(
                line,
                cell.rate_hz,
                self._settings.seconds,
                self._stop,
                bar,
                recovery_s=STILL_LOSSY_S,
                entries_tried=ENTRIES_TRIED,
                when_said=lambda: ends.append((time.monotonic(), self._round(), spent.load())),
                mend=mend,
            )
        finally:
            mend()
        (ended, last, load), log = ends[0], line.rounds()
        period_s = self._settings.round_period_ms / 1_000
        links = sum(len(closed.links) for closed in log if first <= closed.round < last)
        row = row_of(trial, links_of(log))
        return CellRow(
            cell=cell,
            line=row,
            packets=sum(counted[0].seen),
            packets_dropped=sum(counted[0].dropped),
            recovered_s=_recovered_s(trial),
            rounds_per_s=round((last - first) / (ended - began), 3),
            signed_in_round=round(links / (everybody * max(last - first, 1)), 4),
            machine=load,
            # One round more or less is where the span begins.
            no_figure=_why_no_figure(row, (last - first + 1) * period_s / (ended - began), load),
        )

    def close(self) -> None:
        """Stop everything that still runs."""
        self._stack.close()

    def _round(self) -> int:
        return int(self.line.state().get("round") or 0)

    def _pids(self) -> dict[str, int]:
        broker = self.line.broker.pid
        assert broker is not None, "the broker runs as long as the room"
        gateway = self.line.gateway.process.pid
        return {
            "measuring": os.getpid(),
            "forwarder": self.network.pid,
            "broker": broker,
            "gateway": gateway,
            **self.boxes.pids,
        }


def _recovered_s(trial: Trial) -> float | None:
    if not trial.sent or len(trial.verified) < len(trial.sent):
        return None
    last_made = max(sent.made_ms for sent in trial.sent.values())
    return max(document.accepted_ms - last_made for document in trial.verified.values()) / 1_000


def _why_no_figure(row: RateRow, rounds: float, load: MachineLoad) -> list[str]:
    """Reasons why the machine, not the line, may have made the delays. `rounds`: of those that there should be."""
    found = {
        f"the machine was {load.busy:.0%} busy": load.busy > MOST_BUSY,
        f"other programs took {load.others:.0%} of the machine": load.others > MOST_OTHERS,
        f"the gateway opened {rounds:.0%} of the rounds": rounds < LEAST_RATE,
        f"{row.achieved_hz:g} labels/s were made": row.paced_by == "clock"
        and row.achieved_hz < LEAST_RATE * row.rate_hz,
    }
    return [reason for reason, holds in found.items() if holds]


def _wire_cost(network: LossyNetwork) -> WireCost:
    """What the forwarder adds while it loses nothing."""
    with socket.create_server((NEAR, 0), backlog=_BACKLOG) as server:
        port = server.getsockname()[1]
        program = f"from tools.bench.packet_loss import round_trip_us; print(round_trip_us({NEAR!r}, {port}))"
        done = subprocess.run(
            network.far([sys.executable, "-c", program]), capture_output=True, text=True, check=False, timeout=START_S
        )
        if done.returncode != 0:
            raise ProgramError(
                f"Nothing comes through the forwarder: {done.stderr.strip()[-200:]}", next_step="Try again."
            )
        return WireCost(round(float(done.stdout), 1), round(round_trip_us(NEAR, port), 1))
