"""Long logs, made fast: really signed and chained, but sealed entries are random bytes. For tests and `bench`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.gateway.store import MIGRATIONS
from device.line.actions import ClosedRound
from device.messages.envelope import digest
from device.messages.grant import NO_PREVIOUS, Accepted, Grant, sign_grant
from device.messages.link import Entry, Link, sign_link
from device.messages.roster import SealingSuite
from device.messages.sealing import sealed_bytes
from tools.vectors import room

START_MS: Final = 1_800_000_000_000
PERIOD_MS: Final = 500


@dataclass
class SyntheticLine:
    """One line of the vectors' room, all of whose units sign every round with one label each."""

    units: int = 4
    line: str = room.LINE
    epoch: int = 1

    def __post_init__(self) -> None:
        self.accepted: dict[str, Accepted] = {}
        #: The (session, sequence) that a unit's next label takes instead of the following one.
        self.skip_to: dict[str, tuple[int, int]] = {}
        self.round = 0
        self.head = NO_PREVIOUS
        self._gateway = room.signer(room.GATEWAY)
        self._signers = [room.signer(name) for name in room.unit_names(self.units)]
        self._sealed = sealed_bytes(SealingSuite.X25519_SHA256_CHACHA20POLY1305)

    def grant(self) -> bytes:
        """The grant of the next round, in the state in which the line is."""
        number = self.round + 1
        return sign_grant(
            Grant(
                room=room.ROOM,
                line=self.line,
                epoch=self.epoch,
                round=number,
                order=tuple(signer.key_id for signer in self._signers),
                accepted=dict(self.accepted),
                prev=self.head,
                gateway_ms=START_MS + number * PERIOD_MS,
                deadline_ms=450,
            ),
            self._gateway,
        )

    def rounds(self, count: int) -> Iterator[ClosedRound]:
        """The next `count` closed rounds."""
        for _ in range(count):
            grant = self.grant()
            self.round += 1
            self.head = digest(grant)
            links = []
            for signer in self._signers:
                unit = signer.key_id
                before = self.accepted.get(unit, Accepted(1, 1, 0))
                session, sequence = self.skip_to.get(unit, (before.session, before.sequence + 1))
                entry = Entry(session, sequence, os.urandom(self._sealed))
                link = Link(room.ROOM, self.line, self.epoch, self.round, unit, session, (entry,), self.head)
                links.append(sign_link(link, signer))
                self.accepted[unit] = Accepted(session, session, sequence)
                self.head = digest(links[-1])
            yield ClosedRound(self.round, self.epoch, grant, tuple(links))


def write_store(path: Path, line: str, rounds: Iterable[ClosedRound], line_now: SyntheticLine | None = None) -> None:
    """Append rounds to a store in one transaction, as the gateway would have left them after a clean stop; the open
    grant is that of `line_now` after the last round."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        for statements in MIGRATIONS[version:]:
            db.executescript(statements)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("BEGIN")
        for closed in rounds:
            position = db.execute(
                "INSERT INTO rounds (line, epoch, round, closed_ms, signed_grant) VALUES (?, ?, ?, ?, ?)",
                (line, closed.epoch, closed.round, START_MS + closed.round * PERIOD_MS, closed.grant),
            ).lastrowid
            rows = [(position, place, link) for place, link in enumerate(closed.links)]
            db.executemany("INSERT INTO links VALUES (?, ?, ?)", rows)
        if line_now is not None:
            db.execute("INSERT OR REPLACE INTO open_grants VALUES (?, ?)", (line, line_now.grant()))
        db.execute("COMMIT")
