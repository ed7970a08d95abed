"""Sheets of stickers for boxes: desk, room, line and unit in words, and a QR code that holds no secret.

A page is A4 with 3 × 8 labels of 70 × 37 mm, a common label sheet without gaps; 0.5 mm stay free at top and bottom.
Each page is an SVG, and `stickers.html` holds all pages, one printed page each. To print, or to make a PDF: open
`stickers.html` in a browser, print, paper A4, margins none, scale 100 %; or, without a screen,
`chromium --headless --no-pdf-header-footer --print-to-pdf=stickers.pdf stickers.html`.

The QR code (ISO/IEC 18004, written by segno) says `moodline:ROOM/UNIT`; for a box whose key is known, it goes on with
`?key=` and the SHA-256 of the public key (SubjectPublicKeyInfo, DER) in 64 hexadecimal digits, so that a person can
compare it with what the box shows. A claim token never stands on a sticker.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import segno

from device.errors import ConfigError
from device.system.storage import write_durably

#: All lengths in millimetres.
PAGE_WIDTH: Final = 210.0
PAGE_HEIGHT: Final = 297.0
ACROSS: Final = 3
DOWN: Final = 8
PER_PAGE: Final = ACROSS * DOWN
LABEL_WIDTH: Final = 70.0
LABEL_HEIGHT: Final = 37.0
TOP: Final = (PAGE_HEIGHT - DOWN * LABEL_HEIGHT) / 2
#: Printers leave about 4 mm at the paper's edge blank, and sheets shift.
INSET: Final = 5.0
QR_SIZE: Final = 27.0
#: ISO/IEC 18004, 6.3.8: four modules stay free around the code.
QUIET_MODULES: Final = 4
GAP: Final = 1.0
TEXT_WIDTH: Final = LABEL_WIDTH - 2 * INSET - QR_SIZE - GAP
NAME_SIZES: Final = (6.0, 5.0, 4.2, 3.5, 2.9, 2.3, 1.8, 1.5)
SMALL_SIZES: Final = (2.6, 2.0, 1.6)
KEY_SIZE: Final = 2.1
#: In font sizes: from line to line, and from the baseline to the lowest ink.
LINE_SPACING: Final = 1.2
DESCENT: Final = 0.25
HTML_FILE: Final = "stickers.html"
WORLD_READABLE: Final = 0o644

#: Widths in em of DejaVu Sans Bold, the widest of the usual sans serifs, rounded up by class.
_NARROW: Final = frozenset(" .,:;'!|()[]ijltfI-/")
_BROAD: Final = frozenset("mwMWŒœÆæ@%&—…")
_FONT: Final = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Sticker:
    """What stands on one label. `key` is the digest of the box's key (32 bytes; `keys.key_digest`) once it is known."""

    room: str
    desk: str
    line: str
    unit: str
    key: bytes | None = None

    @property
    def content(self) -> str:
        """What the QR code says."""
        return f"moodline:{self.room}/{self.unit}" + (f"?key={self.key.hex()}" if self.key is not None else "")


def sheets(stickers: Sequence[Sticker], *, skip: int = 0) -> list[str]:
    """One SVG a page. `skip` labels stay empty on the first page: a sheet that was begun can be used up.

    Raises ConfigError when there is nothing to print, or `skip` is more than a page.
    """
    if not stickers:
        raise ConfigError("No desk to print a sticker for.", next_step="Give the room's CSV with --csv.")
    if not 0 <= skip < PER_PAGE:
        raise ConfigError(f"{skip} labels are to be skipped.", next_step=f"A page has {PER_PAGE}: skip 0 to 23.")
    places: list[Sticker | None] = [*[None] * skip, *stickers]
    return [_sheet(places[first : first + PER_PAGE]) for first in range(0, len(places), PER_PAGE)]


def write_stickers(folder: Path, stickers: Sequence[Sticker], *, skip: int = 0) -> list[Path]:
    """Write `stickers-01.svg` … and `stickers.html`, which prints them all, and return their paths, the latter last.

    Pages of an earlier, longer run are removed. Raises ConfigError, StorageError.
    """
    pages = sheets(stickers, skip=skip)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"stickers-{number:02d}.svg" for number in range(1, len(pages) + 1)]
    for old in set(folder.glob("stickers-[0-9][0-9].svg")) - set(paths):
        old.unlink()
    for path, page in zip(paths, pages, strict=True):
        write_durably(path, page.encode(), mode=WORLD_READABLE)
    html = folder / HTML_FILE
    write_durably(
        html, html_of(pages, title=f"Moodline stickers, room {stickers[0].room}").encode(), mode=WORLD_READABLE
    )
    return [*paths, html]


