"""What can be wrong with a database's recordings, item by item and between items."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from device.capture.recordings import PICTURE_SUFFIXES, load_recording, read_picture, read_sound
from device.errors import ConfigError, MoodlineError
from device.frames import VideoFrame
from device.inference.decision import DecisionParameters
from device.inference.ports import FaceDetector
from device.unit.hearing import GATE_MS, levels_dbfs
from models.contract import SAMPLE_RATE_HZ
from tools.dataset.clips import file_digest
from tools.dataset.corpora.ferplus import load_pixels, pixels_digest
from tools.dataset.manifest import Item, Manifest, sound_file, take_digest

FULL_SCALE: Final = 32_767
SILENCE_DBFS: Final = DecisionParameters().silence_dbfs
SECONDS_MIN: Final = 0.5
SECONDS_MAX: Final = 60.0
#: So large a share of the samples at full scale is heard as distortion.
CLIPPED_SHARE_MAX: Final = 0.001
#: At least so large a share of 20 ms pieces must be louder than the box's own level for silence.
LOUD_SHARE_MIN: Final = 0.1
#: A face must be found in at least this share of an item's pictures.
FACE_SHARE_MIN: Final = 0.5

#: The checks, with what each asks.
CHECKS: Final[dict[str, str]] = {
    "unchanged": "the file is there, with the digest it was imported with",
    "readable": "sound and pictures can be decoded",
    "rate": f"sound is {SAMPLE_RATE_HZ} Hz, mono",
    "length": f"sound lasts {SECONDS_MIN} to {SECONDS_MAX:.0f} s",
    "clipping": f"at most {CLIPPED_SHARE_MAX:.1%} of the samples are at full scale",
    "silence": f"at least {LOUD_SHARE_MIN:.0%} of the 20 ms pieces are above {SILENCE_DBFS:.0f} dBFS",
    "same file": "no other item has the same digest",
    "same samples": "no other item has the same sound, sample by sample",
    "same pixels": "no other item has one of the same pictures, pixel by pixel",
    "face": f"a face is found in at least {FACE_SHARE_MIN:.0%} of the pictures",
}


@dataclass
class Report:
    """Of each check: how many items it looked at, and what is wrong, as item and reason."""

    items: int = 0
    looked_at: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    wrong: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {name: [] for name in CHECKS})

    @property
    def is_clean(self) -> bool:
        """Whether no check found anything."""
        return not any(self.wrong.values())

    def note(self, check: str, item: Item, problem: str = "") -> None:
        """A check has looked at an item; `problem` is what it found."""
        self.looked_at[check] += 1
        if problem:
            self.wrong[check].append((item.name, problem))


def check_all(manifest: Manifest, detector: FaceDetector | None) -> Report:
    """Look at every item; without a detector no faces are looked for."""
    report = Report(len(manifest.items))
    first: dict[str, dict[str, str]] = {"same file": {}, "same samples": {}, "same pixels": {}}

    def compare(check: str, item: Item, keys: set[str]) -> None:
        twins = sorted({first[check][key] for key in keys if key in first[check]})
        report.note(check, item, f"as {twins[0]}" if twins else "")
        for key in keys:
            first[check].setdefault(key, item.name)

    for item in tqdm(manifest.items, desc="checking", unit="item", disable=None):
        compare("same file", item, {item.digest})
        try:
            report.note("unchanged", item, _change(manifest, item))
            if not manifest.file_of(item).exists():
                continue
            if path := sound_file(manifest, item):
                compare("same samples", item, {_check_sound(path, item, report)})
            pictures = _pictures(manifest, item)
        except MoodlineError as error:
            report.note("readable", item, error.what)
            continue
        report.note("readable", item)
        if pictures:
            compare("same pixels", item, {pixels_digest(pixels) for pixels in pictures})
        if detector is not None and pictures:
            report.note("face", item, _face_problem(detector, pictures))
    return report


def as_text(report: Report, examples: int = 3) -> str:
    """A table for people: check, items looked at, how many are wrong, and the first of those."""
    lines = [f"{'check':13}{'items':>7}{'wrong':>7}  what is asked, and the first that fail"]
    for check, asked in CHECKS.items():
        wrong = report.wrong[check]
        lines.append(f"{check:13}{report.looked_at[check]:>7}{len(wrong):>7}  {asked}")
        lines += [f"{'':29}- {name}: {problem}" for name, problem in wrong[:examples]]
    return "\n".join(lines)


def _change(manifest: Manifest, item: Item) -> str:
    path = manifest.file_of(item)
    if not path.exists():
        return f"{path} is missing"
    if item.index is not None:
        digest = pixels_digest(_packed(path, item.index))
    else:
        digest = take_digest(path) if path.is_dir() else file_digest(path)
    return "" if digest == item.digest else f"{path} has changed since it was imported"


def _check_sound(path: Path, item: Item, report: Report) -> str:
    """Note the checks of the sound; returns the digest of its samples."""
    sound = read_sound(path, any_rate=True)
    samples = sound.samples
    header = soundfile.info(path)
    rate, channels, seconds = header.samplerate, header.channels, header.duration
    is_ours = (rate, channels) == (SAMPLE_RATE_HZ, 1)
    report.note("rate", item, "" if is_ours else f"{rate} Hz, {channels} channels")
    report.note("length", item, "" if SECONDS_MIN <= seconds <= SECONDS_MAX else f"{seconds:.2f} s")
    clipped = float(np.mean((samples == FULL_SCALE) | (samples == -FULL_SCALE - 1)))
    report.note("clipping", item, "" if clipped <= CLIPPED_SHARE_MAX else f"{clipped:.2%} at full scale")
    levels = levels_dbfs(samples, sound.sample_rate_hz * GATE_MS // 1000)
    loud = float(np.mean(levels >= SILENCE_DBFS))
    report.note("silence", item, "" if loud >= LOUD_SHARE_MIN else f"{loud:.0%} of the pieces are louder")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _pictures(manifest: Manifest, item: Item) -> list[NDArray[np.uint8]]:
    path = manifest.file_of(item)
    if item.index is not None:
        return [_packed(path, item.index)]
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return [read_picture(path)]
    return [picture.pixels() for picture in load_recording(path).pictures] if path.is_dir() else []


def _packed(path: Path, index: int) -> NDArray[np.uint8]:
    pixels = load_pixels(path)
    if index >= len(pixels):
        raise ConfigError(f"{path}: has no picture {index}.", next_step="Put the set back that was imported.")
    return np.asarray(pixels[index], np.uint8)


def _face_problem(detector: FaceDetector, pictures: list[NDArray[np.uint8]]) -> str:
    found = sum(bool(detector.detect(VideoFrame(pixels, number, 0.0))) for number, pixels in enumerate(pictures))
    return "" if found >= FACE_SHARE_MIN * len(pictures) else f"no face in {len(pictures) - found} of {len(pictures)}"
