"""How each model is trained: one TOML file a model in tools/training/recipes/, read into types that know every key."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from device.errors import ConfigError
from models.networks.speech import SpeechShape

FOLDER: Final = Path(__file__).parent / "recipes"

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Any = TypeVar("Any")


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training: so many steps, each of so many windows of each corpus; nothing stops it earlier."""

    steps: Count
    batch: dict[str, int]
    learning_rate: Positive
    l2: Annotated[float, msgspec.Meta(ge=0)]
    weight_average: Share
    label_smoothing: Share = 0.1
    #: Share of clean windows; the others are augmented copies.
    clean_share: Share = 0.25
    #: A clip is drawn with (number of clips of its class) ** -balance.
    balance: Share = 0.75


class SpeechRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that fixes the speech branch beside the clips. `copies` are training windows of a clip, by corpus."""

    seed: int
    copies: dict[str, Count]
    sequence: Steps
    readout: Steps
    shape: SpeechShape = msgspec.field(default_factory=SpeechShape)


def read(name: str, kind: type[Any]) -> Any:
    """The recipe `name`.toml as `kind`. Raises ConfigError naming the file and the key."""
    path = FOLDER / f"{name}.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{path.name}: {error}", next_step="Correct the recipe; its keys stand in recipes.py."
        ) from error


def digest_of(recipe: object, *files: str) -> str:
    """Short name of a recipe and of the code that carries it out, for the names of files."""
    code = b"".join(Path(file).read_bytes() for file in files)
    return hashlib.sha256(msgspec.json.encode(recipe, order="deterministic") + code).hexdigest()[:12]
