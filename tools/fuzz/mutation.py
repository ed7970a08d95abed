"""Changes to an input that keep its form: one item of its CBOR at a time, one message of its sequence at a time.

Changing bytes blindly breaks the encoding or the signature nearly always; these changes get past both.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import cbor2

from tools.fuzz.targets import NUMBERS, TARGETS, framed, unframed

_FRAMED: Final = frozenset(NUMBERS[name] for name in ("log", "proof", "unit", "gateway"))
_SIGNED_LINK: Final = NUMBERS["signed link"]
_SIGN1_TAG: Final = 0xD2
_EDGES: Final = (0, 1, 2, 6, 7, 8, 9, 23, 24, 255, 256, 2**16, 2**31, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS: Final = (
    "",
    "lab",
    "row-1",
    "row-2",
    "desk-1",
    "desk-2",
    "desk-99",
    "gateway",
    "+",
    "a/b",
    "\x00",
    "é",
    "x" * 33,
)
_LENGTHS: Final = (0, 1, 31, 32, 33, 63, 64, 65, 80, 111, 112, 113, 1_200)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """An input of the same target, changed in one place."""
    if len(data) < 2:
        return data + dice.randbytes(2)
    number = data[0] % len(TARGETS)
    if number in _FRAMED:
        return data[:1] + _messages(data[1:], dice)
    head = 2 if number == _SIGNED_LINK else 1
    return data[:head] + changed(data[head:], dice)


def changed(raw: bytes, dice: random.Random) -> bytes:
    """One item of an encoded object or payload changed; or some bytes, if it is no CBOR."""
    if dice.random() < 0.15:
        return scrambled(raw, dice)
    try:
        item = cbor2.loads(raw[1:] if raw[:1] == bytes([_SIGN1_TAG]) else raw)
        if isinstance(item, list) and len(item) == 4 and raw[0] == _SIGN1_TAG:
            place = dice.choice((0, 2, 2, 2, 3))
            item[place] = changed(item[place], dice) if place < 3 else scrambled(item[place], dice)
            return bytes([_SIGN1_TAG]) + cbor2.dumps(item, canonical=True)
        return cbor2.dumps(_grown(item, dice), canonical=dice.random() < 0.95)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, AttributeError):
        return scrambled(raw, dice)


def scrambled(raw: bytes, dice: random.Random) -> bytes:
    """Some bytes flipped, cut out, doubled or put in."""
    at = dice.randrange(len(raw) + 1)
    match dice.randrange(4):
        case 0 if raw:
            at %= len(raw)
            return raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]
        case 1:
            return raw[:at] + raw[at + dice.randrange(1, 9) :]
        case 2:
            return raw[:at] + raw[max(0, at - dice.randrange(1, 33)) :]
    return raw[:at] + dice.randbytes(dice.randrange(1, 9)) + raw[at:]


def item(dice: random.Random, depth: int = 3) -> object:
    """Some item of CBOR, of the kinds that the protocol speaks and, rarely, of those that it does not."""
    kinds: list[Callable[[], object]] = [
        lambda: dice.choice(_EDGES),
        lambda: -1 - dice.choice(_EDGES),
        lambda: dice.choice(_TEXTS),
        lambda: dice.randbytes(dice.choice(_LENGTHS)),
    ]
    if depth:
        kinds += [
            lambda: [item(dice, depth - 1) for _ in range(dice.randrange(5))],
            lambda: {dice.randrange(1, 14): item(dice, depth - 1) for _ in range(dice.randrange(13))},
            lambda: {dice.choice(_TEXTS): item(dice, depth - 1) for _ in range(dice.randrange(4))},
        ]
    if dice.random() < 0.05:
        kinds = [lambda: None, lambda: True, lambda: 1.5, lambda: cbor2.CBORTag(dice.choice((0, 1, 2, 18, 24, 258)), 0)]
    return dice.choice(kinds)()


def _grown(old: Any, dice: random.Random) -> object:
    """The item with one place in it changed."""
    if isinstance(old, list) and old and dice.random() < 0.8:
        return _grown_list(old, dice)
    if isinstance(old, dict) and old and dice.random() < 0.95:
        return _grown_map(old, dice)
    match old:
        case bool():
            return item(dice)
        case int() if dice.random() < 0.5:
            return max(old + dice.choice((-1, 1)), -(2**63))
        case bytes() if dice.random() < 0.7:
            return scrambled(old, dice)
        case str() if dice.random() < 0.5:
            return old + dice.choice(_TEXTS)
    return item(dice)


def _grown_list(old: list[Any], dice: random.Random) -> object:
    at = dice.randrange(len(old))
    match dice.randrange(8):
        case 0:
            return old[:at] + old[at + 1 :]
        case 1:
            return [*old, old[at]] * dice.choice((1, 1, 1, 20))
        case 2:
            return old[::-1]
        case 3:
            return [*old[:at], item(dice), *old[at:]]
    return [*old[:at], _grown(old[at], dice), *old[at + 1 :]]


def _grown_map(old: dict[Any, Any], dice: random.Random) -> object:
    key = dice.choice(list(old))
    match dice.randrange(12):
        case 0:
            return {name: value for name, value in old.items() if name != key}
        case 1:
            return {**old, dice.choice([dice.randrange(14), dice.choice(_TEXTS)]): item(dice)}
        case 2:
            return {**old, key: old[dice.choice(list(old))]}
    return {**old, key: _grown(old[key], dice)}


def _messages(data: bytes, dice: random.Random) -> bytes:
    """One message of a sequence changed, left out, doubled, moved, or signed otherwise."""
    messages = unframed(data)
    if not messages:
        return framed([(dice.randrange(8), cbor2.dumps(item(dice), canonical=True))])
    at = dice.randrange(len(messages))
    form, raw = messages[at]
    match dice.randrange(7):
        case 0:
            messages = messages[:at] + messages[at + 1 :]
        case 1:
            messages = messages[: at + 1] + messages[at:]
        case 2:
            other = dice.randrange(len(messages))
            messages[at], messages[other] = messages[other], messages[at]
        case 3:
            messages[at] = (dice.choice((0, 1, 2, 3, 4, 0x80, 0x83, 0x84)), raw)
        case _:
            messages[at] = (form, changed(raw, dice))
    return framed(messages)
