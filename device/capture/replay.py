"""Recordings behind the microphone's and the camera's ports: sound and pictures of one take stay in step.

One `Replay` plays one recording, or the takes of a folder in turn. Its two sources share one timeline:

- `speed` > 0: so many seconds of recording pass in one second of the clock; `read` returns what is due. A reader that
  stays away longer than `ring_seconds` loses the oldest, which is counted, as with a real microphone.
- `speed` 0: as fast as it is read; each `read` of the leading source (the sound, or the pictures when no sound is
  played) returns the next half second, and the other source returns what belongs to it.

Every take starts with a jump of one second in `first_sample` (and of one in the picture index): it is another moment,
and whoever keeps a window must not mix two moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.capture.recordings import SAMPLE_RATES_HZ, Recording, load_recording, recordings_in
from device.clock import Clock
from device.errors import CaptureError, CaptureReason
from device.frames import AudioBlock, VideoFrame
from models.labels import Emotion

_STEP_SECONDS: Final = 0.5


@dataclass(frozen=True)
class _Playing:
    """A recording's place on the timeline: the `turn`-th that is played starts `since` seconds after the start."""

    turn: int
    since: float
    recording: Recording


class Replay:
    """Plays recordings on one timeline. Nothing is opened before one of the sources is started."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        speed: float = 1.0,
        loop: bool = True,
        block_ms: int = 20,
        ring_seconds: float = 6.0,
        frames_per_second: float | None = None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._speed = speed
        self._loop = loop
        self._block_ms = block_ms
        self._ring_seconds = ring_seconds
        self._frames_per_second = frames_per_second
        self.recordings: list[Recording] = []
        self._started_at = 0.0
        self._stepped = 0.0
        self._heard: Recording | None = None
        self.audio = ReplayAudio(self)
        self.video = ReplayVideo(self)

    @property
    def truth(self) -> Emotion | None:
        """What the actor was asked to express in the take that was last handed out; None when unknown."""
        return None if self._heard is None else self._heard.emotion

    @property
    def playing(self) -> str:
        """Name of the take that was last handed out; empty before the first."""
        return "" if self._heard is None else self._heard.path.name

    @property
    def finished(self) -> bool:
        """True when everything was handed out to the sources that are open; never when looping."""
        sources = [source for source in (self.audio, self.video) if source.is_open]
        return bool(sources) and all(source.playing is None for source in sources)

    # The rest is for the two sources in this file.

    def load(self) -> list[Recording]:
        """The recordings, loaded when asked for the first time. Raises CaptureError naming the bad file."""
        if not self.recordings:
            loaded = [load_recording(p, frames_per_second=self._frames_per_second) for p in recordings_in(self.path)]
            rates = {r.sound.sample_rate_hz: r.path for r in loaded if r.sound is not None}
            if len(rates) > 1:
                raise CaptureError(
                    CaptureReason.WRONG_FORMAT,
                    f"{self.path}: sample rates differ ({', '.join(f'{p.name} {r} Hz' for r, p in rates.items())}).",
                    next_step="Convert all takes of the folder to the same rate.",
                )
            self.recordings = loaded
        return self.recordings

    def join(self) -> _Playing:
        """Where a source that opens now begins: at the start, or where the other source is."""
        if not (self.audio.is_open or self.video.is_open):
            self._started_at = self._clock.monotonic()
            self._stepped = 0.0
        place: _Playing | None = _Playing(0, 0.0, self.load()[0])
        now = self.position()
        while place is not None and place.since + place.recording.seconds <= now:
            place = self.after(place)
        return place or _Playing(0, now, self.load()[0])

    def after(self, place: _Playing) -> _Playing | None:
        """The next place on the timeline; None after the last recording when not looping."""
        turn = place.turn + 1
        if turn >= len(self.recordings) and not self._loop:
            return None
        since = place.since + place.recording.seconds
        return _Playing(turn, since, self.recordings[turn % len(self.recordings)])

    def position(self) -> float:
        """Seconds of recording that have passed."""
        return (self._clock.monotonic() - self._started_at) * self._speed if self._speed else self._stepped

    def advance(self, *, leading: bool) -> float:
        """Called once by each `read`: the position up to which to hand out."""
        if not self._speed and leading:
            self._stepped += _STEP_SECONDS
        return self.position()

    def captured_at(self, position: float) -> float:
        """Monotonic second at which that position was (or would have been) captured."""
        return self._started_at + position / self._speed if self._speed else self._clock.monotonic()

    def oldest(self, position: float) -> float:
        """What lies before this position is lost to a reader that comes now."""
        return position - self._ring_seconds * self._speed if self._speed else 0.0

    def hand_out(self, recording: Recording) -> None:
        """Remember what was last given away."""
        self._heard = recording

    def block_samples(self, sample_rate_hz: int) -> int:
        """Samples of one block."""
        return sample_rate_hz * self._block_ms // 1000


class _ReplaySource:
    """What the two sources have in common: a place on the timeline."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.is_open = False
        self.playing: _Playing | None = None
        self._overflows = 0

    @property
    def overflows(self) -> int:
        """Blocks or pictures that nobody came for in time."""
        return self._overflows

    def _open(self, has_content: Callable[[Recording], bool], what: str) -> None:
        if not any(has_content(recording) for recording in self._replay.load()):
            raise CaptureError(
                CaptureReason.NOT_FOUND,
                f"{self._replay.path}: holds no {what}.",
                next_step=f'Give a recording with {what}, or set this sense to "none".',
            )
        self.playing = self._replay.join()
        self.is_open = True

    def stop(self) -> None:
        """Close the source; may be called twice. When both are closed, the next start begins anew."""
        self.is_open = False
        self.playing = None


