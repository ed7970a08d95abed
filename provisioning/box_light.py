"""What a box without a screen says by its light: one pattern for each thing that a person may want to know."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import StrEnum
from itertools import cycle
from pathlib import Path
from typing import Final, Protocol

LIGHT: Final = Path("/sys/class/leds/ACT")


class Sign(StrEnum):
    """What the light says."""

    BLANK = "blank"
    CLAIMED = "claimed"
    WAITING_FOR_CODE = "waiting_for_code"
    REFUSED = "refused"
    ENROLLED = "enrolled"


class Pattern(tuple[int, ...]):
    """Milliseconds on, off, on, off … and over again."""


PATTERNS: Final[Mapping[Sign, Pattern]] = {
    Sign.BLANK: Pattern((100, 1_900)),
    Sign.CLAIMED: Pattern((1_000, 1_000)),
    Sign.WAITING_FOR_CODE: Pattern((100, 200, 100, 1_600)),
    Sign.REFUSED: Pattern((100, 100)),
    Sign.ENROLLED: Pattern((60_000, 0)),
}


class Signal(Protocol):
    """Whatever shows a sign to people."""

    def show(self, sign: Sign) -> None:
        """Show it until the next one."""
        ...


class NoLight:
    """A box without a light that we may set."""

    def show(self, sign: Sign) -> None:
        """Nothing to see."""


class Light:
    """A light of the kernel's LED class (Documentation/leds/leds-class.rst), blinked from here: the kernel's own timer
    takes its delays from files that udev does not hand over."""

    def __init__(self, folder: Path) -> None:
        self._brightness = folder / "brightness"
        self._changed = threading.Condition()
        self._sign: Sign | None = None
        (folder / "trigger").write_text("none")
        self._brightness.write_text("0")
        threading.Thread(target=self._blink, name="light", daemon=True).start()

    def show(self, sign: Sign) -> None:
        """Show it until the next one."""
        with self._changed:
            self._sign = sign
            self._changed.notify()

    def _blink(self) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._sign is not None)
                self._play(self._sign)

    def _play(self, sign: Sign | None) -> None:
        assert sign is not None
        levels = cycle("10")
        for milliseconds in cycle(PATTERNS[sign]):
            level = next(levels)
            if milliseconds == 0:
                continue
            try:
                self._brightness.write_text(level)
            except OSError:
                return
            if self._changed.wait_for(lambda: self._sign is not sign, milliseconds / 1_000):
                return


def open_light(folder: Path = LIGHT) -> Signal:
    """The box's light, or none where there is none or we may not set it."""
    try:
        return Light(folder)
    except OSError:
        return NoLight()
