"""Networks and a face detector whose answers a test scripts, and a bundle made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from device.frames import VideoFrame
from device.inference.bundle import Bundle
from device.inference.constants import FaceConstants, FusionConstants, SpeechConstants
from device.inference.decision import DecisionParameters
from device.inference.face_branch import FaceBranch
from device.inference.fusion_head import FusionHead
from device.inference.ports import FaceBox
from device.inference.speech_branch import SpeechBranch
from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, Emotion


def sure_of(emotion: Emotion, classes: Sequence[Emotion], logit: float = 6.0) -> NDArray[np.float32]:
    """Logits over `classes`, (n,), that favour one class."""
    logits = np.zeros(len(classes), np.float32)
    logits[classes.index(emotion)] = logit
    return logits


class FakeNetwork:
    """A Network: answers `logits`, whatever the input; keeps the inputs that it was given."""

    def __init__(self, logits: NDArray[np.float32], *, has_embedding: bool = True) -> None:
        self.logits = logits
        self.seen: list[dict[str, NDArray[np.float32]]] = []
        self._has_embedding = has_embedding

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.seen.append(dict(inputs))
        answer = {"logits": self.logits[np.newaxis]}
        return answer | {"embedding": np.ones((1, EMBEDDING), np.float32)} if self._has_embedding else answer


class FakeDetector:
    """A FaceDetector: finds `boxes` in every picture and counts the pictures."""

    def __init__(self, boxes: Sequence[FaceBox] | None = None) -> None:
        self.boxes = [FaceBox(10, 10, 50, 50, 0.9)] if boxes is None else list(boxes)
        self.pictures = 0

    def detect(self, frame: VideoFrame) -> list[FaceBox]:
        self.pictures += 1
        return self.boxes


class FakeBundle:
    """Three fake networks in the real branches and head; `bundle` is what the pipeline takes."""

    def __init__(
        self,
        speech: Emotion = Emotion.ANGER,
        face: Emotion = Emotion.ANGER,
        parameters: DecisionParameters | None = None,
    ) -> None:
        self.speech = FakeNetwork(sure_of(speech, SPEECH_CLASSES))
        self.face = FakeNetwork(sure_of(face, FACE_CLASSES))
        self.fusion = FakeNetwork(np.zeros(len(EMOTIONS), np.float32), has_embedding=False)
        parts = SimpleNamespace(
            speech=SpeechBranch(self.speech, SPEECH_CONSTANTS),
            face=FaceBranch(self.face, FACE_CONSTANTS),
            fusion=FusionHead(self.fusion, FUSION_CONSTANTS, SPEECH_CONSTANTS, FACE_CONSTANTS),
            manifest=SimpleNamespace(decision=parameters or DecisionParameters()),
        )
        self.bundle = cast(Bundle, parts)


SPEECH_CONSTANTS = SpeechConstants(
    channel_mean=(0.0,) * len(CHANNELS),
    channel_scale=(1.0,) * len(CHANNELS),
    contour_mean=(0.0,) * len(CONTOUR_FEATURES),
    contour_scale=(1.0,) * len(CONTOUR_FEATURES),
    limit=4.0,
    temperature=1.0,
    prior=(1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES),
)
FACE_CONSTANTS = FaceConstants(mean=128.0, scale=64.0, temperature=1.0, prior=(1 / 7,) * 7)
FUSION_CONSTANTS = FusionConstants(log_floor=-5.0, boredom_from_neutral=-2.0, recency=0.9, temperature=1.0)
