"""The protocols of EMO-DB: who is tested on what was learned from whom, and the checks that refuse a dishonest split.

Each split has a manifest: the names and digests of its training and test items, and a digest over all of it that stands
beside every figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from tools.dataset.clips import Clip
from tools.evaluate.material import enrolled, shuffled_labels, unchanged, with_copies
from tools.evaluate.system import Material
from tools.training.splits import Split

FOLDS: Final = 5
SENTENCE_GROUPS: Final = 5
LEAKY_TEST_SHARE: Final = 0.2
#: Keeps the single random splits apart from the folds of the same seed.
_SINGLE_SPLIT_SEEDS: Final = 1000


class SplitError(ValueError):
    """A split, or what a system made of it, breaks its protocol: no figure may come of it."""


@dataclass(frozen=True)
class Protocol:
    """A rung of the ladder. `title` is printed beside every number; `prepare` makes the items from the clips."""

    name: str
    title: str
    splits: Callable[[Sequence[Clip], int], list[Split]]
    prepare: Callable[[Material, int], Material] = unchanged
    unseen_speakers: bool = False
    unseen_sentences: bool = False
    #: Copies of one recording may stand on both sides; such a figure is no result.
    leaky: bool = False
    #: Every item is tested exactly once a seed.
    tests_all: bool = True
    is_result: bool = True
    #: `prepare` makes other items for every seed.
    seeded: bool = False


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One split by name, and the seeds that it serves.

    `train` and `test` are items, whose SHA-256 stands in the file's table `items`.
    """

    protocol: str
    seeds: tuple[int, ...]
    fold: str
    digest: str
    train: tuple[str, ...]
    test: tuple[str, ...]


class Manifests(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All splits of one protocol: `items` maps each item to the SHA-256 of its recording."""

    items: dict[str, str]
    splits: tuple[Manifest, ...]


def _groups(values: Sequence[str], names: Sequence[str]) -> list[Split]:
    """One split a group: `values` (n,) the group of each item, `names` the groups."""
    of_item = np.array(values)
    return [Split(name, np.flatnonzero(of_item != name), np.flatnonzero(of_item == name)) for name in names]


def leave_one_speaker_out(clips: Sequence[Clip], seed: int) -> list[Split]:
    """One split a speaker; the same ones for every seed."""
    speakers = [clip.speaker for clip in clips]
    return _groups(speakers, sorted(set(speakers)))


def leave_one_sentence_out(clips: Sequence[Clip], seed: int) -> list[Split]:
    """One split a sentence; speakers are on both sides."""
    sentences = [clip.sentence for clip in clips]
    return _groups(sentences, sorted(set(sentences)))


def speaker_and_sentence(clips: Sequence[Clip], seed: int) -> list[Split]:
    """Test: one speaker's clips of one group of sentences. Training: neither that speaker nor those sentences."""
    order = sorted({clip.sentence for clip in clips})
    group = np.array([order.index(clip.sentence) % SENTENCE_GROUPS for clip in clips])
    speaker = np.array([clip.speaker for clip in clips])
    splits = []
    for one in sorted(set(speaker.tolist())):
        for number in range(SENTENCE_GROUPS):
            train = np.flatnonzero((speaker != one) & (group != number))
            test = np.flatnonzero((speaker == one) & (group == number))
            if len(test):
                splits.append(Split(f"{one}-{number}", train, test))
    return splits


def random_folds(clips: Sequence[Clip], seed: int) -> list[Split]:
    """Five stratified folds, others for every seed; speakers and sentences are on both sides."""
    labels = [clip.label for clip in clips]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels)
    return [
        Split(f"random-{k}", train.astype(np.int64), test.astype(np.int64)) for k, (train, test) in enumerate(folds)
    ]


def random_single(clips: Sequence[Clip], seed: int) -> list[Split]:
    """One stratified split of 80 and 20 %, another for every seed."""
    return random_folds(clips, _SINGLE_SPLIT_SEEDS + seed)[:1]


def random_items(clips: Sequence[Clip], seed: int) -> list[Split]:
    """One random split of 80 and 20 % that asks nothing about where the items come from."""
    order = np.random.default_rng(seed).permutation(len(clips))
    tested = round(LEAKY_TEST_SHARE * len(clips))
    return [Split("random", np.sort(order[tested:]), np.sort(order[:tested]))]


