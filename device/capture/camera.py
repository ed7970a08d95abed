"""The camera, through picamera2: two grey pictures a second from the low-resolution stream.

picamera2 needs libcamera's Python binding, which comes with Raspberry Pi OS and not from PyPI, so it is imported when
the camera is opened. The low-resolution stream is YUV420; its first rows are the luma plane, which is the grey picture
(Picamera2 manual, "lores" streams).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device.clock import Clock
from device.errors import CaptureError, CaptureReason
from device.frames import VideoFrame

LOG: Final = logging.getLogger(__name__)
#: Pixels of the low-resolution stream. The width is a multiple of 64, so rows carry no padding on a Raspberry Pi.
LORES_WIDTH: Final = 640
LORES_HEIGHT: Final = 480
#: The main stream is not read; picamera2 wants it to be at least as large as the low-resolution one.
_MAIN_SIZE: Final = (640, 480)


def luma(yuv420: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The grey picture (height, width) in a YUV420 array (height·3/2, stride). Raises ValueError on another shape."""
    if yuv420.dtype != np.uint8 or yuv420.ndim != 2 or yuv420.shape[0] != height * 3 // 2 or yuv420.shape[1] < width:
        raise ValueError(f"YUV420 of {width}×{height} expected, got {yuv420.dtype} {yuv420.shape}")
    return np.ascontiguousarray(yuv420[:height, :width])


class Camera:
    """A VideoSource. `name` is a part of the camera's model or identity that no other camera has, such as `imx708`.

    picamera2 calls `_arrived` in its own thread for each picture; it copies the grey plane into a bounded ring.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        frames_per_second: int = 2,
        ring_frames: int = 4,
        silent_driver_after_ms: int = 2_000,
    ) -> None:
        self._name = name
        self._clock = clock
        self._period_s = 1 / frames_per_second
        self._ring: deque[VideoFrame] = deque(maxlen=ring_frames)
        self._deadline_s = silent_driver_after_ms / 1000 + self._period_s
        self._camera: Any = None
        self._lock = threading.Lock()
        self._arrived_frames = 0
        self._dropped = 0
        self._seen_at = 0.0
        self._fault = ""

    @property
    def overflows(self) -> int:
        """Pictures that fell out of the ring unread."""
        return self._dropped

    def start(self) -> None:
        """Open the camera. Raises CaptureError: picamera2 missing, camera not found, busy, or refused by the driver."""
        library = _picamera2()
        place = self._find(_described(library))
        try:
            camera = library(place)
        except (RuntimeError, IndexError, OSError) as error:
            raise self._failed(CaptureReason.BUSY, error, "Stop the other program that uses the camera.") from error
        period_us = round(1_000_000 * self._period_s)
        slow = (
            {"FrameDurationLimits": (period_us, period_us)} if "FrameDurationLimits" in camera.camera_controls else {}
        )
        self._ring.clear()
        self._arrived_frames = 0
        self._fault = ""
        self._seen_at = self._clock.monotonic()
        try:
            configuration = camera.create_video_configuration(
                main={"size": _MAIN_SIZE},
                lores={"size": (LORES_WIDTH, LORES_HEIGHT), "format": "YUV420"},
                controls=slow,
                encode=None,
                queue=False,
            )
            camera.configure(configuration)
            camera.post_callback = self._arrived
            camera.start()
        except (RuntimeError, ValueError, OSError) as error:
            camera.close()
            raise self._failed(CaptureReason.WRONG_FORMAT, error, "Check the camera's cable and model.") from error
        self._camera = camera

    def _find(self, described: list[str]) -> int:
        found = [place for place, text in enumerate(described) if self._name.casefold() in text.casefold()]
        if len(found) == 1:
            return found[0]
        problem = "more than one camera has this name" if found else "no such camera"
        choices = ", ".join(f'"{text}"' for text in described) or "none"
        raise CaptureError(
            CaptureReason.NOT_FOUND,
            f'Camera "{self._name}": {problem}. Cameras: {choices}.',
            next_step="Plug it in, or set capture.camera to a part of the model or identity that only one camera has.",
        )

    def _arrived(self, request: Any) -> None:
        """picamera2's thread: copy the grey plane and leave. A wrong picture is told by the next `read`.

        A sensor that cannot be as slow as asked gives more pictures: those that come too early are left out.
        """
        now = self._clock.monotonic()
        if self._arrived_frames and now - self._seen_at < 0.8 * self._period_s:
            return
        try:
            pixels = luma(request.make_array("lores"), LORES_WIDTH, LORES_HEIGHT)
        except (ValueError, RuntimeError) as error:
            self._fault = str(error)
            return
        with self._lock:
            self._seen_at = now
            self._dropped += len(self._ring) == self._ring.maxlen
            self._ring.append(VideoFrame(pixels, self._arrived_frames, now))
            self._arrived_frames += 1

    def read(self) -> list[VideoFrame]:
        """Pictures since the last call. Raises CaptureError when the camera gives none, or none of the right form."""
        if self._camera is None:
            raise CaptureError(
                CaptureReason.NOT_FOUND, f'Camera "{self._name}" is not open.', next_step="Call start first."
            )
        with self._lock:
            frames = list(self._ring)
            self._ring.clear()
        if self._fault:
            raise self._failed(CaptureReason.WRONG_FORMAT, self._fault, "Report the camera's model.")
        silent_s = self._clock.monotonic() - self._seen_at
        if not frames and silent_s > self._deadline_s:
            raise self._failed(
                CaptureReason.SILENT_DRIVER, f"no picture for {silent_s:.1f} s", "Check the camera's cable."
            )
        return frames

    def stop(self) -> None:
        """Close the camera; may be called twice."""
        camera, self._camera = self._camera, None
        if camera is None:
            return
        camera.post_callback = None
        try:
            camera.stop()
            camera.close()
        except RuntimeError as error:  # of a camera that is gone already
            LOG.warning('Camera "%s": not closed cleanly (%s).', self._name, error)

    def _failed(self, reason: CaptureReason, why: object, next_step: str) -> CaptureError:
        return CaptureError(reason, f'Camera "{self._name}": {why}.', next_step=next_step)


def list_cameras() -> list[str]:
    """Model and identity of all cameras that are plugged in now. Raises CaptureError when picamera2 is missing."""
    return _described(_picamera2())


def _described(library: Any) -> list[str]:
    return [f"{each.get('Model', '')} {each['Id']}".strip() for each in library.global_camera_info()]


def _picamera2() -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise CaptureError(
            CaptureReason.NOT_INSTALLED,
            f"The camera needs picamera2 and libcamera, which are not installed ({error}).",
            next_step="On Raspberry Pi OS: sudo apt install python3-picamera2; and make the virtual environment with "
            "--system-site-packages.",
        ) from error
    return Picamera2
