"""Small logs on disk: really signed, written as the gateway leaves them, and the command run over them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.line.actions import ClosedRound
from device.messages.roster import Roster, sign_roster
from tools.vectors import room
from tools.verify.command import main
from tools.verify.synthetic import SyntheticLine, write_store

UNITS = 3
ROUNDS = 8
AUTHORITY = room.signer(room.AUTHORITY)
AUTHORITY_HEX = AUTHORITY.public_key.hex()


@dataclass(frozen=True)
class Ran:
    """One run of the command with --json."""

    code: int
    document: dict[str, Any]
    error: str

    @property
    def finding(self) -> tuple[str, int, int | None]:
        """Code, round and place of the first object that does not hold."""
        failure = self.document["failure"]
        return failure["code"], failure["round"], failure["place"]


def verify(*arguments: object) -> Ran:
    """Run `moodline-verify … --json` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(each) for each in (*arguments, "--json")])
    return Ran(code, json.loads(out.getvalue() or "{}"), err.getvalue())


def roster_file(folder: Path, roster: Roster | None = None, *, by: str = room.AUTHORITY) -> Path:
    """A signed roster; by default that of epoch 1."""
    roster = roster or room.roster(UNITS)
    path = folder / f"roster-{roster.epoch}-{by}.cose"
    path.write_bytes(sign_roster(roster, room.signer(by)))
    return path


def some_rounds(count: int = ROUNDS) -> tuple[list[ClosedRound], SyntheticLine]:
    """Closed rounds of one line, and the line after them."""
    line = SyntheticLine(UNITS)
    return list(line.rounds(count)), line


def store_file(folder: Path, rounds: Iterable[ClosedRound], line: SyntheticLine | None, name: str = room.LINE) -> Path:
    """A store of that line. Without a line there is no open grant."""
    path = folder / "gateway.sqlite"
    write_store(path, name, rounds, line)
    return path
