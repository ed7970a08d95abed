"""The room's CSV: what spreadsheets write is taken, and every fault is told with row, column and next step."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.config import LineLimits
from device.errors import ConfigError
from device.messages.topics import RESERVED_LINES
from provisioning.classroom import (
    CSV_BYTES,
    FAULTS_SHOWN,
    Classroom,
    ClassroomError,
    Desk,
    ask_classroom,
    default_classroom,
    read_classroom,
    write_classroom,
    write_template,
)

GOOD = "desk,line,unit,row,column\nDesk 1,a,,1,1\nDesk 2,a,,1,2\nMüller's desk,b,b9,2,1\n"
ROOM = Classroom(
    (Desk("Desk 1", "a", "a1", (1, 1)), Desk("Desk 2", "a", "a2", (1, 2)), Desk("Müller's desk", "b", "b9", (2, 1)))
)


def read(folder: Path, content: str | bytes) -> Classroom:
    path = folder / "room.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_classroom(path)


def faults(folder: Path, content: str | bytes) -> list[tuple[int, str, str]]:
    with pytest.raises(ClassroomError) as refused:
        read(folder, content)
    assert str(folder / "room.csv") in str(refused.value), "the file is named"
    assert all(fault.next_step for fault in refused.value.faults), "every fault says what to do"
    return [(fault.row, fault.column, fault.what) for fault in refused.value.faults]


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(",", ";"),
        "\ufeff" + GOOD.replace(",", ";").replace("\n", "\r\n"),
        GOOD.replace("Desk 1", '"Desk 1"').replace("desk,line", 'Desk,"LINE "'),
        GOOD.replace(",a,", ", A ,").replace("b9", "B9"),
        GOOD.replace("Desk 2", "\n,,,,\n\n Desk 2 ") + "\n\n;;\n".replace(";", ","),
        GOOD.replace("Müller", "Mu\u0308ller"),
    ],
)
def test_what_spreadsheets_write_is_the_same_room(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == ROOM


def test_commas_and_quotes_within_a_quoted_name_belong_to_it(tmp_path: Path) -> None:
    room = read(tmp_path, 'line,desk\na,"Desk 1, by the ""window"""\n')
    assert room.desks == (Desk('Desk 1, by the "window"', "a", "a1"),)
    assert room.places == {}


def test_a_line_whose_name_ends_in_a_digit_parts_the_number_from_it(tmp_path: Path) -> None:
    room = read(tmp_path, "desk,line\nx,row1\ny,row11\nz,row1\n")
    assert room.names == {"row1-1": "x", "row11-1": "y", "row1-2": "z"}


def test_the_room_by_lines_names_and_places() -> None:
    assert {line: [desk.unit for desk in desks] for line, desks in ROOM.lines.items()} == {
        "a": ["a1", "a2"],
        "b": ["b9"],
    }
    assert ROOM.names == {"a1": "Desk 1", "a2": "Desk 2", "b9": "Müller's desk"}
    assert ROOM.places == {"a1": (1, 1), "a2": (1, 2), "b9": (2, 1)}


def test_every_desk_has_a_folder_of_its_own_whatever_it_is_called() -> None:
    names = ["Desk 1", "Desk/1", "desk 1_a", "..", "☺", "x" * 64, "x" * 63 + "y", "../../etc"]
    folders = Classroom(tuple(Desk(name, "a", f"a{place}") for place, name in enumerate(names))).folders
    assert folders["a7"] == "etc" and folders["a3"] == "a3"
    assert len({folder.casefold() for folder in folders.values()}) == len(names)
    assert all("/" not in folder and folder.strip(".") and len(folder) < 80 for folder in folders.values())


