"""The vectors as the runner needs them: the files of a folder, and the room that they share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.config import LineLimits
from device.errors import ConfigError
from device.messages.envelope import ContentType, KeySigner, open_envelope
from device.messages.link import Link, decode_link
from device.messages.roster import Roster, read_roster, sign_roster
from device.messages.sealing import X25519, Opener

AUTHORITY: Final = "room-authority"
_NO_VECTORS: Final = frozenset({"room", "sealed", "limits"})


@dataclass(frozen=True)
class Room:
    """Keys, roster and limits, as a folder's room.json has them."""

    content: Mapping[str, Any]

    def signer(self, name: str) -> KeySigner:
        """Whoever has that name."""
        key = bytes.fromhex(self.content["signing_keys"][name])
        return KeySigner(name, Ed25519PrivateKey.from_private_bytes(key))

    @cached_property
    def roster(self) -> Roster:
        """The roster, verified."""
        raw = bytes.fromhex(self.content["roster"])
        return read_roster(raw, authority_key=self.signer(AUTHORITY).public_key, room=self.content["room"])

    @cached_property
    def opener(self) -> Opener:
        """The gateway's opener."""
        raw = bytes.fromhex(self.content["opening_key"])
        return Opener(X25519PrivateKey.from_private_bytes(raw) if self.roster.suite is X25519 else raw)

    @cached_property
    def limits(self) -> LineLimits:
        """The limits that the vectors were made under."""
        return LineLimits(**self.content["limits"])

    @property
    def line(self) -> str:
        """The line in which the vectors play."""
        return str(self.content["line"])

    def in_room(self, roster: Roster | None = None) -> dict[str, Any]:
        """What every request says of its place; with another roster, signed anew."""
        signed = sign_roster(roster, self.signer(AUTHORITY)).hex() if roster else self.content["roster"]
        return {
            "roster": signed,
            "authority": self.signer(AUTHORITY).public_key.hex(),
            "room": self.content["room"],
            "line": self.line,
            "limits": self.content["limits"],
        }

    def without(self, revoked: list[str]) -> Roster | None:
        """The roster with these units revoked; None when there are none."""
        return replace(self.roster, revoked=frozenset(revoked)) if revoked else None


@dataclass(frozen=True)
class Vector:
    """One file. `content` has all its members."""

    folder: str
    name: str
    room: Room
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What its messages are."""
        return str(self.content["kind"])

    @property
    def good(self) -> bool:
        """Whether verification has nothing to object."""
        return self.content["verdict"] is None

    @property
    def link(self) -> Link:
        """The message of a link vector."""
        return decode_link(open_envelope(bytes.fromhex(self.content["messages"][0]), wanted=ContentType.LINK))


def load(folder: Path) -> list[Vector]:
    """Every vector of a folder and of the folders in it, by name. Raises ConfigError when there is none."""
    try:
        room = Room(json.loads((folder / "room.json").read_text(encoding="utf-8")))
        paths = sorted(path for path in folder.rglob("*.json") if path.stem not in _NO_VECTORS)
        return [_vector(path, folder, room) for path in paths]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: its vectors cannot be read ({error}).", next_step="Run `make vectors`, or give --vectors."
        ) from error


def _vector(path: Path, folder: Path, room: Room) -> Vector:
    """A file; the limits that its folder may have beside room.json belong to it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    limits = path.parent / "limits.json"
    if limits.exists():
        content["limits"] = json.loads(limits.read_text(encoding="utf-8"))
    return Vector(path.parent.relative_to(folder.parent).as_posix(), path.stem, room, content)
