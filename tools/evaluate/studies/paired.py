"""Speech and face of the same takes (RAVDESS actors 02 to 20): the only truly paired evidence, with real, correlated
errors.

Speech: logits of the training stages' speaker folds. Face: the given logits of somebody else's network, out of fold by
actor. Temperatures and priors for an actor are fitted on actors that stand neither in the actor's speech fold nor in
the actor's face fold. The pool is the box's own; the shipped head's network is not used, because it needs embeddings of
our face branch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from device.errors import ConfigError
from device.inference.decision import Decider, DecisionParameters, Evidence, SenseEvidence
from device.inference.fusion_head import FACE_MASK, FACE_PART, SPEECH_MASK, SPEECH_PART, OpinionPool
from device.inference.ports import BranchOutput
from device.inference.speech_branch import log_softmax
from device.messages.label import SenseState
from models.contract import EMBEDDING, EVIDENCE, FACE_CLASSES, SPEECH_CLASSES, TOKENS
from models.labels import EMOTIONS, Emotion
from tools.dataset.corpora import ravdess
from tools.evaluate.predictions import Row
from tools.evaluate.studies.pieces import Made, Piece, Study, file_mark, names
from tools.evaluate.studies.shelf import Shelf
from tools.training import speech, speech_folds
from tools.training.fusion import LOG_FLOOR, pool_constants
from tools.training.scores import fit_temperature

FILE: Final = Path("ravdess_face_logits") / "face_logits.tsv"
WHERE: Final = "Put the face logits of the 1140 RAVDESS takes there: take, actor, emotion, fold, and a column a class."
#: The given classes of each of ours; calm counts as neutral.
COLUMNS_OF: Final[dict[Emotion, tuple[str, ...]]] = {
    Emotion.ANGER: ("angry",),
    Emotion.DISGUST: ("disgust",),
    Emotion.FEAR: ("fearful",),
    Emotion.HAPPINESS: ("happy",),
    Emotion.NEUTRAL: ("neutral", "calm"),
    Emotion.SADNESS: ("sad",),
    Emotion.SURPRISE: ("surprised",),
}
_SEEN: Final = [emotion.code for emotion in FACE_CLASSES]
NOTE: Final = (
    "Same takes, real errors; temperatures and priors fitted on actors of other speech folds and other face folds; "
    "boredom left out."
)
NOTES: Final = {
    "fused": f"The box's log-opinion pool; the shipped head's correction is left out, it wants our face tokens. {NOTE}",
    "speech": NOTE,
    "face": f"Given logits of somebody else's face network. {NOTE}",
    "fused-without-face": f"What the box's decision answers when no face is there. {NOTE}",
}


@dataclass(frozen=True, eq=False)
class Takes:
    """Of every take: `speech` logits (n, 8) over the vocabulary and `face` logits (n, 7) over FACE_CLASSES, neither
    from a network that was taught with the actor; `speech_fold` and `face_fold` (n,); `labels` (n,) positions in
    FACE_CLASSES; `actors` (n,)."""

    speech: NDArray[np.float32]
    face: NDArray[np.float32]
    speech_fold: NDArray[np.int64]
    face_fold: NDArray[np.int64]
    labels: NDArray[np.int64]
    actors: NDArray[np.str_]


def read_faces(path: Path, takes: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, 7) and fold (n,) of the takes 03-…, which the table names 01-…. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            found = {row["take"]: row for row in csv.DictReader(stream, delimiter="\t")}
        rows = [found[f"01{take[2:]}"] for take in takes]
        groups = [[[float(row[name]) for name in COLUMNS_OF[one]] for one in FACE_CLASSES] for row in rows]
        folds = [int(row["fold"]) for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: a take or column is missing or no number ({error}).", next_step=WHERE) from error
    return np.array([[logsumexp(one) for one in row] for row in groups], np.float32), np.array(folds, np.int64)


def answers(takes: Takes) -> dict[str, NDArray[np.float32]]:
    """Log-probabilities (n, 7) over FACE_CLASSES of each system."""
    result = {name: np.full(takes.face.shape, np.nan, np.float32) for name in NOTES}
    cells = np.stack([takes.speech_fold, takes.face_fold], axis=1)
    for cell in np.unique(cells, axis=0):
        test = (cells == cell).all(axis=1)
        fit = (cells != cell).all(axis=1)
        for name, scores in _of_cell(takes, fit, test).items():
            result[name][test] = scores
    return result


def _of_cell(takes: Takes, fit: NDArray[np.bool_], test: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Everything fitted on the `fit` side, answered for the `test` side."""
    labels = takes.labels[fit]
    heard = fit_temperature(takes.speech[fit][:, _SEEN], labels)
    seen = fit_temperature(takes.face[fit], labels)
    shares = np.bincount(labels, minlength=len(FACE_CLASSES)) + 1.0
    pool = OpinionPool(pool_constants(), (1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES), tuple(shares / shares.sum()))

    def pooled(side: NDArray[np.bool_]) -> NDArray[np.float32]:
        evidence = _evidence(log_softmax(takes.speech[side], heard), log_softmax(takes.face[side], seen))
        return pool.score(evidence)[:, _SEEN]

    return {
        "fused": log_softmax(pooled(test), fit_temperature(pooled(fit), labels)),
        "speech": log_softmax(takes.speech[test][:, _SEEN], heard),
        "face": log_softmax(takes.face[test], seen),
        "fused-without-face": _decided(log_softmax(takes.speech[test], heard)),
    }


