"""Splits by person: nobody who is heard or seen in training is heard or seen in the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device.errors import ConfigError
from tools.dataset.manifest import Item, Manifest, Split


def hold_out(manifest: Manifest, *, share: float = 0.2, seed: int = 0) -> Split:
    """Parts "train" and "test"; the test part gets `share` of the persons (at least one), of each sex alike.

    Raises ConfigError for a share outside 0 to 1 and for fewer than two known persons.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"A test share of {share} is not between 0 and 1.", next_step="Give --share 0.2, for example."
        )
    persons = _shuffled(manifest, seed)
    tested = min(max(round(share * len(persons)), 1), len(persons) - 1)
    return Split(parts={"train": tuple(sorted(persons[tested:])), "test": tuple(sorted(persons[:tested]))}, seed=seed)


def folds(manifest: Manifest, count: int, *, seed: int = 0) -> Split:
    """`count` folds by person, of each sex alike. Raises ConfigError unless there are 2 to as many folds as persons."""
    persons = _shuffled(manifest, seed)
    if not 2 <= count <= len(persons):
        raise ConfigError(f"{count} folds of {len(persons)} persons.", next_step=f"Give 2 to {len(persons)} folds.")
    return Split(parts={f"fold-{k}": tuple(sorted(persons[k::count])) for k in range(count)}, folds=True, seed=seed)


def leave_one_person_out(manifest: Manifest) -> Split:
    """A fold a person. Raises ConfigError for fewer than two known persons."""
    return Split(parts={person: (person,) for person in sorted(_shuffled(manifest, 0))}, folds=True)


def sides(manifest: Manifest, name: str, tested: str = "test") -> tuple[list[Item], list[Item]]:
    """Training and test items of a named split; `tested` is the part or fold on the test side.

    Items of unknown persons, and of persons who are in no part, are on neither side. Raises ConfigError for an unknown
    name, and when the sides are not disjoint by person and by content.
    """
    split = manifest.head.splits.get(name)
    if split is None or tested not in split.parts:
        there = ", ".join(manifest.head.splits) or "none"
        raise ConfigError(
            f'{manifest.folder}: no split "{name}" with a part "{tested}". Splits: {there}.',
            next_step="Make it with `python -m tools.dataset split`.",
        )
    test_persons = set(split.parts[tested])
    train_persons = {person for part, persons in split.parts.items() if part != tested for person in persons}
    train = [item for item in manifest.items if item.person in train_persons]
    test = [item for item in manifest.items if item.person in test_persons]
    if shared := overlap(train, test):
        raise ConfigError(
            f"{manifest.folder}: split {name}, part {tested}: on both sides are {', '.join(sorted(shared)[:5])}.",
            next_step="One recording under two persons? See `python -m tools.dataset check`.",
        )
    return train, test


def overlap(train: Sequence[Item], test: Sequence[Item]) -> set[str]:
    """What stands on both sides: persons, and items whose content is equal; empty for a sound split."""
    persons = {item.person for item in train} & {item.person for item in test}
    contents = {item.digest for item in train} & {item.digest for item in test}
    return persons | {item.name for item in (*train, *test) if item.digest in contents}


def _shuffled(manifest: Manifest, seed: int) -> list[str]:
    """The known persons in a random order in which any stretch has about the same share of each sex."""
    sex_of = {item.person: item.sex for item in manifest.items if item.person}
    if len(sex_of) < 2:
        raise ConfigError(
            f"{manifest.folder}: {len(sex_of)} known persons; a split by person needs two.",
            next_step="Import recordings of more persons, and name them.",
        )
    generator = np.random.default_rng(seed)
    placed: list[tuple[float, str]] = []
    for sex in sorted(set(sex_of.values())):
        members = generator.permutation(sorted(person for person in sex_of if sex_of[person] == sex)).tolist()
        placed += [((rank + 0.5) / len(members), person) for rank, person in enumerate(members)]
    return [person for _, person in sorted(placed)]
