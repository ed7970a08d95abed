"""The door: another implementation's program, asked in JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from device.errors import ConfigError

#: For all questions of one batch together.
TIMEOUT_S: Final = 120.0


@dataclass(frozen=True)
class Question:
    """One request to one command."""

    command: str
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the program said: exit code and JSON object. `trouble` says what was wrong when there was no proper answer;
    then `exit` is None."""

    exit: int | None
    answer: Mapping[str, Any]
    trouble: str = ""


class Door:
    """A program that speaks the command-line protocol. `command` is the program with its first arguments."""

    def __init__(self, command: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """A reply to each question, in order, from one process in batch mode. Raises ConfigError when it cannot run."""
        lines = [json.dumps({"command": each.command, "request": each.request}) for each in questions]
        ran = self._run(["batch"], "\n".join(lines) + "\n")
        replies = [_reply(line) for line in ran.stdout.splitlines()]
        missing = Reply(None, {}, f"no answer; the program ended with {ran.returncode}: {_last_line(ran.stderr)}")
        return [*replies[: len(questions)], *[missing] * (len(questions) - len(replies))]

    def ask_alone(self, command: str, text: str) -> Reply:
        """The reply of a process of its own, to whatever text. Raises ConfigError when it cannot run."""
        ran = self._run([command], text)
        try:
            answer = json.loads(ran.stdout)
        except ValueError:
            return Reply(None, {}, "the output is no JSON")
        return Reply(ran.returncode, answer if isinstance(answer, dict) else {})

    def _run(self, arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        try:
            return subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=self._timeout_s, check=False
            )
        except OSError as error:
            raise ConfigError(
                f"{self._command[0]}: cannot be started ({error.strerror}).",
                next_step="Give the right --implementation.",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"{' '.join(command)}: gave no answer within {self._timeout_s:.0f} s.",
                next_step="Ask it by hand; it must answer each line and end when its input ends.",
            ) from error


def _reply(line: str) -> Reply:
    try:
        said = json.loads(line)
        code, answer = said["exit"], said["answer"]
    except (ValueError, KeyError, TypeError):
        return Reply(None, {}, "a line that is no object with `exit` and `answer`")
    if type(code) is not int or not isinstance(answer, dict):
        return Reply(None, {}, "`exit` is no number, or `answer` no object")
    return Reply(code, answer)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing on standard error"])[-1]
