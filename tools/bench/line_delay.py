"""The line's delay with 40 units at two labels a second: real gateway program and broker over loopback."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tqdm import tqdm

from models.labels import Emotion
from tools.bench.line_boxes import Boxes
from tools.bench.measurement import Measurement, against_limit
from tools.demo.programs import ProgramError
from tools.evaluate.line_parties import Answer
from tools.evaluate.line_rates import row_of
from tools.evaluate.line_room import LineRoom, links_of, room_plan, trial_of, until

UNITS: Final = 40
RATE_HZ: Final = 2.0
SECONDS: Final = 15.0
START_S: Final = 60.0
ENTRIES_TRIED: Final = 20
PAPER_MS: Final = 340.0
#: What is said does not matter for a delay.
_ANSWERS: Final = (Answer(Emotion.FEAR, Emotion.FEAR, 0.9), Answer(Emotion.FEAR, Emotion.NEUTRAL, 0.5))


def measure(*, units: int = UNITS, seconds: float = SECONDS) -> list[Measurement]:
    """Delay, transit and loss. Raises ConfigError or ProgramError when the room cannot run."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        line = LineRoom(
            Path(folder) / "room",
            room_plan(units),
            lambda room: Boxes(
                [room.unit_config(name) for name in room.units],
                _ANSWERS,
                Path(folder),
                programs=len(os.sched_getaffinity(0)),
                each_verifies=False,
                enter=list,
            ),
        )
        stack.callback(line.close)
        if not until(line, lambda: line.is_live, START_S, stop):
            raise ProgramError(
                f"Not every unit signs after {START_S:g} s.", next_step="The machine may be too busy; try again."
            )
        with tqdm(disable=True) as bar:
            trial = trial_of(line, RATE_HZ, seconds, stop, bar, entries_tried=ENTRIES_TRIED)
        row = row_of(trial, links_of(line.rounds()))
    what = f"{units} units at {RATE_HZ:g} labels/s, n = {row.verified}"
    rows = [Measurement(name=f"labels lost, {what}", value=row.lost, unit="labels", goal="0", met=row.lost == 0)]
    for name in ("p50", "p95", "p99"):
        delay, transit = getattr(row.delay_ms, name), getattr(row.transit_ms, name)
        if delay is not None and transit is not None:
            peer = "the 2022 paper's delay (its definition is not stated)"
            title = f"label made to verified, {name}, {what}"
            rows += [
                against_limit(title, delay, "ms", limit=PAPER_MS, direction="at most", peer=peer),
                Measurement(name=f"link published to verified, {name}, {what}", value=transit, unit="ms"),
            ]
    return rows
