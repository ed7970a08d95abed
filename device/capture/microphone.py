"""The microphone, through PortAudio (PyAudio): mono PCM16, callback mode.

PortAudio's callback runs in a thread of its own and does one thing: it appends the bytes to a bounded ring. What it
never does: a driver that falls silent makes it stop without an error, and sound that a driver lost is not reported.
So the deadline for silence (`silent_driver_after_ms`) is ours, and lost sound is measured by counting: samples that
arrived against seconds that passed (`LostSound`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyaudio

from device.clock import Clock
from device.errors import CaptureError, CaptureReason
from device.frames import AudioBlock

#: Seconds that closing may take before the stream is left to its thread (a frozen sound server blocks the close).
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Device:
    """A sound input as PortAudio numbers it now; `name` stays the same over restarts, `index` does not."""

    index: int
    name: str


class LostSound:
    """Finds sound that a driver lost without saying so. Pure: fed with counts and arrival times.

    `late` = seconds since the first block minus seconds of sound that arrived. A stall raises it and the backlog brings
    it back; lost sound raises it for good. So it is the least `late` of each span of `span_s` that counts: when it has
    risen by more than `tolerance_s` since the span before, so much sound is missing. Slower drift between the sound
    card's clock and ours is followed without a gap.
    """

    def __init__(self, sample_rate_hz: int, span_s: float = 2.0, tolerance_s: float = 0.06) -> None:
        self._rate = sample_rate_hz
        self._span_s = span_s
        self._tolerance_s = tolerance_s
        self._began: float | None = None
        self._samples = 0
        self._span_ends = 0.0
        self._least_late = np.inf
        self._usual_late = np.inf

    def arrived(self, samples: int, at: float) -> int:
        """So many samples arrived at that monotonic second; returns how many are now known to be missing."""
        if self._began is None:
            self._began = at - samples / self._rate
            self._span_ends = at + self._span_s
        self._samples += samples
        late = at - self._began - self._samples / self._rate
        self._least_late = min(self._least_late, late)
        if at < self._span_ends:
            return 0
        risen = self._least_late - self._usual_late
        missing = round(risen * self._rate) if risen > self._tolerance_s else 0
        self._samples += missing
        self._usual_late = self._least_late - missing / self._rate
        self._least_late = np.inf
        self._span_ends = at + self._span_s
        return missing


def list_devices() -> list[Device]:
    """All sound inputs that are plugged in now."""
    library = pyaudio.PyAudio()
    try:
        return _inputs(library)
    finally:
        library.terminate()


class Microphone:
    """An AudioSource. `name` is the device's name, or a part of it that no other input has (see `list_devices`)."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        sample_rate_hz: int = 16_000,
        block_ms: int = 20,
        ring_seconds: float = 6.0,
        silent_driver_after_ms: int = 2_000,
    ) -> None:
        self._name = name
        self._clock = clock
        self._rate = sample_rate_hz
        self._block = sample_rate_hz * block_ms // 1000
        self._ring: deque[tuple[bytes, float]] = deque(maxlen=max(int(ring_seconds * 1000 / block_ms), 1))
        self._deadline_s = silent_driver_after_ms / 1000
        self._library: Any = None
        self._stream: Any = None
        self._closing: threading.Thread | None = None
        self._heard_at = 0.0
        self._arrived_blocks = 0
        self._taken_blocks = 0
        self._position = 0
        self._gaps = 0
        self._dropped = 0
        self._lost = LostSound(sample_rate_hz)

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of the blocks."""
        return self._rate

    @property
    def overflows(self) -> int:
        """Blocks that fell out of the ring unread, and gaps measured in the driver's delivery."""
        return self._dropped + self._gaps

    def start(self) -> None:
        """Open the device. Raises CaptureError: not found, ambiguous name, busy, or a format it cannot give."""
        if self._closing is not None and self._closing.is_alive():
            raise CaptureError(
                CaptureReason.BUSY,
                f'Microphone "{self._name}": the sound driver still holds the last recording.',
                next_step="It is tried again; if it stays, restart the sound service or re-plug the microphone.",
            )
        library = pyaudio.PyAudio()
        try:
            device = find_device(_inputs(library), self._name)
            self._ring.clear()
            self._arrived_blocks = self._taken_blocks = 0
            self._lost = LostSound(self._rate)
            self._heard_at = self._clock.monotonic()
            self._stream = library.open(
                format=pyaudio.paInt16,
                channels=1,
                rate=self._rate,
                input=True,
                input_device_index=device.index,
                frames_per_buffer=self._block,
                stream_callback=self._arrived,
            )
        except CaptureError:
            library.terminate()
            raise
        except (OSError, ValueError) as error:
            library.terminate()
            raise _open_error(self._name, error) from error
        self._library = library

    def _arrived(self, sound: bytes | None, frames: int, times: Mapping[str, float], status: int) -> tuple[None, int]:
        """PortAudio's thread: append and leave. The ring drops its oldest block when it is full; `read` counts that."""
        self._heard_at = self._clock.monotonic()
        self._ring.append((sound or b"", self._heard_at))
        self._arrived_blocks += 1
        return None, pyaudio.paContinue

    def read(self) -> list[AudioBlock]:
        """Blocks since the last call. Raises CaptureError when the stream ended or the driver has fallen silent."""
        if self._stream is None:
            raise CaptureError(
                CaptureReason.NOT_FOUND, f'Microphone "{self._name}" is not open.', next_step="Call start first."
            )
        arrived = self._arrived_blocks
        blocks: list[AudioBlock] = []
        while self._ring and self._taken_blocks < arrived:
            blocks.append(self._take(arrived - self._taken_blocks))
        if not blocks:
            self._check_alive()
        return blocks

    def _take(self, waiting: int) -> AudioBlock:
        held = len(self._ring)
        dropped = max(waiting - held, 0)
        sound, at = self._ring.popleft()
        self._taken_blocks += dropped + 1
        self._dropped += dropped
        samples = np.frombuffer(sound, np.int16)
        missing = self._lost.arrived(len(samples) + dropped * self._block, at)
        self._gaps += missing > 0
        first = self._position + dropped * self._block + missing
        self._position = first + len(samples)
        return AudioBlock(samples, first, at)

    def _check_alive(self) -> None:
        if not self._stream.is_active():
            raise CaptureError(
                CaptureReason.UNPLUGGED,
                f'Microphone "{self._name}": the sound stopped; the device is gone.',
                next_step="Plug the microphone in again; it is then found by itself.",
            )
        silent_s = self._clock.monotonic() - self._heard_at
        if silent_s > self._deadline_s:
            raise CaptureError(
                CaptureReason.SILENT_DRIVER,
                f'Microphone "{self._name}": the driver has given nothing for {silent_s:.1f} s.',
                next_step="It is opened again; if it stays silent, re-plug the microphone.",
            )

    def stop(self) -> None:
        """Close the device; may be called twice. Returns after 2 s even when a frozen sound server blocks the close:
        the closing then goes on in its thread, and `start` refuses until it is done."""
        stream, library = self._stream, self._library
        self._stream = self._library = None
        if stream is None:
            return

        def close() -> None:
            stream.close()
            library.terminate()

        self._closing = threading.Thread(target=close, name="close-microphone", daemon=True)
        self._closing.start()
        self._closing.join(_CLOSE_SECONDS)


