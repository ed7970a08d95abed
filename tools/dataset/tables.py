"""CSV tables of a stranger: every mistake is told by row and column, as a spreadsheet counts them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from models.labels import EMOTIONS, Emotion
from tools.dataset.manifest import ITEMS_MAX

BYTES_MAX: Final = 64_000_000


@dataclass(frozen=True)
class Row:
    """One row; columns that the table does not have are "". Row 1 is the header."""

    table: Path
    number: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def wrong(self, column: str, why: str, next_step: str = "Correct that cell.") -> ConfigError:
        """The error for one cell."""
        return ConfigError(f"{self.table}: row {self.number}, column {column}: {why}.", next_step=next_step)

    def emotion(self, column: str = "emotion") -> Emotion | None:
        """The emotion in a cell; None for an empty one. Raises ConfigError for a word that is not of the vocabulary."""
        word = self[column]
        if word and word not in EMOTIONS:
            raise self.wrong(column, f'"{word}" is none of {", ".join(EMOTIONS)}')
        return Emotion(word) if word else None


def rows(
    table: Path, *, required: Collection[str], may_be_empty: Collection[str] = (), optional: Collection[str] = ()
) -> list[Row]:
    """All rows of a CSV file with a header; a required column has no empty cell, unless it is also in `may_be_empty`.

    Raises ConfigError naming the file, the row and the column.
    """
    known = [*required, *optional]
    asks = f"The columns are {', '.join(required)}" + (f"; you may add {', '.join(optional)}." if optional else ".")
    try:
        if table.stat().st_size > BYTES_MAX:
            raise ConfigError(f"{table}: is larger than {BYTES_MAX} bytes.", next_step="Divide the table.")
        with table.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{table}: cannot be read ({error}).", next_step="Give a CSV file in UTF-8.") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    missing, strange = [name for name in required if name not in header], [name for name in header if name not in known]
    if missing or strange or len(set(header)) < len(header):
        named = f"no column {missing[0]}" if missing else f'column "{strange[0]}" is not known' if strange else ""
        raise ConfigError(f"{table}: row 1: {named or 'a column stands twice'}.", next_step=asks)
    found = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(header):
            raise ConfigError(f"{table}: row {number}: {len(line)} cells for {len(header)} columns.", next_step=asks)
        found.append(Row(table, number, dict(zip(header, (cell.strip() for cell in line), strict=True))))
        for column in required:
            if not found[-1][column] and column not in may_be_empty:
                raise found[-1].wrong(column, "is empty")
    if not 0 < len(found) <= ITEMS_MAX:
        raise ConfigError(f"{table}: {len(found)} rows, between 1 and {ITEMS_MAX} are taken.", next_step=asks)
    return found
