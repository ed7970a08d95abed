"""Reading recordings: bad files are named, whatever is wrong with them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from device.capture import recordings
from device.capture.recordings import load_recording, read_picture, read_sound, recordings_in
from device.errors import CaptureError, CaptureReason
from models.labels import Emotion

REPOSITORY = Path(__file__).resolve().parents[2]
TAKES = REPOSITORY / "tools" / "takes"
CLIP = REPOSITORY / "tests" / "clips" / "03a02Ta.wav"


def assert_refused(path: Path, reason: CaptureReason) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        load_recording(path)
    assert caught.value.reason is reason
    assert str(path) in caught.value.what
    assert caught.value.next_step
    return caught.value


def ramp(count: int = 4_000) -> NDArray[np.int16]:
    return np.asarray(np.linspace(-30_000, 30_000, count), np.int16)


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TAKES / "sadness", tmp_path / "sadness"))


@pytest.mark.parametrize(("name", "rate"), [("a.wav", 16_000), ("a.flac", 16_000), ("b.wav", 8_000)])
def test_pcm16_is_read_bit_for_bit(tmp_path: Path, name: str, rate: int) -> None:
    soundfile.write(tmp_path / name, ramp(), rate, subtype="PCM_16")
    sound = read_sound(tmp_path / name)
    assert sound.sample_rate_hz == rate
    np.testing.assert_array_equal(sound.samples, ramp())


def test_float_sound_is_scaled_and_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "f.wav", np.array([0.5, -1.0, 2.0, -2.0]), 16_000, subtype="FLOAT")
    assert read_sound(tmp_path / "f.wav").samples.tolist() == [16_384, -32_768, 32_767, -32_768]


def test_several_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.array([[100, 300], [-5, 6]], np.int16), 16_000, subtype="PCM_16")
    assert read_sound(tmp_path / "s.wav").samples.tolist() == [200, 0]


def test_corrupt_wav(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt nonsense")
    assert_refused(tmp_path / "broken.wav", CaptureReason.UNREADABLE)


@pytest.mark.parametrize("content", [b"", b"not a sound at all"])
def test_a_file_that_is_no_sound(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.wav").write_bytes(content)
    assert_refused(tmp_path / "empty.wav", CaptureReason.UNREADABLE)


def test_zero_length_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "zero.wav", np.zeros(0, np.int16), 16_000, subtype="PCM_16")
    assert "no samples" in assert_refused(tmp_path / "zero.wav", CaptureReason.UNREADABLE).what


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, value, 0.2]), 16_000, subtype="FLOAT")
    assert "not numbers" in assert_refused(tmp_path / "nan.wav", CaptureReason.UNREADABLE).what


def test_wrong_sample_rate_says_how_to_convert(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "cd.wav", ramp(44_100), 44_100, subtype="PCM_16")
    error = assert_refused(tmp_path / "cd.wav", CaptureReason.WRONG_FORMAT)
    assert "44100 Hz" in error.what
    assert "sox cd.wav -r 16000" in error.next_step


def test_any_rate_is_resampled_on_request(tmp_path: Path) -> None:
    tone = np.asarray(np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000) * 10_000, np.int16)
    soundfile.write(tmp_path / "dat.wav", tone, 48_000, subtype="PCM_16")
    sound = read_sound(tmp_path / "dat.wav", any_rate=True)
    assert sound.sample_rate_hz == 16_000 and sound.samples.dtype == np.int16
    assert len(sound.samples) == pytest.approx(16_000, abs=20)
    spectrum = np.abs(np.fft.rfft(sound.samples[:16_000]))
    assert int(spectrum.argmax()) == 440


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nothing.wav", CaptureReason.NOT_FOUND)
    with pytest.raises(CaptureError, match="no such recording"):
        recordings_in(tmp_path / "nothing")


def test_a_folder_without_takes(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(CaptureError, match="holds no take"):
        recordings_in(tmp_path)


def test_the_demo_takes_are_found_in_order_with_their_emotions() -> None:
    loaded = [load_recording(path) for path in recordings_in(TAKES)]
    assert [r.emotion for r in loaded] == [
        Emotion(name) for name in ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    ]
    for recording in loaded:
        assert recording.sound is not None and len(recording.pictures) >= 17
        assert recording.pictures[-1].seconds < recording.seconds


def test_at_most_so_many_pictures_a_second_are_kept(take: Path) -> None:
    every = load_recording(take).pictures
    kept = load_recording(take, frames_per_second=2).pictures
    assert len(kept) == 7 < len(every)
    assert [int(p.seconds * 2) for p in kept] == list(range(7))


def test_a_frame_that_is_no_picture_is_found_before_playing(take: Path) -> None:
    bad = take / "frames" / "005.jpg"
    bad.write_text("not a picture")
    with pytest.raises(CaptureError) as caught:
        load_recording(take)
    assert caught.value.reason is CaptureReason.UNREADABLE
    assert str(bad) in caught.value.what


def test_a_picture_that_is_cut_off_is_named(take: Path) -> None:
    bad = take / "frames" / "000.jpg"
    bad.write_bytes(bad.read_bytes()[:3_000])
    with pytest.raises(CaptureError, match=r"000\.jpg"):
        read_picture(bad)


def test_pictures_are_grey_or_rgb(tmp_path: Path) -> None:
    for mode, shape in (("L", (4, 6)), ("1", (4, 6)), ("RGB", (4, 6, 3)), ("RGBA", (4, 6, 3)), ("P", (4, 6, 3))):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (6, 4)).save(path)
        pixels = read_picture(path)
        assert pixels.shape == shape and pixels.dtype == np.uint8, mode


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (9_000, 10)).save(tmp_path / "wide.png")
    with pytest.raises(CaptureError, match="9000×10"):
        read_picture(tmp_path / "wide.png")


@pytest.mark.parametrize(
    "description", ['emotion = "joy"', "frames_per_second = 'five'", "unheard_of = 1", "= broken", "\xff"]
)
def test_a_bad_take_description_is_named(take: Path, description: str) -> None:
    (take / "take.toml").write_text(description, encoding="latin-1")
    with pytest.raises(CaptureError, match=r"take\.toml"):
        load_recording(take)


@pytest.mark.parametrize("description", ["", "frames_per_second = 0.0", "frames_per_second = -1.0"])
def test_pictures_without_a_rate_are_refused(take: Path, description: str) -> None:
    (take / "take.toml").write_text(description)
    with pytest.raises(CaptureError, match="frames_per_second"):
        load_recording(take)


def test_a_take_may_have_sound_alone_or_pictures_alone(take: Path) -> None:
    shutil.rmtree(take / "frames")
    (take / "take.toml").unlink()
    assert load_recording(take).pictures == []
    pictures_alone = shutil.copytree(TAKES / "anger", take.parent / "anger")
    (pictures_alone / "audio.wav").unlink()
    recording = load_recording(pictures_alone)
    assert recording.sound is None and len(recording.pictures) == 20


def film(path: Path, *, seconds: int = 2, rate: int = 48_000) -> Path:
    """A film of 10 pictures a second whose grey is the picture's number, with a tone of 440 Hz."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(10 * seconds):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64), 20 + 10 * number, np.uint8), format="gray")
            container.mux(video.encode(picture.reformat(format="yuv420p")))
        tone = np.sin(2 * np.pi * 440 * np.arange(seconds * rate) / rate).astype(np.float32) * 0.3
        for start in range(0, len(tone), 1_024):
            sound = av.AudioFrame.from_ndarray(tone[None, start : start + 1_024], format="fltp", layout="mono")
            sound.sample_rate, sound.pts = rate, start
            container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return path


