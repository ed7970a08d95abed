"""docs/verdicts.md says what the code says, and so do the threat model's references."""

from __future__ import annotations

import re
from pathlib import Path

from device.errors import VERDICTS
from device.line.actions import Notice

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "verdicts.md").read_text()
THREATS = (REPOSITORY / "docs" / "threat-model.md").read_text()


def test_every_verdict_stands_under_its_step_with_its_sentence_and_next_step() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    rows = {
        (code, int(section.split(".")[0]), sentence, honest == "yes", next_step)
        for section in sections
        if section[0].isdigit()
        for code, sentence, honest, next_step in re.findall(
            r"^\| `(\w+)` \| (.+?) \| (yes|no) \| (.+?) \|$", section, flags=re.MULTILINE
        )
    }
    assert rows == {
        (verdict.value, row.step, row.sentence, row.honest, row.next_step) for verdict, row in VERDICTS.items()
    }


def test_every_notice_stands_on_the_page() -> None:
    notices = PAGE.split("## Notices")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", notices, flags=re.MULTILINE)) == {notice.value for notice in Notice}


def test_tests_and_vectors_that_the_threat_model_names_exist() -> None:
    sources = "".join(path.read_text() for path in REPOSITORY.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+?)_?…?`", THREATS)
    assert named
    assert [name for name in named if f"def {name}" not in sources] == []
    for path in re.findall(r"`(tests/[\w/]+\.py)`", THREATS):
        assert (REPOSITORY / path).is_file()
    vectors = re.findall(r"vectors? ((?:`\w+`(?:, )?)+)", THREATS)
    for name in re.findall(r"`(\w+)`", " ".join(vectors)):
        assert (REPOSITORY / "tests" / "vectors" / "line" / f"{name}.json").is_file()