def html_of(pages: Iterable[str], *, title: str) -> str:
    """One page of HTML that prints every sheet on a page of its own; nothing in it comes from elsewhere."""
    style = (
        "@page { size: A4; margin: 0 } body { margin: 0 } "
        f"section {{ width: {PAGE_WIDTH:g}mm; height: {PAGE_HEIGHT:g}mm; overflow: hidden }} "
        "section + section { break-before: page } svg { display: block } "
        "@media screen { body { background: #888 } section { margin: 5mm auto; background: #fff } }"
    )
    body = "\n".join(f"<section>{page}</section>" for page in pages)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _sheet(places: Sequence[Sticker | None]) -> str:
    labels = [
        _label(sticker, LABEL_WIDTH * (place % ACROSS), TOP + LABEL_HEIGHT * (place // ACROSS))
        for place, sticker in enumerate(places)
        if sticker is not None
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{PAGE_WIDTH:g}mm" height="{PAGE_HEIGHT:g}mm"'
        f' viewBox="0 0 {PAGE_WIDTH:g} {PAGE_HEIGHT:g}" font-family="{_FONT}" fill="#000">\n'
        + "\n".join(labels)
        + "\n</svg>"
    )


def _label(sticker: Sticker, left: float, top: float) -> str:
    small = []
    for word in (f"Room {sticker.room}", f"Line {sticker.line}", f"Unit {sticker.unit}"):
        size, lines = fit(word, SMALL_SIZES, 2 * SMALL_SIZES[0])
        small += [(line, size) for line in lines]
    if sticker.key is not None:
        digits = sticker.key.hex()
        small.append((f"Key {digits[:4]} {digits[4:8]} {digits[8:12]} {digits[12:16]}", KEY_SIZE))
    x, y = INSET + QR_SIZE + GAP, LABEL_HEIGHT - INSET
    parts = [_code(sticker.content, INSET, (LABEL_HEIGHT - QR_SIZE) / 2)]
    for line, size in reversed(small):
        parts.append(_text(line, x, y - DESCENT * size, size))
        y -= size * LINE_SPACING
    size, lines = fit(sticker.desk, NAME_SIZES, y - INSET - GAP)
    y = INSET - (LINE_SPACING - 1.0) * size
    for line in lines:
        y += size * LINE_SPACING
        parts.append(_text(line, x, y - DESCENT * size, size, ' font-weight="700"'))
    # A nested SVG clips: whatever the font, nothing is printed on the neighbour's label.
    place = f'x="{left:g}" y="{top:g}" width="{LABEL_WIDTH:g}" height="{LABEL_HEIGHT:g}"'
    return f'<svg {place} data-unit="{escape(sticker.unit)}">{"".join(parts)}</svg>'


def _text(text: str, x: float, y: float, size: float, more: str = "") -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:g}"{more}>{escape(text)}</text>'


def _code(content: str, x: float, y: float) -> str:
    code = segno.make(content, error="m", micro=False)
    modules, _ = code.symbol_size(border=QUIET_MODULES)
    drawn = code.svg_inline(border=QUIET_MODULES, svgclass=None, lineclass=None)
    move = f"translate({x:.2f} {y:.2f}) scale({QR_SIZE / modules:.6f})"
    return f'<g class="qr" shape-rendering="crispEdges" transform="{move}">{drawn}</g>'


def fit(text: str, sizes: Sequence[float], height: float) -> tuple[float, tuple[str, ...]]:
    """The largest of the font sizes (mm) at which the text fits beside the code into that height, and its lines.

    Lines break at spaces; within a word only when the word does not fit otherwise at any size.
    """
    for breaking in (False, True):
        for size in sizes:
            lines = _wrap(text, TEXT_WIDTH / size, breaking=breaking)
            if lines and len(lines) * size * LINE_SPACING <= height:
                return size, lines
    return sizes[-1], _wrap(text, TEXT_WIDTH / sizes[-1], breaking=True)


def _wrap(text: str, ems: float, *, breaking: bool) -> tuple[str, ...]:
    """The text in lines of at most that width; empty when a word is too wide and may not be broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if _width(joined) <= ems:
            lines[-1] = joined
        elif _width(word) <= ems:
            lines.append(word)
        elif not breaking:
            return ()
        else:
            lines.append("")
            for character in word:
                if _width(lines[-1] + character) > ems:
                    lines.append("")
                lines[-1] += character
    return tuple(filter(None, lines))


def _width(text: str) -> float:
    return sum(map(_em, text))


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.46
    if character in _BROAD:
        return 1.12
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF" or character > "\u2e80":
        return 1.25
    if character > "\u0370":
        return 1.16
    return 0.86 if character.isupper() else 0.72
