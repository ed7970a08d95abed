"""A stand-in for the calls of picamera2 that device/capture/camera.py makes; test_camera.py checks its signatures.

Names, arguments and return shapes are picamera2's. A test takes the pictures: `take` runs the callback as picamera2's
own thread does.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class CompletedRequest:
    """One picture on its way to the callback."""

    def __init__(self, arrays: dict[str, NDArray[np.uint8]]) -> None:
        self._arrays = arrays

    def make_array(self, name: str) -> NDArray[np.uint8]:
        if name not in self._arrays:
            raise RuntimeError(f"Stream {name!r} is not defined")
        return self._arrays[name]


class Picamera2:
    """The camera library's class; `plugged_in` and `busy` are the world that a test sets up."""

    plugged_in: ClassVar[list[dict[str, Any]]] = []
    busy: ClassVar[bool] = False
    refuses: ClassVar[str] = ""
    opened: ClassVar[list[Picamera2]] = []

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return Picamera2.plugged_in

    def __init__(self, camera_num: int = 0) -> None:
        if Picamera2.busy:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        self.camera_num = camera_num
        self.post_callback: Callable[[CompletedRequest], None] | None = None
        self.configuration: dict[str, Any] | None = None
        self.calls: list[str] = []
        Picamera2.opened.append(self)

    @property
    def camera_controls(self) -> dict[str, tuple[Any, Any, Any]]:
        return {"FrameDurationLimits": (100, 1_000_000_000, None)}

    def create_video_configuration(
        self,
        main: dict[str, Any],
        lores: dict[str, Any] | None = None,
        controls: dict[str, Any] | None = None,
        encode: str | None = "main",
        queue: bool = True,
    ) -> dict[str, Any]:
        return {"main": main, "lores": lores, "controls": controls, "encode": encode, "queue": queue}

    def configure(self, camera_config: dict[str, Any]) -> None:
        if Picamera2.refuses:
            raise RuntimeError(Picamera2.refuses)
        self.configuration = camera_config

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    def take(self, lores: NDArray[np.uint8]) -> None:
        """A picture arrives (this is the test's, not picamera2's)."""
        assert self.post_callback is not None
        self.post_callback(CompletedRequest({"lores": lores}))


def as_module() -> ModuleType:
    """The stand-in as the module `picamera2`, with a world in which nothing is plugged in."""
    Picamera2.plugged_in = []
    Picamera2.busy = False
    Picamera2.refuses = ""
    Picamera2.opened = []
    module = ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    return module
