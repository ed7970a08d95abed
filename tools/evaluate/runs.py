"""Runs systems over splits and keeps every finished fold, so that an interrupted run goes on where it stopped.

A fold is `FOLDER/SYSTEM/PROTOCOL/seed-S/FOLD.npz`. Two processes may work on one folder: a fold is claimed by a lock
file beside it that names the process. The operating system lets go of the lock when that process ends, however it ends,
so a lock of a dead process holds nobody up. A fold whose system or split has changed since is computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.errors import ConfigError
from tools.evaluate.checks import check_outcome
from tools.evaluate.splits import Manifests, Protocol, check_whole, manifest
from tools.evaluate.system import CLASSES, Epoch, Material, Outcome, System
from tools.training.splits import Split

FOLDER: Final = Path("build/evaluate/runs")
MANIFESTS: Final = "manifests"
CURRENT: Final = "current"
#: End of the name of a system that runs under an observer of its epochs: for figures over epochs, not for the tables.
OBSERVED: Final = "_epochs"
#: Order of the numbers of an epoch in its row of `epochs`.
EPOCH_FIELDS: Final = tuple(Epoch.__dataclass_fields__)


class FoldFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a fold is, beside its arrays."""

    system: str
    protocol: str
    seed: int
    fold: str
    system_digest: str
    split_digest: str
    training_s: float
    test_s: float
    chosen: str


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold's answers: names, speakers, sexes and labels of its items (n,), log-probabilities (n, 7).

    `epochs` (e, 10) has the columns of EPOCH_FIELDS.
    """

    facts: FoldFacts
    names: NDArray[np.str_]
    speakers: NDArray[np.str_]
    sexes: NDArray[np.str_]
    labels: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]
    epochs: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Job:
    """One system on one split with one seed.

    `system_digest` was taken when the program started: a file that is edited meanwhile is not the code that runs.
    """

    system: System
    system_digest: str
    protocol: Protocol
    seed: int
    split: Split
    split_digest: str

    @property
    def name(self) -> str:
        """As it stands in the progress bar."""
        return f"{self.system.name} {self.protocol.name} {self.seed} {self.split.name}"


def digest_of(system: System) -> str:
    """The system's own digest of code and configuration; without one, of the file that defines it."""
    own = getattr(system, "digest", None)
    if own is not None:
        return str(own() if callable(own) else own)
    source = Path(inspect.getfile(type(system))).read_bytes()
    return hashlib.sha256(system.name.encode() + source).hexdigest()[:16]


class Store:
    """The folder of finished folds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, job: Job) -> Path:
        """Where the job's fold is, or will be."""
        return self.folder / job.system.name / job.protocol.name / f"seed-{job.seed}" / f"{job.split.name}.npz"

    def finished(self, job: Job) -> FoldFacts | None:
        """The fold's facts, if it was made by this system on this split."""
        facts = self.facts(self.file(job))
        current = facts is not None and (facts.system_digest, facts.split_digest) == (
            job.system_digest,
            job.split_digest,
        )
        return facts if current else None

    def facts(self, file: Path) -> FoldFacts | None:
        """The facts of a fold's file; None when there is none."""
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as stored:
            return msgspec.json.decode(stored["facts"].item(), type=FoldFacts)

    @contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """True while this process alone may compute the job; False when another process does, or nobody need to."""
        path = self.file(job).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield self.finished(job) is None

    def keep(self, job: Job, material: Material, outcome: Outcome) -> None:
        """Write the job's fold; a reader sees a whole file or none."""
        rows = job.split.test
        clips = [material.clips[row] for row in rows]
        facts = FoldFacts(
            system=job.system.name,
            protocol=job.protocol.name,
            seed=job.seed,
            fold=job.split.name,
            system_digest=job.system_digest,
            split_digest=job.split_digest,
            training_s=outcome.training_s,
            test_s=outcome.test_s,
            chosen=outcome.chosen,
        )
        file = self.file(job)
        unfinished = file.with_suffix(".unfinished.npz")
        np.savez_compressed(
            unfinished,
            facts=np.array(msgspec.json.encode(facts).decode()),
            names=np.array([clip.name for clip in clips]),
            speakers=np.array([clip.speaker for clip in clips]),
            sexes=np.array([clip.sex for clip in clips]),
            labels=material.labels[rows],
            log_probabilities=outcome.log_probabilities.astype(np.float32),
            epochs=epoch_rows(outcome.epochs),
        )
        unfinished.rename(file)

    def folds(self, system: str) -> list[Fold]:
        """All finished folds of the system's current code, by protocol, seed and fold."""
        current = (self.folder / system / CURRENT).read_text().strip()
        files = sorted((self.folder / system).glob("*/seed-*/*.npz"))
        folds = [read_fold(file) for file in files if not file.name.endswith(".unfinished.npz")]
        kept = [fold for fold in folds if fold.facts.system_digest == current]
        if len(kept) < len(folds):
            print(f"{system}: {len(folds) - len(kept)} folds of earlier code are left out")
        return sorted(kept, key=lambda fold: (fold.facts.protocol, fold.facts.seed, fold.facts.fold))

    def systems(self) -> list[str]:
        """Systems that have run here."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{CURRENT}"))

    def note_current(self, system: str, digest: str) -> None:
        """Write down which code's folds count."""
        path = self.folder / system / CURRENT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest + "\n")

    def keep_manifests(self, protocol: Protocol, material: Material, seed: int, splits: Sequence[Split]) -> None:
        """Write the manifests of one seed's splits."""
        stored = Manifests(
            items={clip.name: clip.digest for clip in material.clips},
            splits=tuple(manifest(protocol, material.clips, seed, split) for split in splits),
        )
        path = self.folder / MANIFESTS / protocol.name / f"seed-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(msgspec.json.encode(stored))
        unfinished.rename(path)


