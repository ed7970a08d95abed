"""From pictures to what the face says: detector, choice of the learner's face, crop, face branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.frames import VideoFrame
from device.inference.decision import DecisionParameters, SenseEvidence, choose_face
from device.inference.face_branch import FaceBranch, crop_of
from device.inference.ports import FaceBox, FaceDetector
from device.inference.quality import face_quality
from device.messages.label import SenseState
from device.unit.stages import StageTimes

Crop = Callable[[VideoFrame, FaceBox], NDArray[np.float32]]
#: A picture older than this says nothing about now.
PICTURE_SECONDS_MAX: Final = 1.5


class Seeing:
    """Keeps the newest picture only, and what was found in it."""

    def __init__(
        self, branch: FaceBranch, detector: FaceDetector, parameters: DecisionParameters, crop: Crop = crop_of
    ) -> None:
        self._branch = branch
        self._crop = crop
        self._detector = detector
        self._parameters = parameters
        self._newest: VideoFrame | None = None
        self._found: SenseEvidence | None = None

    def see(self, frame: VideoFrame) -> None:
        """Take the next picture; the one before is gone."""
        self._newest = frame
        self._found = None

    def forget(self) -> None:
        """Drop the picture: it is another moment now."""
        self._newest = None
        self._found = None

    def evidence(self, now: float, times: StageTimes) -> SenseEvidence:
        """What the face in the newest picture says; a picture is looked at once, even when it serves two ticks."""
        if self._newest is None:
            return SenseEvidence(SenseState.WARMING_UP)
        if now - self._newest.captured_at > PICTURE_SECONDS_MAX:
            return SenseEvidence(SenseState.LOW_QUALITY)
        if self._found is None:
            self._found = self._look(self._newest, times)
        return self._found

    def _look(self, frame: VideoFrame, times: StageTimes) -> SenseEvidence:
        with times.stage("detector"):
            state, box = choose_face(self._detector.detect(frame), self._parameters)
        if box is None:
            return SenseEvidence(state)
        crop = self._crop(frame, box)
        quality = face_quality(box.score, crop)
        if quality[1] < self._parameters.sharpness_min:
            return SenseEvidence(SenseState.LOW_QUALITY, quality=quality)
        with times.stage("face"):
            output = self._branch.run(crop)
        return SenseEvidence(SenseState.PRESENT, output, quality)
