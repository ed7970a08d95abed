"""Recordings on disk, as sound and pictures: what the replay source plays and `moodline-classify` reads.

A recording is a take folder (`audio.wav` or `audio.flac`, `frames/*.jpg|png`, `take.toml`), a sound file, or a video
file. Everything wrong with a file is a CaptureError that names the file. soundfile and PyAV are imported when they
are first needed: a box that never replays does not have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import CaptureError, CaptureReason
from models.labels import Emotion

SOUND_SUFFIXES: Final = (".wav", ".flac", ".ogg")
VIDEO_SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi")
PICTURE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
SAMPLE_RATES_HZ: Final = (16_000, 8_000)

#: Limits of one recording.
SOUND_SECONDS_MAX: Final = 3_600
VIDEO_SECONDS_MAX: Final = 120
VIDEO_WIDTH_MAX: Final = 640
PICTURE_SIDE_MAX: Final = 8_192

_PCM16_SCALE: Final = 32_768.0


class TakeDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """take.toml: what the actor was asked to express, where it comes from, and the rate of the pictures."""

    emotion: Emotion | None = None
    source: str = ""
    frames_per_second: float | None = None
    frames: str = ""
    audio: str = ""


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono PCM16: `samples` int16 (n,), n > 0."""

    samples: NDArray[np.int16]
    sample_rate_hz: int


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a recording, `seconds` after its start; a file that is decoded when it is needed, or pixels."""

    seconds: float
    content: Path | NDArray[np.uint8]

    def pixels(self) -> NDArray[np.uint8]:
        """uint8, grey (h, w) or RGB (h, w, 3). Raises CaptureError naming the file."""
        return read_picture(self.content) if isinstance(self.content, Path) else self.content


@dataclass(frozen=True, eq=False)
class Recording:
    """Sound, pictures, or both, of one moment."""

    path: Path
    emotion: Emotion | None
    sound: Sound | None
    pictures: Sequence[Picture]
    seconds: float


def unreadable(path: Path, why: object, next_step: str = "") -> CaptureError:
    """The error for a file that is there but cannot be decoded."""
    return CaptureError(
        CaptureReason.UNREADABLE,
        f"{path}: cannot be read ({why}).",
        next_step=next_step or "Check that the file is whole; copy or record it again.",
    )


def read_sound(path: Path, *, any_rate: bool = False) -> Sound:
    """A wav, flac or ogg file as mono PCM16; several channels are averaged.

    Other rates than 16 kHz and 8 kHz are a CaptureError (the box does not resample recordings), or with `any_rate`
    are resampled to 16 kHz. Raises CaptureError also for an unreadable or empty file and for samples that are not
    numbers.
    """
    soundfile = _soundfile()
    if not path.is_file():
        raise CaptureError(CaptureReason.NOT_FOUND, f"{path}: no such file.", next_step="Check the name of the file.")
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            if file.frames > SOUND_SECONDS_MAX * rate:
                raise _too_long(path, SOUND_SECONDS_MAX)
            exact = file.subtype in ("PCM_16", "PCM_S8", "PCM_U8")
            read = file.read(dtype="int16" if exact else "float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not read.shape[0]:
        raise unreadable(path, "it holds no samples")
    samples = _to_pcm16(path, read)
    if rate in SAMPLE_RATES_HZ:
        return Sound(samples, rate)
    if not any_rate:
        raise CaptureError(
            CaptureReason.WRONG_FORMAT,
            f"{path}: {rate} Hz; a box takes {' or '.join(str(r) for r in SAMPLE_RATES_HZ)} Hz.",
            next_step=f"Convert it, for example: sox {path.name} -r 16000 -c 1 -b 16 converted.wav",
        )
    return Sound(_resample(samples, rate), SAMPLE_RATES_HZ[0])


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8, grey (h, w) or RGB (h, w, 3). Raises CaptureError naming the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if max(picture.size) > PICTURE_SIDE_MAX:
                raise unreadable(path, f"{picture.size[0]}×{picture.size[1]} pixels, more than {PICTURE_SIDE_MAX}")
            grey = picture.mode in ("1", "L", "LA", "I", "I;16", "F")
            return np.asarray(picture.convert("L" if grey else "RGB"), np.uint8)
    except FileNotFoundError as error:
        raise CaptureError(
            CaptureReason.NOT_FOUND, f"{path}: no such file.", next_step="Check the name of the file."
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, error, "Give a whole JPEG or PNG picture.") from error


def recordings_in(path: Path) -> list[Path]:
    """The recordings behind a path: itself, or, for a folder of takes, each take, sorted by name.

    Raises CaptureError when there is none.
    """
    if not path.exists():
        raise CaptureError(
            CaptureReason.NOT_FOUND,
            f"{path}: no such recording.",
            next_step="Give a take folder, a folder of takes, a sound file or a video file.",
        )
    if path.is_file() or _is_take(path):
        return [path]
    takes = sorted(folder for folder in path.iterdir() if _is_take(folder))
    if not takes:
        raise CaptureError(
            CaptureReason.NOT_FOUND,
            f"{path}: holds no take.",
            next_step="A take is a folder with audio.wav or audio.flac, frames/, or both.",
        )
    return takes


def load_recording(path: Path, *, frames_per_second: float | None = None) -> Recording:
    """Load one recording; sound is decoded now, picture files only opened. Raises CaptureError naming the bad file.

    With `frames_per_second`, at most so many pictures of each second are kept, as a camera would give them.
    """
    if path.is_dir():
        recording = _load_take(path)
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        recording = _load_video(path, frames_per_second)
    else:
        sound = read_sound(path)
        recording = Recording(path, None, sound, (), len(sound.samples) / sound.sample_rate_hz)
    kept = _thinned(recording.pictures, frames_per_second)
    return Recording(path, recording.emotion, recording.sound, kept, recording.seconds)


def _is_take(path: Path) -> bool:
    return path.is_dir() and (_sound_of_take(path) is not None or (path / "frames").is_dir())


def _sound_of_take(folder: Path) -> Path | None:
    return next((p for suffix in SOUND_SUFFIXES if (p := folder / f"audio{suffix}").is_file()), None)


def _load_take(folder: Path) -> Recording:
    description = _describe(folder / "take.toml")
    sound_path = _sound_of_take(folder)
    sound = None if sound_path is None else read_sound(sound_path)
    pictures: list[Picture] = []
    if (folder / "frames").is_dir():
        if not description.frames_per_second or not 0 < description.frames_per_second <= 120:
            raise CaptureError(
                CaptureReason.WRONG_FORMAT,
                f"{folder / 'take.toml'}: frames_per_second is missing or not between 0 and 120.",
                next_step="State the rate of the pictures in frames/.",
            )
        files = sorted(p for p in (folder / "frames").iterdir() if not p.name.startswith("."))
        for path in files:
            _check_picture(path)
        pictures = [Picture(i / description.frames_per_second, path) for i, path in enumerate(files)]
    seconds = 0.0 if sound is None else len(sound.samples) / sound.sample_rate_hz
    if pictures and description.frames_per_second:
        seconds = max(seconds, len(pictures) / description.frames_per_second)
    if not seconds:
        raise unreadable(folder, "no sound and no pictures", "A take has audio.wav or audio.flac, frames/, or both.")
    return Recording(folder, description.emotion, sound, pictures, seconds)


def _describe(path: Path) -> TakeDescription:
    if not path.exists():
        return TakeDescription()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=TakeDescription)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise unreadable(path, error, "Correct that entry.") from error


def _check_picture(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        Image.open(path).close()
    except (UnidentifiedImageError, OSError) as error:
        raise unreadable(path, error, "frames/ may hold JPEG and PNG pictures only.") from error


def _thinned(pictures: Sequence[Picture], frames_per_second: float | None) -> list[Picture]:
    if frames_per_second is None:
        return list(pictures)
    kept: list[Picture] = []
    due = 0
    for picture in pictures:
        slot = int(picture.seconds * frames_per_second + 1e-6)
        if slot >= due:
            kept.append(picture)
            due = slot + 1
    return kept


def _to_pcm16(path: Path, read: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.int16]:
    """(n, channels) of int16 or of float32 in -1..1, to int16 (n,)."""
    if read.dtype == np.int16 and read.shape[1] == 1:
        return np.ascontiguousarray(read[:, 0], np.int16)
    scale = 1.0 if read.dtype == np.int16 else _PCM16_SCALE
    mono = read.astype(np.float64).mean(axis=1) * scale
    if not np.isfinite(mono).all():
        raise unreadable(path, "it holds samples that are not numbers", "Export the sound again, as 16-bit PCM.")
    return np.asarray(np.clip(np.rint(mono), -_PCM16_SCALE, _PCM16_SCALE - 1), np.int16)


def _load_video(path: Path, frames_per_second: float | None) -> Recording:
    """Sound as 16 kHz mono, pictures in grey, at most 640 pixels wide."""
    av = _av(path)
    pictures: list[Picture] = []
    parts: list[NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATES_HZ[0])
            slot = -1
            for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
                if frame.time is not None and frame.time > VIDEO_SECONDS_MAX:
                    raise _too_long(path, VIDEO_SECONDS_MAX)
                if isinstance(frame, av.AudioFrame):
                    parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
                    continue
                this_slot = int((frame.time or 0.0) * (frames_per_second or 25.0) + 1e-6)
                if this_slot > slot:
                    slot = this_slot
                    pictures.append(Picture(float(frame.time or 0.0), _grey(frame)))
            if parts:
                parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise unreadable(path, error) from error
    sound = Sound(np.concatenate(parts), SAMPLE_RATES_HZ[0]) if parts and sum(map(len, parts)) else None
    seconds = len(sound.samples) / sound.sample_rate_hz if sound else 0.0
    if pictures:
        seconds = max(seconds, pictures[-1].seconds + 1.0 / (frames_per_second or 25.0))
    if not seconds:
        raise unreadable(path, "no sound and no pictures")
    return Recording(path, None, sound, pictures, seconds)


def _grey(frame: Any) -> NDArray[np.uint8]:
    width, height = frame.width, frame.height
    if width > VIDEO_WIDTH_MAX:
        width, height = VIDEO_WIDTH_MAX, round(height * VIDEO_WIDTH_MAX / width)
    pixels = frame.reformat(width=width, height=height, format="gray").to_ndarray()
    return np.ascontiguousarray(pixels, np.uint8)


def _resample(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    av = _av(Path(f"{rate} Hz sound"))
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATES_HZ[0])
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = rate
    parts = [out.to_ndarray()[0] for given in (frame, None) for out in resampler.resample(given)]
    return np.asarray(np.concatenate(parts), np.int16)


def _too_long(path: Path, limit_s: int) -> CaptureError:
    return CaptureError(
        CaptureReason.WRONG_FORMAT,
        f"{path}: longer than {limit_s} s.",
        next_step="Cut it into shorter recordings.",
    )


def _missing(what: str, package: str) -> CaptureError:
    return CaptureError(
        CaptureReason.NOT_INSTALLED,
        f"{what}: needs the Python package {package}, which is not installed.",
        next_step="Install Moodline with the extra 'demo' (pip install 'moodline[demo]').",
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise _missing("Reading sound files", "soundfile") from error
    return soundfile


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise _missing(str(path), "av") from error
    return av
