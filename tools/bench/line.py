"""The line: bytes of a link, and what verification and the gateway's path cost beside the bare signature check."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from device.line.verify import Verifier, follow_link, step_10_open
from device.messages.envelope import ContentType, digest, external_aad, open_envelope, sig_structure, signature_holds
from device.messages.grant import Grant, sign_grant
from tools.bench import line_rounds
from tools.bench.line_rounds import RoundTable
from tools.bench.measurement import Measurement, against_limit
from tools.simulate.seeds import run_seed
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries, grant_7

_BATCH = 20
_BATCHES = 200
_GATEWAY_ROUNDS = 10
_SEEDS = 4
#: Least share of the library's bare Ed25519 verification rate that whole verification must reach.
_LEAST_SHARE = 0.7


def _seconds_by_turns(*runs: Callable[[], object]) -> list[float]:
    """Seconds of one call of each: the least over batches taken by turns, which a busy machine disturbs least."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(_BATCHES):
        for run, times in zip(runs, taken, strict=True):
            start = time.perf_counter()
            for _ in range(_BATCH):
                run()
            times.append((time.perf_counter() - start) / _BATCH)
    return [min(times) for times in taken]


def sizes() -> list[Measurement]:
    """Bytes on the wire."""
    play = Round(SealedEntries({}))
    link = len(play.signed(play.good))
    empty = len(play.signed(replace(play.good, entries=())))
    grants = {count: _grant_bytes(count) for count in (2, 8, 40)}
    return [
        Measurement(name="link with one label", value=link, unit="bytes"),
        Measurement(name="each further label", value=link - empty, unit="bytes"),
        *(Measurement(name=f"grant for {count} units", value=size, unit="bytes") for count, size in grants.items()),
    ]


def _grant_bytes(count: int) -> int:
    names = room.unit_names(count)
    accepted = next(iter(grant_7().accepted.values()))
    grant = Grant(room.ROOM, room.LINE, 1, 100_000, names, dict.fromkeys(names, accepted), bytes(32), 2**41, 450)
    return len(sign_grant(grant, room.signer(room.GATEWAY)))


def measure() -> list[Measurement]:
    """Sizes, and rates on this core."""
    return [*sizes(), *_verification(), *_gateway_path(), *line_rounds.measure(), *_simulator()]


def _verification() -> list[Measurement]:
    """The verifier alone."""
    play = Round(SealedEntries({}))
    raw = play.signed(play.good)
    envelope = open_envelope(raw, wanted=ContentType.LINK)
    message = sig_structure(envelope.protected, external_aad(room.ROOM, room.LINE), envelope.payload)
    key = room.signer("desk-2").public_key
    roster = room.roster()
    verifier, view, opener = Verifier(roster, room.LINE, LIMITS), play.view(), room.opener()

    def verify() -> None:
        follow_link(verifier.link(raw), view, LIMITS, roster.suite)

    bare, whole, opening, making = _seconds_by_turns(
        lambda: signature_holds(key, envelope.signature, message),
        verify,
        lambda: step_10_open(opener, play.good, play.good.entries[0]),
        lambda: digest(play.signed(play.good)),
    )
    return [
        against_limit(
            "link verification (steps 1 to 9)",
            1 / whole,
            "links/s",
            limit=_LEAST_SHARE / bare,
            direction="at least",
            peer=f"{_LEAST_SHARE:g} of bare Ed25519 in cryptography",
        ),
        Measurement(name="bare Ed25519 verification", value=1 / bare, unit="checks/s"),
        Measurement(name="opening one label (step 10)", value=opening * 1e3, unit="ms"),
        Measurement(name="making one link", value=making * 1e3, unit="ms"),
    ]


def _gateway_path() -> list[Measurement]:
    """`LineGateway.received` from bytes to actions, in rounds of 40 units: steps 1 to 9 and the machine's own work
    where links carry nothing, step 10 too where each carries a label."""
    table = RoundTable(40)
    empty: list[float] = []
    full: list[float] = []
    bare: list[float] = []
    for _ in range(_GATEWAY_ROUNDS):
        empty.append(table.turn(labels=False).gateway / 40)
        full.append(table.turn().gateway / 40)
        bare.append(table.bare_checks() / 40)
    peer = f"{_LEAST_SHARE:g} of bare Ed25519 in cryptography, same links"
    return [
        against_limit(
            "gateway, received link to actions (steps 1 to 9)",
            1 / min(empty),
            "links/s",
            limit=_LEAST_SHARE / min(bare),
            direction="at least",
            peer=peer,
        ),
        Measurement(
            name="gateway, received link with a label to actions (steps 1 to 10)",
            value=1 / min(full),
            unit="links/s",
            peer="bare Ed25519 in cryptography, same links",
            peer_value=1 / min(bare),
            ratio=min(bare) / min(full),
        ),
    ]


def _simulator() -> list[Measurement]:
    """Rounds a second of the seeded simulator on one core, over whole seeds with all their faults and checks."""
    start = time.perf_counter()
    outcomes = [run_seed(seed) for seed in range(_SEEDS)]
    taken = time.perf_counter() - start
    broken = [outcome.seed for outcome in outcomes if outcome.broken]
    assert not broken, f"seeds {broken} break a guarantee: python -m tools.simulate --seed {broken[:1]}"
    rounds = sum(outcome.rounds for outcome in outcomes)
    return [Measurement(name=f"simulator, {_SEEDS} seeds of 2 to 40 units", value=rounds / taken, unit="rounds/s")]
