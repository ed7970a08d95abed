"""Key files that are missing, open to others, of another kind or locked are refused by name, with the next step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import ConfigError
from device.system.keys import hybrid_pem, load_opening_key, load_signing_key, load_verifying_key

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


def key_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def private(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(PEM, PKCS8, PLAIN)


def test_key_comes_back(tmp_path: Path) -> None:
    signing, opening = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    loaded = load_signing_key(key_file(tmp_path, private(signing)))
    assert loaded.private_bytes_raw() == signing.private_bytes_raw()
    loaded_opening = load_opening_key(key_file(tmp_path, private(opening)))
    assert isinstance(loaded_opening, X25519PrivateKey)
    assert loaded_opening.private_bytes_raw() == opening.private_bytes_raw()


def test_hybrid_opening_key_comes_back_and_must_be_the_owners_alone(tmp_path: Path) -> None:
    seed = bytes(range(32))
    assert load_opening_key(key_file(tmp_path, hybrid_pem(seed))) == seed
    with pytest.raises(ConfigError, match=r"key.pem: others may use.*chmod 600"):
        load_opening_key(key_file(tmp_path, hybrid_pem(seed), 0o644))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hybrid_opening_key_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ConfigError, match=r"key.pem: is not a private key"):
        load_opening_key(key_file(tmp_path, hybrid_pem(bytes(length))))
    with pytest.raises(ConfigError, match=r"key.pem: is not a private key"):
        load_signing_key(key_file(tmp_path, hybrid_pem(bytes(32))))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_key_that_others_may_use_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, private(Ed25519PrivateKey.generate()), mode)
    with pytest.raises(ConfigError, match=rf"key.pem: others may use.*mode {mode:04o}.*chmod 600 .*key.pem"):
        load_signing_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_takes_a_services_key_in_that_services_folder_and_no_other_users(tmp_path: Path) -> None:
    path = key_file(tmp_path, private(Ed25519PrivateKey.generate()))
    os.chown(path, 12_345, 12_345)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid 12345\)"):
        load_signing_key(path)
    os.chown(tmp_path, 12_345, 12_345)
    load_signing_key(path)


def test_missing_key_and_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.pem: cannot be read .No such file"):
        load_signing_key(tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match="is not a regular file"):
        load_signing_key(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff" * 99]
)
def test_broken_key_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"key.pem: is not a private key"):
        load_signing_key(key_file(tmp_path, content))
    with pytest.raises(ConfigError, match=r"key.pem: is not a public key"):
        load_verifying_key(key_file(tmp_path, content))


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not an Ed25519 key"):
        load_signing_key(key_file(tmp_path, private(X25519PrivateKey.generate())))
    with pytest.raises(ConfigError, match="is not an X25519 key"):
        load_opening_key(key_file(tmp_path, private(Ed25519PrivateKey.generate())))
    other = generate_private_key(SECP256R1()).public_key()
    encoded = other.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="is not an Ed25519 public key"):
        load_verifying_key(key_file(tmp_path, encoded))


def test_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path = key_file(tmp_path, key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"right")))
    assert load_signing_key(path, b"right").private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        load_signing_key(path, b"wrong")
    with pytest.raises(ConfigError, match="--passphrase-file"):
        load_signing_key(path)


def test_passphrase_for_a_key_that_has_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--passphrase-file"):
        load_signing_key(key_file(tmp_path, private(Ed25519PrivateKey.generate())), b"needless")
