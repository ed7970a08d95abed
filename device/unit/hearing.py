"""From blocks of sound to what the voice says: level gate, features, speech branch.

The gate comes first: while nothing louder than the bundle's `silence_dbfs` was heard for `silence_after_ms`, no feature
is computed and nothing is kept. Sound that resumes after a silence or after a gap starts a new window, so that two
utterances, or two recordings, are never judged as one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.features.nonlinear import contour_features
from device.features.stream import FeatureStream
from device.features.window import FeatureWindow
from device.frames import AudioBlock
from device.inference.decision import DecisionParameters, SenseEvidence
from device.inference.quality import speech_quality
from device.inference.speech_branch import SpeechBranch
from device.messages.label import SenseState
from device.unit.stages import StageTimes

#: The level is taken of so many milliseconds at a time.
GATE_MS: Final = 20
#: A gap of at least so many seconds starts a new window; over a shorter one the window goes on without it.
FORGET_GAP_S: Final = 0.5
_FULL_SCALE: Final = 32_768.0


def levels_dbfs(samples: NDArray[np.int16], piece: int) -> NDArray[np.float64]:
    """Root mean square of each `piece` samples in dB of full scale: (n,) → (ceil(n/piece),).

    The last piece may be short; -inf for digital silence.
    """
    starts = np.arange(0, len(samples), piece)
    sums = np.add.reduceat(np.square(samples.astype(np.float64)), starts) if len(samples) else np.zeros(0)
    counts = np.minimum(len(samples) - starts, piece)
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(sums / counts / _FULL_SCALE**2), np.float64)


class Hearing:
    """Keeps the feature window of one source of sound."""

    def __init__(self, sample_rate_hz: int, branch: SpeechBranch, parameters: DecisionParameters) -> None:
        """Raises CaptureError for a rate that the features do not take."""
        self._rate = sample_rate_hz
        self._branch = branch
        self._parameters = parameters
        self._stream = FeatureStream(sample_rate_hz)
        self._window = FeatureWindow()
        self._next_sample: int | None = None
        self._quiet_samples: int | None = None
        self.gaps = 0

    @property
    def is_full(self) -> bool:
        """Whether the window holds 5.12 s."""
        return self._window.is_full

    @property
    def silent(self) -> bool:
        """Nothing loud enough was heard for `silence_after_ms`, or ever."""
        patience = self._parameters.silence_after_ms * self._rate // 1000
        return self._quiet_samples is None or self._quiet_samples >= patience

    def hear(self, block: AudioBlock) -> bool:
        """Take the next block, of any size. Returns whether the past was forgotten: it is another moment now."""
        forgot = self._mind_the_gap(block)
        piece = self._rate * GATE_MS // 1000
        loud = levels_dbfs(block.samples, piece) >= self._parameters.silence_dbfs
        kept_from = kept_to = 0
        for number, is_loud in enumerate(loud.tolist()):
            start, end = number * piece, min((number + 1) * piece, len(block.samples))
            if is_loud:
                if self.silent:
                    self._keep(block.samples[kept_from:kept_to])
                    self._forget()
                    kept_from = start
                self._quiet_samples = 0
            elif self._quiet_samples is not None:
                self._quiet_samples += end - start
            if not self.silent:
                kept_to = end
        self._keep(block.samples[kept_from:kept_to])
        return forgot

    def _keep(self, samples: NDArray[np.int16]) -> None:
        if len(samples):
            self._window.push(self._stream.push(samples))

    def evidence(self, times: StageTimes) -> SenseEvidence:
        """What the voice of the last 5.12 s says."""
        if self.silent:
            return SenseEvidence(SenseState.SILENT)
        if len(self._window) < self._parameters.speech_frames_min:
            return SenseEvidence(SenseState.WARMING_UP)
        quality = speech_quality(self._window.frames())
        if quality[0] < self._parameters.voiced_share_min:
            return SenseEvidence(SenseState.LOW_QUALITY, quality=quality)
        window = self._window.repeat_padded()
        with times.stage("contours"):
            contours = contour_features(window)
        with times.stage("speech"):
            output = self._branch.run(window, contours)
        return SenseEvidence(SenseState.PRESENT, output, quality)

    def _mind_the_gap(self, block: AudioBlock) -> bool:
        missing = 0 if self._next_sample is None else block.first_sample - self._next_sample
        self._next_sample = block.first_sample + len(block.samples)
        if not missing:
            return False
        self.gaps += 1
        if 0 < missing < FORGET_GAP_S * self._rate:
            self._stream.reset()
            return False
        self._forget()
        self._quiet_samples = None
        return True

    def _forget(self) -> None:
        self._stream.reset()
        self._window.clear()
