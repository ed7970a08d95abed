"""`moodline-verify`: whether a gateway's log, a receipt or a proof holds, off line, with nothing but the roster."""

from tools.verify.command import main

__all__ = ["main"]
