"""Writes the card and the manifest of a bundle whose other files lie there already."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device.inference.manifest import BUNDLE_FILES, CARD_FILE, MANIFEST_FILE, Manifest
from tools.dataset.clips import file_digest
from tools.training.card import card


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write card.md and manifest.json into `folder`, with the digests of all files as they lie there now.

    Raises ConfigError when a network or golden file is missing.
    """
    (folder / CARD_FILE).write_text(card(manifest))
    digests = {name: file_digest(folder / name) for name in sorted(BUNDLE_FILES)}
    sealed = msgspec.structs.replace(manifest, files=digests)
    encoded = msgspec.json.format(msgspec.json.encode(sealed), indent=1)
    (folder / MANIFEST_FILE).write_bytes(encoded + b"\n")
    return sealed
