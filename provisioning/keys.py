"""Make key files: written durably, readable by their owner alone, never replaced."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import ConfigError
from device.messages.roster import SealingSuite
from device.messages.sealing import HYBRID_SEED_BYTES, X25519, Opener
from device.system.keys import KEY_FILE_BYTES as KEY_FILE_BYTES
from device.system.keys import check_owner_only, hybrid_pem, load_opening_key, load_signing_key
from device.system.storage import read, write_durably

PASSPHRASE_CHARACTERS: Final = 12
WORLD_READABLE: Final = 0o644


def signing_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """The Ed25519 key in that file; made there first when there is none. Raises ConfigError, StorageError."""
    if path.exists():
        return load_signing_key(path, passphrase)
    key = Ed25519PrivateKey.generate()
    write_signing_key(path, key, passphrase)
    return key


def write_signing_key(path: Path, key: Ed25519PrivateKey, passphrase: bytes | None = None) -> None:
    """The key as PEM for its owner alone, encrypted when there is a passphrase. Raises StorageError."""
    _write(path, key, passphrase)


def is_encrypted(path: Path) -> bool:
    """Whether a private key's file needs a passphrase. Raises StorageError when it cannot be read."""
    return read(path, limit=KEY_FILE_BYTES).startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def key_digest(key: Ed25519PublicKey) -> bytes:
    """SHA-256 over the key's SubjectPublicKeyInfo in DER, 32 bytes: the form in which boxes pin it (RFC 7469, 2.4)."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def opening_key(path: Path, suite: SealingSuite = X25519) -> X25519PrivateKey | bytes:
    """The gateway's opening key in that file (X25519, or the seed of suite 2); made there first when there is none.

    Raises ConfigError, also when the key there is of another suite, and StorageError.
    """
    if path.exists():
        key = load_opening_key(path)
        Opener(key, suite)
        return key
    if suite is X25519:
        made = X25519PrivateKey.generate()
        _write(path, made, None)
        return made
    seed = secrets.token_bytes(HYBRID_SEED_BYTES)
    Opener(seed, suite)
    write_durably(path, hybrid_pem(seed))
    return seed


def write_verifying_key(path: Path, key: Ed25519PublicKey) -> None:
    """The public key as PEM, for everybody to read. Raises StorageError."""
    encoded = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_durably(path, encoded, mode=WORLD_READABLE)


def read_passphrase(path: Path) -> bytes:
    """The first line of a file that its owner alone can read. Raises ConfigError when it is missing, open or short."""
    check_owner_only(path)
    return check_passphrase(
        read(path, limit=4_096).split(b"\n", 1)[0].strip(), f"{path}: ", "Put a longer one on the file's first line."
    )


def check_passphrase(
    passphrase: bytes, where: str = "", next_step: str = "Take a longer one; five words at random do well."
) -> bytes:
    """The passphrase, when it is long enough for a new key. Raises ConfigError."""
    if len(passphrase) < PASSPHRASE_CHARACTERS:
        raise ConfigError(
            f"{where}the passphrase is shorter than {PASSPHRASE_CHARACTERS} characters.", next_step=next_step
        )
    return passphrase


def _write(path: Path, key: Ed25519PrivateKey | X25519PrivateKey, passphrase: bytes | None) -> None:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_durably(path, encoded)
