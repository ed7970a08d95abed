"""What a bundle says about itself: `manifest.json` as frozen typed structs. An unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from device.inference.constants import FaceConstants, FusionConstants, SpeechConstants
from device.inference.decision import DecisionParameters
from models.contract import NETWORKS

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]

MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "card.md"


def golden_file(network: str) -> str:
    """Where the golden vectors of a network lie in the bundle: an npz of inputs and outputs by tensor name."""
    return f"golden/{network}.npz"


#: Every file of a bundle but the manifest, which lists exactly these.
BUNDLE_FILES: Final = frozenset(
    {CARD_FILE} | {contract.file for contract in NETWORKS.values()} | {golden_file(name) for name in NETWORKS}
)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


class NetworkFacts(Section, frozen=True, kw_only=True):
    """Cost of one network, and how far its golden outputs may be off: absolute, by output tensor."""

    multiply_accumulates: Count
    parameters: Count
    tolerance: dict[str, Positive]


class TrainingSet(Section, frozen=True, kw_only=True):
    """A corpus that a network was trained on. `digest` names its exact contents."""

    name: str
    used_for: str
    items: Count
    digest: Sha256
    terms: str
    source: str


class Metric(Section, frozen=True, kw_only=True):
    """One measured figure with its 95 % interval, the number of items behind it and how it was measured."""

    name: str
    value: float
    low: float
    high: float
    items: Count
    protocol: str
    seeds: tuple[int, ...]


class Origin(Section, frozen=True, kw_only=True):
    """How to make this bundle again."""

    command: str
    seed: int
    tools: dict[str, str]


class Manifest(Section, frozen=True, kw_only=True):
    """`manifest.json`. `files` maps every other file of the bundle to its SHA-256."""

    format: Literal[1]
    version: Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+\.\d+(-[a-z0-9.]+)?$")]
    contract_digest: Sha256
    feature_set_digest: Sha256
    files: dict[str, Sha256]
    classes: dict[str, tuple[str, ...]]
    networks: dict[str, NetworkFacts]
    speech: SpeechConstants
    face: FaceConstants
    fusion: FusionConstants
    decision: DecisionParameters
    trained_on: tuple[TrainingSet, ...]
    metrics: tuple[Metric, ...]
    origin: Origin
