"""Sheets of stickers: what a reader gets from the printed codes, that words stay on their label, and pages of a PDF."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import segno
from PIL import Image

from device.errors import ConfigError
from provisioning.classroom import default_classroom
from provisioning.stickers import PER_PAGE, Sticker, sheets, write_stickers
from tests.integration import browser
from tests.integration.browser import PICTURES, Browser, require_chromium
from tests.provisioning.qr_reader import matrix_of, read_matrix, read_picture

LONGEST = "w" * 32
#: Names that are hard to set: as long and as broad as they may be, without a space, of other scripts, of markup.
HARD = [
    "W" * 64,
    "Donaudampfschifffahrtsgesellschaftskapitän am Fenster",
    "Desk 14 <b>&amp;</b> ]]> \"'",
    "Ж" * 30 + " " + "m" * 33,
    "مكتب ١٤",
    "机" * 64,
    "window seat, second row, beside the door to the garden, at last",
    "i",
]


def a_room(count: int = 40) -> list[Sticker]:
    return [Sticker("room-2", desk.name, desk.line, desk.unit) for desk in default_classroom(5, 8).desks[:count]]


def digest(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with browser.opened() as opened:
        yield opened


def shown(chromium: Browser, sheet: Path, scale: float = 3.0) -> tuple[browser.Watched, Image.Image]:
    """The sheet in a tab, a millimetre being 96/25.4 pixels of it, and its picture, `scale` times as fine."""
    tab = chromium.open(sheet.as_uri(), width=794, height=1123, device_scale_factor=scale)
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{sheet.stem}.png"
    tab.tab.screenshot(path=path)
    return tab, Image.open(path)


def _cut(picture: Image.Image, x: float, y: float) -> Image.Image:
    """The code that stands there (mm), 27 mm wide."""
    millimetre = 3.0 * 96 / 25.4
    left, top, right, bottom = (round(edge * millimetre) for edge in (x, y, x + 27, y + 27))
    return picture.crop((left, top, right, bottom))


def test_every_code_of_a_printed_page_is_read_from_its_pixels(tmp_path: Path, chromium: Browser) -> None:
    stickers = [
        Sticker("room-2", s.desk, s.line, s.unit, digest(n) if n > 11 else None) for n, s in enumerate(a_room(22))
    ]
    stickers += [
        Sticker(LONGEST, "Desk 23", LONGEST, LONGEST),
        Sticker(LONGEST, "Desk 24", LONGEST, LONGEST, digest(9)),
    ]
    [sheet, _] = write_stickers(tmp_path, stickers)
    _, picture = shown(chromium, sheet)
    places = [(70 * column + 5, 0.5 + 37 * row + 5) for row in range(8) for column in range(3)]
    codes = [_cut(picture, x, y) for x, y in places]
    read = [read_picture(code) for code in codes]
    assert read == [sticker.content for sticker in stickers]
    assert read[0] == "moodline:room-2/a1"
    assert read[12] == f"moodline:room-2/b5?key={digest(12).hex()}"
    assert 27 / (len(matrix_of(codes[12])) + 8) > 0.5, "half a millimetre a module"


def test_the_reader_of_this_test_refuses_a_code_of_which_one_module_was_changed() -> None:
    matrix = [
        [bool(module) for module in row] for row in segno.make("moodline:room-2/b4", error="m", micro=False).matrix
    ]
    assert read_matrix(matrix) == "moodline:room-2/b4"
    matrix[12][12] ^= True
    with pytest.raises(AssertionError, match="error correction"):
        read_matrix(matrix)


@pytest.mark.parametrize("content", ["x" * length for length in (1, 30, 60, 90, 120, 150, 180, 213)])
def test_the_reader_of_this_test_reads_every_size_of_code(content: str) -> None:
    for error in "lmqh":
        code = segno.make(content, error=error, micro=False, boost_error=False)
        if int(code.version) <= 10:
            picture = io.BytesIO()
            code.save(picture, kind="png", scale=4)
            assert read_picture(Image.open(picture)) == content


def test_a_sticker_holds_no_secret_and_is_plain_about_what_it_is() -> None:
    sticker = Sticker("room-2", "Desk 14", "b", "b4")
    assert sticker.content == "moodline:room-2/b4"
    [sheet] = sheets([sticker])
    words = [element.text for element in ET.fromstring(sheet).iter() if element.text and element.text.strip()]
    assert set(words) == {"Desk 14", "Room room-2", "Line b", "Unit b4"}


def test_the_beginning_of_the_key_digest_stands_in_words_too() -> None:
    [sheet] = sheets([Sticker("r", "Desk 1", "a", "a1", digest(1))])
    digits = digest(1).hex()
    assert f">Key {digits[:4]} {digits[4:8]} {digits[8:12]} {digits[12:16]}<" in sheet


def test_words_stay_on_their_label_and_clear_of_one_another_whatever_the_names(
    tmp_path: Path, chromium: Browser
) -> None:
    stickers = [Sticker(LONGEST, name, "m" * 32, f"{LONGEST[:30]}{n}", digest(n)) for n, name in enumerate(HARD)]
    stickers += [Sticker("r", name, "a", f"a{n}") for n, name in enumerate(HARD)]
    [sheet, _] = write_stickers(tmp_path, stickers)
    tab, _ = shown(chromium, sheet, 2.0)
    labels = tab.tab.evaluate(
        """[...document.querySelectorAll('svg[data-unit]')].map((label) => {
            const box = (node) => { const b = node.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; };
            return [label.textContent, [...label.querySelectorAll('text')].map(box)]; })"""
    )
    assert len(labels) == len(stickers)
    for (text, boxes), sticker in zip(labels, stickers, strict=True):
        assert sticker.desk.replace(" ", "") in text.replace(" ", ""), "no letter is lost"
        assert all(left >= 33 and right <= 70 - 1.5 for left, _, right, _ in boxes), (text, boxes)
        assert all(top >= 3 and bottom <= 37 - 3 for _, top, _, bottom in boxes), (text, boxes)
        baselines = sorted((top + bottom) / 2 for _, top, _, bottom in boxes)
        assert all(below - above > 1.5 for above, below in pairwise(baselines)), (text, boxes)


def test_a_sheet_is_exactly_a4_and_its_labels_cover_it_without_overlap() -> None:
    [sheet] = sheets(a_room(24))
    root = ET.fromstring(sheet)
    assert (root.get("width"), root.get("height")) == ("210mm", "297mm")
    places = {(float(label.get("x", "")), float(label.get("y", ""))) for label in root}
    assert places == {(70.0 * column, 0.5 + 37.0 * row) for column in range(3) for row in range(8)}


def test_forty_stickers_print_to_a_pdf_of_two_a4_pages(tmp_path: Path) -> None:
    write_stickers(tmp_path, a_room())
    pdf = tmp_path / "stickers.pdf"
    command = [require_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    html = tmp_path / "stickers.html"
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}", html.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    printed = pdf.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2
    boxes = [[float(edge) for edge in box.split()] for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", printed)]
    assert boxes and all([round(edge * 25.4 / 72) for edge in box] == [0, 0, 210, 297] for box in boxes), (
        "A4 in points of 1/72 inch"
    )


def test_a_sheet_that_was_begun_is_used_up_and_pages_of_a_longer_run_go(tmp_path: Path) -> None:
    assert [path.name for path in write_stickers(tmp_path, a_room())] == [
        "stickers-01.svg",
        "stickers-02.svg",
        "stickers.html",
    ]
    before = (tmp_path / "stickers-01.svg").read_bytes()
    write_stickers(tmp_path, a_room())
    assert (tmp_path / "stickers-01.svg").read_bytes() == before, "running it again changes nothing"
    assert len(write_stickers(tmp_path, a_room(4), skip=20)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stickers-01.svg", "stickers.html"]
    [first, *_] = ET.fromstring((tmp_path / "stickers-01.svg").read_bytes())
    assert (first.get("x"), first.get("y")) == ("140", "222.5")


def test_nothing_to_print_and_more_than_a_page_to_skip_are_refused() -> None:
    with pytest.raises(ConfigError, match="No desk to print"):
        sheets([])
    for skip in (-1, PER_PAGE):
        with pytest.raises(ConfigError, match="skip 0 to 23"):
            sheets(a_room(1), skip=skip)


def test_names_are_words_and_never_markup(tmp_path: Path) -> None:
    [page, html] = write_stickers(tmp_path, [Sticker("r", '<script>alert("1")</script>', "a", "a1")])
    assert ET.fromstring(page.read_bytes()).find(".//{*}script") is None
    assert "<script" not in html.read_text()
