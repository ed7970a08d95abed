"""Deterministic CBOR, in the small part of it that the line speaks (RFC 8949, section 4.2.1).

Spoken: integers, byte strings, text strings, arrays and maps; definite lengths; the shortest heads. Never spoken, and
refused before any decoder sees them: tags, floats, simple values, and nesting beyond `MAX_DEPTH`. Maps have numbers or
texts as keys, all of one kind; in every map of the protocol the core deterministic order of RFC 8949 and the one that
cbor2 calls canonical (shorter keys first) are the same. They differ for a short negative key beside a longer unsigned
one; `Fields` refuses such a map, as every other that is not of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import Final

import cbor2

from device.errors import RemoteMessageError, Verdict

MAX_DEPTH: Final = 6

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _UNSPOKEN = range(7)


def _head(initial: int) -> tuple[int, int, int]:
    """What an item's first byte says: kind, argument, and how many bytes hold the argument if it does not."""
    kind, argument = initial >> 5, initial & 31
    if kind > _MAP or argument > 27:
        return _UNSPOKEN, 0, 0
    return kind, argument, 1 << (argument - 24) if argument > 23 else 0


_HEADS: Final = tuple(_head(initial) for initial in range(256))


def encode(item: object) -> bytes:
    """The one encoding of an item."""
    return cbor2.dumps(item, canonical=True)


def decode(encoded: bytes) -> object:
    """The item that the bytes encode.

    Raises RemoteMessageError: NOT_DECODABLE for anything outside the spoken part, truncation or trailing bytes,
    NOT_DETERMINISTIC when the same item has another, proper encoding.
    """
    _refuse_unspoken(encoded)
    try:
        item: object = cbor2.loads(encoded, max_depth=MAX_DEPTH + 1, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The CBOR cannot be decoded: {error}.") from error
    if encode(item) != encoded:
        raise RemoteMessageError(Verdict.NOT_DETERMINISTIC, "The CBOR is not in its deterministic form.")
    return item


def _refuse_unspoken(encoded: bytes) -> None:
    """Walk the heads of all items, without building anything, and refuse what is not spoken."""
    size, at, open_items = len(encoded), 0, 1
    outer: list[int] = []
    while open_items or outer:
        if not open_items:
            open_items = outer.pop()
            continue
        open_items -= 1
        if at >= size:
            raise RemoteMessageError(Verdict.NOT_DECODABLE, "The CBOR ends early.")
        kind, argument, width = _HEADS[encoded[at]]
        at += 1
        if width:
            argument = int.from_bytes(encoded[at : at + width], "big")
            at += width
        if kind < _BYTES:
            continue
        if kind <= _TEXT:
            at += argument
        elif kind == _UNSPOKEN:
            raise RemoteMessageError(Verdict.NOT_DECODABLE, "The CBOR holds a kind of item that is not spoken here.")
        else:
            if len(outer) >= MAX_DEPTH:
                raise RemoteMessageError(Verdict.NOT_DECODABLE, f"The CBOR nests deeper than {MAX_DEPTH}.")
            outer.append(open_items)
            open_items = argument * 2 if kind == _MAP else argument
    if at != size:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The CBOR has another length than it says.")


@cache
def _closed_list(keys: type[IntEnum]) -> frozenset[int]:
    return frozenset(keys)


def _refuse(key: int, wanted: str) -> RemoteMessageError:
    return RemoteMessageError(Verdict.NOT_DECODABLE, f"Field {key} is not {wanted}.")


class Fields:
    """A map with a closed list of integer keys, read by type. Every method raises RemoteMessageError NOT_DECODABLE."""

    def __init__(self, item: object, *, keys: type[IntEnum]) -> None:
        if not isinstance(item, dict) or item.keys() != _closed_list(keys):
            raise RemoteMessageError(Verdict.NOT_DECODABLE, "The fields are not those of this kind of message.")
        self._fields: Mapping[int, object] = item

    def unsigned(self, key: int) -> int:
        """A number from 0 to 2^63 - 1."""
        return _unsigned(self._fields[key], key)

    def text(self, key: int) -> str:
        """A text."""
        value = self._fields[key]
        if not isinstance(value, str):
            raise _refuse(key, "a text")
        return value

    def octets(self, key: int, size: int) -> bytes:
        """A byte string of exactly `size` bytes."""
        value = self._fields[key]
        if not isinstance(value, bytes) or len(value) != size:
            raise _refuse(key, f"a byte string of {size} bytes")
        return value

    def array(self, key: int) -> list[object]:
        """An array of anything."""
        value = self._fields[key]
        if not isinstance(value, list):
            raise _refuse(key, "an array")
        return value

    def texts(self, key: int) -> tuple[str, ...]:
        """An array of texts."""
        values = self.array(key)
        texts = tuple(value for value in values if isinstance(value, str))
        if len(texts) != len(values):
            raise _refuse(key, "an array of texts")
        return texts

    def table(self, key: int) -> dict[str, list[object]]:
        """A map of text to array."""
        value = self._fields[key]
        if not isinstance(value, dict):
            raise _refuse(key, "a map")
        table = {name: row for name, row in value.items() if isinstance(name, str) and isinstance(row, list)}
        if len(table) != len(value):
            raise _refuse(key, "a map of text to array")
        return table


def _unsigned(value: object, key: int) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _refuse(key, "a number from 0 to 2^63 - 1")
    return value


def unsigned_items(row: list[object], count: int, key: int) -> tuple[int, ...]:
    """An array of exactly `count` numbers from 0 to 2^63 - 1."""
    if len(row) != count:
        raise _refuse(key, f"an array of {count}")
    return tuple(_unsigned(value, key) for value in row)
