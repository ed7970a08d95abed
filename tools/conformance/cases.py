"""Cases and the rows that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from device.errors import VERDICTS, Verdict
from tools.conformance.door import Question, Reply

#: Kinds of vectors that the kit knows how to ask for. A vector of another kind is told as not run.
KINDS: Final = frozenset({"link", "grant", "proof", "log", "sequence"})


@dataclass(frozen=True)
class Row:
    """One line of the table. `same` is None when the case was not run, `left_out` when that was wanted."""

    group: str
    name: str
    wanted: str
    found: str
    same: bool | None
    left_out: bool = False


@dataclass(frozen=True)
class Case:
    """A question, the exit code it must be answered with, and the members that its answer must have."""

    group: str
    name: str
    question: Question
    exit: int
    answer: Mapping[str, Any]


def compare(case: Case, reply: Reply) -> Row:
    """Hold a reply against what the case wants."""
    found = {name: reply.answer.get(name, "missing") for name in case.answer}
    same = reply.exit == case.exit and found == dict(case.answer)
    differing = [name for name in found if found[name] != case.answer[name]]
    wanted = told(case.exit, case.answer)
    said = reply.trouble or told(reply.exit, reply.answer)
    if not same and said == wanted:
        said += f" with another {' and '.join(differing)}"
    return Row(case.group, case.name, wanted, said, same)


def told(code: int | None, answer: Mapping[str, Any]) -> str:
    """An answer in a few words."""
    if answer.get("verdict") is not None:
        return f"{code} {answer['verdict']} (step {answer.get('step')})"
    return f"{code} good" if code == 0 else f"{code} {answer.get('error', 'cannot be answered')}"


def refused(verdict: Verdict) -> dict[str, Any]:
    """The answer with exit code 1."""
    return {"verdict": verdict.value, "step": VERDICTS[verdict].step}