def find_device(devices: list[Device], name: str) -> Device:
    """The one input of that name (or, when no name is equal, whose name contains it, whatever the case).

    Raises CaptureError naming the choices when there is none or more than one.
    """
    exact = [device for device in devices if device.name == name]
    found = exact or [device for device in devices if name and name.casefold() in device.name.casefold()]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(f'"{device.name}"' for device in found or devices) or "none"
    problem = "more than one input has this name" if found else "no such sound input"
    raise CaptureError(
        CaptureReason.NOT_FOUND,
        f'Microphone "{name}": {problem}. Inputs: {choices}.',
        next_step="Plug it in, or set capture.microphone to a name, or a part of it, that only one input has.",
    )


def _inputs(library: Any) -> list[Device]:
    found = (library.get_device_info_by_index(index) for index in range(library.get_device_count()))
    return [Device(int(each["index"]), str(each["name"])) for each in found if each["maxInputChannels"] > 0]


def _open_error(name: str, error: OSError | ValueError) -> CaptureError:
    code = error.errno if isinstance(error, OSError) else None
    reason, next_step = {
        pyaudio.paInvalidSampleRate: (
            CaptureReason.WRONG_FORMAT,
            "Name an ALSA device of type plug for it in /etc/asound.conf, which converts to 16 kHz.",
        ),
        pyaudio.paInvalidChannelCount: (CaptureReason.WRONG_FORMAT, "Choose a microphone with a mono input."),
        pyaudio.paSampleFormatNotSupported: (CaptureReason.WRONG_FORMAT, "Choose a microphone with 16-bit sound."),
        pyaudio.paDeviceUnavailable: (CaptureReason.BUSY, "Stop the other program that uses the microphone."),
    }.get(code, (CaptureReason.UNREADABLE, "Re-plug the microphone, and see the sound driver's messages."))
    return CaptureError(reason, f'Microphone "{name}": cannot be opened ({error}).', next_step=next_step)
