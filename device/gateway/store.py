"""The gateway's memory: closed rounds as they were signed, the labels opened from them, alerts, open grants.

SQLite in WAL mode with `synchronous = FULL`: when `persist` returns, the round's grant and links, its labels and the
next grant are on the medium together, or none is. Rounds are never changed (a trigger holds it); `forget` removes the
oldest for the policy's retention and leaves a stub of them, so that what stays of a line can still be verified from its
first round on (docs/offline-verification.md). One thread writes, through `Store`; others ask `LabelReader`, which opens
the file read-only for each question.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from device.config import LineLimits
from device.errors import StorageError
from device.gateway.documents import AlertDocument, LabelDocument, encode
from device.line.actions import ClosedRound, Persist
from device.line.evidence import equivocator
from device.line.log import NOTHING_DELETED, Stub, fold, previous_of
from device.messages.envelope import digest
from device.messages.grant import NO_PREVIOUS
from device.messages.roster import Roster

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
    """
    CREATE TABLE stubs (
        line TEXT PRIMARY KEY,
        first_round INTEGER NOT NULL, last_round INTEGER NOT NULL, links INTEGER NOT NULL,
        prev BLOB NOT NULL, head BLOB NOT NULL, running BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
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

    def recent_links(self, line: str, *, rounds: int) -> list[bytes]:
        """The signed links of the newest `rounds` rounds, oldest first."""
        return [link for closed in self.rounds(line, limit=rounds) for link in closed.links]

    def alert(self, alert: AlertDocument, proof: Sequence[bytes] = ()) -> None:
        """Keep an alert with the signed objects that prove it; beyond `ALERTS_KEPT` the oldest without proof go."""
        with self._transaction("storing an alert"):
            position = self._db.execute(
                "INSERT INTO alerts (at_ms, document) VALUES (?, ?)", (alert.at_ms, encode(alert))
            ).lastrowid
            self._db.executemany(
                "INSERT INTO proofs VALUES (?, ?, ?)", [(position, place, each) for place, each in enumerate(proof)]
            )
            self._db.execute(
                "DELETE FROM alerts WHERE position <= ? AND position NOT IN (SELECT position FROM proofs)",
                ((position or 0) - ALERTS_KEPT,),
            )

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

    def quarantined(self, roster: Roster, line: str, limits: LineLimits) -> frozenset[str]:
        """Units of a line against which a stored proof of equivocation holds, by the keys of this roster."""
        with _told(self.path, "reading proofs"):
            rows = self._db.execute("SELECT position, signed_object FROM proofs ORDER BY position, place").fetchall()
        proofs = [tuple(bytes(row[1]) for row in proof) for _, proof in groupby(rows, key=itemgetter(0))]
        found = {equivocator(proof, roster=roster, line=line, limits=limits) for proof in proofs}
        return frozenset(unit for unit in found if unit is not None)

    def stub(self, line: str) -> Stub | None:
        """What stays of the deleted rounds of a line."""
        with _told(self.path, "reading the stub"):
            found = self._db.execute(_STUB_OF, (line,)).fetchone()
        return Stub(*found) if found else None

    def forget(self, before_ms: int) -> int:
        """Delete rounds, labels and alerts from before that moment; returns how many labels went. `scrub` comes next.

        Of each line the oldest rounds go, up to the first that is young enough, and a stub takes their place. A proof
        goes with its alert: what it proves must be acted on within the policy's retention.
        """
        with self._transaction("deleting what the policy no longer keeps"):
            gone = self._db.execute("DELETE FROM labels WHERE accepted_ms < ?", (before_ms,)).rowcount
            for (line,) in self._db.execute("SELECT DISTINCT line FROM rounds").fetchall():
                self._shorten(line, before_ms)
            self._db.execute("DELETE FROM alerts WHERE at_ms < ?", (before_ms,))
        return gone

    def _shorten(self, line: str, before_ms: int) -> None:
        kept = "SELECT min(position) FROM rounds WHERE line = ? AND closed_ms >= ?"
        first_kept = self._db.execute(kept, (line, before_ms)).fetchone()[0]
        old = "FROM rounds WHERE line = ? AND (? IS NULL OR position < ?)"
        which = (line, first_kept, first_kept)
        rounds = self._db.execute(f"SELECT position, round, signed_grant {old} ORDER BY position", which)
        before = stub = self.stub(line)
        for position, number, grant in rounds:
            links = [bytes(row[0]) for row in self._db.execute(_LINKS_OF, (position,))]
            stub = _longer(stub, number, bytes(grant), links)
        if stub is not None and stub is not before:
            self._db.execute("INSERT OR REPLACE INTO stubs VALUES (?, ?, ?, ?, ?, ?, ?)", (line, *astuple(stub)))
        self._db.execute(f"DELETE {old}", which)

    def scrub(self) -> bool:
        """Overwrite what deletion left in the write-ahead log; False while a reader still needs it: try again later.

        In the database file itself SQLite overwrites deleted content at once (`secure_delete`).
        """
        with _told(self.path, "emptying the write-ahead log"):
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1_000)}")
        return not busy

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
_STUB_OF: Final = "SELECT first_round, last_round, links, prev, head, running FROM stubs WHERE line = ?"


def _longer(stub: Stub | None, number: int, grant: bytes, links: Sequence[bytes]) -> Stub:
    """The stub after one more round is deleted. A grant that cannot be read must not stop deletion."""
    objects = [digest(raw) for raw in (grant, *links)]
    if stub is None:
        stub = Stub(number, number, 0, previous_of(grant) or NO_PREVIOUS, NO_PREVIOUS, NOTHING_DELETED)
    running = fold(stub.running, objects)
    return Stub(stub.first, number, stub.links + len(links), stub.prev, objects[-1], running)


def _row(label: LabelDocument) -> tuple[str, int, int, str, str | None, int, bytes]:
    named = label.label.value if label.label is not None else None
    document = encode(label)
    return (label.unit, label.session, label.sequence, label.line, named, label.accepted_ms, document)


def _corrupt() -> sqlite3.Error:
    error = sqlite3.DatabaseError("damaged")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
