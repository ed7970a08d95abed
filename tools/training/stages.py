"""The stages of a training run, in order: voices, speaker folds, speech branch, face branch, fused head, bundle."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import FACE
from tools.training import face, face_release, face_teacher, ferplus, fusion, fusion_release, speech_release
from tools.training.bundle import FaceRelease, origin, write_bundle
from tools.training.bundle import face_release as read_face
from tools.training.effort import FULL, Effort
from tools.training.recipes import SpeechRecipe, read
from tools.training.voices import load_corpora


def run(data: Path, effort: Effort, build: Path, bundle: Path, *, finished_face: Path | None, threads: int) -> None:
    """Rebuild the bundle. Raises ConfigError, before anything long starts, when a corpus is missing."""
    recipe = recipe_of(effort)
    pictures = _fewer(ferplus.load(data), effort.pictures)
    hours = f"about {effort.hours:g} hours on two idle cores (estimated)"
    print(f"Training ({effort.name}) takes {hours}; finished stages are kept.")
    corpora = load_corpora(data, recipe.copies, build / "speech", of_each=effort.clips_of_each)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    voices = speech_release.gather(corpora, effort.stream_every, build / "speech")
    voice = speech_release.release(voices, recipe, effort.speaker_folds, build / "speech")
    sight = _face(data, pictures, effort, finished_face or build / "face", threads)
    head = fusion_release.release(
        voice,
        sight.network,
        sight.constants,
        pictures,
        replace(read("fusion", fusion.Recipe), rounds=effort.fusion_rounds),
        build / "fusion",
    )
    command = "python -m tools.training --data DIR" + ("" if effort == FULL else " --smoke")
    manifest = write_bundle(bundle, voice, sight, head, origin(command, recipe.seed))
    for metric in manifest.metrics:
        print(f"{metric.name}: {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}] of {metric.items}")
    print(f"Bundle {manifest.version}: {shlex.quote(str(bundle))}")


def recipe_of(effort: Effort) -> SpeechRecipe:
    """The speech recipe, with fewer steps and copies for a trial."""
    recipe = read("speech", SpeechRecipe)
    if effort.speech_steps is None:
        return recipe
    return msgspec.structs.replace(
        recipe,
        copies=dict.fromkeys(recipe.copies, 2),
        sequence=msgspec.structs.replace(recipe.sequence, steps=effort.speech_steps),
        readout=msgspec.structs.replace(recipe.readout, steps=effort.speech_steps),
    )


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
        if not (folder / "final.keras").exists():
            plan = replace(read("face", face.Plan), epochs=effort.face_epochs, threads=threads)
            opinions = face_teacher.opinions(face.TEACHER, pictures.training.pixels, folder / "teacher.npy")
            face.train(pictures, plan, folder, opinions=opinions, start=face.TEACHER / FACE.file)
        face_release.release(data, folder)
    return read_face(folder)
