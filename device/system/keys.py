"""Key files: private ones must belong to their owner alone, and every wrong one is refused by name.

All are PEM (PKCS #8). The cryptography library has no file form for the hybrid opening key of sealing suite 2; here it
is the one of draft-connolly-cfrg-xwing-kem, appendix D, which holds the seed.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import ConfigError

KEY_FILE_BYTES: Final = 16_384
#: PKCS #8 of an X-Wing seed: version 0, algorithm 1.3.6.1.4.1.62253.25722, and an octet string of 32 bytes that follow.
HYBRID_PREFIX: Final = bytes.fromhex("3034020100300d060b2b0601040183e62d81c87a0420")
HYBRID_SEED_BYTES: Final = 32
PEM_BEGIN, PEM_END = b"-----BEGIN PRIVATE KEY-----\n", b"-----END PRIVATE KEY-----\n"
PROVISION_AGAIN: Final = "Provision this box again (moodline-provision)."


def check_owner_only(path: Path) -> None:
    """Raise ConfigError unless the file is a regular one that nobody but its owner may read or write.

    The owner must be the user who runs the program, or root. An operator's command that runs as root also takes the key
    of a service in that service's own folder.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", next_step=PROVISION_AGAIN) from error
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: is not a regular file.", next_step=PROVISION_AGAIN)
    if found.st_mode & 0o077:
        raise ConfigError(
            f"{path}: others may use this private key (mode {stat.S_IMODE(found.st_mode):04o}).",
            next_step=f"Run: chmod 600 {path} (and replace the key if others use this machine).",
        )
    of_service = os.geteuid() == 0 and found.st_uid == path.parent.stat().st_uid
    if found.st_uid not in (0, os.geteuid()) and not of_service:
        raise ConfigError(
            f"{path}: this private key belongs to another user (uid {found.st_uid}).",
            next_step=f"Run: chown {os.geteuid()} {path}",
        )


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", next_step=PROVISION_AGAIN) from error


def _private_key(path: Path, passphrase: bytes | None) -> object:
    check_owner_only(path)
    try:
        return serialization.load_pem_private_key(_bytes_of(path), password=passphrase)
    except TypeError as error:  # a passphrase is needed and not given, or given and not needed
        raise ConfigError(
            f"{path}: {error}.", next_step="Give --passphrase-file exactly when the key is encrypted."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = "is not a private key in PEM form, or the passphrase is wrong"
        raise ConfigError(f"{path}: {wrong}.", next_step=PROVISION_AGAIN) from error


def load_signing_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """The Ed25519 private key of a PEM file (PKCS #8). Raises ConfigError naming the file."""
    key = _private_key(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: is not an Ed25519 key.", next_step=PROVISION_AGAIN)
    return key


def load_opening_key(path: Path) -> X25519PrivateKey | bytes:
    """The gateway's opening key of a PEM file (PKCS #8): X25519, or the hybrid one's seed (32 bytes).

    Raises ConfigError naming the file.
    """
    check_owner_only(path)
    seed = _hybrid_seed(_bytes_of(path))
    if seed is not None:
        return seed
    key = _private_key(path, None)
    if not isinstance(key, X25519PrivateKey):
        raise ConfigError(f"{path}: is not an X25519 key, nor a hybrid one.", next_step=PROVISION_AGAIN)
    return key


def hybrid_pem(seed: bytes) -> bytes:
    """The hybrid opening key's file: PEM of its seed (32 bytes)."""
    return PEM_BEGIN + base64.encodebytes(HYBRID_PREFIX + seed) + PEM_END


def _hybrid_seed(content: bytes) -> bytes | None:
    try:
        encoded = base64.b64decode(
            content.removeprefix(PEM_BEGIN).removesuffix(PEM_END).replace(b"\n", b""), validate=True
        )
    except binascii.Error:
        return None
    seed = encoded.removeprefix(HYBRID_PREFIX)
    return seed if len(encoded) - len(seed) == len(HYBRID_PREFIX) and len(seed) == HYBRID_SEED_BYTES else None


def load_verifying_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key of a PEM file, for example the room authority's. Raises ConfigError naming the file."""
    try:
        key = serialization.load_pem_public_key(_bytes_of(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: is not a public key in PEM form.", next_step=PROVISION_AGAIN) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: is not an Ed25519 public key.", next_step=PROVISION_AGAIN)
    return key


def signing_pem(key: Ed25519PrivateKey) -> bytes:
    """A signing key's file, not encrypted: PEM (PKCS #8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key's file: PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
