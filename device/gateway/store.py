"""The gateway's memory: closed rounds as they were signed, the labels opened from them, alerts, open grants.

SQLite in WAL mode with `synchronous = FULL`: when `persist` returns, the round's grant and links, its labels and the
next grant are on the medium together, or none is. Rounds are never changed (a trigger holds it); `forget` removes the
oldest for the policy's retention, so that what stays of a line is still one unbroken chain. One thread writes, through
`Store`; others ask `LabelReader`, which opens the file read-only for each question.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from device.errors import StorageError
from device.gateway.documents import AlertDocument, LabelDocument, encode
from device.line.actions import ClosedRound, Persist

ALERTS_KEPT: Final = 10_000
LABELS_PER_ANSWER: Final = 1_000
BUSY_TIMEOUT_S: Final = 5.0

#: One entry per schema version: the statements that lead to it from the one before. Never edited, only appended to.
MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE rounds (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        line TEXT NOT NULL, epoch INTEGER NOT NULL, round INTEGER NOT NULL,
        closed_ms INTEGER NOT NULL, signed_grant BLOB NOT NULL,
        UNIQUE (line, epoch, round)
    ) STRICT;
    CREATE TABLE links (
        position INTEGER NOT NULL REFERENCES rounds (position) ON DELETE CASCADE,
        place INTEGER NOT NULL, signed_link BLOB NOT NULL,
        PRIMARY KEY (position, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE labels (
        unit TEXT NOT NULL, session INTEGER NOT NULL, sequence INTEGER NOT NULL,
        line TEXT NOT NULL, label TEXT, accepted_ms INTEGER NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (unit, session, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX labels_by_time ON labels (unit, accepted_ms);
    CREATE TABLE open_grants (line TEXT PRIMARY KEY, signed_grant BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE alerts (
        position INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, document BLOB NOT NULL
    ) STRICT;
    CREATE TABLE proofs (
        position INTEGER NOT NULL REFERENCES alerts (position) ON DELETE CASCADE,
        place INTEGER NOT NULL, signed_object BLOB NOT NULL,
        PRIMARY KEY (position, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TRIGGER rounds_are_never_changed BEFORE UPDATE ON rounds
        BEGIN SELECT RAISE(ABORT, 'a closed round is never changed'); END;
    CREATE TRIGGER links_are_never_changed BEFORE UPDATE ON links
        BEGIN SELECT RAISE(ABORT, 'a stored link is never changed'); END;
    """,
)


