"""Published vectors, run through the functions that ship (sources: tests/vectors/SOURCES.md)."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cbor2
import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from device.clock import TimeSource
from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import ContentType, KeySigner, open_envelope, sig_structure, signature_holds
from device.messages.label import Label, LabelState, encode_label
from device.messages.roster import SealingSuite
from device.messages.sealing import SUITES, Opener, Place

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


def test_the_test_vectors_of_rfc_8032_are_among_them() -> None:
    """RFC 8032, section 7.1, by the names that Wycheproof gives them; the reference implementation's list has them,
    too."""
    groups = json.loads((VECTORS / "wycheproof/ed25519_test.json").read_text())["testGroups"]
    names = {case["comment"].partition(": ")[2] for group in groups for case in group["tests"]}
    assert {"Test 1", "Test 2", "Test 3", "Test 1024"} <= names
    public = [line.split(":")[1] for line in (PACKAGE / "asymmetric/Ed25519/sign.input").read_text().splitlines()[:3]]
    assert [key[:8] for key in public] == ["d75a9801", "3d4017c3", "fc51cd8e"]


def test_rfc_8032_signing_and_verifying() -> None:
    lines = (PACKAGE / "asymmetric/Ed25519/sign.input").read_text().splitlines()
    assert len(lines) == 1_024
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        signer = KeySigner("desk-1", Ed25519PrivateKey.from_private_bytes(secret[:32]))
        assert signer.public_key == public
        assert signer.sign(message) == signed[:64]
        assert signature_holds(public, signed[:64], message)
        assert not signature_holds(public, signed[:64], message + b"\x00")


def _published(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((VECTORS / "cose" / name).read_text())
    return vector


def _cose(name: str) -> tuple[dict[str, Any], list[Any]]:
    vector = _published(name)
    decoded = cbor2.loads(bytes.fromhex(vector["output"]["cbor"]))
    return vector, decoded.value if isinstance(decoded, cbor2.CBORTag) else decoded


def _signed_bytes(name: str) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """A COSE_Sign1 example: the vector, what our Sig_structure makes of it, what was published, and the signature."""
    vector, (protected, _, payload, signature) = _cose(name)
    external = bytes.fromhex(vector["input"]["sign0"].get("external", ""))
    published = bytes.fromhex(vector["intermediates"]["ToBeSign_hex"])
    return vector, sig_structure(protected, external, payload), published, signature


ED25519 = [
    "eddsa-examples_eddsa-sig-01.json",
    "countersign_signed1-01.json",
    "countersign_signed1-02.json",
    "countersign1_signed1-01.json",
]


@pytest.mark.parametrize("name", ED25519)
def test_cose_examples_with_ed25519(name: str) -> None:
    vector, message, published, signature = _signed_bytes(name)
    assert message == published
    key = bytes.fromhex(vector["input"]["sign0"]["key"]["x_hex"])
    assert signature_holds(key, signature, message)
    assert not signature_holds(key, signature, message[:-1])


def test_a_cose_example_with_another_curve_is_refused() -> None:
    vector, message, published, signature = _signed_bytes("eddsa-examples_eddsa-sig-02.json")
    assert message == published
    assert not signature_holds(bytes.fromhex(vector["input"]["sign0"]["key"]["x_hex"]), signature, message)


def test_ed25519_signatures_of_cose_structures_that_are_not_ours() -> None:
    """The signer of a COSE_Sign, and countersignatures: other bytes are signed, the signature is checked alike."""
    vector, (_, _, _, ((_, _, signer),)) = _cose("eddsa-examples_eddsa-01.json")
    found = [(vector["input"]["sign"]["signers"][0], vector["intermediates"]["signers"][0], signer)]
    for name in ("countersign_signed1-01.json", "countersign_signed1-02.json"):
        vector, (_, unprotected, _, _) = _cose(name)
        first = unprotected[7] if isinstance(unprotected[7][0], bytes) else unprotected[7][0]
        signers = vector["input"]["sign0"]["countersign"]["signers"]
        found.append((signers[0], vector["intermediates"]["countersigners"][0], first[2]))
    vector, (_, unprotected, _, _) = _cose("countersign1_signed1-01.json")
    (of,), (over,) = vector["input"]["sign0"]["countersign0"]["signers"], vector["intermediates"]["countersign0"]
    found.append((of, over, unprotected[9]))
    for by, what, signature in found:
        assert by["key"]["crv"] == "Ed25519"
        key, message = bytes.fromhex(by["key"]["x_hex"]), bytes.fromhex(what["ToBeSign_hex"])
        assert signature_holds(key, signature, message)
        assert not signature_holds(key, signature, message + b"\x00")


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("RFC8152_Appendix_C_2_1.json", True),
        ("sign1-tests_sign-pass-02.json", True),
        ("sign1-tests_sign-pass-03.json", True),
        ("sign1-tests_sign-fail-02.json", False),
        ("sign1-tests_sign-fail-03.json", False),
        ("sign1-tests_sign-fail-04.json", False),
        ("sign1-tests_sign-fail-06.json", False),
        ("sign1-tests_sign-fail-07.json", False),
    ],
)
def test_cose_examples_with_another_algorithm_fix_what_is_signed(name: str, holds: bool) -> None:
    """ES256 is none of ours; so these hold our Sig_structure, with external data and without, and the library checks
    the signature over what it makes."""
    vector, message, published, signature = _signed_bytes(name)
    key = vector["input"]["sign0"]["key"]
    x, y = (int.from_bytes(urlsafe_b64decode(key[axis] + "=")) for axis in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    if holds:
        assert message == published
        public.verify(der, message, ec.ECDSA(hashes.SHA256()))
    else:
        with pytest.raises(InvalidSignature):
            public.verify(der, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("cose/*.json")))
def test_no_published_cose_object_passes_for_one_of_ours(name: str) -> None:
    """Theirs have other headers, are untagged, or carry something outside the signature; also the well-signed ones."""
    raw = bytes.fromhex(_published(name)["output"]["cbor"])
    for wanted in ContentType:
        with pytest.raises(RemoteMessageError) as refused:
            open_envelope(raw, wanted=wanted)
        assert refused.value.step == 2


OURS = [
    vector
    for vector in json.loads((PACKAGE / "HPKE/test-vectors.json").read_text())
    if (vector["mode"], vector["kem_id"], vector["kdf_id"], vector["aead_id"]) == (0, 32, 1, 3)
]


@dataclass(frozen=True)
class PublishedPlace(Place):
    """A place whose `info` is a published one."""

    published: bytes = b""

    @property
    def info(self) -> bytes:
        """As published."""
        return self.published


def _resealed(vector: dict[str, Any], plaintext: bytes) -> bytes:
    """What the published sender would have sent without `aad`, which the library's single shot does not have: first
    the published ciphertext is made by the published key and nonce, then ours by the same."""
    first = vector["encryptions"][0]
    aead = ChaCha20Poly1305(bytes.fromhex(vector["key"]))
    nonce = bytes.fromhex(vector["base_nonce"])
    assert aead.encrypt(nonce, bytes.fromhex(first["pt"]), bytes.fromhex(first["aad"])).hex() == first["ct"]
    return bytes.fromhex(vector["enc"]) + aead.encrypt(nonce, plaintext, None)


def test_rfc_9180_base_mode_of_our_suite() -> None:
    assert len(OURS) == 1
    for vector in OURS:
        suite = SUITES[SealingSuite.X25519_SHA256_CHACHA20POLY1305]
        plaintext = bytes.fromhex(vector["encryptions"][0]["pt"])
        private_key = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"]))
        info = bytes.fromhex(vector["info"])
        assert suite.decrypt(_resealed(vector, plaintext), private_key, info) == plaintext
        with pytest.raises(InvalidTag):
            suite.decrypt(_resealed(vector, plaintext), private_key, info + b"\x00")


def test_rfc_9180_through_the_opener_that_ships() -> None:
    """A label that the published sender sealed, with its key, nonce and encapsulated key, opens for the published
    receiver; at another `info` it does not, and the published plaintext opens but is no label."""
    (vector,) = OURS
    opener = Opener(X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"])))
    assert opener.public_key.hex() == vector["pkRm"]
    place = PublishedPlace("lab", "row-1", "desk-1", 1, 1, bytes.fromhex(vector["info"]))
    label = Label(window_end_ms=1, time_source=TimeSource.NTP, state=LabelState.MUTED)
    assert opener.open(_resealed(vector, encode_label(label)), place) == label
    for wrong, verdict in (
        ((_resealed(vector, encode_label(label)), replace(place, published=b"elsewhere")), Verdict.NOT_OPENABLE),
        ((_resealed(vector, bytes.fromhex(vector["encryptions"][0]["pt"])), place), Verdict.BAD_LABEL),
    ):
        with pytest.raises(RemoteMessageError) as refused:
            opener.open(*wrong)
        assert refused.value.verdict is verdict
