"""Records a person who agreed to it, on a developer's machine: sound, and two pictures a second, in sessions at random.

As in the source paper, a session lasts 5 to 10 minutes and begins at a random moment. It is stored as takes of
TAKE_SECONDS, which are short enough to be labelled one by one. A box never records: its program has no path from sound
or pictures to disk, and this tool refuses to run where a box is installed.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.capture.ports import AudioSource, VideoSource
from device.capture.recordings import Picture
from device.clock import Clock
from device.errors import CaptureError, CaptureReason, ConfigError
from device.frames import AudioBlock, VideoFrame
from models.contract import SAMPLE_RATE_HZ
from tools.dataset.conversion import write_take
from tools.dataset.importing import measured
from tools.dataset.manifest import Consent, Item, Manifest, checked, merged, path_from, write_manifest

CORPUS: Final = "recorded"
SESSION_SECONDS: Final = (300, 600)
SESSIONS_MAX: Final = 100
WITHIN_SECONDS_MAX: Final = 24 * 3600
TAKE_SECONDS: Final = 10
POLL_SECONDS: Final = 0.1
#: Where a box keeps its configuration and its state, and the accounts its services run as.
BOX_PLACES: Final = ("etc/moodline", "var/lib/moodline")
BOX_ACCOUNTS: Final = ("moodline", "moodline-unit", "moodline-gateway")


def refuse_on_a_box(root: Path = Path("/"), account: str | None = None) -> None:
    """Raises ConfigError where a box is installed, or when run as one of its accounts."""
    account = account or pwd.getpwuid(os.geteuid()).pw_name
    found = next((str(root / place) for place in BOX_PLACES if (root / place).exists()), None)
    if found is None and account not in BOX_ACCOUNTS:
        return
    why = f"{found} exists" if found else f"this is the account {account}"
    raise ConfigError(
        f"This is a Moodline box ({why}), and a box never records anybody.",
        next_step="Record on a developer's machine on which no box is installed.",
    )


@dataclass(frozen=True)
class Session:
    """A stretch of recording, in seconds from the start."""

    starts_s: float
    seconds: float


def schedule(seed: int, sessions: int, within_s: float) -> list[Session]:
    """Sessions of 5 to 10 minutes, uniform, at random within a span, never overlapping. Pure: the seed decides.

    The span that the sessions leave free is cut at random, uniformly. Raises ConfigError when they may not fit.
    """
    if not 1 <= sessions <= SESSIONS_MAX or not sessions * SESSION_SECONDS[1] <= within_s <= WITHIN_SECONDS_MAX:
        raise ConfigError(
            f"{sessions} sessions within {within_s / 60:.0f} minutes.",
            next_step=f"Plan 1 to {SESSIONS_MAX} sessions, and 10 minutes for each, within a day.",
        )
    generator = np.random.default_rng(seed)
    lengths = generator.uniform(*SESSION_SECONDS, sessions)
    gaps = np.sort(generator.uniform(0.0, within_s - lengths.sum(), sessions))
    starts = gaps + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    return [Session(float(start), float(length)) for start, length in zip(starts, lengths, strict=True)]


@dataclass(frozen=True, eq=False)
class Take:
    """TAKE_SECONDS of sound, int16 (n,), with the pictures of that time."""

    samples: NDArray[np.int16]
    pictures: list[Picture]


def record(
    audio: AudioSource, video: VideoSource | None, clock: Clock, wait: Callable[[float], None], seconds: float
) -> Iterator[Take]:
    """Takes of one session, as they are complete. A take in which sound was lost is dropped: it is two moments.

    Raises CaptureError when a source fails, and for a microphone of another rate than 16 kHz. Both sources are closed
    in every case.
    """
    if audio.sample_rate_hz != SAMPLE_RATE_HZ:
        raise CaptureError(
            CaptureReason.WRONG_FORMAT,
            f"The microphone gives {audio.sample_rate_hz} Hz.",
            next_step=f"A database needs {SAMPLE_RATE_HZ} Hz.",
        )
    try:
        audio.start()
        if video is not None:
            video.start()
        ends = clock.monotonic() + seconds
        blocks: list[AudioBlock] = []
        frames: list[VideoFrame] = []
        while clock.monotonic() < ends:
            wait(POLL_SECONDS)
            frames += video.read() if video is not None else []
            for block in audio.read():
                if blocks and block.first_sample != blocks[-1].first_sample + len(blocks[-1].samples):
                    blocks = []
                blocks.append(block)
                if sum(len(each.samples) for each in blocks) >= TAKE_SECONDS * SAMPLE_RATE_HZ:
                    yield _take(blocks, frames)
                    frames = [frame for frame in frames if frame.captured_at > block.captured_at]
                    blocks = []
    finally:
        audio.stop()
        if video is not None:
            video.stop()


def _take(blocks: list[AudioBlock], frames: list[VideoFrame]) -> Take:
    samples = np.concatenate([block.samples for block in blocks])
    began = blocks[-1].captured_at - len(samples) / SAMPLE_RATE_HZ
    pictures = [Picture(frame.captured_at - began, frame.pixels) for frame in frames if frame.captured_at >= began]
    return Take(samples, pictures)


def with_consent(manifest: Manifest, consent: Consent) -> tuple[Manifest, int]:
    """The manifest with the consent noted, and its place in the head. Raises ConfigError for an empty field."""
    consent = checked(consent, "The consent")
    noted = manifest.head.consents
    if consent in noted:
        return manifest, noted.index(consent)
    return manifest.with_head(consents=(*noted, consent)), len(noted)


def facts_of(**known: Any) -> Item:
    """What an item of a recording says before it is made. Raises ConfigError, as for missing terms."""
    item: Item = checked(
        Item(name=f"{CORPUS}/{known['person']}/0", kind="sound", path="-", digest="0" * 64, **known), "The recording"
    )
    return item


def run_sessions(
    manifest: Manifest,
    facts: Item,
    plan: Sequence[Session],
    sources: tuple[AudioSource, VideoSource | None],
    clock: Clock,
    wait: Callable[[float], None],
) -> Manifest:
    """Record all sessions of a plan; the manifest, written after each session, names the takes.

    `facts` is an item with all that is known beforehand. Raises CaptureError, ConfigError or StorageError; what was
    recorded until then is kept.
    """
    for source in sources:  # a device that is not there is told now, not when the first session begins
        if source is not None:
            source.start()
            source.stop()
    began = clock.monotonic()
    for number, session in enumerate(plan, start=1):
        wait(max(began + session.starts_s - clock.monotonic(), 0.0))
        start = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%S")
        takes = record(*sources, clock, wait, session.seconds)
        bar = tqdm(
            takes, desc=f"session {number} of {len(plan)}", total=int(session.seconds / TAKE_SECONDS), disable=None
        )
        try:
            for place, take in enumerate(bar):
                named = msgspec.structs.replace(facts, name=f"{CORPUS}/{facts.person}/{start}-{place:03d}")
                manifest = _with_take(manifest, take, checked(named, "The recording"))
        finally:
            write_manifest(manifest)
    return manifest


def _with_take(manifest: Manifest, take: Take, facts: Item) -> Manifest:
    rate = len(take.pictures) * SAMPLE_RATE_HZ / len(take.samples)
    folder = write_take(manifest.folder / facts.name, take.samples, take.pictures, rate)
    fields = measured(folder) | {"emotion": facts.emotion, "path": path_from(manifest.folder, folder)}
    return merged(manifest, [msgspec.structs.replace(facts, **fields)])
