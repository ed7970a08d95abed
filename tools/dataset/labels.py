"""Labels from a CSV table: one word an item, or the votes of several raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from models.labels import Emotion
from tools.dataset.manifest import RATERS_MAX, Item, Manifest
from tools.dataset.tables import rows


def label_all(manifest: Manifest, table: Path) -> Manifest:
    """The manifest with the labels of a table with the columns name, emotion and, at will, rater.

    Without a rater the label is set and earlier votes are dropped. With raters each vote is kept, a rater's newer vote
    replaces the older, and the item is labelled by the most votes, or not at all where two emotions are level. Raises
    ConfigError naming row and column.
    """
    items = {item.name: item for item in manifest.items}
    for row in rows(table, required=("name", "emotion"), optional=("rater",)):
        item, emotion, rater = items.get(row["name"]), row.emotion(), row["rater"]
        if item is None:
            raise row.wrong("name", f'the database has no item "{row["name"]}"', "Names stand in manifest.jsonl.")
        assert emotion is not None, "the cell is not empty"
        raters = {**item.raters, rater: emotion} if rater else {}
        if len(raters) > RATERS_MAX or len(rater) > 100:
            raise row.wrong("rater", f"more than {RATERS_MAX} raters of one item, or a name over 100 letters")
        items[item.name] = _labelled(item, raters, emotion)
    return manifest.with_items(items.values())


def _labelled(item: Item, raters: Mapping[str, Emotion], said: Emotion) -> Item:
    votes = Counter(map(str, raters.values()))
    label = leading(raters) if raters else said
    return msgspec.structs.replace(item, emotion=label, raters=dict(raters), votes=dict(sorted(votes.items())))


def leading(raters: Mapping[str, Emotion]) -> Emotion | None:
    """The emotion that most raters named; None where two are level."""
    (first, most), *others = Counter(raters.values()).most_common(2)
    return None if others and others[0][1] == most else first
