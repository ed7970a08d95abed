"""A disk that fails, or loses power, at the system call that a test names."""

from __future__ import annotations

import errno
from pathlib import Path

from device.system.storage import Disk


class PowerCutError(BaseException):
    """The machine is off: no code of ours runs after this."""


class FailingDisk(Disk):
    """Fails the call number `fail_at` (counted from 0 over all calls) with the given errno, once.

    `calls` are the names of all calls made. `write` takes at most `bytes_per_write` bytes at a time, as it may.
    """

    def __init__(self, fail_at: int | None = None, *, error: int = errno.ENOSPC, bytes_per_write: int = 7) -> None:
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._error = error
        self._bytes_per_write = bytes_per_write

    def create(self, path: Path, mode: int) -> int:
        self._call("create")
        return super().create(path, mode)

    def open(self, path: Path, mode: int) -> int:
        self._call("open")
        return super().open(path, mode)

    def cut(self, descriptor: int, length: int) -> None:
        self._call("cut")
        super().cut(descriptor, length)

    def write(self, descriptor: int, content: bytes) -> int:
        self._call("write")
        return super().write(descriptor, content[: self._bytes_per_write])

    def fsync(self, descriptor: int) -> None:
        self._call("fsync")
        super().fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename")
        super().rename(source, target)

    def fsync_folder(self, folder: Path) -> None:
        self._call("fsync_folder")
        super().fsync_folder(folder)

    def _call(self, name: str) -> None:
        number = len(self.calls)
        self.calls.append(name)
        if number == self._fail_at:
            self.fail(name)

    def fail(self, name: str) -> None:
        """What happens at the named call."""
        raise OSError(self._error, f"{name} fails by request")


class PowerCutDisk(FailingDisk):
    """Loses power at the call. A new file that was not fsynced is empty then; of what was appended half is there."""

    def __init__(self, fail_at: int, *, bytes_per_write: int = 7) -> None:
        super().__init__(fail_at, bytes_per_write=bytes_per_write)
        self._unsynced: dict[int, tuple[Path, bytes]] = {}

    def create(self, path: Path, mode: int) -> int:
        descriptor = super().create(path, mode)
        self._unsynced[descriptor] = (path, b"")
        return descriptor

    def open(self, path: Path, mode: int) -> int:
        descriptor = super().open(path, mode)
        self._unsynced[descriptor] = (path, path.read_bytes())
        return descriptor

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        del self._unsynced[descriptor]

    def fail(self, name: str) -> None:
        for path, synced in self._unsynced.values():
            appended = path.read_bytes()[len(synced) :] if synced else b""
            path.write_bytes(synced + appended[: len(appended) // 2])
        raise PowerCutError(name)