@pytest.mark.parametrize(
    ("content", "row", "column", "says"),
    [
        ("desk,line\nDesk 1,a\nDesk 2,a\ndesk 1,b\n", 4, "A (desk)", "is in row 2 already"),
        ("desk,line,unit\nx,a,a7\ny,b,a7\n", 3, "C (unit)", "The unit 'a7' is in row 2 already"),
        ("desk,line,unit\nx,a,a2\ny,a,\n", 3, "B (line)", "The unit 'a2' is in row 2 already"),
        ("desk,line,row,column\nx,a,1,2\ny,b,1,2\n", 3, "C (row)", "row 1, column 2 is in row 2 already"),
        ("desk,line,row,column\nx,a,1,\n", 2, "D (column)", "Half of the place"),
        ("desk,line,row,column\nx,a,first,2\n", 2, "C (row)", "'first' is no place"),
        ("desk,line,row,column\nx,a,1,100\n", 2, "D (column)", "'100' is no place"),
        ("desk,line,row,column\nx,a,1," + 5_000 * "9" + "\n", 2, "D (column)", "is no place"),
        ("desk,line,row,column\nx,a,0,-1\n", 2, "C (row)", "'0' is no place"),
        ("desk,line\nx,alerts\n", 2, "B (line)", "'alerts' is a reserved name"),
        ("desk,line\nx,B 2\n", 2, "B (line)", "'B 2' is no line name"),
        ("desk,line\nx,a/#\n", 2, "B (line)", "'a/#' is no line name"),
        ("desk,line\nx,\n", 2, "B (line)", "no line"),
        ("desk,line\n,a\n", 2, "A (desk)", "no name"),
        ("desk,line,unit\nx,a,gateway\n", 2, "C (unit)", "'gateway' is a reserved name"),
        ("desk,line,unit\nx,a,Unit 7\n", 2, "C (unit)", "'Unit 7' is no unit name"),
        ("desk,line\nx," + 32 * "a" + "\n", 2, "B (line)", "is no unit name"),
        ("desk,line\n" + 65 * "x" + ",a\n", 2, "A (desk)", "has 65 characters"),
        ("desk,line\nx\u202ey,a\n", 2, "A (desk)", "'x\\u202ey' holds characters that cannot be seen"),
        ('desk,line\n"two\nrows",a\n', 2, "A (desk)", "cannot be seen"),
        ("desk,line\nx\0y,a\n", 2, "A (desk)", "cannot be seen"),
        ("desk,line\nx,a,b\n", 2, "C", "'b' stands under no column's name"),
        ("desk,line,,\nx,a,,z\n", 2, "D", "'z' stands under no column's name"),
        ("desk,unit\nx,a1\n", 1, "", "The column 'line' is missing"),
        ("desk\tline\nx\ta\n", 1, "", "The column 'desk' is missing"),
        ("desk,line,seat\nx,a,1\n", 1, "C", "The column 'seat' is unknown"),
        ("desk,line,line\nx,a,b\n", 1, "C", "The column 'line' is twice"),
        ("desk,line,row\nx,a,1\n", 1, "", "only one is there"),
        ('desk,line\nx,a\n"y,a\n', 3, "", "The quotes do not match"),
        ('desk,line\nx,a\n"y"z,a\n', 3, "", "The quotes do not match"),
        ("", 0, "", "The file is empty"),
        ("\ufeff\n,,\n", 0, "", "The file is empty"),
        ("desk,line\n\n", 0, "", "No desk stands below the header"),
        ("desk,line\n" + CSV_BYTES * "x", 0, "", "larger than 262144 bytes"),
    ],
)
def test_a_fault_is_told_with_row_column_and_reason(
    tmp_path: Path, content: str, row: int, column: str, says: str
) -> None:
    told = faults(tmp_path, content)
    assert [(at, where) for at, where, what in told if says in what] == [(row, column)], told


@pytest.mark.parametrize("start", "=+-@＝")
def test_a_name_that_a_spreadsheet_would_run_as_a_formula_is_refused(tmp_path: Path, start: str) -> None:
    assert faults(tmp_path, f'desk,line\n"{start}HYPERLINK(""x"")",a\n') == [
        (2, "A (desk)", f"'{start}HYPERLINK(\"x\")' begins like a formula ({start}).")
    ]


@pytest.mark.parametrize("line", sorted(RESERVED_LINES))
def test_no_line_has_the_name_of_one_of_the_rooms_own_topics(tmp_path: Path, line: str) -> None:
    assert faults(tmp_path, f"desk,line\nx,{line}\n") == [(2, "B (line)", f"{line!r} is a reserved name.")]


@pytest.mark.parametrize(
    ("content", "row", "column", "says"),
    [
        ("desk,line\nx,a\nMüller,a\n".encode("latin-1"), 3, "A", "Byte 15 (0xfc) is not UTF-8"),
        ("\ufeffline;desk\na;x\na;Müller\n".encode() + b"a;\xe9\n", 4, "B", "Byte 29 (0xe9) is not UTF-8"),
        (b'desk,line\n"a\nb\xff",a\n', 2, "A", "Byte 14 (0xff) is not UTF-8"),
        (b"\x80", 1, "A", "Byte 0 (0x80) is not UTF-8"),
        (GOOD.encode("utf-16"), 1, "A", "UTF-16"),
    ],
)
def test_bad_encoding_is_told_with_the_byte_and_its_cell(
    tmp_path: Path, content: bytes, row: int, column: str, says: str
) -> None:
    [(at, where, what)] = faults(tmp_path, content)
    assert (at, where) == (row, column) and says in what


