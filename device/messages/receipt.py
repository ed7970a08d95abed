"""The receipt file: a span of a line's log, or a proof, with the rosters that judge it, for whoever checks it off line.

A CBOR sequence (RFC 8742) of byte strings, each with the shortest head. The first holds the deterministic CBOR of the
header, a map with a closed list of keys; each further one holds a signed object exactly as it was published. A span is
its grants and links in the order of the chain; after its last round may stand the grant that opened the next one, which
shows that nothing is missing at the end. A proof is the two objects that exclude each other. The header is not signed:
what it says is checked against the objects, and its rosters against the room authority's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import is_identifier

CONTENT_TYPE: Final = "application/moodline-receipt+cbor-seq"
VERSION: Final = 1
#: Rosters in one file, and the largest header that is read, in bytes.
ROSTERS: Final = 64
HEADER_BYTES: Final = 4 << 20

_BYTE_STRING: Final = 2 << 5
_SHORT: Final = 24
_WIDEST: Final = 4


class ReceiptKind(IntEnum):
    """What the objects of the file are; the number stands in the header."""

    SPAN = 0
    PROOF = 1


@dataclass(frozen=True)
class ReceiptHeader:
    """`first` and `last` are the lowest and the highest round of the span or proof (a grant that only closes the span
    does not count), `objects` how many signed objects follow, `rosters` the signed rosters as the room authority
    published them."""

    kind: ReceiptKind
    room: str
    line: str
    rosters: tuple[bytes, ...]
    first: int
    last: int
    objects: int


class _Key(IntEnum):
    CONTENT_TYPE = 1
    VERSION = 2
    KIND = 3
    ROOM = 4
    LINE = 5
    ROSTERS = 6
    FIRST = 7
    LAST = 8
    OBJECTS = 9


class ByteSource(Protocol):
    """A binary file opened for reading."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        ...


def encode_receipt(header: ReceiptHeader, objects: Iterable[bytes]) -> Iterator[bytes]:
    """The file, in pieces: the header and one piece for each object."""
    fields: dict[int, object] = {
        _Key.CONTENT_TYPE: CONTENT_TYPE,
        _Key.VERSION: VERSION,
        _Key.KIND: int(header.kind),
        _Key.ROOM: header.room,
        _Key.LINE: header.line,
        _Key.ROSTERS: list(header.rosters),
        _Key.FIRST: header.first,
        _Key.LAST: header.last,
        _Key.OBJECTS: header.objects,
    }
    yield cbor.encode(cbor.encode(fields))
    for raw in objects:
        yield cbor.encode(raw)


def looks_like_receipt(start: bytes) -> bool:
    """Whether a file that begins with these bytes (64 are enough) says of itself that it is a receipt."""
    return CONTENT_TYPE.encode() in start


def read_receipt(source: ByteSource, *, message_bytes: int) -> tuple[ReceiptHeader, Iterator[bytes]]:
    """Header and, one at a time, the signed objects of a file; nothing is trusted yet.

    Raises RemoteMessageError, also from the iterator: NOT_DECODABLE (also when the file ends early, or goes on after
    its last object), NOT_DETERMINISTIC, UNKNOWN_VERSION, TOO_LARGE for an object of more than `message_bytes`.
    """
    first = _item(source, HEADER_BYTES)
    if first is None:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The file is empty.")
    header = _header(first)
    return header, _objects(source, header.objects, message_bytes)


def _objects(source: ByteSource, count: int, limit: int) -> Iterator[bytes]:
    for number in range(count):
        raw = _item(source, limit)
        if raw is None:
            raise RemoteMessageError(
                Verdict.NOT_DECODABLE, f"The file ends after {number} of the {count} objects that it announces."
            )
        yield raw
    if source.read(1):
        raise RemoteMessageError(
            Verdict.NOT_DECODABLE, f"The file goes on after the {count} objects that it announces."
        )


def _header(encoded: bytes) -> ReceiptHeader:
    item = cbor.decode(encoded)
    if not isinstance(item, dict) or item.get(_Key.CONTENT_TYPE) != CONTENT_TYPE:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The file is no receipt.")
    if item.get(_Key.VERSION) != VERSION:
        raise RemoteMessageError(Verdict.UNKNOWN_VERSION, f"This program reads receipts of version {VERSION}.")
    fields = cbor.Fields(item, keys=_Key)
    rosters = tuple(roster for roster in fields.array(_Key.ROSTERS) if isinstance(roster, bytes))
    room, line, kind = fields.text(_Key.ROOM), fields.text(_Key.LINE), fields.unsigned(_Key.KIND)
    if len(rosters) != len(fields.array(_Key.ROSTERS)) or len(rosters) > ROSTERS or kind not in set(ReceiptKind):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The receipt's kind or rosters are malformed.")
    if not is_identifier(room) or not is_identifier(line):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The receipt's room or line is no name.")
    first, last = fields.unsigned(_Key.FIRST), fields.unsigned(_Key.LAST)
    return ReceiptHeader(ReceiptKind(kind), room, line, rosters, first, last, fields.unsigned(_Key.OBJECTS))


def _item(source: ByteSource, limit: int) -> bytes | None:
    """The next byte string, or None at the end of the file."""
    initial = source.read(1)
    if not initial:
        return None
    kind, argument = initial[0] & 0xE0, initial[0] & 0x1F
    if kind != _BYTE_STRING or argument >= _SHORT + _WIDEST:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The file holds something else than byte strings.")
    if argument >= _SHORT:
        width = 1 << (argument - _SHORT)
        size = int.from_bytes(_exactly(source, width), "big")
        if size < _SHORT or (width > 1 and size < 1 << (4 * width)):
            raise RemoteMessageError(Verdict.NOT_DETERMINISTIC, "The file is not in its deterministic form.")
    else:
        size = argument
    if size > limit:
        raise RemoteMessageError(Verdict.TOO_LARGE, f"An object of {size} bytes; at most {limit} are read.")
    return _exactly(source, size)


def _exactly(source: ByteSource, size: int) -> bytes:
    found = source.read(size)
    if len(found) != size:
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The file ends in the middle of an object.")
    return found