def epoch_rows(epochs: Sequence[Epoch]) -> NDArray[np.float32]:
    """(e, 10), columns as EPOCH_FIELDS."""
    rows = [[getattr(epoch, name) for name in EPOCH_FIELDS] for epoch in epochs]
    return np.array(rows, np.float32).reshape(len(rows), len(EPOCH_FIELDS))


def read_fold(file: Path) -> Fold:
    """A fold from its file."""
    with np.load(file, allow_pickle=False) as stored:
        facts = msgspec.json.decode(stored["facts"].item(), type=FoldFacts)
        return Fold(facts, **{name: stored[name] for name in stored.files if name != "facts"})


def hours(store: Store, jobs: Sequence[Job]) -> tuple[int, float, int]:
    """Folds to do, their hours by the mean of the finished folds of the same system, and folds of unknown length."""
    seconds: dict[tuple[str, str], list[float]] = {}
    open_jobs = []
    for job in jobs:
        facts = store.finished(job)
        if facts is None:
            open_jobs.append(job)
        else:
            for key in ((job.system.name, job.protocol.name), (job.system.name, "")):
                seconds.setdefault(key, []).append(facts.training_s + facts.test_s)
    expected, unknown = 0.0, 0
    for job in open_jobs:
        known = seconds.get((job.system.name, job.protocol.name)) or seconds.get((job.system.name, ""))
        expected += float(np.mean(known)) if known else 0.0
        unknown += known is None
    return len(open_jobs), expected / 3600, unknown


def run(
    given: Material, systems: Sequence[System], protocols: Sequence[Protocol], seeds: Sequence[int], store: Store
) -> None:
    """Every system by every protocol with every seed; prints the hours beforehand. Raises SplitError."""
    coded = [(system, digest_of(system)) for system in systems]
    prepared: dict[tuple[str, int], Material] = {}
    jobs: list[tuple[Job, Material]] = []
    for seed in seeds:
        for protocol in protocols:
            key = protocol.name, seed if protocol.seeded else 0
            items = prepared[key] = prepared.get(key) or protocol.prepare(given, seed)
            splits = protocol.splits(items.clips, seed)
            check_whole(protocol, items, splits)
            store.keep_manifests(protocol, items, seed, splits)
            digests = [manifest(protocol, items.clips, seed, split).digest for split in splits]
            pairs = list(zip(splits, digests, strict=True))
            jobs += [(Job(*system, protocol, seed, *pair), items) for system in coded for pair in pairs]
    for system, digest in coded:
        store.note_current(system.name, digest)
    count, expected, unknown = hours(store, [job for job, _ in jobs])
    print(
        f"{len(jobs)} folds, {len(jobs) - count} finished; about {expected:.1f} h for one process"
        + (f", and {unknown} folds of which nothing is known yet" if unknown else ""),
        flush=True,
    )
    with tqdm(jobs, unit="fold", mininterval=1.0) as bar:
        for job, items in bar:
            bar.set_description(job.name, refresh=False)
            _do(store, job, items)


def _do(store: Store, job: Job, items: Material) -> None:
    with store.claim(job) as mine:
        if mine:
            outcome = job.system.run(items, job.split, job.seed)
            check_outcome(outcome, items.labels[job.split.test], len(CLASSES))
            store.keep(job, items, outcome)


def seeds_of(text: str) -> list[int]:
    """ "0-4" or "0,2,5" as numbers. Raises ConfigError."""
    try:
        ends = [part.split("-") for part in text.split(",")]
        seeds = [seed for part in ends for seed in range(int(part[0]), int(part[-1]) + 1)]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: not numbers.", next_step="Write for example 0-4 or 0,2,5.") from error
    if not seeds:
        raise ConfigError(f"--seeds {text}: names no seed.", next_step="Write for example 0-4 or 0,2,5.")
    return seeds
