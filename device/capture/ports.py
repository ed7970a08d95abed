"""What the pipeline asks of a microphone and of a camera. Adapters: microphone.py, camera.py, replay.py."""

from __future__ import annotations

from typing import Protocol

from device.frames import AudioBlock, VideoFrame


class AudioSource(Protocol):
    """A source of mono PCM16 sound. Nothing blocks: `read` drains what has arrived."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of the blocks; 16000 or 8000."""
        ...

    @property
    def overflows(self) -> int:
        """Blocks that were dropped because nobody read them, and gaps seen in the driver's clock."""
        ...

    def start(self) -> None:
        """Open the source. Raises CaptureError with a reason."""
        ...

    def read(self) -> list[AudioBlock]:
        """All blocks since the last call, oldest first. Raises CaptureError when the source is known to be gone."""
        ...

    def stop(self) -> None:
        """Close the source; may be called twice."""
        ...


class VideoSource(Protocol):
    """A source of pictures, about two a second. Nothing blocks."""

    @property
    def overflows(self) -> int:
        """Frames that were dropped because nobody read them."""
        ...

    def start(self) -> None:
        """Open the source. Raises CaptureError with a reason."""
        ...

    def read(self) -> list[VideoFrame]:
        """All frames since the last call, oldest first. Raises CaptureError when the source is known to be gone."""
        ...

    def stop(self) -> None:
        """Close the source; may be called twice."""
        ...
