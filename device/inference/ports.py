"""What the branches ask of a runtime and of a face detector. Adapters: tflite.py, face_detector.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from device.frames import VideoFrame
from models.contract import NetworkContract


class Network(Protocol):
    """A loaded network. Holds no state between calls: every `run` starts from zeroed variables."""

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Float tensors by contract name in, float tensors by contract name out; quantisation stays inside."""
        ...


class Runtime(Protocol):
    """Loads networks; one adapter per library, chosen by configuration."""

    @property
    def name(self) -> str:
        """`tflite-runtime` or `litert`."""
        ...

    def load(self, path: Path, contract: NetworkContract) -> Network:
        """Raises InferenceError naming the file when it cannot be loaded or its tensors differ from the contract."""
        ...


@dataclass(frozen=True)
class FaceBox:
    """A found face: edges in pixels of the frame, score 0..1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


class FaceDetector(Protocol):
    """Finds faces in a picture."""

    def detect(self, frame: VideoFrame) -> list[FaceBox]:
        """All faces above the detector's threshold, best first."""
        ...


@dataclass(frozen=True, eq=False)
class BranchOutput:
    """What one sense says about one window or picture.

    `embedding` is float32, shape (64,). `log_probabilities` is float32, shape (classes of the branch,), natural
    logarithms after temperature scaling, in the order of `models.contract`'s SPEECH_CLASSES or FACE_CLASSES.
    """

    embedding: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]
