"""How often a machine alerts: a flood of bad messages must not become a flood of alerts."""

from __future__ import annotations

from typing import Final

from device.errors import RemoteMessageError, Verdict
from device.line.actions import Alert, Notice

#: Refusals that one machine tells of in one round.
ALERTS_PER_ROUND: Final = 8


class AlertGate:
    """Lets each (code, peer) pass once a round; counts the rest in `suppressed`.

    Of plain refusals, which strangers can cause, only `ALERTS_PER_ROUND` pass. Notices and alerts with a proof always
    do: only rostered parties can cause them, and no flood may hide them.
    """

    def __init__(self, line: str) -> None:
        self._line = line
        self._passed: set[tuple[str, str]] = set()
        self._refusals = 0
        self.suppressed = 0

    def next_round(self) -> None:
        """Begin anew."""
        self._passed.clear()
        self._refusals = 0

    def alert(self, code: Verdict | Notice, peer: str, text: str, proof: tuple[bytes, ...] = ()) -> list[Alert]:
        """The alert, or nothing."""
        stranger = isinstance(code, Verdict) and not proof
        if (code, peer) in self._passed or (stranger and self._refusals >= ALERTS_PER_ROUND):
            self.suppressed += 1
            return []
        self._refusals += stranger
        self._passed.add((code, peer))
        return [Alert(code, peer, text, self._line, proof)]

    def refusal(self, error: RemoteMessageError, *, peer: str, proof: tuple[bytes, ...] = ()) -> list[Alert]:
        """The alert for a refused message; `peer` is who the broker says it came from, if the message does not say."""
        return self.alert(error.verdict, error.peer or peer, error.what, proof)
