"""Checks that a TFLite file hangs together before native code reads it: tflite-runtime 2.14 dies of a cut-off file.

A TFLite file is a FlatBuffer (https://flatbuffers.dev/internals): tables that point forward to their fields by way of a
list of offsets (vtable), vectors with their length in front, all little-endian. Every pointer that the runtime follows
on its way to the weights must stay inside the file. Operator options are checked no deeper than their table; damage in
plain numbers is found by the bundle's digest, not here.
"""

from __future__ import annotations

import struct
from typing import Final

IDENTIFIER: Final = b"TFL3"
_TABLES_MAX: Final = 100_000

#: Per table: field number → what it points to. An int is a vector of that many bytes per element (a string is one of
#: bytes), a name is a table, and a tuple of one name is a vector of tables. From TFLite's schema.fbs, version 3; fields
#: that hold plain numbers are left out.
_FIELDS: Final[dict[str, dict[int, int | str | tuple[str]]]] = {
    "Model": {1: ("OperatorCode",), 2: ("SubGraph",), 3: 1, 4: ("Buffer",), 5: 4, 6: ("Metadata",), 7: ("Signature",)},
    "OperatorCode": {1: 1},
    "SubGraph": {0: ("Tensor",), 1: 4, 2: 4, 3: ("Operator",), 4: 1},
    "Tensor": {0: 4, 3: 1, 4: "Quantization", 6: "Sparsity", 7: 4},
    "Quantization": {0: 4, 1: 4, 2: 4, 3: 8},
    "Sparsity": {0: 4, 1: 4},
    "Operator": {1: 4, 2: 4, 4: "Options", 5: 1, 7: 1, 8: 4},
    "Options": {},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "Signature": {0: ("TensorMap",), 1: ("TensorMap",), 2: 1},
    "TensorMap": {0: 1},
}


def check_outline(content: bytes) -> None:
    """Raises ValueError saying what is wrong with the file's structure."""
    if content[4:8] != IDENTIFIER:
        raise ValueError("it is not a TFLite file: the identifier TFL3 is missing")
    try:
        _Walk(content).table("Model", struct.unpack_from("<I", content)[0])
    except struct.error as error:
        raise ValueError("it is cut off or damaged: something points outside of the file") from error


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = 0

    def _number(self, kind: str, position: int) -> int:
        if position < 0:
            raise struct.error("negative position")
        return int(struct.unpack_from("<" + kind, self._content, position)[0])

    def _require(self, inside: bool) -> None:
        if not inside:
            raise struct.error("outside of the file")

    def table(self, name: str, position: int) -> None:
        """Check the table at `position` and all that hangs from it."""
        self._tables += 1
        if self._tables > _TABLES_MAX:
            raise ValueError(f"it is damaged: more than {_TABLES_MAX} tables")
        vtable = position - self._number("i", position)
        vtable_size, table_size = self._number("H", vtable), self._number("H", vtable + 2)
        self._require(vtable_size >= 4 and vtable + vtable_size <= len(self._content))
        self._require(table_size >= 4 and position + table_size <= len(self._content))
        for field, target in _FIELDS[name].items():
            slot = vtable + 4 + 2 * field
            offset = self._number("H", slot) if slot < vtable + vtable_size else 0
            if offset:
                self._require(offset + 4 <= table_size)
                self._follow(target, position + offset)

    def _follow(self, target: int | str | tuple[str], pointer: int) -> None:
        place = pointer + self._number("I", pointer)
        if isinstance(target, str):
            self.table(target, place)
            return
        length = self._number("I", place)
        size = 4 if isinstance(target, tuple) else target
        self._require(place + 4 + length * size <= len(self._content))
        if isinstance(target, tuple):
            for element in range(place + 4, place + 4 + 4 * length, 4):
                self.table(target[0], element + self._number("I", element))
