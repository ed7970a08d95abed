"""Numbers that belong to a trained network and travel in the bundle's manifest."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from models.contract import CHANNELS, CONTOUR_FEATURES, FACE_CLASSES, SPEECH_CLASSES

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the constants of one network."""


class SpeechConstants(Constants, frozen=True, kw_only=True):
    """Normalisation by the training set: (x - mean) / scale per channel, then cut to [-limit, limit].

    `prior` is the share of each speech class in the training set, in the order of SPEECH_CLASSES.
    """

    channel_mean: tuple[float, ...]
    channel_scale: tuple[Positive, ...]
    contour_mean: tuple[float, ...]
    contour_scale: tuple[Positive, ...]
    limit: Positive
    temperature: Positive
    prior: tuple[Positive, ...]

    def __post_init__(self) -> None:
        _lengths("channel", len(CHANNELS), self.channel_mean, self.channel_scale)
        _lengths("contour", len(CONTOUR_FEATURES), self.contour_mean, self.contour_scale)
        _share("prior", len(SPEECH_CLASSES), self.prior)


class FaceConstants(Constants, frozen=True, kw_only=True):
    """Normalisation of the grey crop (0..255): (x - mean) / scale; `prior` as for speech, in FACE_CLASSES' order."""

    mean: float
    scale: Positive
    temperature: Positive
    prior: tuple[Positive, ...]

    def __post_init__(self) -> None:
        _share("prior", len(FACE_CLASSES), self.prior)


class FusionConstants(Constants, frozen=True, kw_only=True):
    """Log-opinion pool and the temperature of the fused logits.

    `log_floor`: log-probabilities are cut here from below, so that one sense can never veto a class.
    `recency`: weight of a token against the next younger one. `boredom_from_neutral`: the face network knows no
    boredom; a bored face counts as a neutral one plus this.
    """

    log_floor: Annotated[float, msgspec.Meta(lt=0)]
    recency: Annotated[float, msgspec.Meta(gt=0, le=1)]
    boredom_from_neutral: float
    temperature: Positive


def _lengths(name: str, expected: int, *values: tuple[float, ...]) -> None:
    for value in values:
        if len(value) != expected:
            raise ValueError(f"{name}: {expected} numbers are needed, {len(value)} are given")
        if not all(math.isfinite(number) for number in value):
            raise ValueError(f"{name}: every number must be finite")


def _share(name: str, expected: int, value: tuple[float, ...]) -> None:
    _lengths(name, expected, value)
    if abs(sum(value) - 1.0) > 1e-3:
        raise ValueError(f"{name}: shares must add up to 1")