def test_all_faults_are_told_at_once_and_at_most_twenty_are_shown(tmp_path: Path) -> None:
    assert [row for row, _, _ in faults(tmp_path, "desk,line\n=x,B 2\nx,a\nx,gateway\n")] == [2, 2, 4, 4]
    path = tmp_path / "room.csv"
    path.write_text("desk,line\n" + 30 * "x,a\n")
    with pytest.raises(ClassroomError) as refused:
        read_classroom(path)
    assert len(refused.value.faults) == 29
    message = str(refused.value)
    assert message.count("row ") == 2 * FAULTS_SHOWN and "and 9 more" in message and "29 faults" in message


def test_a_line_has_at_most_forty_desks_and_says_where_the_rest_begins(tmp_path: Path) -> None:
    rows = [f"Desk {number},a\n" for number in range(1, 43)]
    assert len(read(tmp_path, "desk,line\n" + "".join(rows[:40])).desks) == LineLimits().units_per_line
    assert faults(tmp_path, "desk,line\n" + "".join(rows)) == [(42, "B (line)", "Line 'a' has more than 40 desks.")]


def test_a_line_that_the_room_does_not_have_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "room.csv"
    path.write_text("desk,line\nx,a\ny,c\n")
    assert len(read_classroom(path, lines=("a", "c")).desks) == 2
    with pytest.raises(ClassroomError, match=r"row 3, column B \(line\): The room has no line 'c'. Its lines: a, b."):
        read_classroom(path, lines=("a", "b"))


def test_a_file_that_cannot_be_read_is_named_with_a_way_on(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read .* moodline-provision plan --template"):
            read_classroom(path)


def test_the_template_is_a_good_room_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "room.csv"
    write_template(path)
    assert read_classroom(path) == default_classroom(2, 4)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfdesk,line,unit,row,column\r\nDesk 1,a,a1,1,1\r\n")
    with pytest.raises(ConfigError, match="nothing was overwritten"):
        write_template(path)


def answers(*given_: str) -> Callable[[str], str]:
    left = list(given_)

    def ask(question: str) -> str:
        assert "How many" in question
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def test_two_questions_make_the_default_plan() -> None:
    room = ask_classroom(answers("5", "zero", " 8 "))
    assert room == default_classroom(5, 8)
    assert len(room.desks) == 40 and list(room.lines) == ["a", "b", "c", "d", "e"]
    assert room.desks[-1] == Desk("Desk 40", "e", "e8", (5, 8))


@pytest.mark.parametrize("given_", [(), ("x", "-1", "27"), ("2", "41", "0", "²"), (5_000 * "9",)])
def test_no_sensible_answer_ends_the_questions(given_: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="Run it again, or give the room with --csv"):
        ask_classroom(answers(*given_))


@pytest.mark.parametrize(("lines", "desks"), [(0, 1), (27, 1), (1, 0), (1, 41)])
def test_a_default_plan_has_its_limits(lines: int, desks: int) -> None:
    with pytest.raises(ConfigError, match="1 to 26 lines and 1 to 40 desks"):
        default_classroom(lines, desks)


printable = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S"), include_characters=" ")
names = st.text(printable, min_size=1, max_size=12).map(lambda name: f"x{name}".strip())


@settings(max_examples=60, deadline=None)
@given(wanted=st.lists(names, min_size=1, max_size=12), places=st.booleans())
def test_what_is_written_is_read_back_as_the_same_room(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[str], places: bool
) -> None:
    room = Classroom(
        tuple(
            Desk(f"{number} {name}", "ab"[number % 2], f"u{number}", (1, number + 1) if places else None)
            for number, name in enumerate(wanted)
        )
    )
    path = tmp_path_factory.mktemp("room") / "room.csv"
    write_classroom(path, room)
    again = read_classroom(path)
    assert [desk.name for desk in again.desks] == [unicodedata.normalize("NFC", desk.name) for desk in room.desks]
    assert (again.places, [desk.unit for desk in again.desks]) == (room.places, [desk.unit for desk in room.desks])
    assert len(set(again.folders.values())) == len(wanted)


@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text('desk,line"\n;\r\0\t=1ab', max_size=80).map(str.encode)))
def test_whatever_the_bytes_the_reader_refuses_in_order(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        room = read_classroom(path)
    except ClassroomError as error:
        assert error.faults
    else:
        assert room.desks
