"""`moodline-classify`: the released bundle, by the box's own code, on sound files, face pictures and take folders."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import models
from device.capture.recordings import (
    PICTURE_SUFFIXES,
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    Picture,
    Recording,
    Sound,
    load_recording,
    read_picture,
    read_sound,
    recordings_in,
)
from device.config import RuntimeName
from device.errors import CaptureError, CaptureReason, InferenceError
from device.frames import AudioBlock, VideoFrame
from device.inference.bundle import Bundle, load_bundle
from device.inference.decision import Decider, Decision, Evidence, SenseEvidence, over_vocabulary
from device.inference.face_branch import crop_of_whole
from device.inference.face_detector import BlazeFace
from device.inference.fusion_head import Token, TokenHistory
from device.inference.ports import BranchOutput, FaceBox, FaceDetector
from device.inference.tflite import TFLiteRuntime
from device.messages.label import SenseState
from device.system.clock import SystemClock
from device.unit.hearing import Hearing
from device.unit.seeing import Seeing
from device.unit.stages import StageTimes
from models.contract import FACE_CLASSES, SPEECH_CLASSES, TICKS_PER_SECOND, TOKENS
from models.labels import EMOTIONS, Emotion

Branch = Literal["speech", "face", "fused"]
RELEASED_BUNDLE: Final = Path(models.__file__).parent / "bundle"
#: From so many inputs on, a terminal sees a progress bar.
PROGRESS_FROM: Final = 20
EXIT_UNREADABLE: Final = 2
EXIT_NO_BUNDLE: Final = 1
_SUFFIXES: Final = (*SOUND_SUFFIXES, *PICTURE_SUFFIXES, *VIDEO_SUFFIXES)

_DESCRIPTION: Final = """\
Say which expression each input shows, or why that cannot be said, by the released bundle and the box's own code.

An INPUT is a sound file (wav, flac, ogg; 16 or 8 kHz as on the box, other rates are resampled to 16 kHz), a picture
(jpg, png), a video file, a take folder (audio.wav or audio.flac, frames/, take.toml), a folder of any of these, or a
quoted glob. @FILE takes inputs from a file, one a line.
"""
_EPILOGUE: Final = """\
A recording is heard and seen as on the box, in ticks of half a second. Sound longer than the 5.12 s window counts by
the mean of the log-probabilities of every tick with a full window; shorter sound by its last tick. The fused head
counts in the same way, by its ticks with ten tokens of history or by the last one; faces count by the mean over all
pictures used. There is no smoothing and no dwell: one input, one answer.

--json prints one object a line: input; label (null when abstaining); confidence; abstain (the reason, or null); leading
(the most probable class, null without evidence); probabilities (speech, face and fused: each a number for every class,
or null).
"fused" is what the answer was taken from: the fused head where both senses are usable, else the one branch.
An unreadable input is an object of input and error.

Exit code: 0, or 2 when an input could not be read (the others are still classified), or 1 when the bundle is refused.
"""


def log_mean(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of log-probabilities (n,), not normalised."""
    return np.asarray(np.mean(rows, axis=0), np.float32)


@dataclass(frozen=True, eq=False)
class Tick:
    """What one sense gave in one tick, and whether the tick counts fully or only when there is none that does."""

    evidence: SenseEvidence
    counts: bool


def together(ticks: Sequence[Tick], absent: SenseState = SenseState.OFF) -> SenseEvidence:
    """One sense's evidence on the whole recording: the mean of the ticks that count, or else the last usable tick.

    `absent` is its state when there is no tick.
    """
    usable = [tick for tick in ticks if tick.evidence.output is not None]
    if not usable:
        return ticks[-1].evidence if ticks else SenseEvidence(absent)
    last = usable[-1].evidence
    counted = [tick.evidence.output.log_probabilities for tick in usable if tick.counts and tick.evidence.output]
    if not counted or last.output is None:
        return last
    return replace(last, output=BranchOutput(last.output.embedding, log_mean(counted)))


class WholePicture:
    """A FaceDetector for pictures that are face crops already."""

    def detect(self, frame: VideoFrame) -> list[FaceBox]:
        """One face, sure, as large as the picture."""
        height, width = frame.pixels.shape[:2]
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]


def _whole(frame: VideoFrame, _: FaceBox) -> NDArray[np.float32]:
    return crop_of_whole(frame)


