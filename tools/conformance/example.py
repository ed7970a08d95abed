"""The worked examples of docs/conformance.md, from the vectors: `python -m tools.conformance.example` renews them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from device.messages.envelope import ContentType, external_aad, open_envelope, sig_structure
from device.messages.label import encode_label
from device.messages.sealing import Place
from tools.conformance.readable import dump, label_as_json
from tools.conformance.vectors import Vector, load

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPOSITORY / "docs" / "conformance.md"
COLUMNS: Final = 96
#: Which vectors the page takes apart.
SIGNED, SEALED, HYBRID = "good_link_without_entries", "good_link", "good_link"


def signed_example(vector: Vector) -> str:
    """A link from its fields to its digest."""
    raw = bytes.fromhex(vector.content["messages"][0])
    envelope = open_envelope(raw, wanted=ContentType.LINK)
    signer, aad = vector.room.signer(envelope.key_id), external_aad(vector.room.roster.room, vector.room.line)
    fields = json.dumps(dump(raw)["fields"], indent=1)
    parts = {
        f"Ed25519 private key of {envelope.key_id} (seed)": signer.private_key.private_bytes_raw(),
        "Ed25519 public key": signer.public_key,
        "protected headers": envelope.protected,
        "external_aad": aad,
        "payload": envelope.payload,
        "Sig_structure (what is signed)": sig_structure(envelope.protected, aad, envelope.payload),
        "signature": envelope.signature,
        "the object, as published": raw,
        "its digest": envelope.digest,
    }
    return f"```json\n{fields}\n```\n\n{_hex_blocks(parts)}"


def sealed_example(vector: Vector) -> str:
    """An entry from its label to the sealed bytes."""
    link, room = vector.link, vector.room
    (entry,) = link.entries
    place = Place(link.room, link.line, link.unit, entry.session, entry.sequence)
    label = room.opener.open(entry.sealed, place)
    size = len(entry.sealed) - len(encode_label(label)) - 16
    parts = {
        "plaintext": encode_label(label),
        "info": place.info,
        "private opening key": bytes.fromhex(room.content["opening_key"]),
        "encapsulated key": entry.sealed[:size],
        "ciphertext and tag": entry.sealed[size:],
    }
    return f"```json\n{json.dumps(label_as_json(label), indent=1)}\n```\n\n{_hex_blocks(parts)}"


def examples() -> dict[str, str]:
    """Each example under the name of its place on the page."""
    line, hybrid = (
        {vector.name: vector for vector in load(REPOSITORY / "tests" / "vectors" / name)} for name in ("line", "hybrid")
    )
    return {
        "signed": signed_example(line[SIGNED]),
        "sealed": sealed_example(line[SEALED]),
        "hybrid": sealed_example(hybrid[HYBRID]),
    }


def renewed(page: str) -> str:
    """The page with its examples as the vectors have them now."""
    for name, text in examples().items():
        begin, end = f"<!-- example {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"the page has no place for the example {name!r}"
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def _hex_blocks(parts: dict[str, bytes]) -> str:
    lines: list[str] = []
    for name, raw in parts.items():
        text = raw.hex()
        lines += [f"# {name}, {len(raw)} bytes", *(text[at : at + COLUMNS] for at in range(0, len(text), COLUMNS))]
    return "```\n" + "\n".join(lines) + "\n```"


def main() -> int:
    """Write the page anew."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
