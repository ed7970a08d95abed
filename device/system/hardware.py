"""What this machine says of itself: model and serial number, for the enrolment request.

Nothing is decided by either: anybody with root on the box can change them. They tell an operator which box of the pile
asks to be enrolled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
CHARACTERS: Final = 64
_FILE_BYTES: Final = 256

#: The device tree of a board like the Raspberry Pi (Devicetree Specification, section 2.3.2 and the root node's
#: properties in 3.2), then the DMI tables of a PC.
_SERIAL_FILES: Final = ("proc/device-tree/serial-number", "sys/class/dmi/id/product_serial")
_MODEL_FILES: Final = ("proc/device-tree/model", "sys/class/dmi/id/product_name")

#: What makers leave in a field that they should have filled in.
_PLACEHOLDERS: Final = frozenset(
    {"", "none", "default string", "to be filled by o.e.m.", "system serial number", "system product name", "0"}
)


@dataclass(frozen=True)
class Hardware:
    """At most 64 printable characters each; "unknown" where the machine does not say."""

    serial: str
    model: str


def read_hardware(root: Path = Path("/")) -> Hardware:
    """This machine's serial number and model. Never raises: a box that does not know them is enrolled all the same."""
    return Hardware(_first(root, _SERIAL_FILES), _first(root, _MODEL_FILES))


def _first(root: Path, names: tuple[str, ...]) -> str:
    for name in names:
        try:
            with (root / name).open("rb") as stream:
                raw = stream.read(_FILE_BYTES)
        except OSError:
            continue
        text = "".join(letter for letter in raw.decode(errors="replace") if letter.isprintable()).strip()[:CHARACTERS]
        if text.lower() not in _PLACEHOLDERS:
            return text
    return UNKNOWN
