"""How long and how much a training run trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Effort:
    """How much is done in one run. `hours` is an estimate for two idle cores of a 2020s x86 server, from
    single stages: the full run was never timed in one piece.

    `speech_steps`: steps of both speech stages, None for the recipe's. `stream_every`: of each corpus, every so-many-th
    clip of a speaker and emotion gets a stream for the fused head.
    """

    name: str
    hours: float
    speech_steps: int | None
    speaker_folds: int
    stream_every: Mapping[str, int]
    face_epochs: int
    fusion_rounds: int
    clips_of_each: int | None
    pictures: int | None


FULL: Final = Effort(
    name="full",
    hours=2.0,
    speech_steps=None,
    speaker_folds=5,
    stream_every={"emodb": 1, "ravdess": 1, "nemo": 6},
    face_epochs=14,
    fusion_rounds=5,
    clips_of_each=None,
    pictures=None,
)
SMOKE: Final = Effort(
    name="smoke",
    hours=0.04,
    speech_steps=4,
    speaker_folds=2,
    stream_every={"emodb": 1, "ravdess": 1, "nemo": 1},
    face_epochs=1,
    fusion_rounds=1,
    clips_of_each=1,
    pictures=280,
)
