"""Where signed objects come from: the gateway's SQLite store, also of a running gateway or a copy, or a receipt file.

The file is never written. Beside a store that has a write-ahead log and no running gateway SQLite leaves its index
(`-shm`), which holds nothing of its own. Whatever the file holds is hostile until verified: sizes are bounded, and the
links of one round are read up to one more than a line has units.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.log import LogError, LogFinding, Stub
from device.line.verify import step_2_grant, step_2_link
from device.messages.envelope import ContentType, is_identifier
from device.messages.receipt import ReceiptHeader, ReceiptKind, looks_like_receipt, read_receipt

#: The newest schema of the store that is known here (device/gateway/store.py); stubs came with 2.
SCHEMA: Final = 2
_STUBS_SINCE: Final = 2
_SQLITE: Final = b"SQLite format 3\x00"
#: A grant's content type stands in these first bytes. It only sorts objects into rounds: verification looks again.
_GRANT: Final = ContentType.GRANT.encode()
_HEADERS: Final = 64


@dataclass(frozen=True)
class OpenGrant:
    """The grant that is open, or that closes a span."""

    raw: bytes


Part = Stub | ClosedRound | OpenGrant


def _damaged(what: str, line: str = "") -> LogError:
    return LogError(LogFinding.DAMAGED_FILE, what, line=line, round_number=0, place=None)


def _blob(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _damaged("A column holds something else than bytes.")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise _damaged("A column holds something else than a number.")
    return value


class StoreSource:
    """The gateway's store, read in one transaction: what the gateway appends meanwhile is not seen."""

    rosters: tuple[bytes, ...] = ()
    from_middle = False

    def __init__(self, path: Path, db: sqlite3.Connection, limits: LineLimits, schema: int) -> None:
        self.path = path
        self._db = db
        self._links_read = limits.units_per_line + 1
        self._schema = schema

    def size(self) -> int:
        """About how many rounds there are."""
        with _reading():
            return int(
                self._db.execute("SELECT ifnull(max(position) - min(position) + 1, 0) FROM rounds").fetchone()[0]
            )

    def parts(self) -> Iterator[tuple[str, Part]]:
        """All stubs, all rounds in the order in which they were stored, all open grants."""
        with _reading():
            if self._schema >= _STUBS_SINCE:
                query = "SELECT line, first_round, last_round, links, prev, head, running FROM stubs ORDER BY line"
                for line, *numbers, prev, head, running in self._db.execute(query):
                    first, last, links = map(_number, numbers)
                    yield _line(line), Stub(first, last, links, _blob(prev), _blob(head), _blob(running))
            yield from self._rounds()
            for line, grant in self._db.execute("SELECT line, signed_grant FROM open_grants ORDER BY line"):
                yield _line(line), OpenGrant(_blob(grant))

    def proofs(self) -> Iterator[tuple[str, tuple[bytes, ...]]]:
        """The proofs stored with alerts, each with the line that its first object names."""
        query = "SELECT position, signed_object FROM proofs ORDER BY position, place"
        with _reading():
            before, objects = None, list[bytes]()
            for position, raw in self._db.execute(query):
                if position != before and objects:
                    yield _line_of(objects[0]), tuple(objects)
                    objects = []
                before = position
                objects.append(_blob(raw))
            if objects:
                yield _line_of(objects[0]), tuple(objects)

    def _rounds(self) -> Iterator[tuple[str, ClosedRound]]:
        """Both tables are walked side by side in the order of their keys, so nothing is sorted or looked up."""
        links = self._db.execute("SELECT position, signed_link FROM links ORDER BY position, place")
        held = links.fetchone()
        query = "SELECT position, line, round, epoch, signed_grant FROM rounds ORDER BY position"
        for position, line, number, epoch, grant in self._db.execute(query):
            found: list[bytes] = []
            while held is not None and _number(held[0]) <= position:
                if held[0] < position:
                    raise _orphan(_blob(held[1]))
                if len(found) < self._links_read:
                    found.append(_blob(held[1]))
                held = links.fetchone()
            yield _line(line), ClosedRound(_number(number), _number(epoch), _blob(grant), tuple(found))
        if held is not None:
            raise _orphan(_blob(held[1]))


def _line(name: object) -> str:
    if not isinstance(name, str) or not is_identifier(name):
        raise _damaged("A row is of a line whose name is no name.")
    return name


def _line_of(raw: bytes) -> str:
    for step_2 in (step_2_link, step_2_grant):
        try:
            return step_2(raw)[0].line
        except RemoteMessageError:
            continue
    return ""


def _orphan(raw: bytes) -> LogError:
    try:
        body, _ = step_2_link(raw)
    except RemoteMessageError:
        return _damaged("Links stand in the file without their round.")
    what = f"Links of round {body.round} stand in the file without its grant."
    return LogError(LogFinding.ROUND_MISSING, what, line=body.line, round_number=body.round, place=None)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _damaged(f"SQLite cannot read on ({error}).") from error


