"""The mode without emotions: whether a face is seen, and how loud it is. No emotion network is loaded or run.

Of the sound only the sum of its squares since the last tick is kept, of a picture only whether a face was in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from device.capture.ports import AudioSource, VideoSource
from device.clock import Clock
from device.frames import AudioBlock, VideoFrame
from device.inference.decision import DecisionParameters, choose_face
from device.inference.ports import FaceDetector
from device.messages.label import LEVEL_FLOOR_DBFS, LEVEL_STEP_DB, LEVELS, SenseState
from device.unit.seeing import PICTURE_SECONDS_MAX
from device.unit.sense import Sense, open_all

_FULL_SCALE = 32_768.0
_PARAMETERS = DecisionParameters()


@dataclass(frozen=True)
class Presence:
    """One tick's answer: what a PRESENCE label holds (`device.messages.label.Label`)."""

    speech: SenseState
    face: SenseState
    level: int


def level_step(mean_square: float) -> int:
    """The step of a mean square of int16 samples: n stands for -96 + 6 n dB of full scale up to 6 dB more.

    All that is quieter than -90 dB is step 0; the loudest is 15.
    """
    if mean_square <= 0:
        return 0
    dbfs = 10.0 * math.log10(mean_square / _FULL_SCALE**2)
    return min(max(math.floor((dbfs - LEVEL_FLOOR_DBFS) / LEVEL_STEP_DB), 0), LEVELS - 1)


class PresencePipeline:
    """One desk's senses and the face detector."""

    def __init__(
        self, clock: Clock, audio: AudioSource | None, video: VideoSource | None, detector: FaceDetector
    ) -> None:
        self._clock = clock
        self._microphone: Sense[AudioBlock] = Sense("microphone", audio)
        self._camera: Sense[VideoFrame] = Sense("camera", video)
        self._detector = detector
        self._squares = 0.0
        self._samples = 0
        self._newest: VideoFrame | None = None
        self._face_seen = False
        self.window_end = clock.monotonic()

    def start(self) -> None:
        """Open the sources. Raises CaptureError when there are some and none can be opened."""
        open_all((self._microphone, self._camera), self._clock.monotonic())

    def stop(self) -> None:
        """Close the sources and forget what they gave; `start` opens them again."""
        self._microphone.close()
        self._camera.close()
        self._squares, self._samples, self._newest, self._face_seen = 0.0, 0, None, False

    def sense_states(self) -> dict[str, str]:
        """State of `microphone` and `camera`: ok, off, or a reason of CaptureReason."""
        return {sense.name: sense.state for sense in (self._microphone, self._camera)}

    def pump(self) -> None:
        """Take what the sources have; never raises for a failing source."""
        now = self._clock.monotonic()
        for block in self._microphone.read(now):
            self._squares += float(np.square(block.samples.astype(np.float64)).sum())
            self._samples += len(block.samples)
        for frame in self._camera.read(now)[-1:]:
            self._newest = frame

    def tick(self, now: float) -> Presence:
        """Say what was there since the last tick."""
        speech, level = self._what_is_heard()
        answer = Presence(speech, self._what_is_seen(now), level)
        ends = [at for sense in (self._microphone, self._camera) if (at := sense.last_content_at) is not None]
        self.window_end = max(ends, default=now)
        return answer

    def _what_is_heard(self) -> tuple[SenseState, int]:
        squares, samples = self._squares, self._samples
        self._squares, self._samples = 0.0, 0
        if self._microphone.is_off:
            return SenseState.OFF, 0
        if self._microphone.failure is not None:
            return SenseState.FAILED, 0
        return (SenseState.PRESENT, level_step(squares / samples)) if samples else (SenseState.WARMING_UP, 0)

    def _what_is_seen(self, now: float) -> SenseState:
        if self._camera.is_off:
            return SenseState.OFF
        if self._camera.failure is not None:
            return SenseState.FAILED
        if self._newest is not None:
            seen, _ = choose_face(self._detector.detect(self._newest), _PARAMETERS)
            self._face_seen = seen in (SenseState.PRESENT, SenseState.SEVERAL_FACES)
            self._newest = None
        taken_at = self._camera.last_content_at
        if taken_at is None or now - taken_at > PICTURE_SECONDS_MAX:
            return SenseState.WARMING_UP
        return SenseState.PRESENT if self._face_seen else SenseState.NO_FACE
