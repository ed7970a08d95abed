"""The table of refusals: complete, readable, and the same in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioning.refusals import REFUSALS, Refusal, RefusalError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "enrolment-refusals.md"


def test_every_refusal_has_a_row_and_the_table_no_other() -> None:
    assert set(REFUSALS) == set(Refusal)


@pytest.mark.parametrize("refusal", list(Refusal))
def test_a_refusal_says_what_is_wrong_and_what_to_do(refusal: Refusal) -> None:
    row = REFUSALS[refusal]
    assert 400 <= row.status < 500
    for text in (row.sentence, row.next_step):
        assert text[0].isupper()
        assert text.endswith((".", ").", ")"))
        assert len(text) <= 160


def test_the_documentation_has_the_same_table() -> None:
    rows = [
        f"| `{refusal}` | {row.status} | {row.sentence} | {row.next_step} | {'a person' if row.final else 'the box'} |"
        for refusal, row in REFUSALS.items()
    ]
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert written == rows


def test_an_error_carries_its_row_and_detail() -> None:
    error = RefusalError(Refusal.TOKEN_USED, "Seat b3.")
    assert error.row is REFUSALS[Refusal.TOKEN_USED]
    assert str(error) == f"{error.row.sentence} Seat b3. {error.row.next_step}"
