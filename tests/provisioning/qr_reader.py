"""Reads QR codes from pictures by ISO/IEC 18004:2015, versions 1 to 10, byte mode: shares nothing with what draws them.

It reads clean, upright pictures only. It corrects nothing: a code whose error correction does not add up is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from PIL import Image

Matrix = list[list[bool]]

#: Table 9: error correction codewords in a block, and number of blocks, by level and version 1 … 10.
CHECKS: Final = {
    "L": (7, 10, 15, 20, 26, 18, 20, 24, 30, 18),
    "M": (10, 16, 26, 18, 24, 16, 18, 22, 22, 26),
    "Q": (13, 22, 18, 26, 18, 24, 18, 22, 20, 24),
    "H": (17, 28, 22, 16, 22, 28, 26, 26, 24, 28),
}
BLOCKS: Final = {
    "L": (1, 1, 1, 1, 1, 2, 2, 2, 2, 4),
    "M": (1, 1, 1, 2, 2, 4, 4, 4, 5, 5),
    "Q": (1, 1, 2, 2, 4, 4, 6, 6, 8, 8),
    "H": (1, 1, 2, 4, 4, 4, 5, 6, 8, 8),
}
#: Table 12: the level's two bits in the format information.
LEVELS: Final = {0b01: "L", 0b00: "M", 0b11: "Q", 0b10: "H"}
#: Table 10: the data mask's condition; i is the row, j the column.
MASKS: Final[Sequence[Callable[[int, int], int]]] = (
    lambda i, j: (i + j) % 2,
    lambda i, j: i % 2,
    lambda i, j: j % 3,
    lambda i, j: (i + j) % 3,
    lambda i, j: (i // 2 + j // 3) % 2,
    lambda i, j: i * j % 2 + i * j % 3,
    lambda i, j: (i * j % 2 + i * j % 3) % 2,
    lambda i, j: ((i + j) % 2 + i * j % 3) % 2,
)


def read_picture(picture: Image.Image) -> str:
    """The text of the one code in the picture."""
    return read_matrix(matrix_of(picture))


def matrix_of(picture: Image.Image) -> Matrix:
    """The code's modules, True where dark; the module's size is taken from the finder pattern's edge of seven."""
    dark = picture.convert("L").point(lambda value: 255 if value < 128 else 0)
    box = dark.getbbox()
    assert box is not None, "there is no code in the picture"
    left, top, right, bottom = box
    row = [dark.getpixel((x, top + 1)) for x in range(left, right)]
    count = 17 + 4 * round((7 * (right - left) / row.index(0) - 17) / 4)
    assert abs((right - left) - (bottom - top)) <= 1, "a code is a square"
    step = (right - left) / count
    return [
        [dark.getpixel((int(left + (j + 0.5) * step), int(top + (i + 0.5) * step))) != 0 for j in range(count)]
        for i in range(count)
    ]


def read_matrix(matrix: Matrix) -> str:
    """The text of a code. Fails on anything that the standard forbids."""
    size = len(matrix)
    version = (size - 17) // 4
    assert 1 <= version <= 10, f"{size} modules"
    _check_finders(matrix)
    assert all(matrix[6][k] == matrix[k][6] == (k % 2 == 0) for k in range(8, size - 8)), "timing patterns"
    level, mask = _format(matrix)
    fixed = _function_modules(size, version)
    bits = [matrix[i][j] ^ (MASKS[mask](i, j) == 0) for i, j in _path(size) if not fixed[i][j]]
    codewords = [_number(bits[at : at + 8]) for at in range(0, len(bits) - 7, 8)]
    return _text(_data(codewords, CHECKS[level][version - 1], BLOCKS[level][version - 1]), version)


def _check_finders(matrix: Matrix) -> None:
    size = len(matrix)
    for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):
        for i in range(7):
            for j in range(7):
                ring = max(abs(i - 3), abs(j - 3))
                assert matrix[top + i][left + j] == (ring != 2), "finder pattern"


def _format(matrix: Matrix) -> tuple[str, int]:
    """Level and mask (7.9.1): both copies agree, and the BCH (15, 5) code adds up."""
    size = len(matrix)
    around = [(8, j) for j in (0, 1, 2, 3, 4, 5, 7, 8)] + [(i, 8) for i in (7, 5, 4, 3, 2, 1, 0)]
    apart = [(size - 1 - i, 8) for i in range(7)] + [(8, size - 8 + j) for j in range(8)]
    first, second = (_number([matrix[i][j] for i, j in places]) for places in (around, apart))
    assert first == second, "format information"
    word = rest = first ^ 0b101010000010010
    for shift in range(4, -1, -1):
        if rest >> shift + 10 & 1:
            rest ^= 0b10100110111 << shift
    assert rest == 0, "format information"
    return LEVELS[word >> 13], word >> 10 & 7


def _function_modules(size: int, version: int) -> Matrix:
    fixed = [[i == 6 or j == 6 for j in range(size)] for i in range(size)]

    def fix(top: int, left: int, height: int, width: int) -> None:
        for i in range(top, top + height):
            for j in range(left, left + width):
                fixed[i][j] = True

    fix(0, 0, 9, 9)
    fix(0, size - 8, 9, 8)
    fix(size - 8, 0, 8, 9)
    if version >= 7:
        fix(0, size - 11, 6, 3)
        fix(size - 11, 0, 3, 6)
    last = size - 7
    centres = [] if version == 1 else [6, last] if version < 7 else [6, (6 + last) // 2, last]
    for i in centres:
        for j in centres:
            if (i, j) not in ((6, 6), (6, last), (last, 6)):
                fix(i - 2, j - 2, 5, 5)
    return fixed


def _path(size: int) -> Iterator[tuple[int, int]]:
    """The order of modules (7.7.3): two columns at a time from the right, upwards and downwards in turn."""
    upwards = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for i in range(size - 1, -1, -1) if upwards else range(size):
            yield i, right
            yield i, right - 1
        upwards = not upwards


def _data(codewords: Sequence[int], checks: int, blocks: int) -> list[int]:
    """The data codewords, taken out of their interleaved blocks (7.6), each of which must be whole."""
    short = len(codewords) // blocks - checks
    longer = len(codewords) % blocks
    lengths = [short] * (blocks - longer) + [short + 1] * longer
    found: list[list[int]] = [[] for _ in lengths]
    left = iter(codewords)
    for place in range(short + 1):
        for block, length in zip(found, lengths, strict=True):
            if place < length:
                block.append(next(left))
    data = [codeword for block in found for codeword in block]
    for _ in range(checks):
        for block in found:
            block.append(next(left))
    for block in found:
        for power in range(checks):
            assert _polynomial(block, power) == 0, "error correction does not add up"
    return data


def _polynomial(block: Sequence[int], power: int) -> int:
    """The block as a polynomial over GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, at α to that power."""
    value = 0
    for codeword in block:
        for _ in range(power):
            value = value << 1 ^ (0x11D if value & 0x80 else 0)
        value ^= codeword
    return value


def _text(data: Sequence[int], version: int) -> str:
    bits = [bool(codeword >> 7 - place & 1) for codeword in data for place in range(8)]
    assert _number(bits[:4]) == 0b0100, "byte mode"
    start = 4 + (8 if version < 10 else 16)
    length = _number(bits[4:start])
    text = bytes(_number(bits[start + 8 * place : start + 8 * place + 8]) for place in range(length))
    end = bits[start + 8 * length :][:4]
    assert not any(end), "the terminator follows"
    return text.decode()


def _number(bits: Sequence[bool]) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)
