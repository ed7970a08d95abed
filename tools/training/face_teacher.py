"""What a released face branch says of the training pictures: a second opinion to learn from beside the votes.

A network that learns from an earlier one of its own kind often passes it (Furlanello et al. 2018, "Born again neural
networks"). The teacher answers several views of each picture, so that its answer is steadier than the shipped one is.
Only pictures of the training part are shown to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.inference.constants import FaceConstants
from device.inference.face_branch import FaceBranch
from device.inference.manifest import MANIFEST_FILE
from device.inference.resample import weights
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE, FACE_CLASSES
from models.contract import FACE_SIDE_PIXELS as SIDE
from tools.training.ferplus import SIDE as STORED_SIDE

#: Parts of the picture, as (first, past the last) row and column, each also seen in the mirror.
VIEWS: Final = (((0, 48), (0, 48)), ((3, 45), (3, 45)), ((0, 45), (2, 47)), ((3, 48), (1, 46)))


def opinions(bundle: Path, pixels: NDArray[np.uint8], cache: Path) -> NDArray[np.float32]:
    """Mean probabilities (n, 7) over all views of grey pictures (n, 48, 48); kept in `cache` once they are known."""
    if cache.exists():
        known = np.asarray(np.load(cache), np.float32)
        if len(known) == len(pixels):
            return known
    # The face part alone: the bundle may be of an earlier contract that differs in its other parts.
    constants = msgspec.convert(json.loads((bundle / MANIFEST_FILE).read_text())["face"], FaceConstants)
    branch = FaceBranch(TFLiteRuntime("litert").load(bundle / FACE.file, FACE), constants)
    matrices = [(weights(STORED_SIDE, *rows, SIDE), weights(STORED_SIDE, *columns, SIDE)) for rows, columns in VIEWS]
    answers = np.zeros((len(pixels), len(FACE_CLASSES)), np.float32)
    for row, picture in enumerate(tqdm(pixels, desc="teacher", unit="picture")):
        for down, across in matrices:
            view = (down @ picture.astype(np.float32) @ across.T).astype(np.float32)
            for seen in (view, view[:, ::-1]):
                answers[row] += np.exp(branch.run(np.ascontiguousarray(seen)).log_probabilities)
    answers /= answers.sum(axis=1, keepdims=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, answers)
    return answers
