"""A datasheet from the manifest, by the questions of Gebru et al. 2021, "Datasheets for Datasets", CACM 64(12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tools.dataset.manifest import Item, Manifest

UNSTATED = "*Not stated; state it with `python -m tools.dataset datasheet {folder} --{field} TEXT`.*"


def datasheet(manifest: Manifest) -> str:
    """The datasheet as Markdown. What nobody stated is said to be unstated."""
    items, head = manifest.items, manifest.head
    stated = {
        field: getattr(head, field) or UNSTATED.format(folder=manifest.folder.name, field=field)
        for field in ("motivation", "collection", "uses", "contact")
    }
    persons = {item.person for item in items if item.person}
    sex_of = {item.person: item.sex or "not stated" for item in items if item.person}
    return "\n".join(
        [
            f"# Datasheet: {manifest.folder.name}",
            "",
            "The emotion of an item is the expression that somebody acted or that raters named, not what anybody felt.",
            "",
            "## Motivation",
            "",
            stated["motivation"],
            "",
            "## Composition",
            "",
            f"{len(items)} items of {len(persons)} known persons ({_counts(Counter(sex_of.values()))}); "
            f"{_hours(items)} of sound; {sum(item.pictures for item in items)} pictures. "
            f"{sum(not item.person for item in items)} items are of unknown persons, "
            f"{sum(item.emotion is None for item in items)} have no label.",
            "",
            *_table("label", items, lambda item: str(item.emotion or "none")),
            *_table("kind", items, lambda item: item.kind),
            *_table("sex", items, lambda item: item.sex or "not stated"),
            *_table("language", items, lambda item: item.language or "not stated"),
            *_table("person", [item for item in items if item.person], lambda item: item.person),
            "## Collection",
            "",
            stated["collection"],
            "",
            *_sources(manifest),
            *_consents(manifest),
            "## Preprocessing and labelling",
            "",
            f"{sum(bool(item.raters) for item in items)} items are labelled by named raters, "
            f"{sum(bool(item.votes) and not item.raters for item in items)} by votes that came with the corpus. Of "
            "named raters the most votes decide, of FER+ more than half. Copies of sound are 16 kHz mono FLAC.",
            "",
            *_splits(manifest),
            "## Uses",
            "",
            stated["uses"],
            "",
            "A model trained on it must not be used to grade, discipline, diagnose or watch anybody.",
            "",
            "## Distribution and terms",
            "",
            *_table("terms", items, lambda item: item.terms),
            "## Maintenance",
            "",
            stated["contact"],
        ]
    )


def _table(title: str, items: Iterable[Item], key: Callable[[Item], str]) -> list[str]:
    """Items, persons and seconds of sound by one property, as a Markdown table."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    rows = [
        f"| {name} | {len(group)} | {len({item.person for item in group if item.person})} | {_seconds(group):.0f} |"
        for name, group in sorted(groups.items())
    ]
    return [f"| {title} | items | persons | seconds of sound |", "| --- | --- | --- | --- |", *rows, ""]


def _sources(manifest: Manifest) -> list[str]:
    rows = []
    for corpus in sorted({item.corpus for item in manifest.items}):
        source = manifest.head.sources.get(corpus, "source not stated")
        rows.append(f"- {corpus}: {source}")
    return [*rows, ""]


def _consents(manifest: Manifest) -> list[str]:
    recorded = Counter(item.consent for item in manifest.items if item.consent is not None)
    rows = [
        f"- {consent.person} agreed on {consent.given_on}, for: {consent.purpose} ({recorded[number]} items)"
        for number, consent in enumerate(manifest.head.consents)
    ]
    return [*(rows or ["No recording was made by this tool, so it holds no consent."]), ""]


def _splits(manifest: Manifest) -> list[str]:
    rows = []
    for name, split in sorted(manifest.head.splits.items()):
        sizes = ", ".join(f"{part} {len(persons)}" for part, persons in split.parts.items())
        rows.append(f"- split {name}: {'folds' if split.folds else 'parts'} by person, seed {split.seed}: {sizes}")
    return [*rows, ""] if rows else []


def _seconds(items: Iterable[Item]) -> float:
    return sum(item.seconds for item in items if item.kind != "faces")


def _hours(items: Iterable[Item]) -> str:
    return f"{_seconds(items) / 3600:.2f} h"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"