def _next_step(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return "Free space on that disk: nothing more is acknowledged until then, so the boxes keep their labels."
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return "Make the folder writable for the gateway's user; check that the disk is not mounted read-only."
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "Stop the gateway, keep this file (with its -wal) as it is for inspection, and put back a whole copy."
    if primary == sqlite3.SQLITE_BUSY:
        return "Another program holds the file: close it."
    return "Check the disk (worn out, unplugged?); what was stored before is untouched."


@contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {doing} failed ({error}).", next_step=_next_step(error)) from error


class Store:
    """The one writer. Opens, checks and migrates the file; holds a lock so that a second gateway cannot start on it.

    Raises StorageError, with what to do, from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._take_lock()
        try:
            with _told(path, "opening"):
                self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> int:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{lock}: cannot be made ({error.strerror}).",
                next_step="Make the folder writable for the gateway's user, or correct `state` in gateway.toml.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"{self.path}: another gateway is using it.",
                next_step="Stop that one, or give this one its own `state`.",
            ) from error
        return descriptor

    def _prepare(self) -> None:
        with _told(self.path, "checking"):
            self.path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA secure_delete = ON")
            findings = [row[0] for row in self._db.execute("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise StorageError(
                f"{self.path}: is damaged ({'; '.join(findings)}).",
                next_step=_next_step(_corrupt()),
            )
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{self.path}: was written by a newer Moodline (schema {version}, this one knows {len(MIGRATIONS)}).",
                next_step="Install that version again, or give this one its own `state`.",
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            with _told(self.path, f"bringing to schema {number}"):
                self._db.executescript(f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        with _told(self.path, doing):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def persist(
        self, done: Persist, closed_ms: int, labels: Sequence[LabelDocument], witnessed: Sequence[LabelDocument]
    ) -> None:
        """Make one step of a line durable, whole: the closed round, the next grant, its labels and news of older ones.

        `labels` are those opened from the round's links: one that is there already (same unit, session, sequence) stays
        as it was. `witnessed` replace stored ones by the same label with more witnesses. A round that is stored already
        with other bytes is refused.
        """
        with self._transaction(f"storing a round of line {done.line}"):
            if done.closed is not None:
                self._append(done.line, done.closed, closed_ms)
            self._db.execute("INSERT OR REPLACE INTO open_grants VALUES (?, ?)", (done.line, done.next_grant))
            self._db.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?)", map(_row, labels))
            self._db.executemany(
                "UPDATE labels SET document = ? WHERE unit = ? AND session = ? AND sequence = ?",
                [(encode(label), label.unit, label.session, label.sequence) for label in witnessed],
            )

    def _append(self, line: str, closed: ClosedRound, closed_ms: int) -> None:
        known = self._db.execute(
            "SELECT signed_grant FROM rounds WHERE line = ? AND epoch = ? AND round = ?",
            (line, closed.epoch, closed.round),
        ).fetchone()
        if known is not None:
            raise StorageError(
                f"{self.path}: round {closed.round} of line {line} is stored already.",
                next_step="The state folder is a mixture of copies: put back the newest whole one.",
            )
        position = self._db.execute(
            "INSERT INTO rounds (line, epoch, round, closed_ms, signed_grant) VALUES (?, ?, ?, ?, ?)",
            (line, closed.epoch, closed.round, closed_ms, closed.grant),
        ).lastrowid
        self._db.executemany(
            "INSERT INTO links VALUES (?, ?, ?)", [(position, place, link) for place, link in enumerate(closed.links)]
        )

    def open_grant(self, line: str) -> bytes | None:
        """The grant that the line goes on from after a restart; None for a line that never ran."""
        with _told(self.path, "reading the open grant"):
            found = self._db.execute("SELECT signed_grant FROM open_grants WHERE line = ?", (line,)).fetchone()
        return bytes(found[0]) if found else None

    def rounds(self, line: str, *, limit: int) -> list[ClosedRound]:
        """The newest `limit` rounds, oldest of them first."""
        with _told(self.path, "reading rounds"):
            found = self._db.execute(
                "SELECT position, round, epoch, signed_grant FROM rounds WHERE line = ? ORDER BY position DESC LIMIT ?",
                (line, limit),
            ).fetchall()
            return [
                ClosedRound(number, epoch, grant, tuple(row[0] for row in self._db.execute(_LINKS_OF, (position,))))
                for position, number, epoch, grant in reversed(found)
            ]

    def alert(self, alert: AlertDocument, proof: Sequence[bytes] = ()) -> None:
        """Keep an alert with the signed objects that prove it; the oldest go beyond `ALERTS_KEPT`."""
        with self._transaction("storing an alert"):
            position = self._db.execute(
                "INSERT INTO alerts (at_ms, document) VALUES (?, ?)", (alert.at_ms, encode(alert))
            ).lastrowid
            self._db.executemany(
                "INSERT INTO proofs VALUES (?, ?, ?)", [(position, place, each) for place, each in enumerate(proof)]
            )
            self._db.execute("DELETE FROM alerts WHERE position <= ?", ((position or 0) - ALERTS_KEPT,))

    def newest_alerts(self, limit: int) -> list[AlertDocument]:
        """At most `limit` alerts, newest first."""
        with _told(self.path, "reading alerts"):
            found = self._db.execute("SELECT document FROM alerts ORDER BY position DESC LIMIT ?", (limit,)).fetchall()
        return [msgspec.json.decode(row[0], type=AlertDocument) for row in found]

    def raise_counter(self, name: str) -> int:
        """The next value of a counter, durable when this returns; the first is 1."""
        with self._transaction(f"raising {name}"):
            value = self._db.execute(
                "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (name,),
            ).fetchone()[0]
        return int(value)

    def forget(self, before_ms: int) -> int:
        """Delete rounds, labels and alerts from before that moment; returns how many labels went.

        The last round of each line stays whatever its age: its head is what the chain goes on from.
        """
        with self._transaction("deleting what the policy no longer keeps"):
            gone = self._db.execute("DELETE FROM labels WHERE accepted_ms < ?", (before_ms,)).rowcount
            self._db.execute(
                "DELETE FROM rounds AS old WHERE position < (SELECT max(position) FROM rounds WHERE line = old.line)"
                " AND NOT EXISTS (SELECT 1 FROM rounds WHERE line = old.line AND position <= old.position"
                " AND closed_ms >= ?)",
                (before_ms,),
            )
            self._db.execute("DELETE FROM alerts WHERE at_ms < ?", (before_ms,))
        return gone

    def close(self) -> None:
        """Close the file and let another gateway have it."""
        with _told(self.path, "closing"):
            self._db.close()
        os.close(self._lock)


class LabelReader:
    """Questions about stored labels, from any thread; never writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _ask(self, query: str, arguments: Sequence[str | int]) -> list[LabelDocument]:
        with (
            _told(self._path, "reading labels"),
            closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as db,
        ):
            found = db.execute(query, arguments).fetchall()
        return [msgspec.json.decode(row[0], type=LabelDocument) for row in found]

    def since(self, unit: str, since_ms: int, *, limit: int = LABELS_PER_ANSWER) -> list[LabelDocument]:
        """Labels of one desk's unit accepted at or after `since_ms`, oldest first, at most `limit`."""
        return self._ask(
            "SELECT document FROM labels WHERE unit = ? AND accepted_ms >= ?"
            " ORDER BY accepted_ms, session, sequence LIMIT ?",
            (unit, since_ms, limit),
        )

    def latest(self) -> list[LabelDocument]:
        """The newest label of each unit, by unit."""
        return self._ask(
            "WITH RECURSIVE units (unit) AS (SELECT min(unit) FROM labels UNION ALL"
            " SELECT (SELECT min(unit) FROM labels WHERE unit > units.unit) FROM units WHERE units.unit IS NOT NULL)"
            " SELECT (SELECT document FROM labels WHERE unit = units.unit ORDER BY session DESC, sequence DESC LIMIT 1)"
            " FROM units WHERE unit IS NOT NULL",
            (),
        )


_LINKS_OF: Final = "SELECT signed_link FROM links WHERE position = ? ORDER BY place"


def _row(label: LabelDocument) -> tuple[str, int, int, str, str | None, int, bytes]:
    named = label.label.value if label.label is not None else None
    document = encode(label)
    return (label.unit, label.session, label.sequence, label.line, named, label.accepted_ms, document)


def _corrupt() -> sqlite3.Error:
    error = sqlite3.DatabaseError("damaged")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
