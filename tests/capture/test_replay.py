"""Replay: sound and pictures in step, paced by the clock or by the reader, and what a late reader loses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.capture.ports import AudioSource, VideoSource
from device.capture.recordings import read_sound
from device.capture.replay import Replay
from device.errors import CaptureError, CaptureReason
from device.frames import AudioBlock
from models.labels import Emotion
from tests.fakes.clock import FakeClock

TAKES = Path(__file__).resolve().parents[2] / "tools" / "takes"
SADNESS = TAKES / "sadness"


def joined(blocks: list[AudioBlock]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.concatenate([block.samples for block in blocks])


def test_it_fits_the_ports() -> None:
    replay = Replay(SADNESS, FakeClock())
    audio: AudioSource = replay.audio
    video: VideoSource = replay.video
    assert (audio.sample_rate_hz, audio.overflows, video.overflows) == (16_000, 0, 0)


def test_nothing_is_due_before_time_passes_and_then_just_what_is_due() -> None:
    clock = FakeClock()
    audio = Replay(SADNESS, clock).audio
    audio.start()
    assert audio.read() == []
    clock.advance(0.1)
    blocks = audio.read()
    assert [block.first_sample for block in blocks] == [0, 320, 640, 960, 1_280]
    assert blocks[-1].captured_at == pytest.approx(clock.monotonic())
    assert audio.read() == []
    clock.advance(0.019)
    assert audio.read() == []
    clock.advance(0.002)
    assert len(audio.read()) == 1


def test_played_to_its_end_a_take_is_given_out_bit_for_bit_in_any_pace() -> None:
    expected = read_sound(SADNESS / "audio.wav").samples
    for step in (0.013, 0.5, 3.0):
        clock = FakeClock()
        replay = Replay(SADNESS, clock, loop=False)
        replay.audio.start()
        blocks: list[AudioBlock] = []
        while not replay.finished:
            clock.advance(step)
            blocks += replay.audio.read()
        np.testing.assert_array_equal(joined(blocks), expected)
        assert replay.audio.read() == []
        assert replay.audio.overflows == 0


def test_sound_and_pictures_of_a_take_stay_in_step() -> None:
    clock = FakeClock()
    replay = Replay(TAKES, clock)
    replay.audio.start()
    replay.video.start()
    start = clock.monotonic()
    for _ in range(300):
        clock.advance(0.1)
        blocks, frames = replay.audio.read(), replay.video.read()
        for frame in frames:
            assert clock.monotonic() - 0.1 <= frame.captured_at <= clock.monotonic() + 1e-6
        if blocks and frames:
            assert abs(blocks[-1].captured_at - clock.monotonic()) <= 0.02 + 1e-6
    assert clock.monotonic() - start == pytest.approx(30)


def test_at_double_speed_twice_as_much_is_due() -> None:
    clock = FakeClock()
    audio = Replay(SADNESS, clock, speed=2.0).audio
    audio.start()
    clock.advance(0.5)
    assert len(joined(audio.read())) == 16_000


def test_as_fast_as_possible_each_read_gives_half_a_second_and_its_pictures() -> None:
    clock = FakeClock()
    replay = Replay(SADNESS, clock, speed=0, loop=False)
    replay.audio.start()
    replay.video.start()
    first = replay.audio.read()
    assert len(joined(first)) == 8_000
    assert len(replay.video.read()) == 3
    while not replay.finished:
        replay.audio.read()
        replay.video.read()
    assert clock.monotonic() == FakeClock().monotonic()


def test_as_fast_as_possible_works_for_pictures_alone() -> None:
    replay = Replay(SADNESS, FakeClock(), speed=0, loop=False)
    replay.video.start()
    count = 0
    while not replay.finished:
        count += len(replay.video.read())
    assert count == 18


def test_takes_follow_each_other_with_a_jump_so_that_no_window_mixes_two() -> None:
    clock = FakeClock()
    replay = Replay(TAKES, clock)
    replay.audio.start()
    seen: list[Emotion | None] = []
    jumps = expected = 0
    for _ in range(320):
        clock.advance(0.1)
        for block in replay.audio.read():
            jumps += block.first_sample != expected
            assert block.first_sample in (expected, expected + 16_000)
            expected = block.first_sample + len(block.samples)
        if not seen or seen[-1] is not replay.truth:
            seen.append(replay.truth)
    assert seen[:8] == [*(Emotion(p.name) for p in sorted(TAKES.iterdir()) if p.is_dir()), Emotion.ANGER]
    assert jumps == len(seen) - 1
    assert replay.truth is not None and replay.playing == replay.truth.value


def test_a_reader_that_stays_away_loses_the_oldest_and_it_is_counted() -> None:
    clock = FakeClock()
    replay = Replay(SADNESS, clock, ring_seconds=1.0)
    replay.audio.start()
    replay.video.start()
    clock.advance(3.0)
    blocks, frames = replay.audio.read(), replay.video.read()
    assert blocks[0].first_sample == 2 * 16_000
    assert replay.audio.overflows == 100
    assert replay.video.overflows == 10
    assert all(frame.captured_at >= clock.monotonic() - 1.0 for frame in frames)


def test_a_reader_that_stays_away_for_an_hour_gets_no_more_than_the_ring() -> None:
    clock = FakeClock()
    replay = Replay(TAKES, clock, ring_seconds=6.0)
    replay.audio.start()
    replay.video.start()
    clock.advance(3_600)
    assert len(joined(replay.audio.read())) <= 6 * 16_000 + 320
    assert len(replay.video.read()) <= 6 * 6


def test_one_source_that_is_opened_again_joins_the_other_where_it_is() -> None:
    clock = FakeClock()
    replay = Replay(SADNESS, clock)
    replay.audio.start()
    replay.video.start()
    clock.advance(1.0)
    replay.video.read()
    replay.video.stop()
    clock.advance(1.0)
    replay.video.start()
    assert replay.video.read() == []
    clock.advance(0.25)
    seen_at = [frame.captured_at for frame in replay.video.read()]
    assert seen_at == pytest.approx([1_000 + 10 / 4.995, 1_000 + 11 / 4.995])
    assert joined(replay.audio.read()).shape == (112 * 320,)


def test_stopped_twice_and_started_again_it_begins_anew() -> None:
    clock = FakeClock()
    audio = Replay(SADNESS, clock).audio
    audio.start()
    clock.advance(1.0)
    audio.read()
    audio.stop()
    audio.stop()
    clock.advance(60.0)
    audio.start()
    assert audio.read() == []
    clock.advance(0.02)
    np.testing.assert_array_equal(joined(audio.read()), read_sound(SADNESS / "audio.wav").samples[:320])


def test_a_take_without_pictures_has_no_camera_but_a_microphone(tmp_path: Path) -> None:
    take = Path(shutil.copytree(SADNESS, tmp_path / "take"))
    shutil.rmtree(take / "frames")
    replay = Replay(take, FakeClock())
    replay.audio.start()
    with pytest.raises(CaptureError, match="holds no pictures") as caught:
        replay.video.start()
    assert caught.value.reason is CaptureReason.NOT_FOUND
    assert replay.audio.is_open and not replay.video.is_open


def test_takes_of_different_rates_are_refused(tmp_path: Path) -> None:
    for name, rate in (("one", 16_000), ("two", 8_000)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "audio.wav", np.ones(100, np.int16), rate, subtype="PCM_16")
    with pytest.raises(CaptureError, match="sample rates differ"):
        Replay(tmp_path, FakeClock()).audio.start()


def test_a_frame_that_breaks_while_playing_is_named_and_passed_over(tmp_path: Path) -> None:
    take = Path(shutil.copytree(SADNESS, tmp_path / "take"))
    clock = FakeClock()
    video = Replay(take, clock).video
    video.start()
    clock.advance(0.1)
    assert len(video.read()) == 1
    (take / "frames" / "001.jpg").write_bytes((take / "frames" / "001.jpg").read_bytes()[:2_000])
    clock.advance(0.2)
    with pytest.raises(CaptureError, match=r"001\.jpg"):
        video.read()
    clock.advance(0.2)
    assert len(video.read()) == 1
