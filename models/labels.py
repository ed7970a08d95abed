"""The emotion vocabulary and the reasons to abstain: one place for the whole product.

Category names follow EmotionML's vocabularies (W3C Note "Vocabularies for EmotionML": *big six* and *everyday
categories*). The order is the order of the codes on the wire and of every class axis: it never changes, new names
are appended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Emotion(StrEnum):
    """An acted expression that the product can name."""

    ANGER = "anger"
    BOREDOM = "boredom"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPINESS = "happiness"
    NEUTRAL = "neutral"
    SADNESS = "sadness"
    SURPRISE = "surprise"

    @property
    def code(self) -> int:
        """Position in `EMOTIONS`, which is the number used on the wire."""
        return EMOTIONS.index(self)


EMOTIONS: Final[tuple[Emotion, ...]] = tuple(Emotion)


class AbstainReason(StrEnum):
    """Why no emotion was named for a window."""

    SILENCE = "silence"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    LOW_QUALITY = "low_quality"
    CONFLICT = "conflict"
    LOW_CONFIDENCE = "low_confidence"
    WARMING_UP = "warming_up"

    @property
    def code(self) -> int:
        """Position in `ABSTAIN_REASONS`, counted from 1; 0 on the wire means that a label was given."""
        return ABSTAIN_REASONS.index(self) + 1


ABSTAIN_REASONS: Final[tuple[AbstainReason, ...]] = tuple(AbstainReason)
