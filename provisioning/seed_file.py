"""The seed file of zero-touch enrolment: `moodline-seed.toml` on a card's boot partition.

It says where the room's registrar is, by which key it is known, and holds a single-use claim token. The boot partition
is FAT, which knows no owners: whoever holds the card can read the token. So it is bound to the first key that shows it,
it expires, and the box empties the file as soon as it is enrolled.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from device.config import Identifier, Name, Port
from device.errors import ConfigError, StorageError
from device.system.storage import DISK, Disk, append_durably, read
from provisioning.enrolment_messages import REGISTRAR_PORT, Octets32, Token

SEED_FILE: Final = "moodline-seed.toml"
SEED_BYTES: Final = 4_096
HOSTS: Final = 8
SPENT: Final = "# This box is enrolled: the seed was used and taken out.\n"

_NEXT_STEP: Final = "Make a new seed file for this desk (moodline-provision seeds) and put it on the card."


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed file says. `gateway` are names or addresses of the registrar, tried in turn; `registrar_digest` is
    the SHA-256 of its public key (SubjectPublicKeyInfo, DER), 32 bytes; `unit` is the seat that the token is for."""

    room: Identifier
    gateway: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=HOSTS)]
    port: Port = REGISTRAR_PORT
    registrar_digest: Octets32
    token: Token
    unit: Identifier
    expires: Annotated[datetime, msgspec.Meta(tz=True)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file's form: as `Seed`, the digest as 64 hexadecimal digits."""

    room: Identifier
    gateway: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=HOSTS)]
    port: Port = REGISTRAR_PORT
    registrar_digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    token: Token
    unit: Identifier
    expires: Annotated[datetime, msgspec.Meta(tz=True)]


def read_seed(path: Path) -> Seed | None:
    """The seed in that file; None when there is no file, or its seed was spent.

    Raises ConfigError naming the file and the entry. Whether it has expired the registrar decides: this box's clock may
    be wrong.
    """
    try:
        content = read(path, limit=SEED_BYTES)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise ConfigError(error.what, next_step=_NEXT_STEP) from error
    try:
        if not msgspec.toml.decode(content):
            return None
        found = msgspec.toml.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {str(error).rstrip('.')}.", next_step=_NEXT_STEP) from error
    return Seed(
        room=found.room,
        gateway=found.gateway,
        port=found.port,
        registrar_digest=bytes.fromhex(found.registrar_digest),
        token=found.token,
        unit=found.unit,
        expires=found.expires,
    )


def write_seed(path: Path, seed: Seed, *, disk: Disk = DISK) -> None:
    """Write a seed file, for its owner alone where the file system knows owners. Raises StorageError.

    It is written in place, because FAT takes no mode 0600: a torn file is refused by `read_seed`.
    """
    lines = [
        "# Moodline: put this file on the boot partition of this desk's card. It holds a secret until it is used.",
        f"room = {json.dumps(seed.room)}",
        f"gateway = {json.dumps(list(seed.gateway), ensure_ascii=False)}",
        f"port = {seed.port}",
        f'registrar_digest = "{seed.registrar_digest.hex()}"',
        f"token = {json.dumps(seed.token)}",
        f"unit = {json.dumps(seed.unit)}",
        f"expires = {seed.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    ]
    append_durably(path, ("\n".join(lines) + "\n").encode(), at=0, disk=disk)


def spend_seed(path: Path, *, disk: Disk = DISK) -> None:
    """Take the seed out of the file, if there is one: the token is overwritten, and a sentence stands in its place.

    Raises StorageError.
    """
    if not path.exists() or read(path, limit=SEED_BYTES) == SPENT.encode():
        return
    append_durably(path, b"#" * path.stat().st_size + b"\n", at=0, disk=disk)
    append_durably(path, SPENT.encode(), at=0, disk=disk)
