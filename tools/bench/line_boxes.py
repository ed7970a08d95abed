"""Units' lines in programs of their own, in another network namespace than the broker: each as `Speaker` has it.

One program holds several units (one program for all of them would be one processor's work, because of Python's lock).
Forty boxes have forty processors and this machine a few, so two things are less than on real boxes. A whole
`UnitService` with capture and inference is not there: senses are a recorded list of answers. And the units of one
program share steps 1 to 5 of verification, which say the same to all of them: the first that meets a message does them
(`--each-verifies` lets every unit do its own). Standard input brings requests and standard output answers, one JSON
object a line; the program ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from device.config import LineLimits, UnitConfig, load_unit
from device.errors import MoodlineError
from device.line.verify import SignedGrant, SignedLink, Verifier
from device.messages.roster import Roster
from device.system.clock import SystemClock
from device.trust import load_trusted
from tools.demo.programs import Program, ProgramError
from tools.evaluate.line_parties import Answer, LabelName, Pace, Said, Sent, Speaker, Speakers

ANSWERS_FILE: Final = "answers.json"
PLACES_FILE: Final = "places-{}.json"
STOP_S: Final = 20.0
MESSAGES_SHARED: Final = 512

_Object = TypeVar("_Object")


class SharedVerifier(Verifier):
    """Steps 1 to 5, done once for each message whoever asks; what was refused is looked at anew each time."""

    def __init__(self, roster: Roster, line: str, limits: LineLimits) -> None:
        super().__init__(roster, line, limits)
        self._lock = threading.Lock()
        self._links: OrderedDict[bytes, SignedLink] = OrderedDict()
        self._grants: OrderedDict[bytes, SignedGrant] = OrderedDict()

    def link(self, raw: bytes) -> SignedLink:
        """An authentic link of this line."""
        with self._lock:
            return _remembered(self._links, raw, super().link)

    def grant(self, raw: bytes) -> SignedGrant:
        """An authentic grant of this line."""
        with self._lock:
            return _remembered(self._grants, raw, super().grant)


def _remembered(known: OrderedDict[bytes, _Object], raw: bytes, verify: Callable[[bytes], _Object]) -> _Object:
    found = known.get(raw)
    if found is None:
        found = known[raw] = verify(raw)
        if len(known) > MESSAGES_SHARED:
            known.popitem(last=False)
    return found


class Speak(msgspec.Struct, frozen=True, tag=True):
    """Say labels at that pace."""

    pace: Pace


class AskSaidAll(msgspec.Struct, frozen=True, tag=True):
    """Has everybody said all?"""


class Take(msgspec.Struct, frozen=True, tag=True):
    """Hand out what was said since the last time."""


Request = Speak | AskSaidAll | Take


class Reply(msgspec.Struct, frozen=True):
    """Answer to any request; `sent` and `published` to `Take` alone. `problem` is why the program must end."""

    problem: str = ""
    said_all: bool = True
    sent: list[tuple[LabelName, Sent]] = []
    published: list[tuple[LabelName, int]] = []


class Boxes:
    """Implements `tools.evaluate.line_room.Units` over several programs. Raises ProgramError when one ends."""

    def __init__(
        self,
        configs: Sequence[Path],
        answers: Sequence[Answer],
        folder: Path,
        *,
        programs: int,
        each_verifies: bool,
        enter: Callable[[Sequence[str]], list[str]],
    ) -> None:
        """Start all units of these device.toml files; `enter` makes a command line run in the units' network."""
        (folder / ANSWERS_FILE).write_bytes(msgspec.json.encode(answers))
        self._programs: list[Program] = []
        try:
            for number in range(min(programs, len(configs))):
                # Neighbours in the order of the line sit in different programs, so that turns go round all of them.
                places = [(str(c), n / len(configs)) for n, c in enumerate(configs) if n % programs == number]
                places_file = folder / PLACES_FILE.format(number)
                places_file.write_bytes(msgspec.json.encode(places))
                command = [sys.executable, "-m", "tools.bench.line_boxes", str(folder / ANSWERS_FILE), str(places_file)]
                command += ["--each-verifies"] if each_verifies else []
                self._programs.append(_started(f"boxes {number}", enter(command), folder / f"boxes-{number}.txt"))
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> dict[str, int]:
        """The programs' processes."""
        return {program.name: program.process.pid for program in self._programs}

    def speak(self, pace: Pace) -> None:
        """Say labels at that pace."""
        self._ask(Speak(pace))

    def have_said_all(self) -> bool:
        """Whether no label of their own clocks is due any more."""
        return all(reply.said_all for reply in self._ask(AskSaidAll()))

    def check(self) -> None:
        """Raises ProgramError when a program has ended."""
        for program in self._programs:
            program.check()

    def take(self) -> Said:
        """What was said since the last time; the boxes keep nothing that they heard."""
        replies = self._ask(Take())
        return Said(
            {name: one for reply in replies for name, one in reply.sent},
            {name: at for reply in replies for name, at in reply.published},
            {},
        )

    def stop(self) -> None:
        """Let all of them leave; may be called twice."""
        for program in self._programs:
            if program.process.stdin is not None:
                program.process.stdin.close()
        for program in self._programs:
            try:
                program.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                program.stop()
            if program.process.stdout is not None:
                program.process.stdout.close()

    def _ask(self, request: Request) -> list[Reply]:
        try:
            for program in self._programs:
                assert program.process.stdin is not None
                program.process.stdin.write(msgspec.json.encode(request) + b"\n")
                program.process.stdin.flush()
        except OSError as error:
            self.check()
            raise ProgramError(f"Boxes do not listen ({error.strerror}).", next_step="Try again.") from error
        replies = []
        for program in self._programs:
            assert program.process.stdout is not None
            line = program.process.stdout.readline()
            reply = msgspec.json.decode(line, type=Reply) if line else Reply(problem="It ended.")
            if reply.problem:
                raise ProgramError(f"{program.name}: {reply.problem}", next_step=f"The log is {program.log}.")
            replies.append(reply)
        return replies


