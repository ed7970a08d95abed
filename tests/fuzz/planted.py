"""The fuzzing program with a defect planted in the product, to see that it is found: `python -m tests.fuzz.planted`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["device", "models"]):
    import device.messages.link
    from tools.fuzz import targets
    from tools.fuzz.guided import main


def _careless(row: object) -> device.messages.link.Entry:
    """As somebody in a hurry would write it: whatever is no row of three brings out ValueError."""
    session, sequence, sealed = cast(tuple[int, int, bytes], row)
    return device.messages.link.Entry(session, sequence, sealed)


if __name__ == "__main__":
    device.messages.link._entry = _careless
    assert targets.TARGETS
    main()