class ReceiptSource:
    """A receipt file with a span of one line."""

    from_middle = True

    def __init__(self, path: Path, header: ReceiptHeader, limits: LineLimits) -> None:
        self.path = path
        self.header = header
        self.rosters = header.rosters
        self._limits = limits

    def size(self) -> int:
        """How many rounds there should be."""
        return max(0, self.header.last - self.header.first + 1)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The rounds, and the grant that closes the span if there is one."""
        line = self.header.line
        waiting: ClosedRound | None = None
        for closed in self._rounds():
            if waiting is not None:
                yield line, waiting
            waiting = closed
        if waiting is not None:
            closes = not waiting.links and waiting.round == self.header.last + 1
            yield line, OpenGrant(waiting.grant) if closes else waiting

    def objects(self) -> Iterator[bytes]:
        """The signed objects as they stand in the file."""
        try:
            with self.path.open("rb") as stream:
                _, objects = read_receipt(stream, message_bytes=self._limits.message_bytes)
                yield from objects
        except RemoteMessageError as error:
            raise _damaged(error.what, self.header.line) from error

    def _rounds(self) -> Iterator[ClosedRound]:
        grant, links = b"", list[bytes]()
        for raw in self.objects():
            if grant and (_GRANT in raw[:_HEADERS] or len(links) > self._limits.units_per_line):
                yield _closed(grant, links)
                grant, links = b"", []
            if grant:
                links.append(raw)
            else:
                grant = raw
        if grant:
            yield _closed(grant, links)


def _closed(grant: bytes, links: list[bytes]) -> ClosedRound:
    try:
        body, _ = step_2_grant(grant)
    except RemoteMessageError:
        return ClosedRound(0, 0, grant, tuple(links))
    return ClosedRound(body.round, body.epoch, grant, tuple(links))


@contextmanager
def open_source(path: Path, limits: LineLimits) -> Iterator[StoreSource | ReceiptSource]:
    """The store or receipt at that path. Raises ConfigError when it is neither or cannot be opened, LogError when it is
    damaged."""
    start, header = _start_of(path, limits)
    if header is not None:
        yield ReceiptSource(path, header, limits)
        return
    if not start.startswith(_SQLITE):
        raise ConfigError(
            f"{path}: is neither a gateway's store nor a receipt.",
            next_step="Give gateway.sqlite from the gateway's state folder, or a file that --export wrote.",
        )
    with _open_store(path, limits) as source:
        yield source


def _start_of(path: Path, limits: LineLimits) -> tuple[bytes, ReceiptHeader | None]:
    """The first bytes of a file, and the header if it is a receipt."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADERS)
            stream.seek(0)
            if not looks_like_receipt(start):
                return start, None
            return start, read_receipt(stream, message_bytes=limits.message_bytes)[0]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", next_step="Check the path.") from error
    except RemoteMessageError as error:
        if error.verdict is Verdict.UNKNOWN_VERSION:
            raise ConfigError(f"{path}: {error.what}", next_step="Use the verifier of that version.") from error
        raise _damaged(error.what) from error


@contextmanager
def _open_store(path: Path, limits: LineLimits) -> Iterator[StoreSource]:
    """A store with a write-ahead log is read as it grows; one without is taken as a file that nobody changes, so that
    nothing is created beside it, and looked at again afterwards."""
    growing = _size_of(path.with_name(path.name + "-wal")) > 0
    before = _look_at(path)
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if growing else '&immutable=1'}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    try:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(1 << 20, 2 * limits.message_bytes))
        try:
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("BEGIN")
            schema = _schema(path, db)
        except sqlite3.OperationalError as error:
            raise _unusable(path, error) from error
        except sqlite3.Error as error:
            raise _damaged(f"SQLite cannot read it ({error}).") from error
        yield StoreSource(path, db, limits, schema)
    finally:
        db.close()
        if not growing and _look_at(path) != before:
            raise ConfigError(f"{path}: was changed while it was read.", next_step="Run this again.")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _look_at(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, _size_of(path.with_name(path.name + "-wal"))


def _schema(path: Path, db: sqlite3.Connection) -> int:
    schema = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    needed = {"rounds", "links", "open_grants", "proofs"} | ({"stubs"} if schema >= _STUBS_SINCE else set())
    if schema > SCHEMA:
        raise ConfigError(
            f"{path}: was written by a newer Moodline (schema {schema}; this verifier knows {SCHEMA}).",
            next_step="Use the verifier of that version.",
        )
    if not needed <= tables or schema < 1:
        raise ConfigError(f"{path}: is no gateway's store.", next_step="Give gateway.sqlite from the state folder.")
    return schema


def _unusable(path: Path, error: sqlite3.Error) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be opened ({error}).",
        next_step="Copy it, with its -wal file if there is one, to a folder where you may write, and check the copy.",
    )


def rounds_of(line: str, parts: Iterator[tuple[str, Part]]) -> Iterator[ClosedRound]:
    """The rounds of one line among the parts that are left."""
    return (part for name, part in parts if name == line and isinstance(part, ClosedRound))


def proof_in(source: ReceiptSource) -> tuple[bytes, bytes]:
    """The two objects of a proof. Raises LogError when the file holds another number of them."""
    objects = tuple(source.objects())
    if source.header.kind is not ReceiptKind.PROOF or len(objects) != 2:
        raise _damaged("A proof holds two objects.", source.header.line)
    return objects[0], objects[1]
