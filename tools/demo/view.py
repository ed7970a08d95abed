"""What the demo room shows in the terminal: a live table on a screen, one line per event elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from device.gateway.documents import AlertDocument, LabelDocument
from tools.demo.tally import Tally, quantile_ms

NOTICE: Final = (
    "Recordings of actors. Recognises acted expression, not what anyone feels. Inferring emotions in education is "
    "prohibited in the EU save for medical or safety reasons (AI Act, Art. 5(1)(f))."
)
ALERTS_SHOWN: Final = 4


def expression(document: LabelDocument) -> str:
    """The label, or why there is none."""
    if document.label is not None:
        return document.label.value
    if document.abstain_reason is not None:
        return f"— ({document.abstain_reason.value.replace('_', ' ')})"
    return f"— ({document.state.replace('_', ' ')})"


class View:
    """Draws a `Tally`. `playing` says what each unit replays just now."""

    def __init__(self, console: Console, address: str, *, live: bool) -> None:
        self._console = console
        self._address = address
        self._live = Live(console=console, refresh_per_second=4, transient=True) if live else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, tally: Tally, playing: Mapping[str, str]) -> None:
        """Show where everything stands."""
        if self._live is not None:
            self._live.update(Group(self._table(tally, playing), self._alerts(tally)))

    def label(self, document: LabelDocument, playing: str) -> None:
        """Without a live table: say what changed at a desk."""
        if self._live is None and self._said.get(document.unit) != expression(document):
            self._said[document.unit] = expression(document)
            delay = "" if document.delay_ms is None else f"  {document.delay_ms:4d} ms"
            self._console.print(
                f"{document.desk:<8} {expression(document):<24} {document.confidence:4.0%}{delay}"
                f"  round {document.round:<5} playing: {playing}",
                highlight=False,
            )

    def alert(self, document: AlertDocument) -> None:
        """Without a live table: say what was refused or noticed."""
        if self._live is None:
            self._console.print(self._sentence(document), highlight=False)

    def attack(self, text: str) -> None:
        """Announce a staged attack."""
        self._console.print(Text(f"⚔ {text}", style="bold"))

    def _table(self, tally: Tally, playing: Mapping[str, str]) -> Table:
        delays = tally.delays_ms()
        p50, p95 = quantile_ms(delays, 0.5), quantile_ms(delays, 0.95)
        caption = f"{len(tally.labels)} labels verified, {tally.refusals.total()} messages refused, {tally.lost()} lost"
        if p50 is not None and p95 is not None:
            caption += f"; delay p50 {p50:.0f} ms, p95 {p95:.0f} ms"
        table = Table(title=f"Moodline demo room · {self._address}", caption=f"{caption}\n{NOTICE}")
        for name in ("desk", "verified label", "confidence", "speech / face", "status", "delay", "round", "playing"):
            table.add_column(name)
        for unit in sorted(tally.latest):
            document = tally.latest[unit]
            table.add_row(
                document.desk,
                Text(expression(document), style="bold" if document.label else "dim"),
                f"{document.confidence:.0%}" if document.label else "",
                f"{document.shares.speech:.0%} / {document.shares.face:.0%}",
                f"{document.status} ×{document.witnesses}",
                "" if document.delay_ms is None else f"{document.delay_ms} ms",
                str(document.round),
                playing.get(unit, ""),
            )
        return table

    def _alerts(self, tally: Tally) -> Panel:
        shown = [self._sentence(alert) for alert in tally.alerts[-ALERTS_SHOWN:]]
        return Panel(Group(*shown) if shown else Text("nothing refused so far", style="dim"), title="alerts")

    @staticmethod
    def _sentence(document: AlertDocument) -> Text:
        mark = "✗ refused" if document.severity == "refused" else "! notice"
        step = f" at step {document.step}" if document.step else ""
        return Text(f"{mark}{step}: {document.peer or 'unknown'}: {document.sentence} ({document.code})")
