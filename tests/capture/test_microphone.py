"""The microphone through real PortAudio and ALSA: on a PulseAudio source in real time, and on ALSA's file plugin.

What this does not prove: a real sound card, its driver and its USB cable. Only a run on a real box can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device.capture.microphone import Device, LostSound, Microphone, find_device, list_devices
from device.capture.ports import AudioSource
from device.capture.recordings import read_sound
from device.clock import Clock, TimeSource
from device.errors import CaptureError, CaptureReason
from device.frames import AudioBlock
from device.inference.decision import Decider, Decision, DecisionParameters
from device.messages.label import SenseState
from device.unit.pipeline import Pipeline
from tests.capture.sound_server import SoundServer
from tests.fakes.inference import FakeBundle, FakeDetector

CLIP = Path(__file__).resolve().parents[1] / "clips" / "03a02Wc.wav"
PATIENCE_S = 20.0


class RealClock:
    """PortAudio keeps real time, so these tests do."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def time_source(self) -> TimeSource:
        return TimeSource.UNSET


CLOCK: Clock = RealClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    server = SoundServer(tmp_path_factory.mktemp("pulse"), read_sound(CLIP).samples)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sound(server: SoundServer, monkeypatch: pytest.MonkeyPatch) -> SoundServer:
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(server.alsa_configuration))
    return server


@pytest.fixture
def opened() -> Iterator[Callable[..., Microphone]]:
    microphones: list[Microphone] = []

    def make(name: str, **more: int) -> Microphone:
        # A null sink that nobody plays to wakes every two seconds: until then its monitor is silent.
        microphones.append(Microphone(name, CLOCK, silent_driver_after_ms=5_000, **more))
        microphones[-1].start()
        return microphones[-1]

    yield make
    for microphone in microphones:
        microphone.stop()


def heard(microphone: AudioSource, samples: int) -> list[AudioBlock]:
    """Read until so many samples arrived."""
    blocks: list[AudioBlock] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(len(block.samples) for block in blocks) < samples:
        assert time.monotonic() < deadline, "the sound does not arrive"
        blocks += microphone.read()
        time.sleep(0.02)
    return blocks