class Classifier:
    """A loaded bundle with the box's senses around it; `classify` may be called any number of times."""

    def __init__(self, bundle: Bundle, detector: FaceDetector, *, crop: bool = False) -> None:
        """With `crop`, every picture is a face crop already and nothing is detected."""
        self._bundle = bundle
        self._parameters = bundle.manifest.decision
        self._times = StageTimes(SystemClock())
        if crop:
            self._seeing = Seeing(bundle.face, WholePicture(), self._parameters, _whole)
        else:
            self._seeing = Seeing(bundle.face, detector, self._parameters)

    def classify(self, recording: Recording, branch: Branch = "fused") -> tuple[Decision, Evidence]:
        """The decision on a whole recording and the evidence behind it. Raises CaptureError naming a bad picture."""
        sound = None if branch == "face" else recording.sound
        pictures = [] if branch == "speech" else recording.pictures
        heard = [] if sound is None else self._hear(sound, every_tick=bool(pictures))
        seen = self._see(pictures, max(len(heard), 1)) if pictures else []
        speech = together(heard, SenseState.SILENT if branch == "speech" else SenseState.OFF)
        face = together(seen, SenseState.NO_FACE if branch == "face" else SenseState.OFF)
        fused = self._fuse(heard, seen)
        if fused is None and speech.output is not None and face.output is not None:
            fused = self._fuse([Tick(speech, counts=True)], [Tick(face, counts=True)])
        evidence = Evidence(speech, face, fused)
        return Decider(self._parameters).decide(evidence), evidence

    def _hear(self, sound: Sound, *, every_tick: bool) -> list[Tick]:
        """Ticks of half a second; unless every one is wanted, only those with a full window and the last."""
        hearing = Hearing(sound.sample_rate_hz, self._bundle.speech, self._parameters)
        step = sound.sample_rate_hz // TICKS_PER_SECOND
        ticks: list[Tick] = []
        for start in range(0, len(sound.samples), step):
            part = sound.samples[start : start + step]
            hearing.hear(AudioBlock(part, start, start / sound.sample_rate_hz))
            if every_tick or hearing.is_full or start + step >= len(sound.samples):
                ticks.append(Tick(hearing.evidence(self._times), hearing.is_full))
        if not every_tick and all(tick.evidence.output is None for tick in ticks):
            return self._hear(sound, every_tick=True)  # what was said is followed by a silence
        return ticks

    def _see(self, pictures: Sequence[Picture], count: int) -> list[Tick]:
        """At least `count` ticks, each with the newest picture of its half second, until all pictures were shown."""
        self._seeing.forget()
        ticks: list[Tick] = []
        waiting = list(pictures)
        while waiting or len(ticks) < count:
            now = (len(ticks) + 1) / TICKS_PER_SECOND
            due = [picture for picture in waiting if picture.seconds < now]
            waiting = waiting[len(due) :]
            if due:
                self._seeing.see(VideoFrame(due[-1].pixels(), len(ticks), due[-1].seconds))
            evidence = self._seeing.evidence(now, self._times)
            ticks.append(Tick(evidence, counts=bool(due)))
        return ticks

    def _fuse(self, heard: Sequence[Tick], seen: Sequence[Tick]) -> NDArray[np.float32] | None:
        """Fused log-probabilities (8,); None when the senses never were usable in the same tick."""
        history = TokenHistory()
        last: NDArray[np.float32] | None = None
        full: list[NDArray[np.float32]] = []
        for hearing, seeing in zip(heard, seen, strict=False):
            speech, face = hearing.evidence, seeing.evidence
            history.append(Token(speech.output, face.output, speech.quality, face.quality))
            if speech.output is not None and face.output is not None:
                last = self._bundle.fusion.run(history)
                full += [last] if len(history) == TOKENS else []
        return log_mean(full) if full else last


def answer(name: str, decision: Decision, evidence: Evidence) -> dict[str, Any]:
    """The object that --json prints."""
    known = bool(decision.probabilities.any())
    return {
        "input": name,
        "label": decision.label,
        "confidence": round(decision.confidence, 6),
        "abstain": decision.reason,
        "leading": EMOTIONS[int(decision.probabilities.argmax())] if known else None,
        "probabilities": {
            "speech": _by_class(evidence.speech, SPEECH_CLASSES),
            "face": _by_class(evidence.face, FACE_CLASSES),
            "fused": _named(decision.probabilities, EMOTIONS) if known else None,
        },
    }