def test_a_video_file_gives_sound_and_pictures(tmp_path: Path) -> None:
    recording = load_recording(film(tmp_path / "film.mp4"), frames_per_second=2)
    assert recording.sound is not None and recording.sound.sample_rate_hz == 16_000
    assert recording.seconds == pytest.approx(2.0, abs=0.2)
    assert [p.seconds for p in recording.pictures] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    means = [float(p.pixels().mean()) for p in recording.pictures]
    assert means == pytest.approx([20, 70, 120, 170], abs=6)


def test_a_video_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film" * 100)
    assert_refused(tmp_path / "film.mp4", CaptureReason.UNREADABLE)


def test_a_video_without_pictures_or_sound_alone(tmp_path: Path) -> None:
    whole = film(tmp_path / "film.mp4")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    recording = load_recording(tmp_path / "mute.mp4", frames_per_second=2)
    assert recording.sound is None and len(recording.pictures) == 4


@pytest.mark.parametrize(("name", "library"), [("a.wav", "soundfile"), ("a.mp4", "av")])
def test_a_missing_library_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CaptureError, match=library) as caught:
        load_recording(tmp_path / name)
    assert caught.value.reason is CaptureReason.NOT_INSTALLED
    assert "moodline[demo]" in caught.value.next_step


def test_recordings_that_are_too_long_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "SOUND_SECONDS_MAX", 1)
    monkeypatch.setattr(recordings, "VIDEO_SECONDS_MAX", 1)
    soundfile.write(tmp_path / "long.wav", ramp(16_001), 16_000, subtype="PCM_16")
    for path in (tmp_path / "long.wav", film(tmp_path / "long.mp4")):
        assert "longer than 1 s" in assert_refused(path, CaptureReason.WRONG_FORMAT).what


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One whole file of each kind."""
    folder = tmp_path_factory.mktemp("wholes")
    sound = read_sound(CLIP).samples[:4_000]
    for kind in ("wav", "flac", "ogg"):
        soundfile.write(folder / f"a.{kind}", sound, 16_000)
    Image.fromarray(np.arange(1_024, dtype=np.uint8).reshape(32, 32)).save(folder / "a.png")
    Image.fromarray(np.arange(1_024, dtype=np.uint8).reshape(32, 32)).save(folder / "a.jpg")
    film(folder / "a.mp4", seconds=1)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.data())
def test_damaged_files_of_every_kind_are_read_or_named_and_nothing_else(
    wholes: dict[str, bytes], tmp_path: Path, choice: st.DataObject
) -> None:
    suffix = choice.draw(st.sampled_from(sorted(wholes)))
    content = bytearray(wholes[suffix])
    for place in choice.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = choice.draw(st.integers(0, 255))
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(content[: choice.draw(st.integers(0, len(content)))]))
    try:
        read = read_picture(path) if suffix in (".png", ".jpg") else load_recording(path)
    except CaptureError as error:
        assert str(path) in error.what and error.next_step
    else:
        assert read is not None