def failure_of(microphone: AudioSource) -> CaptureError:
    """Read until it fails."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            microphone.read()
        except CaptureError as error:
            return error
        time.sleep(0.02)
    raise AssertionError("the failure is never told")


def correlation(heard_sound: NDArray[np.int16], played: NDArray[np.int16]) -> float:
    """Highest normalised cross-correlation of what was played with what was heard."""
    a, b = heard_sound.astype(np.float64), played.astype(np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return float(products.max() / (np.linalg.norm(b) * np.linalg.norm(a)))


def test_what_is_played_is_heard_through_portaudio(sound: SoundServer, opened: Callable[..., Microphone]) -> None:
    microphone = opened("desk-one")
    played = read_sound(CLIP).samples
    player = sound.play(CLIP, "desk-one")
    blocks = heard(microphone, len(played) + 24_000)
    assert player.wait(PATIENCE_S) == 0
    received = np.concatenate([block.samples for block in blocks])
    assert correlation(received, played) > 0.99
    assert {len(block.samples) for block in blocks} == {320}
    positions = [block.first_sample for block in blocks]
    assert positions == list(range(0, 320 * len(blocks), 320))
    arrivals = [block.captured_at for block in blocks]
    assert arrivals == sorted(arrivals)
    assert microphone.overflows == 0


def test_two_microphones_are_told_apart_by_name(sound: SoundServer, opened: Callable[..., Microphone]) -> None:
    assert {"desk-one", "desk-two"} <= {device.name for device in list_devices()}
    one, two = opened("desk-one"), opened("desk-two")
    player = sound.play(CLIP, "desk-two")
    quiet, loud = (np.concatenate([b.samples for b in heard(m, 16_000)]) for m in (one, two))
    assert player.wait(PATIENCE_S) == 0
    assert np.abs(quiet).max() == 0
    assert np.abs(loud).max() > 1_000


def test_an_unknown_name_lists_the_inputs(sound: SoundServer) -> None:
    microphone = Microphone("no-such-desk", CLOCK)
    with pytest.raises(CaptureError, match="desk-one") as caught:
        microphone.start()
    assert caught.value.reason is CaptureReason.NOT_FOUND
    with pytest.raises(CaptureError, match="not open"):
        microphone.read()


def test_unplugged_during_capture_ends_in_an_error_and_plugged_in_again_it_works(
    sound: SoundServer, opened: Callable[..., Microphone]
) -> None:
    microphone = opened("desk-two")
    heard(microphone, 3_200)
    for name in sound.microphones:  # both: PulseAudio would move us to the other one
        sound.unplug(name)
    error = failure_of(microphone)
    assert error.reason in (CaptureReason.UNPLUGGED, CaptureReason.SILENT_DRIVER)
    microphone.stop()
    for name in sound.microphones:
        sound.plug_in(name)
    microphone.start()
    assert heard(microphone, 3_200)


def test_a_driver_that_falls_silent_is_told_after_the_deadline_and_never_hangs_the_unit(
    sound: SoundServer, opened: Callable[..., Microphone]
) -> None:
    microphone = opened("desk-one")
    heard(microphone, 3_200)
    sound.freeze()
    try:
        error = failure_of(microphone)
        assert error.reason is CaptureReason.SILENT_DRIVER
        microphone.stop()
        with pytest.raises(CaptureError) as caught:
            microphone.start()
        assert caught.value.reason is CaptureReason.BUSY
    finally:
        sound.thaw()
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.name == "close-microphone" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the frozen close never ends"
        time.sleep(0.02)
    microphone.start()
    assert heard(microphone, 3_200)


def test_a_reader_that_stays_away_loses_the_oldest_blocks_and_their_number_is_known(
    sound: SoundServer, opened: Callable[..., Microphone]
) -> None:
    microphone = opened("desk-one", ring_seconds=1)
    heard(microphone, 320)
    time.sleep(1.6)
    first = heard(microphone, 16_000)
    assert microphone.overflows > 0
    jump = first[0].first_sample
    assert jump % 320 == 0 and jump > 320 * microphone.overflows
    following = [block.first_sample for block in first]
    assert following == list(range(jump, jump + 320 * len(first), 320))


def test_stopped_twice_and_no_thread_is_left(sound: SoundServer) -> None:
    microphone = Microphone("desk-one", CLOCK, silent_driver_after_ms=5_000)
    before = threading.active_count()
    for _ in range(3):
        microphone.start()
        heard(microphone, 640)
        microphone.stop()
        microphone.stop()
    assert threading.active_count() == before


def ticks_until(pipeline: Pipeline, wanted: Callable[[Decision], bool]) -> Decision:
    """Tick twice a second until a decision is the wanted one."""
    deadline = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < deadline:
        for _ in range(10):
            time.sleep(0.05)
            pipeline.pump()
        decision = pipeline.tick(time.monotonic())
        if wanted(decision):
            return decision
    raise AssertionError(f"never came; senses: {pipeline.sense_states()}")


def test_a_unit_goes_on_through_unplugging_and_plugging_in_again(sound: SoundServer) -> None:
    microphone = Microphone("desk-one", CLOCK, silent_driver_after_ms=5_000)
    networks = FakeBundle()
    parameters = DecisionParameters(silence_after_ms=10_000)
    pipeline = Pipeline(CLOCK, microphone, None, networks.bundle, FakeDetector(), Decider(parameters))
    pipeline.start()
    try:
        player = sound.play(CLIP, "desk-one")
        ticks_until(pipeline, lambda decision: decision.label is not None)
        assert player.wait(PATIENCE_S) == 0
        for name in sound.microphones:
            sound.unplug(name)
        ticks_until(pipeline, lambda decision: decision.speech is SenseState.FAILED)
        assert pipeline.sense_states()["microphone"] in ("unplugged", "silent_driver", "not_found")
        for name in sound.microphones:
            sound.plug_in(name)
        ticks_until(pipeline, lambda _: pipeline.sense_states()["microphone"] == "ok")
        player = sound.play(CLIP, "desk-one")
        ticks_until(pipeline, lambda decision: decision.label is not None)
        assert player.wait(PATIENCE_S) == 0
    finally:
        pipeline.stop()


def test_a_file_behind_alsa_is_heard_bit_for_bit(sound: SoundServer, opened: Callable[..., Microphone]) -> None:
    played = read_sound(CLIP).samples
    microphone = opened(sound.recorded, ring_seconds=60)
    received = np.concatenate([block.samples for block in heard(microphone, len(played))])
    np.testing.assert_array_equal(received[: len(played)], played)


@pytest.mark.parametrize(
    ("name", "found"),
    [("USB Mic: Audio (hw:1,0)", 0), ("usb mic", None), ("hw:1,0", 0), ("webcam", 2), ("piano", None), ("", None)],
)
def test_a_name_must_fit_one_input_only(name: str, found: int | None) -> None:
    names = ("USB Mic: Audio (hw:1,0)", "USB Mic: Audio (hw:2,0)", "Webcam")
    devices = [Device(index, each) for index, each in enumerate(names)]
    if found is not None:
        assert find_device(devices, name).index == found
        return
    with pytest.raises(CaptureError) as caught:
        find_device(devices, name)
    assert caught.value.reason is CaptureReason.NOT_FOUND
    assert "USB Mic: Audio (hw:2,0)" in caught.value.what


def delivered(lost: LostSound, arrivals: list[float]) -> list[int]:
    """Blocks of 20 ms that arrive at these seconds; returns what is found missing."""
    return [missing for at in arrivals if (missing := lost.arrived(320, at))]


def steady(start: float, seconds: float, rate: float = 1.0) -> list[float]:
    return [start + 0.02 * (i + 1) / rate for i in range(round(seconds * 50))]


def test_a_steady_driver_loses_nothing_even_with_a_drifting_clock() -> None:
    assert delivered(LostSound(16_000), steady(0.0, 60.0)) == []
    assert delivered(LostSound(16_000), steady(0.0, 600.0, rate=0.9995)) == []


def test_a_stall_whose_backlog_arrives_is_no_loss() -> None:
    late = [max(at, 8.0) if at > 5.0 else at for at in steady(0.0, 20.0)]
    assert delivered(LostSound(16_000), late) == []


def test_sound_that_never_arrives_is_found_and_measured_once() -> None:
    arrivals = steady(0.0, 5.0) + steady(6.0, 20.0)
    found = delivered(LostSound(16_000), arrivals)
    assert found == [pytest.approx(16_000, abs=64)]


def test_two_losses_are_two_gaps() -> None:
    arrivals = steady(0.0, 5.0) + steady(6.0, 10.0) + steady(16.5, 10.0)
    assert delivered(LostSound(16_000), arrivals) == [pytest.approx(16_000, abs=64), pytest.approx(8_000, abs=64)]
