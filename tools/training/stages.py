"""The stages of a training run, in order: speech folds, shipped speech branch, face branch, fused head, bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tools.training import face, face_release, ferplus, fusion, fusion_release, speech, speech_release
from tools.training.bundle import FaceRelease, origin, write_bundle
from tools.training.bundle import face_release as read_face
from tools.training.effort import FULL, Effort
from tools.training.emodb import FIXED_TEST, FIXED_TRAIN, Clip, Split, leave_one_speaker_out, load_clips, speaker_split

SEED: Final = 0


def run(data: Path, effort: Effort, build: Path, bundle: Path, *, finished_face: Path | None, threads: int) -> None:
    """Rebuild the bundle. Raises ConfigError, before anything long starts, when a corpus is missing."""
    clips = _some(load_clips(data, expected=None if effort.clips_of_each else 535), effort.clips_of_each)
    pictures = _fewer(ferplus.load(data), effort.pictures)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"Training ({effort.name}) takes about {effort.hours:g} hours on two idle cores; finished stages are kept.")
    recipe = speech.Recipe(epochs=effort.speech_epochs, copies=effort.speech_copies, seed=SEED)
    voice = speech_release.release(clips, recipe, _splits(clips, effort), build / "speech")
    sight = _face(data, pictures, effort, finished_face or build / "face", threads)
    head = fusion_release.release(
        voice,
        sight.network,
        sight.constants,
        pictures,
        fusion.Recipe(rounds=effort.fusion_rounds, seed=SEED),
        build / "fusion",
    )
    command = "python -m tools.training --data DIR" + ("" if effort == FULL else " --smoke")
    manifest = write_bundle(bundle, voice, sight, head, origin(command, SEED))
    for metric in manifest.metrics:
        print(f"{metric.name}: {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}] of {metric.items}")
    print(f"Bundle {manifest.version}: {shlex.quote(str(bundle))}")


def _splits(clips: Sequence[Clip], effort: Effort) -> list[Split]:
    """Leave one speaker out; for a trial run two halves of the speakers."""
    if effort.leave_one_out:
        return leave_one_speaker_out(clips)
    return [speaker_split(clips, FIXED_TRAIN, "first"), speaker_split(clips, FIXED_TEST, "second")]


def _some(clips: list[Clip], of_each: int | None) -> list[Clip]:
    """At most so many clips of every speaker and emotion."""
    if of_each is None:
        return clips
    counts: dict[tuple[str, int], int] = {}
    chosen = []
    for clip in clips:
        key = (clip.speaker, clip.label)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= of_each:
            chosen.append(clip)
    return chosen


def _fewer(pictures: ferplus.FerPlus, count: int | None) -> ferplus.FerPlus:
    """The first pictures of each part, and every picture of the rare classes among twenty times as many."""
    if count is None:
        return pictures

    def part(all_of_it: ferplus.Pictures) -> ferplus.Pictures:
        labels = ferplus.majority(all_of_it.votes)
        rows: list[NDArray[np.int64]] = [np.flatnonzero(labels == label)[: count // 7] for label in np.unique(labels)]
        return all_of_it[np.sort(np.concatenate(rows))]

    return ferplus.FerPlus(part(pictures.training), part(pictures.held_out), part(pictures.test), pictures.digest)


def _face(data: Path, pictures: ferplus.FerPlus, effort: Effort, folder: Path, threads: int) -> FaceRelease:
    """A finished face training as it is, or a new one."""
    if not (folder / "result.json").exists():
        face.train(pictures, face.Plan(epochs=effort.face_epochs, threads=threads), folder)
        face_release.release(data, folder)
    return read_face(folder)
