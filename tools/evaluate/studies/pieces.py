"""Pieces of studies: each is computed once and kept, so that an interrupted run goes on where it stopped.

A study's rows become `predictions/STUDY.npz`, its findings stand with all others in `findings.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError
from device.inference.speech_branch import log_softmax
from models.labels import Emotion
from tools.evaluate.predictions import FOLDER, Row, read_rows, write_rows
from tools.evaluate.studies.findings import FINDINGS, Finding, read_findings
from tools.training.recipes import digest_of


@dataclass(frozen=True)
class Made:
    """What a piece gives."""

    rows: Sequence[Row] = ()
    findings: Sequence[Finding] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a study. `inputs` names what fixes the outcome beside the study's code; it takes about so many
    `minutes` on one idle core."""

    name: str
    make: Callable[[], Made]
    minutes: float
    inputs: str = ""


@dataclass(frozen=True)
class Study:
    """A named list of pieces, and the code files and other `inputs` that fix the outcome of all of them."""

    name: str
    pieces: Sequence[Piece]
    files: tuple[str, ...]
    inputs: str = ""


class Keeper:
    """Keeps finished pieces in a folder: PIECE-DIGEST.json (findings) and, with rows, the same name .npz."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _place(self, study: Study, piece: Piece) -> Path:
        digest = digest_of([study.name, study.inputs, piece.name, piece.inputs], __file__, *study.files)
        # No dot: what follows one would be taken for a suffix.
        return self._folder / study.name / f"{piece.name.replace(' ', '-').replace('.', '_')}-{digest}"

    def has(self, study: Study, piece: Piece) -> bool:
        """Whether the piece was finished by the present code from the present inputs."""
        return self._place(study, piece).with_suffix(".json").exists()

    def made(self, study: Study, piece: Piece) -> Made:
        """The piece, computed if it was not."""
        place = self._place(study, piece)
        rows, done = place.with_suffix(".npz"), place.with_suffix(".json")
        if not done.exists():
            fresh = piece.make()
            done.parent.mkdir(parents=True, exist_ok=True)
            if fresh.rows:
                write_rows(rows, fresh.rows)
            unfinished = done.with_suffix(".unfinished")
            unfinished.write_bytes(msgspec.json.encode(list(fresh.findings)))
            unfinished.rename(done)
        kept = read_rows(rows) if rows.exists() else []
        return Made(kept, msgspec.json.decode(done.read_bytes(), type=list[Finding]))


def release(study: Study, made: Sequence[Made], out: Path) -> None:
    """Write a whole study's rows and findings into the report's folder `out`."""
    rows = [row for one in made for row in one.rows]
    if rows:
        write_rows(out / FOLDER.name / f"{study.name}.npz", rows)
    findings = [one for one in read_findings(out) if one.study != study.name]
    findings += [found for one in made for found in one.findings]
    findings.sort(key=lambda one: one.study)
    if findings:
        out.mkdir(parents=True, exist_ok=True)
        (out / FINDINGS).write_bytes(msgspec.json.format(msgspec.json.encode(findings)) + b"\n")


def among(
    logits: NDArray[np.float32], codes: NDArray[np.int64], classes: Sequence[Emotion], temperature: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log-probabilities (n, k) over `classes` alone, in the vocabulary's order, from logits (n, 8) over the whole
    vocabulary, and the positions of the labels `codes` (n,) among them."""
    columns = np.array([emotion.code for emotion in classes])
    return log_softmax(logits[:, columns], temperature), np.searchsorted(columns, codes).astype(np.int64)


def names(classes: Sequence[Emotion]) -> tuple[str, ...]:
    """As rows keep them."""
    return tuple(str(emotion) for emotion in classes)


def file_mark(path: Path, next_step: str) -> str:
    """SHA-256 of an input, in hexadecimal. Raises ConfigError with `next_step` when it is not there yet."""
    if not path.exists():
        raise ConfigError(f"{path}: not there yet.", next_step=next_step)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(*modules: ModuleType) -> tuple[str, ...]:
    """The code files of modules."""
    return tuple(str(module.__file__) for module in modules)
