"""Put a role's files below a root folder, bring them up to date, and take them away again.

What was written is recorded with its digest in `installed-ROLE.json`. A file is ours as long as it has the digest that
stands there; a file that somebody else wrote or changed is neither overwritten nor removed unasked. The record is
written last: an interrupted installation leaves whole files, and running it again adopts those that are right already.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import unified_diff
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from device.errors import ConfigError, StorageError
from device.system.storage import read, read_record, write_durably, write_record
from provisioning.installation import ROLES, InstalledFile, Role, files
from provisioning.services import SETTINGS_ROOT, STATE_ROOT

FILE_BYTES: Final = 1_000_000
FOLDER_MODE: Final = 0o755


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What we wrote: absolute paths with SHA-256 in hex, and the folders that we made."""

    role: str
    files: dict[str, str]
    folders: list[str]


class Action(Enum):
    """What is to be done with one file."""

    MAKE = "make"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True)
class Change:
    """One file that is not yet as it should be. `old` and `new` are None where there is no file."""

    action: Action
    path: str
    old: bytes | None
    new: bytes | None
    mode: int
    foreign: bool = False

    def diff(self) -> str:
        """The change as a unified diff; a change of the mode alone is said in words."""
        before = f"a{self.path}" if self.old is not None else "/dev/null"
        after = f"b{self.path}" if self.new is not None else "/dev/null"
        shown = "".join(unified_diff(_lines(self.old), _lines(self.new), before, after))
        return shown or f"--- {before}\n+++ {after}\nmode becomes {self.mode:04o}\n"


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "replace").splitlines(keepends=True)


@dataclass(frozen=True)
class Kept:
    """What an uninstall left in place, and why."""

    path: str
    why: str


