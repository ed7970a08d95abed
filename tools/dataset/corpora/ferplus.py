"""FER2013 pictures with the FER+ votes (Goodfellow et al. 2013; Barsoum et al. 2016) as items of a database.

The pictures stay in their packed file and are named by their place in it: they may not be redistributed. Nobody knows
who is on them. An item is labelled by FER+'s own majority rule, where that names one of our classes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import FACE_CLASSES
from tools.dataset.manifest import Item
from tools.training.ferplus import FILE, SIDE, VOTES, WHERE, majority

KEY: Final = "ferplus"
NAME: Final = "FER2013 pictures with FER+ votes"
TERMS: Final = "votes MIT; pictures from web search, for research use, not to be redistributed"
SOURCE: Final = "Goodfellow et al. 2013; Barsoum et al. 2016, https://github.com/microsoft/FERPlus"


def load_items(data: Path, folder_path: str) -> list[Item]:
    """An item a picture of `data`/ferplus/ferplus.npz, which the manifest names `folder_path`.

    Training pictures that the set marks as duplicates of an evaluation picture are left out. Raises ConfigError.
    """
    stored = _arrays(data / FILE, "pixels", "votes", "split", "duplicate_of_evaluation")
    classes = majority(stored["votes"])
    items = []
    for index in np.flatnonzero(~stored["duplicate_of_evaluation"]):
        counts = {word: int(count) for word, count in zip(VOTES, stored["votes"][index], strict=True) if count}
        items.append(
            Item(
                name=f"{KEY}/{index:06d}",
                kind="faces",
                path=folder_path,
                index=int(index),
                digest=pixels_digest(stored["pixels"][index]),
                emotion=FACE_CLASSES[classes[index]] if classes[index] >= 0 else None,
                votes=counts,
                pictures=1,
                part=str(stored["split"][index]),
                terms=TERMS,
            )
        )
    return items


@cache
def load_pixels(path: Path) -> NDArray[np.uint8]:
    """All pictures of a packed file, uint8 (n, 48, 48). Raises ConfigError."""
    return np.asarray(_arrays(path, "pixels")["pixels"], np.uint8)


def pixels_digest(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of a picture's size and pixels, in hexadecimal."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _arrays(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", next_step=WHERE) from error
    if arrays["pixels"].dtype != np.uint8 or arrays["pixels"].shape[1:] != (SIDE, SIDE):
        raise ConfigError(f"{path}: pixels {arrays['pixels'].shape} are not FER+'s.", next_step=WHERE)
    if len({len(array) for array in arrays.values()}) != 1:
        raise ConfigError(f"{path}: its arrays are not of one length.", next_step=WHERE)
    return arrays
