"""Which desks a room has, on which lines: from a CSV that a spreadsheet wrote, or from two questions.

The CSV is UTF-8 (with or without byte order mark), its cells parted by commas or semicolons, quoted as in RFC 4180. The
first row names the columns: `desk` and `line` must be there, `unit`, `row` and `column` may. Rows are counted as the
spreadsheet counts them, the header being row 1. Every fault of a file is collected, so that people correct it once.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.config import LineLimits
from device.errors import ConfigError
from device.messages.continuity import DESK_CHARACTERS, is_plain_text
from device.messages.envelope import is_identifier
from device.messages.topics import RESERVED_LINES
from device.system.storage import write_durably

CSV_BYTES: Final = 262_144
SLUG_CHARACTERS: Final = 40
#: Rows and columns of the room are counted from 1, from the board, as the teacher sees the room.
PLACES: Final = 99
DIGITS: Final = 6
#: Lines of a default plan are named by letters.
DEFAULT_LINES: Final = 26
#: How many faults of a file are shown; more are counted.
FAULTS_SHOWN: Final = 20
ANSWERS: Final = 3
WORLD_READABLE: Final = 0o644

REQUIRED: Final = ("desk", "line")
COLUMNS: Final = ("desk", "line", "unit", "row", "column")
#: A room's other members have these names.
RESERVED_UNITS: Final = frozenset({"broker", "gateway", "registrar"})
#: Spreadsheets take a cell that begins so for a formula (CWE-1236), the full-width forms too.
FORMULA_STARTS: Final = "=+-@＝＋－＠"
_NAME_RULE: Final = "Use small letters, digits and dashes, at most 32, beginning with a letter or digit."


@dataclass(frozen=True)
class Desk:
    """One desk: the name that people see, and who stands there. `place` is (row, column) in the room, from 1."""

    name: str
    line: str
    unit: str
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Classroom:
    """All desks of a room; the order of a line's desks is their order here."""

    desks: tuple[Desk, ...]

    @property
    def lines(self) -> Mapping[str, tuple[Desk, ...]]:
        """Desks by line."""
        names = dict.fromkeys(desk.line for desk in self.desks)
        return {name: tuple(desk for desk in self.desks if desk.line == name) for name in names}

    @property
    def names(self) -> dict[str, str]:
        """Unit id to desk name: `desks` of gateway.toml."""
        return {desk.unit: desk.name for desk in self.desks}

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """Unit id to (row, column): `places` of gateway.toml. Desks without a place are left out."""
        return {desk.unit: desk.place for desk in self.desks if desk.place is not None}

    @property
    def folders(self) -> dict[str, str]:
        """Unit id to a folder name that says the desk's name and is like no other, on any file system."""
        slugs = {desk.unit: _slug(desk.name) or desk.unit for desk in self.desks}
        told = list(slugs.values())
        # An underscore stands in no slug and in no unit, so that no made-up name meets another.
        return {unit: slug if told.count(slug) == 1 else f"{slug}_{unit}" for unit, slug in slugs.items()}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: row as the spreadsheet counts it (0: the whole file), column as it names it ("")."""

    row: int
    column: str
    what: str
    next_step: str

    def __str__(self) -> str:
        place = ", ".join(
            filter(None, (f"row {self.row}" if self.row else "", self.column and f"column {self.column}"))
        )
        return f"{place}: {self.what} {self.next_step}" if place else f"{self.what} {self.next_step}"


class ClassroomError(ConfigError):
    """A file with faults; all of them are in `faults`, the first `FAULTS_SHOWN` in the message."""

    def __init__(self, path: Path, faults: Sequence[Fault]) -> None:
        shown = [f"\n  {fault}" for fault in faults[:FAULTS_SHOWN]]
        if len(faults) > FAULTS_SHOWN:
            shown.append(f"\n  and {len(faults) - FAULTS_SHOWN} more")
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"{path}: {count}; nothing was taken.{''.join(shown)}\n", next_step="Correct the file.")
        self.faults = tuple(faults)


def read_classroom(path: Path, *, lines: Collection[str] | None = None, limits: LineLimits | None = None) -> Classroom:
    """The room that a CSV describes. With `lines`, a desk on any other line is a fault.

    Capital letters in line and unit names are taken as small ones. A desk without a unit gets its line's name and its
    number on the line: the fourth desk of line b becomes b4. Raises ClassroomError with every fault, ConfigError when
    the file cannot be read at all.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(CSV_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}).",
            next_step="Give the room's CSV, or write an example: moodline-provision plan --template room.csv",
        ) from error
    rows = _parse(path, raw)
    reading = _Reading(lines, (limits or LineLimits()).units_per_line)
    desks = reading.desks(rows)
    if reading.faults:
        raise ClassroomError(path, reading.faults)
    return Classroom(desks)


