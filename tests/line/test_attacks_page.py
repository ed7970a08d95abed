"""docs/attacks.md is complete, and true in what can be looked up: tests, vectors, verdicts and steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from device.errors import VERDICTS, Verdict
from device.line.log import FINDINGS, LogFinding
from tests.line.test_attacks import STRANGERS, TAMPERINGS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "attacks.md").read_text()
VECTORS = REPOSITORY / "tests" / "vectors" / "line"
SECTIONS = dict(part.split("\n", 1) for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:])

#: What the page must have, in the words of the task that asked for it.
LIST = {
    "forged signature",
    "malleable signature",
    "unknown key",
    "revoked unit",
    "another line's unit",
    "another room's message",
    "stale epoch",
    "replayed round",
    "replayed link in a later round",
    "wrong `prev`",
    "second link in a round",
    "equivocation, two links in a round",
    "equivocation, two contents",
    "cloned card, same session",
    "cloned card, next session",
    "restored backup",
    "truncated log",
    "re-sealed log",
    "dropped round",
    "reordered rounds",
    "rewritten grant",
    "oversized CBOR",
    "deeply nested CBOR",
    "non-canonical encoding",
    "random messages",
}


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def vector(name: str) -> dict[str, Any]:
    """A stored vector."""
    stored: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return stored


def test_every_attack_that_was_asked_for_stands_on_the_page() -> None:
    named = {line[2:].split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")}
    assert LIST - named == set()


def test_messages_have_their_verdict_in_test_and_vector() -> None:
    assert {row[1] for row in rows("Messages")} == set(STRANGERS)
    for _, name, file, code, step in rows("Messages"):
        assert STRANGERS[name][1].value == code
        assert (vector(file)["verdict"], str(vector(file)["step"])) == (code, step)


def test_logs_have_their_finding_in_test_and_vector() -> None:
    assert {row[1] for row in rows("The log")} == set(TAMPERINGS)
    for _, name, file, code, step in rows("The log"):
        found = TAMPERINGS[name][1]
        row = FINDINGS[found] if isinstance(found, LogFinding) else VERDICTS[Verdict(found)]
        assert (found, str(row.step)) == (code, step)
        assert (vector(file)["finding"], str(vector(file)["step"])) == (code, step)


def test_what_needs_several_messages_has_the_code_of_its_vector() -> None:
    for line in SECTIONS["Boxes, brokers, gateways"].splitlines():
        if not line.startswith("| ") or line.startswith(("| attack", "| ---")):
            continue
        _, _, file, code, step, told = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        stored = vector(file)
        assert code == (stored["verdict"] or stored.get("notice") or "")
        assert step == str(stored["step"] or "")
        assert told


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_a_named_test_exists(name: str) -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").glob("*/test_*.py"))
    assert f"def {name}(" in sources


def test_every_attack_test_stands_on_the_page() -> None:
    written = re.findall(r"^def (test_\w+)\(", Path(__file__).with_name("test_attacks.py").read_text(), re.MULTILINE)
    assert [name for name in written if f"`{name}`" not in PAGE] == [
        "test_every_verdict_that_a_stranger_can_bring_about_has_words_for_people"
    ]
