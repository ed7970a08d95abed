"""The threat model names tests and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs/threat-model.md").read_text(encoding="utf-8")
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "tests").rglob("*.py")))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+…?)`", PAGE))))
def test_a_named_test_exists(name: str) -> None:
    whole = rf"{name.removesuffix('…')}\w*" if name.endswith("…") else name
    assert re.search(rf"def {whole}\(", TESTS)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|docs|tools)/[\w./-]+)`", PAGE))))
def test_a_named_file_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_every_guarantee_is_mapped() -> None:
    assert {f"G{number}" for number in range(1, 9)} <= set(re.findall(r"\bG\d\b", PAGE.split("## On the line")[1]))
