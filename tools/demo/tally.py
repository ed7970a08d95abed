"""What a consumer has seen of the room, and the summary at the end."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from device.gateway.documents import AlertDocument, LabelDocument
from models.labels import Emotion


@dataclass
class Tally:
    """Counts every verified label once, however often its document comes (`signed`, then `witnessed`)."""

    labels: dict[tuple[str, int, int], LabelDocument] = field(default_factory=dict)
    latest: dict[str, LabelDocument] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    alerts: list[AlertDocument] = field(default_factory=list)

    def add_label(self, document: LabelDocument) -> bool:
        """Returns whether this label is new."""
        key = (document.unit, document.session, document.sequence)
        new = key not in self.labels
        self.labels[key] = document
        before = self.latest.get(document.unit)
        if before is None or (before.session, before.sequence) <= key[1:]:
            self.latest[document.unit] = document
        return new

    def add_alert(self, document: AlertDocument) -> None:
        """Keep an alert, and count refused messages."""
        self.alerts.append(document)
        if document.severity == "refused":
            self.refusals[document.code] += 1 + document.repeats

    def lost(self) -> int:
        """Sequence numbers missing between the first of a session (1) and the last one seen."""
        seen: dict[tuple[str, int], set[int]] = defaultdict(set)
        for unit, session, sequence in self.labels:
            seen[unit, session].add(sequence)
        return sum(max(numbers) - len(numbers) for numbers in seen.values())

    def delays_ms(self) -> list[int]:
        """From the window's end to the gateway's acceptance, of every label that carries it."""
        return sorted(d.delay_ms for d in self.labels.values() if d.delay_ms is not None)


@dataclass(frozen=True)
class Accuracy:
    """Named windows against what the actors were asked to express; abstentions apart."""

    windows: int
    named: int
    right: int
    takes: Mapping[str, tuple[int, int, int]]

    @property
    def of_named(self) -> float:
        """Share of the named windows that are right; 0 when none was named."""
        return self.right / self.named if self.named else 0.0


def accuracy(
    labels: Sequence[LabelDocument],
    played: Mapping[str, Sequence[tuple[int, str]]],
    truth: Mapping[str, Emotion],
) -> Accuracy:
    """Join labels with what their unit was replaying. `played`: unit → (window end in ms, recording), in order.

    `takes` maps a recording to (windows, named, right). A window that ends before the first recording does not count.
    """
    takes: dict[str, list[int]] = {}
    for label in labels:
        changes = played.get(label.unit, ())
        place = bisect_right([at for at, _ in changes], label.window_end_ms) - 1
        if place < 0 or label.state not in ("given", "abstained"):
            continue
        take = changes[place][1]
        count = takes.setdefault(take, [0, 0, 0])
        count[0] += 1
        count[1] += label.label is not None
        count[2] += label.label is not None and label.label == truth.get(take)
    total = [sum(column) for column in zip(*takes.values(), strict=True)] or [0, 0, 0]
    return Accuracy(total[0], total[1], total[2], {name: (c[0], c[1], c[2]) for name, c in sorted(takes.items())})


def quantile_ms(delays: Sequence[int], share: float) -> float | None:
    """Quantile of sorted delays by linear interpolation; None without delays."""
    if not delays:
        return None
    if len(delays) == 1:
        return float(delays[0])
    return statistics.quantiles(delays, n=1000, method="inclusive")[round(share * 1000) - 1]
