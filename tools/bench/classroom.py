"""The running room: delay from the window's end to the verified label, and memory and processor share per program.

Four units, gateway and broker as separate programs on this machine, replaying the demo takes at 1× over loopback with
mutual TLS: the demo room without its attack. All programs share one clock, so the delay is a difference on one clock;
where the box's clock counts as unset it is set by the last grant, which makes the delay longer by that grant's way.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Final

from rich.console import Console

from provisioning.demo_room import DemoPlan
from tools.bench.measurement import Measurement, against_limit
from tools.demo.room import Options, run

TAKES: Final = Path(__file__).resolve().parents[1] / "takes"
UNITS: Final = 4
PAPER_MS: Final = 340.0
MEBIBYTE: Final = 1024 * 1024


def measure(*, seconds: float = 45.0) -> list[Measurement]:
    """Run the room for so long. Raises ConfigError or ProgramError when it cannot."""
    takes = sorted(path for path in TAKES.iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as folder:
        plan = DemoPlan(takes=takes, units=UNITS)
        report = run(
            Options(Path(folder) / "room", plan, seconds=seconds),
            Console(quiet=True),
            threading.Event(),
        )
    assert report.p50_ms is not None and report.p95_ms is not None and report.p99_ms is not None
    paper = "the 2022 paper's delay (its definition is not stated)"
    rows = [
        against_limit(
            f"window's end to verified at the gateway, {name}, {UNITS} units, n = {report.verified}",
            value,
            "ms",
            limit=PAPER_MS,
            direction="at most",
            peer=paper,
        )
        for name, value in (("p50", report.p50_ms), ("p95", report.p95_ms), ("p99", report.p99_ms))
    ]
    rows.append(Measurement(name="labels lost", value=report.lost, unit="labels", goal="0", met=report.lost == 0))
    units = [size for name, size in report.resident_bytes.items() if name != "gateway"]
    shares = [share for name, share in report.processor_share.items() if name != "gateway"]
    for name, value, unit, limit in (
        ("resident memory of a unit, largest", max(units) / MEBIBYTE, "MiB", 120.0),
        ("resident memory of the gateway with its page", report.resident_bytes["gateway"] / MEBIBYTE, "MiB", 250.0),
        ("processor share of a unit, largest, 2 ticks/s, start included", max(shares) * 100, "% of a core", 25.0),
        ("processor share of the gateway", report.processor_share["gateway"] * 100, "% of a core", 25.0),
    ):
        rows.append(against_limit(name, value, unit, limit=limit, direction="at most", peer="budget"))
    return rows