class ReplayAudio(_ReplaySource):
    """The sound of a `Replay`, as an AudioSource."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(replay)
        self._given = 0
        self._base = 0

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second; 16000 before `start`."""
        rates = (r.sound.sample_rate_hz for r in self._replay.recordings if r.sound is not None)
        return next(rates, SAMPLE_RATES_HZ[0])

    def start(self) -> None:
        """Load the recordings. Raises CaptureError naming the bad file."""
        self._open(lambda recording: recording.sound is not None, "sound")
        assert self.playing is not None
        behind = self._replay.position() - self.playing.since
        self._given = max(int(behind * self.sample_rate_hz), 0)

    def read(self) -> list[AudioBlock]:
        """Blocks that are due, oldest first; the last block of a take may be short."""
        blocks: list[AudioBlock] = []
        position = self._replay.advance(leading=True)
        while self.playing is not None:
            blocks += self._due(self.playing, position)
            if position < self.playing.since + self.playing.recording.seconds:
                break
            sound = self.playing.recording.sound
            self._base += (len(sound.samples) if sound else 0) + self.sample_rate_hz
            self._given = 0
            self.playing = self._replay.after(self.playing)
        return blocks

    def _due(self, place: _Playing, position: float) -> list[AudioBlock]:
        sound = place.recording.sound
        if sound is None:
            return []
        rate, total = sound.sample_rate_hz, len(sound.samples)
        size = self._replay.block_samples(rate)
        end = min(int((position - place.since) * rate + 1e-6), total)
        lost = int((self._replay.oldest(position) - place.since) * rate) - self._given
        if lost >= size:
            behind = min(lost - lost % size, total - self._given)
            self._given += behind
            self._overflows += -(-behind // size)
        blocks: list[AudioBlock] = []
        while self._given < end and (end - self._given >= size or end == total):
            part = sound.samples[self._given : min(self._given + size, end)]
            first = self._base + self._given
            self._given += len(part)
            blocks.append(AudioBlock(part, first, self._replay.captured_at(place.since + self._given / rate)))
        if blocks:
            self._replay.hand_out(place.recording)
        return blocks


class ReplayVideo(_ReplaySource):
    """The pictures of a `Replay`, as a VideoSource."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(replay)
        self._given = 0
        self._index = 0

    def start(self) -> None:
        """Load the recordings. Raises CaptureError naming the bad file."""
        self._open(lambda recording: bool(recording.pictures), "pictures")
        assert self.playing is not None
        behind = self._replay.position() - self.playing.since
        self._given = sum(picture.seconds < behind for picture in self.playing.recording.pictures)

    def read(self) -> list[VideoFrame]:
        """Pictures that are due, oldest first. Raises CaptureError naming a file that cannot be decoded; the next
        call goes on behind it."""
        frames: list[VideoFrame] = []
        position = self._replay.advance(leading=not self._replay.audio.is_open)
        while self.playing is not None:
            frames += self._due(self.playing, position)
            if position < self.playing.since + self.playing.recording.seconds:
                break
            self._given = 0
            self._index += 1
            self.playing = self._replay.after(self.playing)
        return frames

    def _due(self, place: _Playing, position: float) -> list[VideoFrame]:
        frames: list[VideoFrame] = []
        pictures = place.recording.pictures
        while self._given < len(pictures) and place.since + pictures[self._given].seconds <= position:
            picture = pictures[self._given]
            at = place.since + picture.seconds
            self._given += 1
            self._index += 1
            if at < self._replay.oldest(position):
                self._overflows += 1
                continue
            frames.append(VideoFrame(picture.pixels(), self._index - 1, self._replay.captured_at(at)))
            if not self._replay.audio.is_open:
                self._replay.hand_out(place.recording)
        return frames
