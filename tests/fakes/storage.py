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
    """Loses power at the call: what was not fsynced is gone from the files it wrote."""

    def __init__(self, fail_at: int) -> None:
        super().__init__(fail_at)
        self._unsynced: dict[int, Path] = {}

    def create(self, path: Path, mode: int) -> int:
        descriptor = super().create(path, mode)
        self._unsynced[descriptor] = path
        return descriptor

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        del self._unsynced[descriptor]

    def fail(self, name: str) -> None:
        for path in self._unsynced.values():
            path.write_bytes(b"")
        raise PowerCutError(name)
