"""Recognition rate, leakage, delay and loss over transmission rate, on the running line.

A demo room on this machine: mosquitto over mutual TLS, the gateway as its own program, and real units' lines that say
recorded labels at each rate. What it writes, `docs/evaluation/line.json`, is what the figure is drawn from.

Exit codes: 0 all well; 1 a label was lost or altered, an attempt succeeded, or a check of the measurement itself
failed; 2 the room could not be built or a program ended; 130 stopped by hand.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
from tqdm import tqdm

from device.config import LineLimits
from device.errors import ConfigError, MoodlineError
from device.gateway.documents import LabelDocument
from device.inference.bundle import load_bundle
from device.inference.face_detector import BlazeFace
from device.inference.tflite import TFLiteRuntime
from models.labels import Emotion
from provisioning.mosquitto import find_mosquitto
from tools.classify import RELEASED_BUNDLE, Classifier, read_input
from tools.demo.programs import ProgramError
from tools.demo.tally import quantile_ms
from tools.evaluate.line_parties import Answer, Sent
from tools.evaluate.line_room import (
    RECOVERY_S,
    STRIKE_S,
    TAKES,
    LineRoom,
    StoppedError,
    Trial,
    as_threads,
    links_of,
    room_plan,
    trial_of,
    until,
)
from tools.evaluate.predictions import read_rows

OUT: Final = Path("docs/evaluation/line.json")
RATES_HZ: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
START_S: Final = 30.0

ABOUT: Final = {
    "rate_hz": "labels per second and unit that were asked for; achieved_hz those that were made",
    "paced_by": "grant: a label when the grant of every n-th round comes, as a box does; clock: by the unit's own"
    " clock, shifted against the other units', because the rounds do not give that rate; labels then wait for the"
    " next link",
    "attempts": "opening_attempts + forging_attempts by parties without the gateway's key. Opening: every sealed label"
    " that a unit's certificate heard, with that unit's key in both forms X25519 takes and a random key; and every one"
    " that the intruder heard, with the keys of all units and a random key. Forging: links signed with another key and"
    " old links sent again, one of each a second, by the intruder, whom the demo room lets write to every unit's topic",
    "entries_tried": "on how many sealed labels, drawn by chance, opening is tried with every key; null: on all",
    "readable": "opening attempts that gave a plaintext",
    "forged_accepted": "forged links in the gateway's stored log, and replayed ones that stand in it twice",
    "control_opened": "of control_entries sealed labels, how many the gateway's own key opens in the same procedure",
    "refused": "what the gateway counted as refused meanwhile: at most one finding of a kind a unit and round",
    "delay_ms": "label made to accepted at the gateway, the wait for the round included; one clock, whole milliseconds",
    "transit_ms": "link that first carried the label published to accepted",
    "untold": "verified and in the gateway's store, but the document did not reach the consumer over MQTT",
    "lost": f"sent and not verified {RECOVERY_S:g} s after the last label",
    "altered": "verified with another label, reason or time than its unit made",
    "recognition_box": "share of the labels sent that name the true emotion",
    "recognition_gateway": "labels verified that name the true emotion, over labels sent",
    "recognition_kept": "recognition_gateway over recognition_box",
    "conditions": "broker, gateway and units on one machine over loopback; the units' lines are threads of one program",
}


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    p50: float | None
    p95: float | None
    p99: float | None


class RateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One transmission rate; `ABOUT` says what each figure is."""

    rate_hz: float
    achieved_hz: float
    units: int
    seconds: float
    paced_by: str
    attempts: int
    opening_attempts: int
    forging_attempts: int
    readable: int
    forged_accepted: int
    refused: int
    control_entries: int
    control_opened: int
    delay_ms: Quantiles
    transit_ms: Quantiles
    sent: int
    verified: int
    lost: int
    altered: int
    labels_per_link: float | None
    recognition_box: float
    recognition_gateway: float
    recognition_kept: float | None
    load_average: float
    entries_tried: int | None = None
    untold: int = 0

    def problems(self) -> list[str]:
        """Why this rate counts as failed; empty when all is well."""
        found = {
            "no label was sent": self.sent == 0,
            f"{self.lost} of {self.sent} labels were lost": self.lost > 0,
            f"{self.untold} of {self.sent} labels were stored, but their consumer was not told": self.untold > 0,
            f"{self.altered} labels were altered": self.altered > 0,
            f"{self.readable} opening attempts succeeded": self.readable > 0,
            f"{self.forged_accepted} forged or replayed links were accepted": self.forged_accepted > 0,
            "the gateway's own key did not open everything: the attempts prove nothing": (
                self.control_opened < self.control_entries or self.control_entries < self._entries_due()
            ),
            "nothing was forged, or the gateway has seen nothing of it: the attempts prove nothing": (
                0 in (self.forging_attempts, self.refused)
            ),
        }
        return [f"{self.rate_hz:g} labels/s: {text}." for text, true in found.items() if true]

    def _entries_due(self) -> int:
        return self.verified if self.entries_tried is None else min(self.verified, self.entries_tried)


