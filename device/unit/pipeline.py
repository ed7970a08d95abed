"""From sound and pictures to one decision, twice a second. Nothing here has a way to disk or network.

`pump` is called often: it drains the sources into the feature window and keeps the newest picture. `tick` is called
when a decision is due. A sense that fails leaves the other one working.
"""

from __future__ import annotations

from device.capture.ports import AudioSource, VideoSource
from device.clock import Clock
from device.frames import AudioBlock, VideoFrame
from device.inference.bundle import Bundle
from device.inference.decision import Decider, Decision, Evidence, SenseEvidence
from device.inference.fusion_head import Token, TokenHistory
from device.inference.ports import FaceDetector
from device.messages.label import SenseState
from device.unit.hearing import Hearing
from device.unit.seeing import Seeing
from device.unit.sense import Sense, open_all
from device.unit.stages import StageTimes


class Pipeline:
    """One desk's senses and networks."""

    def __init__(
        self,
        clock: Clock,
        audio: AudioSource | None,
        video: VideoSource | None,
        bundle: Bundle,
        detector: FaceDetector,
        decider: Decider,
    ) -> None:
        self._clock = clock
        self._bundle = bundle
        self._decider = decider
        self._audio = audio
        self._hearing: Hearing | None = None
        self._microphone: Sense[AudioBlock] = Sense("microphone", audio)
        self._camera: Sense[VideoFrame] = Sense("camera", video)
        self._seeing = Seeing(bundle.face, detector, decider.parameters)
        self._tokens = TokenHistory()
        self._times = StageTimes(clock)
        self._gaps_before = 0
        self.window_end = clock.monotonic()
        self.stage_seconds: dict[str, float] = {}
        self.evidence: Evidence | None = None

    @property
    def gaps(self) -> int:
        """Gaps in the sound since the start."""
        return self._gaps_before + (0 if self._hearing is None else self._hearing.gaps)

    def start(self) -> None:
        """Open the sources. Raises CaptureError when there are some and none can be opened."""
        open_all((self._microphone, self._camera), self._clock.monotonic())

    def stop(self) -> None:
        """Close the sources and forget what they gave; `start` opens them again."""
        self._microphone.close()
        self._camera.close()
        self._gaps_before = self.gaps
        self._hearing = None
        self._tokens.clear()
        self._decider.reset()
        self._seeing.forget()
        self.evidence = None

    def sense_states(self) -> dict[str, str]:
        """State of `microphone` and `camera`: ok, off, or a reason of CaptureReason."""
        return {sense.name: sense.state for sense in (self._microphone, self._camera)}

    def sense_ages(self) -> dict[str, float | None]:
        """Seconds since the newest sound and picture were captured; None before the first."""
        now = self._clock.monotonic()
        return {
            sense.name: None if sense.last_content_at is None else now - sense.last_content_at
            for sense in (self._microphone, self._camera)
        }

    def pump(self) -> None:
        """Take what the sources have; never raises for a failing source."""
        now = self._clock.monotonic()
        for block in self._microphone.read(now):
            with self._times.stage("features"):
                forgot = self._ears().hear(block)
            if forgot:
                self._tokens.clear()
                self._decider.reset()
                self._seeing.forget()
        for frame in self._camera.read(now)[-1:]:
            self._seeing.see(frame)

    def tick(self, now: float) -> Decision:
        """Decide about what was pumped until now (a monotonic second). Raises InferenceError for a faulty bundle."""
        times = self._times
        speech = self._what_is_heard(times)
        face = self._what_is_seen(now, times)
        self._tokens.append(Token(speech.output, face.output, speech.quality, face.quality))
        fused = None
        if speech.output is not None and face.output is not None:
            with times.stage("fusion"):
                fused = self._bundle.fusion.run(self._tokens)
        self.evidence = Evidence(speech, face, fused)
        with times.stage("decision"):
            decision = self._decider.decide(self.evidence)
        ends = [at for sense in (self._microphone, self._camera) if (at := sense.last_content_at) is not None]
        self.window_end = max(ends, default=now)
        self.stage_seconds = times.clear()
        return decision

    def _ears(self) -> Hearing:
        # Made at the first block: a source knows its rate only once it is open.
        if self._hearing is None:
            assert self._audio is not None
            self._hearing = Hearing(self._audio.sample_rate_hz, self._bundle.speech, self._decider.parameters)
        return self._hearing

    def _what_is_heard(self, times: StageTimes) -> SenseEvidence:
        if self._microphone.is_off:
            return SenseEvidence(SenseState.OFF)
        if self._microphone.failure is not None:
            return SenseEvidence(SenseState.FAILED)
        return SenseEvidence(SenseState.WARMING_UP) if self._hearing is None else self._hearing.evidence(times)

    def _what_is_seen(self, now: float, times: StageTimes) -> SenseEvidence:
        if self._camera.is_off:
            return SenseEvidence(SenseState.OFF)
        if self._camera.failure is not None:
            return SenseEvidence(SenseState.FAILED)
        return self._seeing.evidence(now, times)
