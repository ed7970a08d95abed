"""Keys are made once, and passphrases are refused when they are open to others or short."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.errors import ConfigError
from device.messages.sealing import HYBRID, Opener
from device.system.keys import load_verifying_key
from provisioning.keys import (
    check_passphrase,
    is_encrypted,
    key_digest,
    opening_key,
    read_passphrase,
    signing_key,
    write_verifying_key,
)


def test_key_is_made_once_and_never_replaced(tmp_path: Path) -> None:
    made = signing_key(tmp_path / "key.pem")
    assert signing_key(tmp_path / "key.pem").private_bytes_raw() == made.private_bytes_raw()
    opening = opening_key(tmp_path / "opening.pem")
    assert Opener(opening_key(tmp_path / "opening.pem")).public_key == Opener(opening).public_key
    hybrid = opening_key(tmp_path / "hybrid.pem", HYBRID)
    assert opening_key(tmp_path / "hybrid.pem", HYBRID) == hybrid
    assert opening_key(tmp_path / "other.pem", HYBRID) != hybrid
    assert {path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())} == {0o600}


def test_opening_key_of_another_suite_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "opening.pem"
    opening_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is of suite 1, the roster asks for suite 2"):
        opening_key(path, HYBRID)
    assert path.read_bytes() == before


def test_damaged_key_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"damaged")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"key.pem"):
        signing_key(path)
    assert path.read_bytes() == b"damaged"


def test_verifying_key_is_for_everybody(tmp_path: Path) -> None:
    key = signing_key(tmp_path / "key.pem").public_key()
    write_verifying_key(tmp_path / "public.pem", key)
    assert load_verifying_key(tmp_path / "public.pem") == key
    assert (tmp_path / "public.pem").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"correct horse battery staple\n", 0o644, "others may use"),
        (b"short\n", 0o600, "shorter than 12 characters"),
        (b"\nsecond line does not count\n", 0o600, "shorter than 12 characters"),
    ],
)
def test_unsafe_passphrase_file_is_refused(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=why):
        read_passphrase(path)


def test_passphrase_is_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"correct horse battery staple\nnot this\n")
    path.chmod(0o600)
    assert read_passphrase(path) == b"correct horse battery staple"


def test_a_keys_digest_is_that_of_its_public_der_form() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    prefix = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4: SubjectPublicKeyInfo of id-Ed25519
    assert key_digest(key) == hashlib.sha256(prefix + key.public_bytes_raw()).digest()


def test_encrypted_keys_are_told_from_open_ones(tmp_path: Path) -> None:
    signing_key(tmp_path / "open.pem")
    signing_key(tmp_path / "locked.pem", b"correct horse battery staple")
    assert not is_encrypted(tmp_path / "open.pem")
    assert is_encrypted(tmp_path / "locked.pem")


def test_a_short_passphrase_is_refused() -> None:
    assert check_passphrase(b"twelve chars") == b"twelve chars"
    with pytest.raises(ConfigError, match="shorter than 12 characters"):
        check_passphrase(b"eleven char")
