"""The room authority's book: who is a member, who was, and the rules that every change of it keeps.

It is one JSON file, written whole; what the authority signs follows from it. Several programs may have it open (the
registrar for an afternoon, an operator's command in between): each change is made under a lock, on the book as it then
stands.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from device.errors import ConfigError, StorageError
from device.messages.continuity import DESK_CHARACTERS, is_plain_text
from device.messages.envelope import is_identifier
from device.messages.roster import SealingSuite
from device.messages.sealing import X25519
from device.messages.topics import RESERVED_LINES
from device.system.storage import read_record
from provisioning.certificates import Reads, Role

BOOK_FILE: Final = "room.json"
LOCK_FILE: Final = "room.lock"
LOCK_WAIT_S: Final = 10.0
SEE_SHOW: Final = "See `moodline-provision show`."


class Replacement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom a unit replaced, and all that its continuity record says beside the unit's own name and key."""

    unit: str
    key: bytes
    line: str
    desk: str
    epoch: int
    reason: str


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One member. Keys are raw bytes; `since` is the epoch of enrolment, 0 until published.

    `desk` is a unit's place, a name for people; `reads` is what a consumer may read. `certificate` is the digest of the
    certificate of enrolment for the present key, by which the roster names it: renewal leaves it alone (ADR 7).
    `serials` are those of all certificates that are known to have been issued for the present key, in hexadecimal.
    """

    name: str
    role: Role
    key: bytes
    line: str | None = None
    opening_key: bytes | None = None
    since: int = 0
    revoked: bool = False
    desk: str | None = None
    reads: Reads | None = None
    certificate: bytes | None = None
    serials: tuple[str, ...] = ()
    replaces: Replacement | None = None


class GivenUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A member's former key: it never counts again, nor do the certificates that were issued for it."""

    name: str
    key: bytes
    serials: tuple[str, ...]


