"""FER2013 faces with the FER+ votes: which pictures count, and with which label.

Source: Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI, and its script (github.com/microsoft/FERPlus).

Ten people voted on each picture. Both rules below first forget a class with a single vote (an outlier), as the FER+
script does. `majority` is that script's rule for testing: the class with more than half of the votes. `targets` is for
training: the shares of the votes among our seven classes. Contempt has no class here: a picture whose label is contempt
is left out of training and of testing, as are unknown and not-a-face.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import FACE_CLASSES

SIDE: Final = 48
FILE: Final = Path("ferplus") / "ferplus.npz"
VOTES: Final[tuple[str, ...]] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "not_a_face",
)
#: Column of each of our classes in the votes.
COLUMNS: Final[tuple[int, ...]] = tuple(VOTES.index(str(emotion)) for emotion in FACE_CLASSES)
#: One training picture in this many is held out, for watching and for the temperature.
HELD_OUT_ONE_IN: Final = 20

WHERE: Final = (
    "Get FER2013 (Kaggle, research use) and its FER+ votes (github.com/microsoft/FERPlus), pack them as the arrays "
    "pixels, votes, split and duplicate_of_evaluation, and give the folder above ferplus/ with --data."
)


@dataclass(frozen=True, eq=False)
class Pictures:
    """`pixels` uint8 (n, 48, 48), `votes` uint8 (n, 10) in the order of VOTES."""

    pixels: NDArray[np.uint8]
    votes: NDArray[np.uint8]

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Pictures:
        return Pictures(self.pixels[chosen], self.votes[chosen])

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class FerPlus:
    """Training pictures, those held out of them, and the test pictures (the set's own `valid` part)."""

    training: Pictures
    held_out: Pictures
    test: Pictures
    #: SHA-256 of the file.
    digest: str


def load(folder: Path) -> FerPlus:
    """Read `folder`/ferplus/ferplus.npz. Raises ConfigError naming the file, and where to get it.

    Training pictures that the set marks as duplicates of an evaluation picture are dropped, and those that equal a test
    picture in every pixel. A picture is held out by the digest of its pixels, so equal pictures stay on one side.
    """
    path = folder / FILE
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with np.load(path, allow_pickle=False) as stored:
            pixels, votes = stored["pixels"], stored["votes"]
            split, duplicate = stored["split"], stored["duplicate_of_evaluation"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", next_step=WHERE) from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (SIDE, SIDE) or votes.shape != (len(pixels), len(VOTES)):
        raise ConfigError(f"{path}: pixels {pixels.shape} or votes {votes.shape} are not FER+'s.", next_step=WHERE)
    everything = Pictures(pixels, votes)
    keys = [hashlib.sha256(picture.tobytes()).digest() for picture in pixels]
    test = split == "valid"
    seen_in_test = {key for key, tested in zip(keys, test, strict=True) if tested}
    usable = (split == "train") & ~duplicate & np.array([key not in seen_in_test for key in keys], dtype=bool)
    held_out = np.array([key[0] % HELD_OUT_ONE_IN == 0 for key in keys], dtype=bool)
    return FerPlus(everything[usable & ~held_out], everything[usable & held_out], everything[test], digest)


def _without_outliers(votes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.where(votes > 1, votes, 0).astype(np.float32)


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Class per picture, as an index into FACE_CLASSES; -1 where the rule finds none of them. Votes (n, 10)."""
    counted = _without_outliers(votes)
    return _as_class(counted.argmax(axis=1), counted.max(axis=1) > 0.5 * counted.sum(axis=1))


def plurality(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """As `majority`, but the class with the most votes wins even below one half; -1 also where two are level."""
    counted = _without_outliers(votes)
    ordered = np.sort(counted, axis=1)
    return _as_class(counted.argmax(axis=1), ordered[:, -1] > ordered[:, -2])


def _as_class(column: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    class_of_column = np.full(len(VOTES), -1, dtype=np.int64)
    class_of_column[list(COLUMNS)] = np.arange(len(COLUMNS))
    return np.where(valid, class_of_column[column], -1)


def targets(votes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vote shares (n, 7) in the order of FACE_CLASSES, and which pictures to train on, (n,).

    Kept are pictures of which our seven classes have more than half of the counted votes; rows of others are zero.
    """
    counted = _without_outliers(votes)
    ours = counted[:, list(COLUMNS)]
    total = ours.sum(axis=1)
    kept = total > 0.5 * counted.sum(axis=1)
    shares = np.where(kept[:, None], ours / np.maximum(total, 1.0)[:, None], 0.0)
    return shares.astype(np.float32), kept