def row_of(trial: Trial, log: Mapping[bytes, int]) -> RateRow:
    """The row of one rate. `log`: how often each signed link stands in the gateway's log."""
    sent = trial.sent
    verified = {name: document for name, document in trial.verified.items() if name in sent}
    right_box = sum(_is_right(one.answer.decided, one) for one in sent.values())
    right_gateway = sum(_is_right(document.label, sent[name]) for name, document in verified.items())
    links = {(document.unit, document.round) for document in verified.values()}
    seconds = trial.pace.ends - trial.pace.begins
    forging = len(trial.forged) + len(trial.replayed)
    published = trial.published_ms
    return RateRow(
        rate_hz=trial.pace.rate_hz,
        achieved_hz=round(len(sent) / (trial.units * seconds), 3),
        units=trial.units,
        seconds=round(seconds, 3),
        paced_by="clock" if trial.pace.every_rounds is None else "grant",
        attempts=trial.opened[0] + forging,
        opening_attempts=trial.opened[0],
        forging_attempts=forging,
        readable=trial.opened[1],
        forged_accepted=sum(log.get(raw, 0) > 0 for raw in trial.forged)
        + sum(log.get(raw, 0) > 1 for raw in trial.replayed),
        refused=trial.refused,
        control_entries=trial.control[0],
        control_opened=trial.control[1],
        delay_ms=_quantiles([document.accepted_ms - sent[name].made_ms for name, document in verified.items()]),
        transit_ms=_quantiles([d.accepted_ms - published[name] for name, d in verified.items() if name in published]),
        sent=len(sent),
        verified=len(verified),
        lost=len(sent) - len(verified),
        altered=sum(_is_altered(document, sent[name]) for name, document in verified.items()),
        labels_per_link=round(len(verified) / len(links), 3) if links else None,
        recognition_box=right_box / len(sent) if sent else 0.0,
        recognition_gateway=right_gateway / len(sent) if sent else 0.0,
        recognition_kept=right_gateway / right_box if right_box else None,
        load_average=trial.load_average,
        entries_tried=trial.entries_tried,
        untold=trial.untold,
    )


def _is_right(label: Emotion | None, sent: Sent) -> bool:
    return label is sent.answer.true


def _is_altered(document: LabelDocument, sent: Sent) -> bool:
    said = (document.label, document.abstain_reason, document.window_end_ms)
    return said != (sent.answer.decided, sent.answer.reason, sent.made_ms)


def _quantiles(delays: list[int]) -> Quantiles:
    p50, p95, p99 = (quantile_ms(sorted(delays), share) for share in (0.5, 0.95, 0.99))
    return Quantiles(p50=p50, p95=p95, p99=p99)


def answers_of_takes(takes: Path = TAKES) -> list[Answer]:
    """The released bundle's answer on each demo take beside what the actor was asked to express.

    Raises InferenceError when the bundle is refused, CaptureError naming a take that cannot be read.
    """
    runtime = TFLiteRuntime("tflite-runtime")
    classifier = Classifier(load_bundle(RELEASED_BUNDLE, runtime), BlazeFace(runtime))
    answers = []
    for take in sorted(path for path in takes.iterdir() if path.is_dir()):
        decision, _ = classifier.classify(read_input(take))
        true = Emotion(tomllib.loads((take / "take.toml").read_text())["emotion"])
        answers.append(Answer(true, decision.label, decision.confidence, decision.reason))
    return answers