def _evidence(heard: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """One token of both senses, as the box cuts it."""
    evidence = np.zeros((len(heard), TOKENS, EVIDENCE), np.float32)
    evidence[:, -1, SPEECH_PART] = np.maximum(heard, LOG_FLOOR)
    evidence[:, -1, FACE_PART] = np.maximum(seen, LOG_FLOOR)
    evidence[:, -1, [SPEECH_MASK, FACE_MASK]] = 1.0
    return evidence


def _decided(heard: NDArray[np.float32]) -> NDArray[np.float32]:
    """The box's decision on one tick of speech without a face, among FACE_CLASSES."""
    spread = np.empty((len(heard), len(EMOTIONS)), np.float32)
    for row, one in enumerate(heard):
        voice = SenseEvidence(SenseState.PRESENT, BranchOutput(np.zeros(EMBEDDING, np.float32), one))
        decision = Decider(DecisionParameters()).decide(Evidence(voice, SenseEvidence(SenseState.NO_FACE)))
        spread[row] = decision.probabilities
    return log_softmax(np.log(np.maximum(spread[:, _SEEN], 1e-30)))


def rows_of(takes: Takes, seed: int) -> list[Row]:
    """A row a system."""
    return [
        Row(
            name="RAVDESS, speech and face of one take",
            system=system,
            protocol="fused-paired",
            classes=names(FACE_CLASSES),
            scores=scores,
            labels=takes.labels,
            seed=seed,
            note=NOTES[system],
            groups=takes.actors,
        )
        for system, scores in answers(takes).items()
    ]


def paired(given: Shelf) -> Study:
    """The one study of truly paired senses."""

    def make() -> Made:
        logits, folds = given.strangers(ravdess.KEY)
        face, face_folds = read_faces(given.data / FILE, given.taken)
        corpus = given.corpora[ravdess.KEY]
        labels = np.searchsorted(_SEEN, corpus.labels).astype(np.int64)
        takes = Takes(logits, face, folds, face_folds, labels, corpus.speakers)
        return Made(rows_of(takes, given.recipe.seed))

    mark = file_mark(given.data / FILE, WHERE)
    files = (__file__, speech.__file__, speech_folds.__file__)
    return Study("fused-paired", [Piece("takes", make, 1.0, mark)], files, given.recipe_mark)
