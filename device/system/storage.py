"""Durable files: what is written here is there, whole, after a power cut at any moment, or the write has failed.

Write a temporary file beside the target, fsync it, rename it over the target, fsync the folder: rename(2) is atomic,
and the folder's fsync makes the new name itself durable (fsync(2), NOTES). A reader meets the old or the new content,
never a mixture. A temporary file that a power cut left behind is overwritten by the next write to the same target.

What only grows is appended (`append_durably`): a power cut leaves the old content and some of the new, so whoever reads
it back must know a whole record from a torn one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from device.errors import ConfigError, StorageError

OWNER_ONLY = 0o600
TEMPORARY_SUFFIX = ".new"
SESSION_FILE = "session.json"
"""The session counter's name in a unit's state folder."""
SPILL_FILE = "outbox.spill"
"""Beside it: sealed labels that no grant had covered for a while (device/publish/spill.py)."""

Record = TypeVar("Record")


class Disk:
    """The system calls of a durable write, in one place so that a test can fail each of them."""

    def create(self, path: Path, mode: int) -> int:
        """Open an empty file for writing and return its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        os.fchmod(descriptor, mode)
        return descriptor

    def open(self, path: Path, mode: int) -> int:
        """Open a file for writing with its content as it is, or an empty new one, and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)

    def cut(self, descriptor: int, length: int) -> None:
        """Let go of everything behind the first `length` bytes, and go on writing there."""
        os.ftruncate(descriptor, length)
        os.lseek(descriptor, length, os.SEEK_SET)

    def write(self, descriptor: int, content: bytes) -> int:
        """Write some of the content and return how many bytes were taken."""
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        """Return when the file's content is on the medium."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Replace the target's name at once."""
        source.replace(target)

    def fsync_folder(self, folder: Path) -> None:
        """Return when the folder's names are on the medium."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK = Disk()


def write_durably(path: Path, content: bytes, *, mode: int = OWNER_ONLY, disk: Disk = DISK) -> None:
    """Replace the file's content so that a power cut leaves the old or the new one.

    Raises StorageError naming the file; the old content then still stands, unless only the folder's last fsync failed:
    then the new content stands now and either may stand after a power cut. Both are whole.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        descriptor = disk.create(temporary, mode)
        try:
            _write_and_sync(descriptor, content, disk)
        finally:
            os.close(descriptor)
        disk.rename(temporary, path)
        disk.fsync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error


def append_durably(path: Path, content: bytes, *, at: int, mode: int = OWNER_ONLY, disk: Disk = DISK) -> None:
    """Write behind the file's first `at` bytes; whatever stood behind them goes. The file is made if it is not there.

    With no content this cuts the file, durably. Raises StorageError naming the file; then any part of the content may
    stand behind `at`, and the same call may be made again.
    """
    try:
        is_new = not path.exists()
        descriptor = disk.open(path, mode)
        try:
            disk.cut(descriptor, at)
            _write_and_sync(descriptor, content, disk)
        finally:
            os.close(descriptor)
        if is_new:
            disk.fsync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error


def _write_and_sync(descriptor: int, content: bytes, disk: Disk) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[disk.write(descriptor, bytes(rest)) :]
    disk.fsync(descriptor)


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written durably ({error.strerror}).",
        next_step="Check the storage: full, read-only or worn out?",
    )


def read(path: Path, *, limit: int) -> bytes:
    """The file's content, at most `limit` bytes. Raises StorageError when it is missing, unreadable or larger."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be read ({error.strerror}).",
            next_step="Check the storage, or provision this box again.",
        ) from error
    if len(content) > limit:
        raise StorageError(
            f"{path}: is larger than {limit} bytes.", next_step="This is not a file of ours: put the right one back."
        )
    return content


def write_record(path: Path, record: Any, *, disk: Disk = DISK) -> None:
    """Write a msgspec struct (or plain containers) as JSON, durably. Raises StorageError."""
    write_durably(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n", disk=disk)


def read_record(path: Path, kind: type[Record], *, limit: int = 1_000_000) -> Record:
    """Read what `write_record` wrote. Raises StorageError when it is missing, too large or not of that kind."""
    try:
        return msgspec.json.decode(read(path, limit=limit), type=kind)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"{path}: is damaged ({error}).", next_step="Put back a whole copy, or provision this box again."
        ) from error


class _SessionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: int
    sha256: str


def _digest(session: int) -> str:
    return hashlib.sha256(b"moodline session %d" % session).hexdigest()


class SessionCounter:
    """The number of this unit's starts: raised and made durable before anything is signed, never lowered.

    A missing or damaged file is refused, not counted from zero again: a session that is used twice would look like a
    cloned unit (line-protocol G5). The digest finds a changed digit; it is no protection against an attacker.
    """

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        self._path = path
        self._disk = disk

    def create(self) -> None:
        """For provisioning only: begin at 0 (so the first start is session 1) unless there is a counter already."""
        if not self._path.exists():
            self._write(0)

    def raise_(self) -> int:
        """The next session number, durable when this returns.

        Raises ConfigError when the counter is missing or damaged, StorageError when it cannot be made durable: then no
        number was given out, and the same one may come again because nothing was signed under it.
        """
        session = self._read() + 1
        self._write(session)
        return session

    def _write(self, session: int) -> None:
        write_record(self._path, _SessionRecord(session, _digest(session)), disk=self._disk)

    def _read(self) -> int:
        try:
            record = read_record(self._path, _SessionRecord, limit=4_096)
        except StorageError as error:
            raise self._lost(error.what) from error
        if record.session < 0 or record.sha256 != _digest(record.session):
            raise self._lost(f"{self._path}: number and digest disagree.")
        return record.session

    def _lost(self, what: str) -> ConfigError:
        return ConfigError(
            f"The session counter cannot be trusted. {what}",
            next_step="Enrol this unit anew: a session number must never be used twice.",
        )
