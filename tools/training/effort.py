"""How long and how much a training run trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Effort:
    """How much is done in one run. `hours` were measured on two idle cores of a 2020s x86 server."""

    name: str
    hours: float
    speech_epochs: int
    speech_copies: int
    face_epochs: int
    fusion_rounds: int
    leave_one_out: bool
    clips_of_each: int | None
    pictures: int | None


FULL: Final = Effort(
    name="full",
    hours=1.2,
    speech_epochs=60,
    speech_copies=12,
    face_epochs=55,
    fusion_rounds=5,
    leave_one_out=True,
    clips_of_each=None,
    pictures=None,
)
SMOKE: Final = Effort(
    name="smoke",
    hours=0.04,
    speech_epochs=2,
    speech_copies=2,
    face_epochs=1,
    fusion_rounds=1,
    leave_one_out=False,
    clips_of_each=2,
    pictures=600,
)
