"""The program that libFuzzer drives: `python -m tools.fuzz.guided [libFuzzer's options and folders]`.

It runs alone in its process, because Atheris must see the product's modules before anybody else has imported them, and
because libFuzzer ends the process itself: 0 when the time is over, another code when it found something.
"""

from __future__ import annotations

import random
import sys
from importlib import import_module
from typing import Any

#: There are no types of it, and on processors other than x86-64 there is no Atheris at all.
atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["device", "models"]):
    from tools.fuzz.mutation import mutated
    from tools.fuzz.targets import run


def _one(data: bytes) -> None:
    run(data)


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time a change that keeps the form, else one of libFuzzer's own."""
    dice = random.Random(seed)
    if dice.random() < 0.5:
        return bytes(atheris.Mutate(data, len(data)))[:max_size] if data else data
    return mutated(data, dice)[:max_size]


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    atheris.Setup(sys.argv, _one, custom_mutator=_mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
