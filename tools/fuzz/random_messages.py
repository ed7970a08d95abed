"""Random messages, counted exactly: mutated vectors, random CBOR, random bytes, in a fixed order for each seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import cbor2

from device.messages.label import LABEL_BYTES
from tools.fuzz.mutation import item, mutated
from tools.fuzz.seeds import seeds
from tools.fuzz.targets import TARGETS, run

#: Longest message of random bytes.
_LONGEST: Final = 2_048
_KINDS: Final = ("mutated vector", "random CBOR", "random bytes")


@dataclass
class Tally:
    """How many messages of each kind were brought to each target, and how many were taken there."""

    sent: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All messages."""
        return sum(self.sent.values())


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    """Kind and input, without end."""
    dice = random.Random(seed)
    begun: dict[int, list[bytes]] = {}
    for data in seeds():
        begun.setdefault(data[0], []).append(data)
    while True:
        kind = dice.choices(_KINDS, (2, 1, 1))[0]
        if kind == "mutated vector":
            data = dice.choice(begun[dice.choice(list(begun))])
            for _ in range(dice.randrange(1, 4)):
                data = mutated(data, dice)
        else:
            number = dice.randrange(len(TARGETS))
            data = bytes([number]) + _message(kind, TARGETS[number].name, dice)
        yield kind, data


def _message(kind: str, target: str, dice: random.Random) -> bytes:
    if kind == "random CBOR":
        return cbor2.dumps(item(dice), canonical=dice.random() < 0.9)
    return dice.randbytes(LABEL_BYTES if target == "label" else dice.randrange(_LONGEST))


def bring(kind: str, data: bytes, tally: Tally) -> None:
    """Bring one input to its target. Raises whatever must not happen."""
    name = TARGETS[data[0] % len(TARGETS)].name
    tally.sent[name] += 1
    tally.kinds[kind] += 1
    tally.taken[name] += run(data)
