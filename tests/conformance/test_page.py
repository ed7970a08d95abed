"""docs/conformance.md: its examples are the vectors, its tables the code, and it is enough to make an object."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from device.config import LineLimits
from device.errors import VERDICTS, Verdict
from device.messages.link import Entry, Link, sign_link
from device.messages.roster import OPENING_KEY_BYTES, SealingSuite
from device.messages.sealing import sealed_bytes
from tools.conformance.example import PAGE, SEALED, SIGNED, renewed
from tools.conformance.line import COMMANDS
from tools.vectors import room

TEXT = PAGE.read_text(encoding="utf-8")
VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def example(name: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """An example's JSON fields, and its hex under the names that it has on the page."""
    text = TEXT.partition(f"<!-- example {name} -->")[2].partition("<!-- end of")[0]
    fields, blocks = re.findall(r"```(?:json)?\n(.*?)```", text, flags=re.DOTALL)
    parts: dict[str, bytes] = {}
    for part in blocks.split("# ")[1:]:
        title, *lines = part.splitlines()
        what, _, size = title.rpartition(", ")
        parts[what] = bytes.fromhex("".join(lines))
        assert size == f"{len(parts[what])} bytes"
    return json.loads(fields), parts


def stored(name: str) -> str:
    message: str = json.loads((VECTORS / f"{name}.json").read_text())["messages"][0]
    return message


def test_the_examples_are_what_the_vectors_hold() -> None:
    assert renewed(TEXT) == TEXT, "run: python -m tools.conformance.example"


def test_the_signed_example_can_be_made_from_the_page_alone() -> None:
    fields, parts = example("signed")
    key = Ed25519PrivateKey.from_private_bytes(parts["Ed25519 private key of desk-2 (seed)"])
    headers = {1: -8, 3: "application/moodline-link+cbor", 4: b"desk-2", -65537: 1}
    protected = cbor2.dumps(headers, canonical=True)
    names = ("room", "line", "epoch", "round", "unit", "session", "entries", "prev", "flags")
    values = {**fields, "prev": bytes.fromhex(str(fields["prev"]))}
    payload = cbor2.dumps({key: values[name] for key, name in enumerate(names, start=1)}, canonical=True)
    aad = cbor2.dumps([fields["room"], fields["line"]])
    signed = cbor2.dumps(["Signature1", protected, aad, payload])
    made = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, key.sign(signed)]))
    assert (protected, aad, payload) == (parts["protected headers"], parts["external_aad"], parts["payload"])
    assert signed == parts["Sig_structure (what is signed)"]
    assert key.public_key().public_bytes_raw() == parts["Ed25519 public key"]
    assert made == parts["the object, as published"] == bytes.fromhex(stored(f"line/{SIGNED}"))
    assert hashlib.sha256(made).digest() == parts["its digest"]


def test_the_sealed_examples_open_with_what_the_page_says() -> None:
    for name, folder in (("sealed", "line"), ("hybrid", "hybrid")):
        fields, parts = example(name)
        sealed = parts["encapsulated key"] + parts["ciphertext and tag"]
        secret = parts["private opening key"]
        if name == "sealed":
            plaintext = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305).decrypt(
                sealed, X25519PrivateKey.from_private_bytes(secret), parts["info"]
            )
        else:
            expanded = hashlib.shake_256(secret).digest(96)
            mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
            plaintext = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305).decrypt(
                sealed, MLKEM768X25519PrivateKey(mlkem, x25519), parts["info"]
            )
        assert plaintext == parts["plaintext"]
        assert list(cbor2.loads(plaintext[1 : 1 + plaintext[0]]).values()) == list(fields.values())
        assert not any(plaintext[1 + plaintext[0] :])
        assert cbor2.loads(parts["info"]) == ["moodline label", 1, "lab", "row-1", "desk-2", 5, 21]
        assert sealed.hex() in stored(f"{folder}/{SEALED}")


def test_the_steps_name_every_verdict_where_it_belongs() -> None:
    section = TEXT.partition("## 4.")[2].partition("## 5.")[0]
    rows = {int(step): row for step, row in re.findall(r"^\| (\d+) \| (.+) \|$", section, flags=re.MULTILINE)}
    codes_in = {step: set(re.findall(r"`([a-z_]+)`", row)) & set(Verdict) for step, row in rows.items()}
    found = {Verdict(code): step for step, codes in codes_in.items() for code in codes}
    memory = section.partition("These codes need a memory")[2].partition("A **proof**")[0]
    for codes, step in re.findall(r"((?:`[a-z_]+`[, and]*)+)\((\d+)\)", memory):
        found.update({Verdict(code): int(step) for code in re.findall(r"`([a-z_]+)`", codes)})
    assert found == {verdict: row.step for verdict, row in VERDICTS.items()}


def test_the_suites_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d) \| `0x.* \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, flags=re.MULTILINE)
    sizes = {suite: sealed_bytes(suite) for suite in SealingSuite}
    assert [tuple(map(int, row)) for row in rows] == [
        (suite, OPENING_KEY_BYTES[suite], 32, size - 64 - 16, size) for suite, size in sizes.items()
    ]


def test_the_protocols_page_has_the_suites_of_the_code() -> None:
    page = (PAGE.parent / "line-protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| `0x.* \| (\d+) bytes \| (\d+) bytes \| ([\d.]+) kB \|$", page, flags=re.MULTILINE)
    assert [(int(suite), int(key), int(sealed), float(link)) for suite, key, sealed, link in rows] == [
        (suite, OPENING_KEY_BYTES[suite], sealed_bytes(suite), round(fullest_link(suite) / 1_000, 1))
        for suite in SealingSuite
    ]


def fullest_link(suite: SealingSuite) -> int:
    """Bytes of a link with all its entries, the longest names and the largest numbers."""
    name, number = "d" * 32, 2**63 - 1
    entries = tuple(Entry(number, number, bytes(sealed_bytes(suite))) for _ in range(LineLimits().entries_per_link))
    link = Link(name, name, number, number, name, number, entries, bytes(32))
    return len(sign_link(link, replace(room.signer("desk-1"), key_id=name)))


def test_every_command_is_described() -> None:
    assert set(re.findall(r"^\*\*`(\w+)`\*\*", TEXT, flags=re.MULTILINE)) == {*COMMANDS, "batch"}
