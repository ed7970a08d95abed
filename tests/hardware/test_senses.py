"""On a real box only (`make hardware-check`): the microphone and the camera give living data, twice in a row.

Set MOODLINE_MICROPHONE and MOODLINE_CAMERA to the stable names of device.toml; a sense without a name is skipped.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from device.capture.camera import Camera
from device.capture.microphone import Microphone, list_devices
from device.system.clock import SystemClock


def named(variable: str) -> str:
    name = os.environ.get(variable, "")
    if not name:
        pytest.skip(f"{variable} is not set; microphones here: {[device.name for device in list_devices()]}")
    return name


@pytest.mark.parametrize("attempt", ["first", "opened again"])
def test_microphone_gives_two_seconds_of_living_sound(attempt: str) -> None:
    microphone = Microphone(named("MOODLINE_MICROPHONE"), SystemClock())
    microphone.start()
    try:
        time.sleep(2.0)
        blocks = microphone.read()
    finally:
        microphone.stop()
    samples = np.concatenate([block.samples for block in blocks])
    assert len(samples) >= 1.7 * microphone.sample_rate_hz
    assert len(np.unique(samples)) > 10, "the samples hardly change: muted, or not plugged in?"
    assert microphone.overflows == 0


@pytest.mark.parametrize("attempt", ["first", "opened again"])
def test_camera_gives_two_pictures_a_second_that_differ(attempt: str) -> None:
    camera = Camera(named("MOODLINE_CAMERA"), SystemClock())
    camera.start()
    try:
        time.sleep(3.0)
        frames = camera.read()
    finally:
        camera.stop()
    assert len(frames) >= 3
    assert all(frame.pixels.std() > 2 for frame in frames), "the picture is even: covered?"
    assert any((frames[0].pixels != frame.pixels).any() for frame in frames[1:]), "the picture stands still"
