"""The camera adapter against a stand-in for picamera2 whose signatures are checked in picamera2's own source.

What this proves: the adapter calls what picamera2 0.3 offers, with arguments that it takes, and does the right thing
with what those calls are documented to return and raise. What it does not prove: that a camera gives pictures, their
real format and pace, or what libcamera does when a cable is pulled. picamera2 cannot be imported without libcamera,
which Debian and PyPI do not have: only a run on a Raspberry Pi can show the rest.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device.capture.camera import LORES_HEIGHT, LORES_WIDTH, Camera, list_cameras, luma
from device.capture.ports import VideoSource
from device.errors import CaptureError, CaptureReason
from tests.capture.sound_server import require_real
from tests.fakes.camera import CompletedRequest, Picamera2, as_module
from tests.fakes.clock import FakeClock

PI_CAMERA = {"Id": "/base/axi/pcie@1000120000/rp1/i2c@88000/imx708@1a", "Model": "imx708", "Num": 1}
WEBCAM = {"Id": "/base/scb/pcie@7d500000/usb@0-1.2:1.0-046d:0825", "Model": "C270 HD WEBCAM", "Num": 0}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[Picamera2]:
    monkeypatch.setitem(sys.modules, "picamera2", as_module())
    Picamera2.plugged_in = [PI_CAMERA, WEBCAM]
    return Picamera2


def yuv420(grey: int, stride: int = LORES_WIDTH) -> NDArray[np.uint8]:
    picture = np.full((LORES_HEIGHT * 3 // 2, stride), 128, np.uint8)
    picture[:LORES_HEIGHT] = grey
    return picture


def opened(library: type[Picamera2], clock: FakeClock) -> tuple[VideoSource, Picamera2]:
    camera = Camera("imx708", clock)
    camera.start()
    return camera, library.opened[-1]


# --- against picamera2's source ---------------------------------------------------------------------------------------


def published(module: str, class_name: str) -> ast.ClassDef:
    found = find_spec("picamera2")
    if found is None or found.origin is None:
        require_real("picamera2", "pip install --no-deps picamera2==0.3.38")
        raise AssertionError
    tree = ast.parse((Path(found.origin).parent / f"{module}.py").read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)


def methods(published_class: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in published_class.body if isinstance(node, ast.FunctionDef)}


def taken_arguments(function: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


@pytest.mark.parametrize(
    ("stand_in", "module", "own"),
    [(Picamera2, "picamera2", {"take"}), (CompletedRequest, "request", {"__init__"})],
)
def test_every_call_of_the_stand_in_is_in_picamera2_with_its_arguments(
    stand_in: type, module: str, own: set[str]
) -> None:
    real = methods(published(module, stand_in.__name__))
    for name, member in vars(stand_in).items():
        if name in own or not callable(getattr(stand_in, name)) or (name.startswith("_") and name != "__init__"):
            continue
        assert name in real, f"picamera2 has no {stand_in.__name__}.{name}"
        function: Callable[..., Any] = member.__func__ if isinstance(member, staticmethod) else member
        arguments = set(inspect.signature(function).parameters)
        assert arguments <= taken_arguments(real[name]), name


def test_picamera2_gives_the_controls_as_a_property_and_calls_back_with_one_request() -> None:
    real = published("picamera2", "Picamera2")
    decorators = [d.id for d in methods(real)["camera_controls"].decorator_list if isinstance(d, ast.Name)]
    assert decorators == ["property"]
    calls = [
        node for node in ast.walk(real) if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.post_callback"
    ]
    assert [len(call.args) for call in calls] == [1]


def test_picamera2_numbers_cameras_by_their_place_in_the_list() -> None:
    source = ast.unparse(methods(published("picamera2", "Picamera2"))["__init__"])
    assert "self.global_camera_info()[camera_num]" in source


# --- the adapter ------------------------------------------------------------------------------------------------------


def test_without_picamera2_the_error_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CaptureError, match="apt install python3-picamera2") as caught:
        Camera("imx708", FakeClock()).start()
    assert caught.value.reason is CaptureReason.NOT_INSTALLED


def test_importing_the_adapter_loads_no_camera_library() -> None:
    assert "picamera2" not in sys.modules


def test_it_asks_for_two_small_grey_pictures_a_second(library: type[Picamera2]) -> None:
    _, real = opened(library, FakeClock())
    assert real.configuration is not None
    assert real.configuration["lores"] == {"size": (640, 480), "format": "YUV420"}
    assert real.configuration["controls"] == {"FrameDurationLimits": (500_000, 500_000)}
    assert real.calls == ["start"]


def test_the_grey_plane_arrives_and_the_padding_of_the_rows_does_not(library: type[Picamera2]) -> None:
    clock = FakeClock()
    camera, real = opened(library, clock)
    real.take(yuv420(77, stride=LORES_WIDTH + 64))
    (frame,) = camera.read()
    assert frame.pixels.shape == (LORES_HEIGHT, LORES_WIDTH)
    assert (frame.pixels == 77).all()
    assert (frame.index, frame.captured_at) == (0, clock.monotonic())
    assert camera.read() == []


def test_a_sensor_that_is_too_quick_is_thinned(library: type[Picamera2]) -> None:
    clock = FakeClock()
    camera, real = opened(library, clock)
    for _ in range(16):
        real.take(yuv420(1))
        clock.advance(0.1)
    assert [frame.index for frame in camera.read()] == [0, 1, 2, 3]


def test_pictures_that_nobody_reads_are_dropped_and_counted(library: type[Picamera2]) -> None:
    clock = FakeClock()
    camera, real = opened(library, clock)
    for grey in range(10):
        real.take(yuv420(grey))
        clock.advance(0.5)
    assert [int(frame.pixels[0, 0]) for frame in camera.read()] == [6, 7, 8, 9]
    assert camera.overflows == 6


def test_a_camera_that_falls_silent_is_told_after_the_deadline(library: type[Picamera2]) -> None:
    clock = FakeClock()
    camera, real = opened(library, clock)
    real.take(yuv420(1))
    camera.read()
    clock.advance(2.4)
    assert camera.read() == []
    clock.advance(0.2)
    with pytest.raises(CaptureError, match=r"no picture for 2\.6 s") as caught:
        camera.read()
    assert caught.value.reason is CaptureReason.SILENT_DRIVER


def test_a_picture_of_another_form_is_told_and_not_shown(library: type[Picamera2]) -> None:
    camera, real = opened(library, FakeClock())
    real.take(np.zeros((480, 640), np.uint8))
    with pytest.raises(CaptureError, match="YUV420 of 640×480 expected") as caught:
        camera.read()
    assert caught.value.reason is CaptureReason.WRONG_FORMAT
    camera.stop()
    camera.start()
    assert camera.read() == []


@pytest.mark.parametrize("name", ["imx219", "base"])
def test_a_name_that_fits_none_or_several_lists_the_cameras(library: type[Picamera2], name: str) -> None:
    with pytest.raises(CaptureError, match="C270 HD WEBCAM") as caught:
        Camera(name, FakeClock()).start()
    assert caught.value.reason is CaptureReason.NOT_FOUND
    assert library.opened == []


def test_cameras_are_listed_by_model_and_identity(library: type[Picamera2]) -> None:
    assert list_cameras() == [f"imx708 {PI_CAMERA['Id']}", f"C270 HD WEBCAM {WEBCAM['Id']}"]


def test_the_camera_is_opened_by_its_place_not_by_its_number(library: type[Picamera2]) -> None:
    Camera("C270", FakeClock()).start()
    assert [camera.camera_num for camera in library.opened] == [1]


def test_a_camera_that_another_program_holds_is_busy(library: type[Picamera2]) -> None:
    library.busy = True
    with pytest.raises(CaptureError) as caught:
        Camera("imx708", FakeClock()).start()
    assert caught.value.reason is CaptureReason.BUSY


def test_a_refused_configuration_leaves_the_camera_closed(library: type[Picamera2]) -> None:
    library.refuses = "lores stream dimensions may not exceed main stream"
    with pytest.raises(CaptureError, match="may not exceed") as caught:
        Camera("imx708", FakeClock()).start()
    assert caught.value.reason is CaptureReason.WRONG_FORMAT
    assert library.opened[-1].calls == ["close"]


def test_stopped_twice_it_is_closed_once(library: type[Picamera2]) -> None:
    camera, real = opened(library, FakeClock())
    camera.stop()
    camera.stop()
    assert real.calls == ["start", "stop", "close"]
    assert real.post_callback is None
    with pytest.raises(CaptureError, match="not open"):
        camera.read()


def test_a_camera_that_is_gone_can_still_be_stopped(
    library: type[Picamera2], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    camera, real = opened(library, FakeClock())

    def gone() -> None:
        raise RuntimeError("camera frontend has timed out")

    monkeypatch.setattr(real, "stop", gone)
    camera.stop()
    assert "timed out" in caplog.text
    camera.start()
    assert camera.read() == []


def test_luma_refuses_other_types() -> None:
    with pytest.raises(ValueError, match="float32"):
        luma(np.zeros((720, 640), np.float32), 640, 480)