def _by_class(evidence: SenseEvidence, classes: Sequence[Emotion]) -> dict[str, float] | None:
    if evidence.output is None:
        return None
    spread = over_vocabulary(evidence.output.log_probabilities, classes)
    return _named(spread[[emotion.code for emotion in classes]], classes)


def _named(probabilities: NDArray[np.float32], classes: Sequence[Emotion]) -> dict[str, float]:
    return {emotion.value: round(float(p), 6) for emotion, p in zip(classes, probabilities, strict=True)}


def expand(names: Iterable[str]) -> Iterator[str]:
    """Each input by itself: globs and folders (of takes, else of sound, picture and video files) are spelt out.

    A name that matches nothing is kept, to be reported as unreadable.
    """
    for name in names:
        matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        for match in matches or [name]:
            yield from _in_folder(Path(match)) if Path(match).is_dir() else [match]


def _in_folder(folder: Path) -> list[str]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    try:
        return [str(path) for path in recordings_in(folder)]
    except CaptureError:
        return [str(path) for path in files] or [str(folder)]


def read_input(path: Path) -> Recording:
    """Any input as a recording. Raises CaptureError naming the file."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return Recording(path, None, None, [Picture(0.0, read_picture(path))], 1 / TICKS_PER_SECOND)
    if suffix in SOUND_SUFFIXES:
        sound = read_sound(path, any_rate=True)
        return Recording(path, None, sound, [], len(sound.samples) / sound.sample_rate_hz)
    if path.is_dir() or suffix in VIDEO_SUFFIXES or not path.exists():
        (whole,) = recordings_in(path)
        return load_recording(whole)
    raise CaptureError(
        CaptureReason.WRONG_FORMAT,
        f"{path}: not a kind of file that is known.",
        next_step=f"Give one of {', '.join(_SUFFIXES)}, or a take folder.",
    )


def as_text(result: dict[str, Any]) -> str:
    """One line for people."""
    spread = result["probabilities"]["fused"] or {}
    best = sorted(spread.items(), key=lambda entry: -entry[1])[:3]
    said = result["label"] or f"- ({result['abstain']})"
    likely = ", ".join(f"{name} {p:.2f}" for name, p in best)
    return f"{said:22} {result['confidence']:5.2f}   {result['input']}   [{likely}]"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="moodline-classify",
        description=_DESCRIPTION,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, quoted glob, or @FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--bundle", type=Path, default=RELEASED_BUNDLE, metavar="PATH", help="default: the released one"
    )
    parser.add_argument(
        "--branch", choices=get_args(Branch), default="fused", help="what decides; default: %(default)s"
    )
    parser.add_argument("--crop", action="store_true", help="pictures are face crops already, such as FER's 48×48")
    parser.add_argument(
        "--runtime", choices=get_args(RuntimeName), default="tflite-runtime", help="default: %(default)s"
    )
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    asked = arguments().parse_args(words)
    try:
        runtime = TFLiteRuntime(asked.runtime)
        classifier = Classifier(load_bundle(asked.bundle, runtime), BlazeFace(runtime), crop=asked.crop)
    except InferenceError as error:
        print(f"moodline-classify: {error}", file=sys.stderr)
        return EXIT_NO_BUNDLE
    try:
        unreadable = _classify_all(classifier, asked)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return EXIT_UNREADABLE if unreadable else 0


def _classify_all(classifier: Classifier, asked: argparse.Namespace) -> int:
    """Print an answer for every input; returns how many could not be read."""
    unreadable = 0
    for name in _with_progress(list(expand(asked.inputs))):
        try:
            decision, evidence = classifier.classify(read_input(Path(name)), asked.branch)
        except CaptureError as error:
            unreadable += 1
            print(f"moodline-classify: {error}", file=sys.stderr)
            if asked.json:
                print(json.dumps({"input": name, "error": str(error)}, ensure_ascii=False))
            continue
        result = answer(name, decision, evidence)
        print(json.dumps(result, ensure_ascii=False) if asked.json else as_text(result))
    return unreadable


def _with_progress(names: list[str]) -> Iterable[str]:
    """A progress bar on the error stream, for a long list whose results go elsewhere."""
    if len(names) < PROGRESS_FROM or not sys.stderr.isatty() or sys.stdout.isatty():
        return names
    from rich.console import Console
    from rich.progress import track

    return track(names, description="classifying", console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