def default_classroom(lines: int, desks: int, limits: LineLimits | None = None) -> Classroom:
    """`lines` rows of `desks` desks: lines a, b, c …, desks numbered through the room. Raises ConfigError."""
    most = (limits or LineLimits()).units_per_line
    if not (1 <= lines <= DEFAULT_LINES and 1 <= desks <= most):
        raise ConfigError(
            f"A room of {lines} lines with {desks} desks each.",
            next_step=f"Give 1 to {DEFAULT_LINES} lines and 1 to {most} desks a line, or write a CSV.",
        )
    return Classroom(
        tuple(
            Desk(f"Desk {row * desks + column + 1}", name, f"{name}{column + 1}", (row + 1, column + 1))
            for row, name in enumerate("abcdefghijklmnopqrstuvwxyz"[:lines])
            for column in range(desks)
        )
    )


def ask_classroom(ask: Callable[[str], str]) -> Classroom:
    """The default plan for two numbers that a person is asked for. Raises ConfigError when no number comes."""
    lines = _ask_number(ask, f"How many lines (rows of desks) has the room? 1 to {DEFAULT_LINES}: ", DEFAULT_LINES)
    most = LineLimits().units_per_line
    desks = _ask_number(ask, f"How many desks has each line? 1 to {most}: ", most)
    return default_classroom(lines, desks)


def _ask_number(ask: Callable[[str], str], question: str, most: int) -> int:
    for _ in range(ANSWERS):
        try:
            answer = ask(question).strip()
        except EOFError:
            break
        if _is_number(answer, most):
            return int(answer)
    raise ConfigError(f"No number from 1 to {most} was given.", next_step="Run it again, or give the room with --csv.")


