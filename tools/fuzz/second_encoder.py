"""A second, small encoder of deterministic CBOR (RFC 8949, section 4.2.1), to hold the product's against.

It sorts a map's keys by their encodings, byte by byte, as the RFC's core requirements say. It speaks what the protocol
speaks: integers, byte strings, texts, arrays, and maps whose keys are all unsigned integers or all texts.
"""

from __future__ import annotations

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)


def speaks(item: object) -> bool:
    """Whether the item is within what this encoder, and the protocol, speaks."""
    match item:
        case bool():
            return False
        case int() | bytes() | str():
            return True
        case list():
            return all(map(speaks, item))
        case dict():
            one_kind = all(isinstance(key, str) for key in item) or all(type(key) is int and key >= 0 for key in item)
            return one_kind and all(map(speaks, item.values()))
    return False


def encode(item: object) -> bytes:
    """The one encoding of an item that `speaks` approves of."""
    match item:
        case int() if item < 0:
            return _head(_NEGATIVE, -1 - item)
        case int():
            return _head(_UNSIGNED, item)
        case bytes():
            return _head(_BYTES, len(item)) + item
        case str():
            text = item.encode()
            return _head(_TEXT, len(text)) + text
        case list():
            return _head(_ARRAY, len(item)) + b"".join(map(encode, item))
        case dict():
            pairs = sorted((encode(key), encode(value)) for key, value in item.items())
            return _head(_MAP, len(pairs)) + b"".join(key + value for key, value in pairs)
    raise TypeError(f"{type(item).__name__} is not spoken")


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([kind << 5 | argument])
    for width_code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * width:
            return bytes([kind << 5 | width_code]) + argument.to_bytes(width, "big")
    raise ValueError(f"{argument} is above 2^64 - 1")