LOSO: Final = "loso"
PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "leaky",
            "leaky, not a result: two augmented copies of every clip made before a random 80/20 split",
            random_items,
            with_copies,
            leaky=True,
            tests_all=False,
            is_result=False,
        ),
        Protocol("random-80-20", "random 80/20, stratified, speakers seen", random_single, tests_all=False),
        Protocol("random-5-fold", "random 5-fold, stratified, speakers seen", random_folds),
        Protocol(
            "leave-one-sentence-out",
            "leave one sentence out, speakers seen",
            leave_one_sentence_out,
            unseen_sentences=True,
        ),
        Protocol(LOSO, "leave one speaker out (LOSO)", leave_one_speaker_out, unseen_speakers=True),
        Protocol(
            "speaker-and-sentence",
            "unseen speaker and unseen sentence (10 speakers x 5 sentence groups)",
            speaker_and_sentence,
            unseen_speakers=True,
            unseen_sentences=True,
        ),
        Protocol(
            "loso-enrolled",
            "LOSO with speaker enrolment: windows normalised by the test speaker's own unlabelled clips (transductive)",
            leave_one_speaker_out,
            enrolled,
            unseen_speakers=True,
        ),
        Protocol(
            "loso-shuffled",
            "control, not a result: LOSO with labels shuffled, must be near 1 in 7",
            leave_one_speaker_out,
            shuffled_labels,
            unseen_speakers=True,
            is_result=False,
            seeded=True,
        ),
    )
}


def check(protocol: Protocol, material: Material, split: Split) -> None:
    """Raise SplitError when a side is empty, or something stands on both sides that the protocol says does not."""
    train, test = split.train, split.test
    if not len(train) or not len(test):
        raise SplitError(f"{protocol.name} {split.name}: one side is empty")
    if len(set(train.tolist()) | set(test.tolist())) != len(train) + len(test):
        raise SplitError(f"{protocol.name} {split.name}: an item is on both sides, or twice on one")
    if not protocol.leaky:
        _refuse(protocol, split, "recording", material.parents)
        _refuse(protocol, split, "file content", np.array([clip.digest for clip in material.clips]))
    if protocol.unseen_speakers:
        _refuse(protocol, split, "speaker", np.array([clip.speaker for clip in material.clips]))
    if protocol.unseen_sentences:
        _refuse(protocol, split, "sentence", np.array([clip.sentence for clip in material.clips]))


def _refuse(protocol: Protocol, split: Split, what: str, of_item: NDArray[np.int64] | NDArray[np.str_]) -> None:
    shared = np.intersect1d(of_item[split.train], of_item[split.test])
    if len(shared):
        raise SplitError(f"{protocol.name} {split.name}: {what} {shared[0]} is on both sides ({len(shared)} shared)")


def check_whole(protocol: Protocol, material: Material, splits: Sequence[Split]) -> None:
    """Check every split, and that each item is tested exactly once where the protocol says so, else at most once."""
    for split in splits:
        check(protocol, material, split)
    tested = np.bincount(np.concatenate([split.test for split in splits]), minlength=len(material.clips))
    if tested.max() > 1 or (protocol.tests_all and tested.min() < 1):
        raise SplitError(f"{protocol.name}: an item is tested {tested.max()} times and one {tested.min()} times")


def refuse_shared_pictures(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    """Raise SplitError when a picture of the test side, (n, ...), equals one of the training side in every pixel."""
    seen = {hashlib.sha256(picture.tobytes()).digest() for picture in train}
    shared = sum(hashlib.sha256(picture.tobytes()).digest() in seen for picture in test)
    if shared:
        raise SplitError(f"{shared} test pictures are also training pictures")


def manifest(protocol: Protocol, clips: Sequence[Clip], seed: int, split: Split) -> Manifest:
    """The split's manifest; its digest is the SHA-256 of protocol, fold and all lines "side  SHA-256  name"."""
    sides = {side: [clips[i] for i in rows] for side, rows in (("train", split.train), ("test", split.test))}
    lines = [f"{protocol.name} {split.name}"]
    lines += [f"{side}  {clip.digest}  {clip.name}" for side, chosen in sides.items() for clip in chosen]
    return Manifest(
        protocol=protocol.name,
        seeds=(seed,),
        fold=split.name,
        digest=digest_of_lines(lines),
        train=tuple(clip.name for clip in sides["train"]),
        test=tuple(clip.name for clip in sides["test"]),
    )


def recomputed_digest(manifests: Manifests, one: Manifest) -> str:
    """The digest that a stored manifest ought to have."""
    lines = [f"{one.protocol} {one.fold}"]
    lines += [f"train  {manifests.items[name]}  {name}" for name in one.train]
    lines += [f"test  {manifests.items[name]}  {name}" for name in one.test]
    return digest_of_lines(lines)


def digest_of_lines(lines: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, of lines that each end in a line feed."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
