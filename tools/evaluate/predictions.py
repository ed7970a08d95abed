"""Released raw predictions of everything that is not a fold of EMO-DB: faces, fusion, other corpora, noise, int8 pairs.

A file `docs/evaluation/predictions/KIND.npz` holds rows. Its array `meta` is one JSON text: a list with one object a
row (the fields of `Facts`). Row i has the arrays `scores_i`, float16 (n, k), natural log-probabilities over its
`classes`, and `labels_i` (n,), positions in `classes`; and, where they are known, `groups_i` (n,), text, the speaker or
person of each item, and `other_i`, float16 (n, k), the float32 twin of int8 scores. Rows to be compared item by item
have the same protocol, condition and seed and hold the same items in the same order.

The report computes every figure of a row by itself. The goals look for the rows that `GOAL_ROWS` lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError

FOLDER: Final = Path("docs/evaluation/predictions")

#: (protocol, systems, what each row is). `condition` tells rows of one protocol apart, "" where there is only one.
GOAL_ROWS: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("ferplus-valid", ("face",), "FER+ valid, majority rule, 7 classes; int8 scores, `other` the float32 ones"),
    ("fused-six", ("fused", "pool"), "synthetic pairs, the six classes both sets have, abstain off; int8 scores"),
    ("fused-seven", ("fused", "pool"), "the same with boredom, paired with neutral faces"),
    (
        "fused-paired",
        ("fused", "speech", "face", "fused-without-face"),
        "RAVDESS actors 02 to 20, folds by actor; `groups` the actors",
    ),
    ("int8", ("speech", "face", "fused"), "int8 scores of test items, `other` the float32 ones"),
    ("cross-corpus", ("ours",), "four shared classes; `condition` is the corpus that was not trained on"),
    ("robustness-speech", ("ours",), "`condition` is the disturbance: clean, noise 20 dB, far microphone ..."),
    ("robustness-face", ("face",), "`condition` is the disturbance: clean, low light, blur, occlusion, rotated ..."),
    ("sample-count", ("ours",), "leave-one-speaker-out; `condition` is the number of training clips, as a number"),
    ("learning-rate", ("ours",), "clips of inner validation speakers; `condition` is the rate, as a number"),
)


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a row is. `seed` is the training seed; `n` the number of items; `note` a sentence that the report prints."""

    name: str
    system: str
    protocol: str
    condition: str
    seed: int
    classes: tuple[str, ...]
    n: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """Answers of one system under one condition: natural log-probabilities `scores` (n, k), `labels` (n,)."""

    name: str
    system: str
    protocol: str
    classes: tuple[str, ...]
    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    condition: str = ""
    seed: int = 0
    note: str = ""
    groups: NDArray[np.str_] | None = None
    other: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.labels), len(self.classes)
        if self.scores.shape != (n, k) or (self.other is not None and self.other.shape != (n, k)):
            raise ValueError(f"{self.name}: scores are {self.scores.shape}, not {(n, k)}")
        if self.groups is not None and self.groups.shape != (n,):
            raise ValueError(f"{self.name}: groups are {self.groups.shape}, not {(n,)}")
        if n == 0 or self.labels.min() < 0 or self.labels.max() >= k:
            raise ValueError(f"{self.name}: labels are not positions in {k} classes")
        for scores in (self.scores, self.other):
            if scores is not None and not np.allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1.0, atol=0.02):
                raise ValueError(f"{self.name}: scores are not natural log-probabilities")

    def facts(self) -> Facts:
        """The row's entry in `meta`."""
        return Facts(
            name=self.name,
            system=self.system,
            protocol=self.protocol,
            condition=self.condition,
            seed=self.seed,
            classes=self.classes,
            n=len(self.labels),
            note=self.note,
        )


def halved(scores: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """As float16; log-probabilities below its range become its least number."""
    return np.maximum(scores, float(np.finfo(np.float16).min)).astype(np.float16)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one kind's rows to `path`, and its folder."""
    arrays: dict[str, NDArray[np.generic]] = {
        "meta": np.array(msgspec.json.encode([row.facts() for row in rows]).decode())
    }
    for i, row in enumerate(rows):
        arrays[f"scores_{i}"] = halved(row.scores)
        arrays[f"labels_{i}"] = row.labels.astype(np.uint8)
        if row.groups is not None:
            arrays[f"groups_{i}"] = row.groups
        if row.other is not None:
            arrays[f"other_{i}"] = halved(row.other)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def read_rows(path: Path) -> list[Row]:
    """Rows of one file, scores as float32. Raises ConfigError naming the file when it is of another form."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = msgspec.json.decode(stored["meta"].item(), type=list[Facts])
            return [_row(one, i, {name: stored[name] for name in stored.files}) for i, one in enumerate(facts)]
    except (OSError, EOFError, KeyError, ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path}: not a file of predictions ({error}).", next_step="Take the released file again, or make it anew."
        ) from error


def _row(facts: Facts, i: int, stored: dict[str, NDArray[np.generic]]) -> Row:
    other = stored.get(f"other_{i}")
    groups = stored.get(f"groups_{i}")
    return Row(
        name=facts.name,
        system=facts.system,
        protocol=facts.protocol,
        classes=facts.classes,
        scores=stored[f"scores_{i}"].astype(np.float32),
        labels=stored[f"labels_{i}"].astype(np.int64),
        condition=facts.condition,
        seed=facts.seed,
        note=facts.note,
        groups=None if groups is None else groups.astype(np.str_),
        other=None if other is None else other.astype(np.float32),
    )
