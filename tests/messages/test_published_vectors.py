"""Published vectors, run through the functions that ship (sources: tests/vectors/SOURCES.md)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import cbor2
import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from device.messages.envelope import KeySigner, sig_structure, signature_holds
from device.messages.roster import SealingSuite
from device.messages.sealing import SUITES

VECTORS = Path(__file__).parent.parent / "vectors"
PACKAGE = Path(cryptography_vectors.__file__).parent


def test_the_vector_files_are_those_that_were_published() -> None:
    rows = re.findall(r"\| `([\w/.-]+\.json)` \| `([0-9a-f]{64})` \|", (VECTORS / "SOURCES.md").read_text())
    stated = dict(rows)
    files = [*VECTORS.glob("cose/*.json"), *VECTORS.glob("wycheproof/*.json")]
    found = {str(path.relative_to(VECTORS)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == stated


def test_wycheproof_ed25519_including_malleable_and_truncated() -> None:
    groups = json.loads((VECTORS / "wycheproof/ed25519_test.json").read_text())["testGroups"]
    results = [
        (case["tcId"], case["result"] == "valid", signature_holds(key, bytes.fromhex(case["sig"]), message))
        for group in groups
        for key in [bytes.fromhex(group["publicKey"]["pk"])]
        for case in group["tests"]
        for message in [bytes.fromhex(case["msg"])]
    ]
    assert len(results) == 151
    assert [case for case, valid, held in results if valid != held] == []


def test_rfc_8032_signing_and_verifying() -> None:
    lines = (PACKAGE / "asymmetric/Ed25519/sign.input").read_text().splitlines()
    for line in lines[:256]:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        signer = KeySigner("desk-1", Ed25519PrivateKey.from_private_bytes(secret[:32]))
        assert signer.public_key == public
        assert signer.sign(message) == signed[:64]
        assert signature_holds(public, signed[:64], message)
        assert not signature_holds(public, signed[:64], message + b"\x00")


def _cose(name: str) -> tuple[dict[str, Any], list[Any]]:
    vector = json.loads((VECTORS / "cose" / name).read_text())
    return vector, cbor2.loads(bytes.fromhex(vector["output"]["cbor"])).value


@pytest.mark.parametrize(
    "name",
    [
        "eddsa-examples_eddsa-sig-01.json",
        "countersign_signed1-01.json",
        "countersign_signed1-02.json",
        "countersign1_signed1-01.json",
    ],
)
def test_cose_examples_with_ed25519(name: str) -> None:
    vector, (protected, _, payload, signature) = _cose(name)
    message = sig_structure(protected, b"", payload)
    assert message.hex().upper() == vector["intermediates"]["ToBeSign_hex"]
    key = bytes.fromhex(vector["input"]["sign0"]["key"]["x_hex"])
    assert signature_holds(key, signature, message)
    assert not signature_holds(key, signature, message[:-1])


def test_a_cose_example_with_another_curve_is_refused() -> None:
    vector, (protected, _, payload, signature) = _cose("eddsa-examples_eddsa-sig-02.json")
    key = bytes.fromhex(vector["input"]["sign0"]["key"]["x_hex"])
    assert not signature_holds(key, signature, sig_structure(protected, b"", payload))


def test_rfc_9180_base_mode_of_our_suite() -> None:
    """The library's single shot has no `aad`, the published ciphertexts have one; so the published key and nonce make
    the ciphertext without, and the suite that ships must open it from the published private key and info."""
    published = json.loads((PACKAGE / "HPKE/test-vectors.json").read_text())
    ours = [v for v in published if (v["mode"], v["kem_id"], v["kdf_id"], v["aead_id"]) == (0, 32, 1, 3)]
    assert ours
    for vector in ours:
        suite = SUITES[SealingSuite.X25519_SHA256_CHACHA20POLY1305]
        first = vector["encryptions"][0]
        aead = ChaCha20Poly1305(bytes.fromhex(vector["key"]))
        nonce, plaintext = bytes.fromhex(vector["base_nonce"]), bytes.fromhex(first["pt"])
        assert aead.encrypt(nonce, plaintext, bytes.fromhex(first["aad"])).hex() == first["ct"]
        sealed = bytes.fromhex(vector["enc"]) + aead.encrypt(nonce, plaintext, None)
        private_key = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"]))
        info = bytes.fromhex(vector["info"])
        assert suite.decrypt(sealed, private_key, info) == plaintext
        with pytest.raises(InvalidTag):
            suite.decrypt(sealed, private_key, info + b"\x00")