def _started(name: str, command: list[str], log: Path) -> Program:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, process_group=0)
    return Program(name, process, log)


def _shared(config: UnitConfig) -> SharedVerifier:
    roster = load_trusted(config.trust, config.room, SystemClock()).roster
    return SharedVerifier(roster, config.line, config.limits)


def _answer(speakers: Speakers, request: Request) -> Reply:
    try:
        speakers.check()
    except ProgramError as error:
        return Reply(problem=str(error))
    match request:
        case Speak(pace):
            speakers.speak(pace)
            return Reply()
        case AskSaidAll():
            return Reply(said_all=speakers.have_said_all())
        case Take():
            said = speakers.take()
            return Reply(sent=list(said.sent.items()), published=list(said.published_ms.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run these units until standard input closes."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.line_boxes", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("answers", type=Path, help="what the units say")
    parser.add_argument("places", type=Path, help="device.toml of each unit, and its place on the line from 0 to 1")
    parser.add_argument("--each-verifies", action="store_true", help="no unit shares its verification with another")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    # The owner ends us by closing our standard input, in the right order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answers = msgspec.json.decode(options.answers.read_bytes(), type=list[Answer])
        places = msgspec.json.decode(options.places.read_bytes(), type=list[tuple[str, float]])
        configs = [(load_unit(Path(config)), place) for config, place in places]
        verifier = None if options.each_verifies else _shared(configs[0][0])
        speakers = Speakers(
            [
                Speaker(config, answers, place, keep_heard=False, fills=True, verifier=verifier)
                for config, place in configs
            ]
        )
    except MoodlineError as error:
        print(f"line_boxes: {error}", file=sys.stderr)
        return 2
    speakers.start()
    try:
        for line in sys.stdin.buffer:
            reply = _answer(speakers, msgspec.json.decode(line, type=Request))
            sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        speakers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