class Book(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the authority remembers. `successions` are signed, oldest first; `rotating` stands while the newest of them
    is being carried out."""

    room: str
    suite: SealingSuite = X25519
    epoch: int = 0
    revocation_lists: int = 0
    members: list[Entry] = []
    given_up: list[GivenUp] = []
    successions: list[bytes] = []
    rotating: bool = False

    def entry(self, name: str) -> Entry | None:
        """The member of that name, revoked or not."""
        return next((entry for entry in self.members if entry.name == name), None)

    def living(self, name: str, *roles: Role) -> Entry:
        """The member of that name, in one of the roles. Raises ConfigError for a stranger or a revoked member."""
        entry = self.entry(name)
        if entry is None or (roles and entry.role not in roles):
            what = " or ".join(role.value for role in roles) or "member"
            raise ConfigError(f"room {self.room}: {name!r} is no {what}.", next_step=SEE_SHOW)
        if entry.revoked:
            raise ConfigError(f"{name}: was revoked.", next_step="Enrol the box anew under another name.")
        return entry

    @property
    def gateway(self) -> Entry | None:
        """The room's one gateway, or None when it has none or several."""
        gateways = [entry for entry in self.members if entry.role is Role.GATEWAY]
        return gateways[0] if len(gateways) == 1 else None

    @property
    def dead_serials(self) -> set[int]:
        """Serial numbers of all certificates that no longer count, as far as they are known."""
        dead = [serial for entry in self.members if entry.revoked for serial in entry.serials]
        dead += [serial for key in self.given_up for serial in key.serials]
        return {int(serial, 16) for serial in dead}

    def known(self, entry: Entry) -> Entry | None:
        """The member as which `entry` was admitted before; None when it may be admitted now.

        A desk or right that `entry` leaves open may be any. Raises ConfigError when name, key or desk is taken, was
        given up or is malformed.
        """
        self._check_form(entry)
        standing = self.entry(entry.name)
        if standing is not None and standing.revoked:
            raise ConfigError(f"{entry.name}: was revoked.", next_step="Enrol the box anew under another name.")
        if standing is not None and _identity(standing) == _identity(entry):
            if entry.desk in (None, standing.desk) and entry.reads in (None, standing.reads):
                return standing
            raise ConfigError(
                f"{entry.name}: is a member already, at another desk or with other rights.",
                next_step="Run: moodline-provision move",
            )
        for known in self.members:
            if known.name == entry.name or known.key == entry.key:
                raise ConfigError(
                    f"{entry.name}: name or key already belongs to {known.name} ({known.role.value}).",
                    next_step="Every member has a name and a key of its own.",
                )
        self._check_given_up(entry)
        self.check_place(entry)
        return None

    def check_place(self, entry: Entry, *, besides: str = "") -> None:
        """Raises ConfigError when a line or desk cannot be a unit's, or a living unit but `besides` has the desk."""
        if entry.role is Role.UNIT and (
            entry.line is None or not is_identifier(entry.line) or entry.line in RESERVED_LINES
        ):
            raise ConfigError(
                f"{entry.name}: {entry.line!r} cannot be its line.",
                next_step="Use small letters, digits and dashes, at most 32, and none of "
                f"{', '.join(sorted(RESERVED_LINES))}.",
            )
        if entry.desk is not None and (not entry.desk or not is_plain_text(entry.desk, DESK_CHARACTERS)):
            raise ConfigError(
                f"{entry.name}: {entry.desk!r} cannot be its desk.",
                next_step=f"Write 1 to {DESK_CHARACTERS} characters on one line.",
            )
        for other in self.members:
            if other.revoked or other.name in (entry.name, besides) or entry.desk is None:
                continue
            if (other.line, other.desk) == (entry.line, entry.desk):
                raise ConfigError(
                    f"{entry.name}: {other.name} stands at {entry.desk!r} on line {entry.line} already.",
                    next_step="Move or revoke that unit first, or give another desk.",
                )

    def put(self, entry: Entry) -> None:
        """Enter a member: in its own place when its name is known, else behind all others."""
        for at, standing in enumerate(self.members):
            if standing.name == entry.name:
                self.members[at] = entry
                return
        self.members.append(entry)

    def give_up_key(self, entry: Entry, key: bytes) -> Entry:
        """The entry with another key; its present one and that one's certificates never count again.

        Raises ConfigError when the new key belongs, or belonged, to somebody.
        """
        changed = msgspec.structs.replace(entry, key=key, certificate=None, serials=())
        for known in self.members:
            if known.key == key:
                raise ConfigError(
                    f"{entry.name}: the new key already belongs to {known.name} ({known.role.value}).",
                    next_step="Every member has a key of its own: make a new one.",
                )
        self._check_given_up(changed)
        self.given_up.append(GivenUp(name=entry.name, key=entry.key, serials=entry.serials))
        return changed

    def move(self, entry: Entry, moved: Entry) -> None:
        """Enter a unit that has moved: behind all others when it comes to another line."""
        at = self.members.index(entry)
        del self.members[at]
        self.members.insert(at if moved.line == entry.line else len(self.members), moved)

    def leaving(self, name: str) -> Entry:
        """The unit of that name, revoked or not, that nobody has replaced yet. Raises ConfigError."""
        entry = self.entry(name)
        if entry is None or entry.role is not Role.UNIT:
            raise ConfigError(f"room {self.room}: {name!r} is no unit.", next_step=SEE_SHOW)
        for other in self.members:
            if other.replaces is not None and other.replaces.unit == name:
                raise ConfigError(
                    f"{name}: was replaced by {other.name} already.", next_step=f"Replace {other.name}, if you must."
                )
        return entry

    def replace(self, leaving: Entry, entry: Entry) -> None:
        """Revoke one unit and enter another just behind it, which is its turn on the line."""
        self.members = [member for member in self.members if member.name != entry.name]
        at = self.members.index(leaving)
        self.members[at : at + 1] = [msgspec.structs.replace(leaving, revoked=True), entry]

    def learn(self, key: bytes, serial: int) -> bool:
        """Enter a certificate's serial number with the key that it is for. False when the key is no member's."""
        number = f"{serial:x}"
        for at, entry in enumerate(self.members):
            if entry.key == key:
                if number not in entry.serials:
                    self.members[at] = msgspec.structs.replace(entry, serials=(*entry.serials, number))
                return True
        for at, former in enumerate(self.given_up):
            if former.key == key:
                if number not in former.serials:
                    self.given_up[at] = msgspec.structs.replace(former, serials=(*former.serials, number))
                return True
        return False

    def _check_form(self, entry: Entry) -> None:
        if not is_identifier(entry.name) or (entry.line is not None and not is_identifier(entry.line)):
            raise ConfigError(
                f"{entry.name!r} on line {entry.line!r}: no proper names.",
                next_step="Use small letters, digits and dashes, at most 32.",
            )
        if (entry.line is None) is (entry.role is Role.UNIT) or entry.line in RESERVED_LINES:
            raise ConfigError(
                f"{entry.name}: {entry.line!r} cannot be its line.",
                next_step=f"Units alone stand on a line, and {', '.join(sorted(RESERVED_LINES))} name none.",
            )
        if (entry.desk is not None and entry.role is not Role.UNIT) or (
            entry.reads is not None and entry.role is not Role.CONSUMER
        ):
            raise ConfigError(
                f"{entry.name}: a {entry.role.value} has no desk or reading right of its own.",
                next_step="Give a desk to units, and a reading right to consumers.",
            )

    def _check_given_up(self, entry: Entry) -> None:
        living = {member.name for member in self.members}
        for former in self.given_up:
            if former.key == entry.key or (former.name == entry.name and entry.name not in living):
                raise ConfigError(
                    f"{entry.name}: name or key was given up by {former.name} and does not come back.",
                    next_step="Make a new key, and take a name that nobody had.",
                )


def _identity(entry: Entry) -> tuple[str, Role, bytes, str | None, bytes | None]:
    return entry.name, entry.role, entry.key, entry.line, entry.opening_key


def read_book(folder: Path) -> Book:
    """The book of an authority's folder. Raises ConfigError when there is none, StorageError when it is damaged."""
    if not (folder / BOOK_FILE).exists():
        raise ConfigError(f"{folder}: holds no room authority.", next_step="Run: moodline-provision init")
    return read_record(folder / BOOK_FILE, Book)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One change of a book at a time, among all programs of this machine.

    Raises ConfigError when another program does not let go within `LOCK_WAIT_S`, StorageError.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened ({error.strerror}).", next_step="Check the folder.") from error
    try:
        _wait_for_lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path) -> None:
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise ConfigError(
                    f"{path}: another program is changing this room.", next_step="Wait for it, or end it."
                ) from error
            time.sleep(0.02)
        else:
            return
