"""Released answers of the systems on EMO-DB: every fold packed into one small file a system.

`docs/evaluation/predictions/emodb/SYSTEM.npz` has `facts`, a JSON list with one object a fold (`runs.FoldFacts`), and
`counts`, the items of each fold. The folds' items stand one after another in `item` (a row of the tables `names`,
`speakers` and `sexes`), `labels` and `log_probabilities` (float16, natural). `epochs_PROTOCOL_SEED` (epochs, 10) is the
mean over the folds of what an observer saw, columns as `runs.EPOCH_FIELDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError
from tools.evaluate.predictions import halved
from tools.evaluate.runs import EPOCH_FIELDS, MANIFESTS, Fold, FoldFacts, Store
from tools.evaluate.splits import Manifest, Manifests

SYSTEMS: Final = "emodb"
SPLITS: Final = "splits"
_NO_EPOCHS: Final = np.zeros((0, len(EPOCH_FIELDS)), np.float32)


@dataclass(frozen=True, eq=False)
class Released:
    """One system's folds (their epochs are left out), and mean epochs by protocol and seed."""

    system: str
    folds: tuple[Fold, ...]
    epochs: Mapping[tuple[str, int], NDArray[np.float32]]


def collect(store: Store, predictions: Path, splits: Path) -> list[Path]:
    """Pack all finished runs into `predictions`/emodb and their manifests into `splits`; the files written.

    A protocol and seed of which a fold is missing is left out, and said.
    """
    manifests = _manifests(store)
    written = []
    for protocol, some in manifests.items():
        written.append(splits / f"{protocol}.json")
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        written[-1].write_bytes(_one_a_line(some))
    for system in store.systems():
        kept = _whole(store.folds(system), manifests)
        if kept:
            written.append(predictions / SYSTEMS / f"{system}.npz")
            write_released(written[-1], kept)
    return written


def read_manifests(path: Path) -> Manifests:
    """One protocol's manifests."""
    return msgspec.json.decode(path.read_bytes(), type=Manifests)


def _one_a_line(manifests: Manifests) -> bytes:
    items = msgspec.json.encode(manifests.items).replace(b",", b",\n")
    splits = b",\n".join(msgspec.json.encode(one) for one in manifests.splits)
    return b'{"items": ' + items + b',\n"splits": [\n' + splits + b"\n]}\n"


def _manifests(store: Store) -> dict[str, Manifests]:
    """All seeds' manifests by protocol; a split that is the same for several seeds stands there once."""
    merged: dict[str, Manifests] = {}
    for folder in sorted((store.folder / MANIFESTS).glob("*")):
        items: dict[str, str] = {}
        splits: dict[str, Manifest] = {}
        for one in [read_manifests(path) for path in sorted(folder.glob("seed-*.json"))]:
            items |= one.items
            for split in one.splits:
                seeds = splits[split.digest].seeds if split.digest in splits else ()
                splits[split.digest] = msgspec.structs.replace(split, seeds=(*seeds, *split.seeds))
        merged[folder.name] = Manifests(items=items, splits=tuple(splits.values()))
    return merged


def _whole(folds: Sequence[Fold], manifests: Mapping[str, Manifests]) -> list[Fold]:
    """The folds of those protocols and seeds that are finished to the last fold."""
    kept: list[Fold] = []
    for protocol, seed in dict.fromkeys((fold.facts.protocol, fold.facts.seed) for fold in folds):
        wanted = {one.digest for one in manifests[protocol].splits if seed in one.seeds}
        mine = [
            fold
            for fold in folds
            if (fold.facts.protocol, fold.facts.seed) == (protocol, seed) and fold.facts.split_digest in wanted
        ]
        if len(mine) == len(wanted):
            kept += mine
        else:
            print(f"{folds[0].facts.system}, {protocol}, seed {seed}: {len(mine)} of {len(wanted)} folds, left out")
    return kept


def write_released(path: Path, folds: Sequence[Fold]) -> None:
    """Write one system's folds."""
    all_names = np.concatenate([fold.names for fold in folds])
    names, first, item = np.unique(all_names, return_index=True, return_inverse=True)
    sets: dict[str, list[Fold]] = {}
    for fold in folds:
        sets.setdefault(f"epochs_{fold.facts.protocol}_{fold.facts.seed}", []).append(fold)
    epochs = {name: mean_epochs(some) for name, some in sets.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        facts=np.array(msgspec.json.encode([fold.facts for fold in folds]).decode()),
        counts=np.array([len(fold.labels) for fold in folds], np.int32),
        item=item.astype(np.int16),
        names=names,
        speakers=np.concatenate([fold.speakers for fold in folds])[first],
        sexes=np.concatenate([fold.sexes for fold in folds])[first],
        labels=np.concatenate([fold.labels for fold in folds]).astype(np.uint8),
        log_probabilities=halved(np.concatenate([fold.log_probabilities for fold in folds])),
        **{name: values for name, values in epochs.items() if len(values)},
    )


def mean_epochs(folds: Sequence[Fold]) -> NDArray[np.float32]:
    """Mean over the folds, each counted by its test items; empty when a fold has no epochs."""
    length = min(len(fold.epochs) for fold in folds)
    if not length:
        return _NO_EPOCHS
    weights = [len(fold.labels) for fold in folds]
    return np.asarray(np.average([fold.epochs[:length] for fold in folds], axis=0, weights=weights), np.float32)


def read_released(path: Path) -> Released:
    """One system's folds. Raises ConfigError naming the file when it is of another form."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        facts = msgspec.json.decode(stored["facts"].item(), type=list[FoldFacts])
        ends = np.cumsum(stored["counts"])[:-1]
        of_item = {name: np.split(stored[name][stored["item"]], ends) for name in ("names", "speakers", "sexes")}
        labels = np.split(stored["labels"].astype(np.int64), ends)
        answers = np.split(stored["log_probabilities"].astype(np.float32), ends)
        folds = tuple(
            Fold(
                facts=one,
                names=of_item["names"][i],
                speakers=of_item["speakers"][i],
                sexes=of_item["sexes"][i],
                labels=labels[i],
                log_probabilities=answers[i],
                epochs=_NO_EPOCHS,
            )
            for i, one in enumerate(facts)
        )
    except (OSError, EOFError, KeyError, ValueError, IndexError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path}: not a file of released folds ({error}).", next_step="Take it from the repository again."
        ) from error
    epochs = {}
    for name in stored:
        if name.startswith("epochs_"):
            _, protocol, seed = name.split("_")
            epochs[protocol, int(seed)] = stored[name]
    return Released(path.stem, folds, epochs)