def write_classroom(path: Path, classroom: Classroom) -> None:
    """The room as a CSV with all columns, every unit named; reading it gives the same room. Raises StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for desk in classroom.desks:
        writer.writerow((desk.name, desk.line, desk.unit, *(desk.place or ("", ""))))
    # Spreadsheets take UTF-8 for the country's old encoding unless a byte order mark says otherwise.
    write_durably(path, text.getvalue().encode("utf-8-sig"), mode=WORLD_READABLE)


def write_template(path: Path) -> None:
    """An example to be filled in: two lines of four desks. Raises ConfigError when the file is there, StorageError."""
    if path.exists():
        raise ConfigError(f"{path}: is there already.", next_step="Give another name; nothing was overwritten.")
    write_classroom(path, default_classroom(2, 4))


def _parse(path: Path, raw: bytes) -> list[list[str]]:
    """The cells of every row; the first is the header. Raises ClassroomError where the bytes are no such file."""
    save = 'Save it in the spreadsheet as "CSV UTF-8".'
    if len(raw) > CSV_BYTES:
        raise ClassroomError(path, [Fault(0, "", f"The file is larger than {CSV_BYTES} bytes.", "Is it the room's?")])
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ClassroomError(path, [Fault(1, "A", "The text is UTF-16 (byte 0), not UTF-8.", save)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start + (len(raw) - len(error.object))
        rows, _ = _rows(raw[:offset].decode("utf-8-sig") + "?", strict=False)
        row, column = len(rows), _letter(max(0, len(rows[-1]) - 1))
        what = f"Byte {offset} (0x{raw[offset]:02x}) is not UTF-8."
        raise ClassroomError(path, [Fault(row, column, what, save)]) from error
    rows, broken = _rows(text)
    if broken:
        raise ClassroomError(
            path, [Fault(len(rows) + 1, "", f"The quotes do not match ({broken}).", 'Write a quote in a name as "".')]
        )
    if not any(any(cell.strip() for cell in row) for row in rows):
        what = f"The file is empty: the first row names the columns ({', '.join(COLUMNS)})."
        raise ClassroomError(
            path, [Fault(0, "", what, "Write an example: moodline-provision plan --template room.csv")]
        )
    return rows


def _rows(text: str, *, strict: bool = True) -> tuple[list[list[str]], str]:
    """All rows, and what ended the reading early ("" when nothing did)."""
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict):
            rows.append(row)
    except csv.Error as error:
        return rows, str(error)
    return rows, ""


class _Reading:
    """One file's rows, read once; `faults` grows."""

    def __init__(self, lines: Collection[str] | None, most: int) -> None:
        self.faults: list[Fault] = []
        self._lines = lines
        self._most = most
        self._columns: dict[str, int] = {}
        self._faulty: set[int] = set()
        self._row = 1
        self._seen: dict[tuple[str, object], int] = {}
        self._on_line: dict[str, int] = {}

    def desks(self, rows: Sequence[Sequence[str]]) -> tuple[Desk, ...]:
        """Every desk that has no fault; all of them when `faults` is empty."""
        if not self._header(rows[0]):
            return ()
        found = []
        for self._row, cells in enumerate(rows[1:], start=2):
            if any(cell.strip() for cell in cells) and (desk := self._desk(cells)) is not None:
                found.append(desk)
        if not self._on_line and not self.faults:
            self.faults.append(Fault(0, "", "No desk stands below the header.", "Write one row for each desk."))
        return tuple(found)

    def _header(self, cells: Sequence[str]) -> bool:
        names = [cell.strip().casefold() for cell in cells]
        for index, name in enumerate(names):
            if name in COLUMNS and name not in self._columns:
                self._columns[name] = index
            elif name:
                self._faulty.add(index)
                what = "twice" if name in COLUMNS else f"unknown; known are {', '.join(COLUMNS)}"
                self._fault(_letter(index), f"The column {name!r} is {what}.", "Take it out, or correct its name.")
        for name in REQUIRED:
            if name not in self._columns:
                self._fault("", f"The column {name!r} is missing.", f"Name a column of the first row {name!r}.")
        if ("row" in self._columns) is not ("column" in self._columns):
            self._fault("", "Of `row` and `column` only one is there.", "Give both, or neither.")
        return all(name in self._columns for name in REQUIRED)

    def _desk(self, cells: Sequence[str]) -> Desk | None:
        before = len(self.faults)
        named = self._faulty.union(self._columns.values())
        for index, cell in enumerate(cells):
            if cell.strip() and index not in named:
                what = f"{_shown(cell)} stands under no column's name."
                self._fault(_letter(index), what, "A comma within a name needs quotes around the name.")
                break
        told = {name: cells[index].strip() if index < len(cells) else "" for name, index in self._columns.items()}
        name = self._name(told["desk"])
        line = self._line(told["line"])
        unit = self._unit(told.get("unit", ""), line)
        place = self._place(told.get("row", ""), told.get("column", ""))
        return Desk(name, line, unit, place) if len(self.faults) == before else None

    def _name(self, cell: str) -> str:
        name = unicodedata.normalize("NFC", cell)
        if not name:
            self._fault(self._at("desk"), "The desk has no name.", "Give it one.")
        elif name[0] in FORMULA_STARTS:
            what = f"{_shown(name)} begins like a formula ({name[0]})."
            self._fault(self._at("desk"), what, "Begin the name with a letter or a digit.")
        elif len(name) > DESK_CHARACTERS:
            what = f"{_shown(name)} has {len(name)} characters."
            self._fault(self._at("desk"), what, f"At most {DESK_CHARACTERS} are taken: shorten it.")
        elif not is_plain_text(name, DESK_CHARACTERS):
            self._fault(
                self._at("desk"), f"{_shown(name)} holds characters that cannot be seen.", "Type the name anew."
            )
        else:
            self._once("desk", name.casefold(), f"The desk {name!r}", "Every desk has a name of its own.")
        return name

    def _line(self, cell: str) -> str:
        line = cell.lower()
        if line in RESERVED_LINES:
            what = f"{cell!r} is a reserved name."
            self._fault(self._at("line"), what, f"No line is named {', '.join(sorted(RESERVED_LINES))}.")
        elif not is_identifier(line):
            what = f"{_shown(cell)} is no line name." if cell else "The desk has no line."
            self._fault(self._at("line"), what, _NAME_RULE)
        elif self._lines is not None and line not in self._lines:
            self._fault(self._at("line"), f"The room has no line {cell!r}.", f"Its lines: {', '.join(self._lines)}.")
        self._on_line[line] = self._on_line.get(line, 0) + 1
        if self._on_line[line] == self._most + 1:
            what = f"Line {line!r} has more than {self._most} desks."
            self._fault(self._at("line"), what, "Put the rest on another line.")
        return line

    def _unit(self, cell: str, line: str) -> str:
        number = self._on_line[line]
        unit = cell.lower() or (f"{line}-{number}" if line[-1:].isdigit() else f"{line}{number}")
        column = self._at("unit" if cell else "line")
        if not is_identifier(unit):
            # The line's own fault is told already.
            if cell or is_identifier(line):
                self._fault(column, f"{_shown(cell or unit)} is no unit name.", _NAME_RULE)
        elif unit in RESERVED_UNITS:
            self._fault(
                column, f"{unit!r} is a reserved name.", f"No unit is named {', '.join(sorted(RESERVED_UNITS))}."
            )
        else:
            step = "Every unit has a name of its own." if cell else "Name the units in a column `unit`."
            self._once("unit" if cell else "line", unit, f"The unit {unit!r}", step, kind="unit")
        return unit

    def _place(self, row: str, column: str) -> tuple[int, int] | None:
        if not row and not column:
            return None
        for name, cell in (("row", row), ("column", column)):
            if name in self._columns and not _is_number(cell, PLACES):
                what = f"{_shown(cell)} is no place in the room." if cell else "Half of the place is missing."
                self._fault(self._at(name), what, f"Give a number from 1 to {PLACES}, or leave row and column empty.")
                return None
        if not row or not column:
            return None
        place = int(row), int(column)
        self._once("row", place, f"The place row {row}, column {column}", "Two desks cannot stand on one place.")
        return place

    def _once(self, column: str, value: object, what: str, next_step: str, *, kind: str = "") -> None:
        first = self._seen.setdefault((kind or column, value), self._row)
        if first != self._row:
            self._fault(self._at(column), f"{what} is in row {first} already.", next_step)

    def _at(self, name: str) -> str:
        return f"{_letter(self._columns[name])} ({name})"

    def _fault(self, column: str, what: str, next_step: str) -> None:
        self.faults.append(Fault(self._row, column, what, next_step))


def _is_number(text: str, most: int) -> bool:
    """Whether it is a number from 1 to `most` in ASCII digits; `int` refuses thousands of digits by an exception."""
    return text.isascii() and text.isdecimal() and len(text) <= DIGITS and 1 <= int(text) <= most


def _letter(index: int) -> str:
    """A column's name as spreadsheets show it: A, B … Z, AA …"""
    letters = ""
    while index >= 0:
        letters = chr(ord("A") + index % 26) + letters
        index = index // 26 - 1
    return letters


def _shown(cell: str) -> str:
    """A cell in a message: quoted, what cannot be seen as escapes, and cut when it is long."""
    return repr(cell if len(cell) <= 40 else cell[:40] + "…")


def _slug(name: str) -> str:
    kept = "".join(character if character.isalnum() else "-" for character in name.casefold())
    return "-".join(filter(None, kept.split("-")))[:SLUG_CHARACTERS].strip("-")
