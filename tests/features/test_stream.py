from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import CaptureError, CaptureReason
from device.features.stream import FeatureStream, frames_of
from models.contract import CHANNELS, CONTOUR_FEATURES
from tests.features.signals import CLIPS, Samples, clip, noise, pcm, tone, voice

SOUNDS = {
    "speech": clip(CLIPS[0])[:20_000],
    "noise": noise(1.0),
    "clipped": pcm(3.0 * np.sin(np.arange(16_000) / 17.0)),
    "speech between silences": np.concatenate(
        (np.zeros(3000, np.int16), clip(CLIPS[1])[9000:14_000], np.zeros(3000, np.int16))
    ),
}
#: Pieces around every size that matters: a sample, a hop, a frame, a block of frames.
PIECES = st.lists(st.one_of(st.integers(0, 500), st.integers(500, 25_000)), min_size=1, max_size=40)


def pushed(samples: Samples, pieces: list[int], rate: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Frames of `samples` given in pieces of these sizes, over and over if they do not suffice."""
    stream, frames, start = FeatureStream(rate), [], 0
    for size in pieces:
        frames.append(stream.push(samples[start : start + size]))
        start += size
    frames.append(stream.push(samples[start:]))
    return np.concatenate(frames)


@pytest.mark.parametrize("rate", [16_000, 8_000])
@pytest.mark.parametrize("sound", SOUNDS)
@settings(max_examples=25, deadline=None)
@given(pieces=PIECES)
def test_any_chunking_gives_the_same_bits(sound: str, rate: int, pieces: list[int]) -> None:
    whole = frames_of(SOUNDS[sound], rate)
    assert pushed(SOUNDS[sound], pieces, rate).tobytes() == whole.tobytes()


@pytest.mark.parametrize("size", [1, 159, 160, 161])
def test_hop_by_hop_gives_the_same_bits(size: int) -> None:
    sound = SOUNDS["speech"][:6000]
    assert pushed(sound, [size] * (len(sound) // size), 16_000).tobytes() == frames_of(sound, 16_000).tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(400, 19_999))
def test_no_frame_looks_ahead(end: int) -> None:
    sound = SOUNDS["speech"]
    early = frames_of(sound[:end], 16_000)
    assert early.tobytes() == frames_of(sound, 16_000)[: len(early)].tobytes()


def test_a_louder_voice_stays_louder() -> None:
    quiet, loud = (frames_of(voice(150.0, 1.0, level=level), 16_000) for level in (0.1, 0.4))
    gain = loud - quiet
    assert gain[:, CHANNELS.index("log_energy")] == pytest.approx(np.log(16.0), abs=0.01)
    assert gain[:, CHANNELS.index("waveform_peak")].mean() > 0.1
    assert gain[10:, CHANNELS.index("mfcc_0")].min() > 10.0


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([0.5, np.nan]),
        np.zeros(400, np.float32),
        np.zeros(400, np.int32),
        np.zeros((200, 2), np.int16),
        [0] * 400,
        b"\0" * 800,
    ],
    ids=["NaN", "float", "int32", "stereo", "list", "bytes"],
)
def test_other_than_mono_int16_is_refused_and_the_stream_goes_on(wrong: Any) -> None:
    stream, sound = FeatureStream(), SOUNDS["speech"][:3000]
    before = stream.push(sound[:1000])
    with pytest.raises(CaptureError, match="int16") as caught:
        stream.push(wrong)
    assert caught.value.reason is CaptureReason.WRONG_FORMAT
    after = stream.push(sound[1000:])
    assert np.array_equal(np.concatenate((before, after)), frames_of(sound, 16_000))


@pytest.mark.parametrize("rate", [0, -16_000, 11_025, 44_100])
def test_other_sample_rates_are_refused_by_name(rate: int) -> None:
    with pytest.raises(CaptureError, match=f"{rate} Hz.*16000 or 8000"):
        frames_of(np.zeros(1000, np.int16), rate)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(8000, np.int16),
        np.full(8000, 32767, np.int16),
        np.full(8000, -32768, np.int16),
        np.where(np.arange(8000) % 100 < 50, 32767, -32768).astype(np.int16),
        np.where(np.arange(8000) % 2, 32767, -32768).astype(np.int16),
        np.where(np.arange(8000) == 4000, 32767, 0).astype(np.int16),
        np.random.default_rng(0).integers(-32768, 32768, 8000).astype(np.int16),
    ],
    ids=["silence", "stuck high", "stuck low", "square wave", "fastest change", "click", "loudest noise"],
)
def test_extreme_sound_gives_finite_frames(sound: Samples) -> None:
    with np.errstate(all="raise"):
        frames = frames_of(sound, 16_000)
    assert frames.shape == (48, 34)
    assert np.isfinite(frames).all()
    assert np.abs(frames[:, CHANNELS.index("waveform_peak")]).max() <= 1.0
    assert ((frames[:, CHANNELS.index("voicing")] >= 0) & (frames[:, CHANNELS.index("voicing")] <= 1)).all()


def test_silence_has_one_known_frame() -> None:
    frames = frames_of(np.zeros(4000, np.int16), 16_000)
    assert np.array_equal(frames, np.repeat(frames[:1], len(frames), axis=0))
    values = dict(zip(CHANNELS, frames[0].tolist(), strict=True))
    assert values["log_energy"] == pytest.approx(np.log(1 / (12 * 32768**2)))
    assert values["mfcc_0"] == pytest.approx(np.sqrt(40) * np.log(1e-8), rel=1e-6)
    rest = {name: value for name, value in values.items() if name not in {"log_energy", "mfcc_0"}}
    assert rest == pytest.approx(dict.fromkeys(rest, 0.0), abs=1e-4)


@pytest.mark.parametrize("length", [0, 1, 399])
def test_less_than_a_frame_gives_no_frame(length: int) -> None:
    assert frames_of(np.zeros(length, np.int16), 16_000).shape == (0, 34)


def test_reset_forgets_the_recording_before() -> None:
    stream = FeatureStream(8_000)
    stream.push(noise(0.5))
    stream.reset()
    assert np.array_equal(stream.push(SOUNDS["speech"]), frames_of(SOUNDS["speech"], 8_000))


def test_what_is_pushed_may_be_overwritten_afterwards() -> None:
    stream, buffer, sound = FeatureStream(), np.empty(250, np.int16), SOUNDS["speech"][:5000]
    frames = []
    for start in range(0, 5000, 250):
        buffer[:] = sound[start : start + 250]
        frames.append(stream.push(buffer))
    assert np.array_equal(np.concatenate(frames), frames_of(sound, 16_000))


def test_hours_of_hops_keep_no_memory() -> None:
    stream, hop = FeatureStream(), noise(0.01)
    for _ in range(100):
        stream.push(hop)
    tracemalloc.start()
    try:
        for _ in range(50):
            stream.push(hop)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            stream.push(hop)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


def test_telephone_rate_gives_the_frames_of_the_same_sound_at_full_rate() -> None:
    narrow = frames_of(tone(300.0, 1.0, rate=8_000), 8_000)[20:]
    wide = frames_of(tone(300.0, 1.0), 16_000)[20 : 20 + len(narrow)]
    for name, tolerance in (("f0", 0.01), ("voicing", 0.01), ("log_energy", 0.01), ("waveform_peak", 0.01)):
        column = CHANNELS.index(name)
        assert np.abs(narrow[: len(wide), column] - wide[:, column]).max() < tolerance, name


def test_every_channel_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    ends = {"mfcc_0", "mfcc_19", "delta_mfcc_1", "delta_mfcc_6"}
    named = [name for name in CHANNELS if "mfcc" not in name or name in ends]
    suffixes = {name.removeprefix("log_energy_").removeprefix("f0_") for name in CONTOUR_FEATURES}
    assert [name for name in (*named, *suffixes) if f"`{name}`" not in text] == []
