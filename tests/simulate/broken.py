"""Machines that are broken on purpose, each in one way, to see that the simulator names the guarantee they break."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import pytest

from device.errors import RemoteMessageError, Verdict
from device.line import unit as unit_module
from device.line import verify
from device.line.actions import Action, Deliver, Persist, Publish
from device.line.evidence import Evidence
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.line.verify import OpenRound, SignedGrant
from device.messages.envelope import ContentType, open_envelope
from device.messages.grant import Accepted
from device.messages.label import Label, LabelState
from device.messages.link import Link, decode_link, sign_link
from device.messages.roster import Roster
from device.messages.sealing import Place, Sealer
from tools.simulate.line import Machines

#: How a test breaks something: by other machines, or by what is patched.
Break = Callable[[pytest.MonkeyPatch], Machines]


class PublishesBeforeItStores(LineGateway):
    """A grant goes out before its round is durable."""

    def tick(self, now: float, wall_ms: int) -> list[Action]:
        """The period ends."""
        actions = super().tick(now, wall_ms)
        return sorted(actions, key=lambda action: isinstance(action, Persist))


class ForgetsItsGrant(LineGateway):
    """Starts from nothing every time."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{**settings, "stored_grant": None})  # type: ignore[arg-type]


class DeliversTwice(LineGateway):
    """Every label comes twice."""

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> list[Action]:
        """A message arrives."""
        actions = super().received(topic, payload, now, wall_ms)
        return [*actions, *(action for action in actions if isinstance(action, Deliver))]


class TellsNoGap(LineGateway):
    """Passes over missing numbers in silence."""

    def _gaps(self, link: Link, before: Accepted) -> list[Action]:
        return []


class SignsTwice(LineUnit):
    """Two links for one round."""

    def label(self, label: Label, now: float) -> list[Action]:
        """A label is made."""
        actions = super().label(label, now)
        links = [action for action in actions if isinstance(action, Publish)]
        again = [replace(link, payload=self._differently(link.payload)) for link in links]
        return [*actions, *again]

    def _differently(self, raw: bytes) -> bytes:
        link = decode_link(open_envelope(raw, wanted=ContentType.LINK))
        return sign_link(replace(link, prev=bytes(32)), self._signer)


class LetsGoTooEarly(LineUnit):
    """A label that was sent leaves the outbox before a grant covers it."""

    def label(self, label: Label, now: float) -> list[Action]:
        """A label is made."""
        actions = super().label(label, now)
        if any(isinstance(action, Publish) for action in actions):
            self._outbox.acknowledge(Accepted(self._session, self._session, self._sequence))
        return actions


class WaitsForEver(LineUnit):
    """Never passes over a unit that is gone."""

    def _places_behind(self, view: OpenRound) -> int:
        return 1_000_000 * super()._places_behind(view)


class SendsNoEntryWhenMuted(LineUnit):
    """A muted desk sends no entry."""

    def label(self, label: Label, now: float) -> list[Action]:
        """A label is made."""
        if label.state is not LabelState.MUTED:
            return super().label(label, now)
        self._labelled, self._labelled_at = True, now
        return self._append_when_due(now)


class _Unpadded(Sealer):
    def seal(self, label: Label, place: Place) -> bytes:
        sealed = super().seal(label, place)
        return sealed[:-8] if label.state is LabelState.MUTED else sealed


class SealsWithoutPadding(LineUnit):
    """A muted label is shorter."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._sealer = _Unpadded(self._roster.gateway.opening_key, self._roster.suite)


def _unrevoked(settings: Mapping[str, object]) -> dict[str, object]:
    roster = settings["roster"]
    assert isinstance(roster, Roster)
    return {**settings, "roster": replace(roster, revoked=frozenset())}


class UnitTakesRevoked(LineUnit):
    """Listens to whom the roster revoked."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**_unrevoked(settings))  # type: ignore[arg-type]


class GatewayTakesRevoked(LineGateway):
    """Listens to whom the roster revoked."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**_unrevoked(settings))  # type: ignore[arg-type]


def _nothing(*arguments: object) -> None:
    return None


def _without_signatures(patch: pytest.MonkeyPatch) -> Machines:
    patch.setattr(verify, "step_5_signature", _nothing)
    return Machines()


def _without_chain(patch: pytest.MonkeyPatch) -> Machines:
    patch.setattr(verify, "step_7_previous", _nothing)
    return Machines()


def _without_evidence(patch: pytest.MonkeyPatch) -> Machines:
    patch.setattr(Evidence, "add", _nothing)
    return Machines()


def _compares_no_grants(patch: pytest.MonkeyPatch) -> Machines:
    def newer_only(grant: SignedGrant, newest: SignedGrant, remembered: Mapping[int, SignedGrant]) -> None:
        if grant.body.round <= newest.body.round:
            raise RemoteMessageError(Verdict.STALE_ROUND, "An old grant.")

    patch.setattr(unit_module, "follow_grant", newer_only)
    return Machines()


def _unit(kind: type[LineUnit]) -> Break:
    return lambda patch: Machines(unit=kind)


def _gateway(kind: type[LineGateway]) -> Break:
    return lambda patch: Machines(gateway=kind)


#: What is broken, how, and the guarantees of which one must be named.
BROKEN: Final[dict[str, tuple[Break, set[str]]]] = {
    # A forged link is also a link that its unit never signed: whichever is met first.
    "a verifier without step 5": (_without_signatures, {"G1", "G5"}),
    "a room that listens to revoked units": (lambda patch: Machines(UnitTakesRevoked, GatewayTakesRevoked), {"G1"}),
    "a gateway that delivers twice": (_gateway(DeliversTwice), {"G2"}),
    "a gateway that tells no gap": (_gateway(TellsNoGap), {"G2"}),
    "a verifier without step 7": (_without_chain, {"G3"}),
    "a unit that sends no entry when muted": (_unit(SendsNoEntryWhenMuted), {"G4"}),
    "a unit that seals without padding": (_unit(SealsWithoutPadding), {"G4"}),
    "a unit that signs twice": (_unit(SignsTwice), {"G5"}),
    "a room without a memory for contradictions": (_without_evidence, {"G5"}),
    "a gateway that publishes before it stores": (_gateway(PublishesBeforeItStores), {"G6"}),
    "a unit that lets go too early": (_unit(LetsGoTooEarly), {"G6"}),
    "a unit that waits for the absent": (_unit(WaitsForEver), {"G7"}),
    "a unit that compares no grants": (_compares_no_grants, {"G8"}),
    "a gateway that forgets its grant": (_gateway(ForgetsItsGrant), {"G8"}),
}
