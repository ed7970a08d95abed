"""docs/line-protocol.md and ADR 2 give the keys, codes and sizes that the code has."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from device.clock import TimeSource
from device.messages import grant, label, link, policy, roster
from device.messages.label import LABEL_BYTES, LabelState, SenseState
from device.messages.sealing import sealed_bytes
from tools.bench.line import sizes

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "line-protocol.md").read_text()


def section(title: str) -> str:
    """The text under a heading."""
    return next(part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE) if part.startswith(title))


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Roster", roster._Key),
        ("Policy", policy._Key),
        ("Grant", grant._Key),
        ("Link", link._Key),
        ("Label", label._Key),
    ],
)
def test_the_fields_are_those_of_the_code(title: str, keys: type[IntEnum]) -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section(title), flags=re.MULTILINE)
    assert [(int(key), name) for key, name in rows] == [(key.value, key.name.lower()) for key in keys]


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("purpose", [purpose.value for purpose in policy.Purpose]),
        ("setting", [setting.value for setting in policy.Setting]),
        ("mode", [mode.value for mode in policy.Mode]),
        ("time_source", [source.value for source in TimeSource]),
        ("state", [state.name.lower() for state in LabelState]),
        ("speech", [sense.value for sense in SenseState]),
    ],
)
def test_the_codes_are_those_of_the_code(field: str, names: list[str]) -> None:
    (row,) = re.findall(rf"^\| \d+ \| {field} \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert row == ", ".join(f"{code} {name.replace('_', ' ')}" for code, name in enumerate(names))


def test_the_sizes_are_those_of_the_code() -> None:
    text = section("Label")
    assert f"zeros up to {LABEL_BYTES} bytes" in text
    (parts,) = re.findall(r"(\d+) bytes of encapsulated key, (\d+) of ciphertext", text)
    assert sum(map(int, parts)) == sealed_bytes(roster.SealingSuite.X25519_SHA256_CHACHA20POLY1305)
    decision = (DOCS / "adr" / "0002-signatures-and-wire-format.md").read_text()
    measured = {measurement.name: round(measurement.value) for measurement in sizes()}
    assert f"A link with one label is {measured['link with one label']} bytes" in decision
    assert f"adds {measured['each further label']} (" in decision