def answers_of_predictions(path: Path) -> list[Answer]:
    """The most probable class of each item of the first row of released predictions. Raises ConfigError."""
    row = read_rows(path)[0]
    try:
        classes = [Emotion(name) for name in row.classes]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.", next_step="Give predictions over emotions.") from error
    return [
        Answer(classes[label], classes[int(scores.argmax())], math.exp(min(0.0, float(scores.max()))))
        for label, scores in zip(row.labels, row.scores, strict=True)
    ]


def measure(
    answers: Sequence[Answer],
    *,
    units: int,
    seconds: float,
    rates_hz: Sequence[float] = RATES_HZ,
    stop: threading.Event | None = None,
) -> list[RateRow]:
    """One row a rate. Raises ConfigError, ProgramError or StorageError when the room cannot run, StoppedError."""
    stop = stop or threading.Event()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        line = LineRoom(Path(folder) / "room", room_plan(units), as_threads(answers))
        stack.callback(line.close)
        if not until(line, lambda: line.is_live, START_S, stop):
            raise ProgramError(
                f"Not every unit signs after {START_S:g} s.", next_step="The machine may be too busy; try again."
            )
        bar = stack.enter_context(tqdm(total=len(rates_hz) * int(seconds / STRIKE_S), unit="s", disable=None))
        trials = []
        for rate in rates_hz:
            bar.set_description(f"{rate:g} labels/s")
            trials.append(trial_of(line, rate, seconds, stop, bar))
        log = links_of(line.rounds())
    return [row_of(trial, log) for trial in trials]


def findings(rows: Sequence[RateRow], command: str, answers: Sequence[Answer], source: str) -> dict[str, object]:
    """What is written: machine, command, line, answers, what each figure means, and the rows."""
    limits = LineLimits()
    program = find_mosquitto()
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout if program else ""
    version = re.search(r"version (\S+)", said)
    return {
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "mosquitto": version.group(1) if version else None,
            "load_average": max(row.load_average for row in rows),
        },
        "command": command,
        "line": {
            "round_period_ms": limits.round_period_ms,
            "hop_timeout_ms": limits.hop_timeout_ms,
            "entries_per_link": limits.entries_per_link,
            "highest_rate_hz": limits.entries_per_link * 1_000 / limits.round_period_ms,
            "note": "A unit sends one link a round, so faster labels share a link and wait for it; above the highest"
            " rate they would pile up in the outbox.",
        },
        "answers": {"source": source, "n": len(answers)},
        "about": ABOUT,
        "rows": rows,
    }


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, write, report."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate.line_rates",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").rsplit("\n\n", 1)[-1],
    )
    parser.add_argument("--units", type=int, default=4, help="units on the line (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each rate (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="released predictions (npz) whose first row is said; default: the bundle's answers on the demo takes",
    )
    options = parser.parse_args(arguments)
    if options.seconds <= 0:
        parser.error("--seconds must be above 0")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        answers = answers_of_predictions(options.answers) if options.answers else answers_of_takes()
        rows = measure(answers, units=options.units, seconds=options.seconds, stop=stop)
    except StoppedError:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    except MoodlineError as error:
        print(f"line_rates: {error}", file=sys.stderr)
        return 2
    command = f"python -m tools.evaluate.line_rates --units {options.units} --seconds {options.seconds:g}"
    source = "the released bundle on tools/takes"
    if options.answers:
        command, source = f"{command} --answers {options.answers.name}", options.answers.name
    written = msgspec.json.format(msgspec.json.encode(findings(rows, command, answers, source)), indent=2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(written + b"\n")
    return _report(rows)


def _report(rows: Sequence[RateRow]) -> int:
    for row in rows:
        delay, transit = row.delay_ms, row.transit_ms
        print(
            f"{row.rate_hz:4g} labels/s ({row.paced_by:5}): {row.verified}/{row.sent} verified, {row.lost} lost,"
            f" recognition kept {row.recognition_kept}, delay p50 {delay.p50} p95 {delay.p95} p99 {delay.p99} ms"
            f" (transit {transit.p50} / {transit.p95}), {row.readable} of {row.opening_attempts} readable,"
            f" {row.forged_accepted} of {row.forging_attempts} forged accepted, load {row.load_average}"
        )
    problems = [problem for row in rows for problem in row.problems()]
    for problem in problems:
        print(f"✗ {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