class Installation:
    """One role below one root folder."""

    def __init__(self, root: Path, role: Role) -> None:
        self._root = root.resolve()
        self._role = role
        self._record_path = f"{STATE_ROOT}/installed-{role.name}.json"

    def changes(self) -> list[Change]:
        """What an installation would do, in order of the paths; empty when everything is as it should be.

        Raises ConfigError when the other role or Debian's package is installed there, or the root folder leads astray.
        """
        self._check()
        recorded = self._recorded()
        wanted = files(self._role)
        found = [self._change(each, recorded.files.get(each.path)) for each in wanted]
        gone = sorted(set(recorded.files) - {each.path for each in wanted})
        found += [self._removal(path, recorded.files[path]) for path in gone]
        return sorted((change for change in found if change is not None), key=lambda change: change.path)

    def install(self, *, force: bool = False) -> list[Change]:
        """Make all changes and return them. Raises ConfigError naming foreign files unless forced; StorageError."""
        changes = self.changes()
        foreign = [change.path for change in changes if change.foreign]
        if foreign and not force:
            raise ConfigError(
                f"Written or changed by somebody else: {', '.join(foreign)}.",
                next_step="Look at them with --dry-run; move them away, or overwrite them with --force.",
            )
        recorded = self._recorded()
        made = [path for each in self._role.folders for path in self._make_folder(each.path, each.mode)]
        for change in changes:
            made += self._apply(change)
        record = Record(
            self._role.name,
            {each.path: _digest(each.content) for each in files(self._role)},
            sorted({*recorded.folders, *made}),
        )
        if record != recorded:
            write_record(self._target(self._record_path), record)
        return changes

    def uninstall(self, *, purge: bool = False) -> list[Kept]:
        """Remove what we wrote and nobody changed since; `purge` takes keys and state, too. Returns what stays.

        Raises ConfigError when the role is not installed there, or its record cannot be trusted.
        """
        self._check()
        recorded = self._recorded()
        if not recorded.files:
            raise ConfigError(
                f"{self._root}: holds no installation of the role {self._role.name}.", next_step="Nothing to undo."
            )
        kept = []
        for path, digest in sorted(recorded.files.items()):
            target = self._target(path)
            content = _content(target)
            if content is not None and _digest(content) == digest:
                target.unlink()
            elif os.path.lexists(target):
                kept.append(Kept(path, "somebody changed it"))
        self._target(self._record_path).unlink()
        kept += self._leave_folders(recorded.folders, purge=purge)
        known = (_content(self._target("/etc/passwd")) or b"").decode("utf-8", "replace").splitlines()
        there = {line.partition(":")[0] for line in known} & {each.name for each in self._role.accounts}
        return [*kept, *(Kept(f"user {name}", "users are never removed") for name in sorted(there))]

    def _leave_folders(self, folders: Iterable[str], *, purge: bool) -> list[Kept]:
        states = [each.path for each in self._role.folders if each.state]
        if purge:
            for state in states:
                self._purge(self._target(state))
        for path in sorted(folders, key=len, reverse=True):
            target = self._target(path)
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
        remaining = [(path, "keys and state; --purge removes them") for path in states]
        remaining.append((SETTINGS_ROOT, "your own settings"))
        return [Kept(path, why) for path, why in remaining if _holds_something(self._target(path))]

    def _purge(self, folder: Path) -> None:
        if folder.is_symlink():
            raise ConfigError(f"{folder}: is a link.", next_step="Remove what it leads to yourself.")
        if folder.is_dir():
            shutil.rmtree(folder)

    def _check(self) -> None:
        if not self._root.is_dir():
            raise ConfigError(f"{self._root}: is not a folder.", next_step="Give the root folder of a system.")
        for other in ROLES.values():
            record = f"{STATE_ROOT}/installed-{other.name}.json"
            if other.name != self._role.name and self._target(record).exists():
                raise ConfigError(
                    f"{self._root}: is installed as {other.name}.", next_step="One machine has one role: uninstall it."
                )
            if self._target(f"/var/lib/dpkg/info/moodline-{other.name}.list").exists():
                raise ConfigError(
                    f"{self._root}: the Debian package moodline-{other.name} is installed there.",
                    next_step="Use apt to install, upgrade and remove it.",
                )

    def _recorded(self) -> Record:
        path = self._target(self._record_path)
        if not path.exists():
            return Record(self._role.name, {}, [])
        if path.lstat().st_uid not in (0, os.geteuid()) or not stat.S_ISREG(path.lstat().st_mode):
            raise ConfigError(
                f"{path}: was not written by this installer (its owner is uid {path.lstat().st_uid}).",
                next_step="Somebody may have changed what it lists: remove it, and install again with --force.",
            )
        record = read_record(path, Record)
        for listed in (*record.files, *record.folders):
            self._target(listed)
        return record

    def _target(self, path: str) -> Path:
        """Where an absolute path of the description lies; never outside the root, whatever links stand there."""
        parts = path.split("/")
        target = self._root.joinpath(*parts[1:])
        if parts[0] or ".." in parts or not target.parent.resolve().is_relative_to(self._root):
            raise ConfigError(
                f"{path}: leads out of the root folder {self._root}.", next_step="Look for a link on the way to it."
            )
        return target

    def _change(self, wanted: InstalledFile, recorded: str | None) -> Change | None:
        target = self._target(wanted.path)
        if not os.path.lexists(target):
            return Change(Action.MAKE, wanted.path, None, wanted.content, wanted.mode)
        content = _content(target)
        if content == wanted.content and stat.S_IMODE(target.stat().st_mode) == wanted.mode:
            return None
        foreign = content is None or _digest(content) not in (recorded, _digest(wanted.content))
        return Change(Action.REPLACE, wanted.path, content, wanted.content, wanted.mode, foreign=foreign)

    def _removal(self, path: str, recorded: str) -> Change | None:
        """An older version wrote it and ours does not; one that somebody changed is left to them."""
        content = _content(self._target(path))
        if content is None or _digest(content) != recorded:
            return None
        return Change(Action.REMOVE, path, content, None, 0)

    def _apply(self, change: Change) -> list[str]:
        target = self._target(change.path)
        if change.new is None:
            target.unlink()
            return []
        if target.is_dir() and not target.is_symlink():
            raise ConfigError(f"{target}: is a folder.", next_step="A file of ours belongs there: move it away.")
        made = self._make_folder(change.path.rpartition("/")[0], FOLDER_MODE)
        write_durably(target, change.new, mode=change.mode)
        return made

    def _make_folder(self, path: str, mode: int) -> list[str]:
        """The folder and those above it; returns the ones that were not there, from the outermost."""
        if not path or self._target(path).is_dir():
            return []
        made = self._make_folder(path.rpartition("/")[0], FOLDER_MODE)
        target = self._target(path)
        try:
            target.mkdir()
            target.chmod(mode)
        except OSError as error:
            raise StorageError(
                f"{target}: cannot be made ({error.strerror}).", next_step="Run it as root, or choose another --root."
            ) from error
        return [*made, path]


def _content(path: Path) -> bytes | None:
    """A regular file's content; None for anything else, and for nothing."""
    if path.is_symlink() or not path.is_file():
        return None
    return read(path, limit=FILE_BYTES)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
