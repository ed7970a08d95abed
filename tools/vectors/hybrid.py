"""Vectors of the hybrid post-quantum suite: the same round, sealed by suite 2, in a folder of its own.

Only what depends on the suite is here; every other vector of tests/vectors/line says the same in either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from device.errors import Verdict
from device.messages.label import encode_label
from device.messages.link import Entry
from device.messages.roster import Roster, sign_roster
from device.messages.sealing import HYBRID, Opener, Sealer
from tools.vectors import room
from tools.vectors.cases import LIMITS, Case, Round, SealedEntries, abstained, given
from tools.vectors.replay import verdict_of

FOLDER: Final = Path("tests/vectors/hybrid")
#: Where the two halves of an encapsulated key begin: ML-KEM-768's ciphertext, then the X25519 key.
_MLKEM_PART, _X25519_PART = 0, 1_088


def seed() -> bytes:
    """The gateway's private opening key: X-Wing's seed, 32 bytes."""
    return hashlib.sha256(b"moodline test key of opening, suite 2").digest()


def opener() -> Opener:
    """Who opens labels in the room that seals by suite 2."""
    return Opener(seed())


def roster(count: int = 4) -> Roster:
    """The room of all vectors, sealing by suite 2."""
    other = room.roster(count)
    return replace(other, gateway=replace(other.gateway, opening_key=opener().public_key), suite=HYBRID)


class HybridEntries(SealedEntries):
    """Recorded entries of suite 2."""

    def __init__(self, recorded: dict[str, str]) -> None:
        super().__init__(recorded)
        self._sealer = Sealer(opener().public_key, HYBRID)


def hybrid_cases(recorded: dict[str, str]) -> list[Case]:
    """Every vector of suite 2, good ones first; sealed entries are taken from `recorded`, or added to it."""
    play = Round(HybridEntries(recorded))
    return [*_good(play), *_bad(play)]


def _good(play: Round) -> Iterator[Case]:
    def case(name: str, about: str, *labels_and_entries: tuple[bytes, Entry]) -> Case:
        entries = tuple(entry for _, entry in labels_and_entries)
        extra = {"plaintexts": [plaintext.hex() for plaintext, _ in labels_and_entries]}
        link = replace(play.good, entries=entries)
        return Case(name, about, "link", (play.signed(link),), None, play.chain, extra)

    entry = play.sealed.entry
    numbers = range(22, 21 + LIMITS.entries_per_link)
    first = (encode_label(abstained()), play.good.entries[0])
    more = [(encode_label(given()), entry("desk-2", 5, number)) for number in numbers]
    yield case("good_link", "The next unit continues the head.", first)
    yield case("good_link_without_entries", "A unit witnesses only.")
    yield case("fullest_link", "As many entries as a link holds.", first, *more)


def _bad(play: Round) -> Iterator[Case]:
    sealed = play.good.entries[0].sealed

    def case(name: str, about: str, verdict: Verdict, changed: bytes) -> Case:
        link = replace(play.good, entries=(Entry(5, 21, changed),))
        return Case(name, about, "link", (play.signed(link),), verdict, play.chain)

    def damaged(at: int) -> bytes:
        return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    of_suite_1 = SealedEntries(play.sealed.recorded).once("desk-2/5/21 suite 1", "desk-2", 5, 21)
    for name, about, wrong in (
        ("entry_of_suite_1", "Sealed by the suite that the roster does not name.", of_suite_1),
        ("sealed_too_short", "One byte off.", sealed[:-1]),
        ("sealed_too_long", "One byte off.", sealed + b"\x00"),
    ):
        yield case(name, about, Verdict.WRONG_SEALED_SIZE, wrong)
    for name, about, wrong in (
        (
            "entry_of_another_unit",
            "desk-1's sealed label in desk-2's link.",
            play.sealed.entry("desk-1", 3, 11).sealed,
        ),
        (
            "entry_of_another_number",
            "Sealed for number 22, sent as 21.",
            play.sealed.entry("desk-2", 5, 22).sealed,
        ),
        ("entry_of_random_bytes", "The right size, nothing inside.", b"\x55" * len(sealed)),
        ("damaged_mlkem_part", "One bit of ML-KEM's ciphertext differs.", damaged(_MLKEM_PART)),
        ("damaged_x25519_part", "One bit of the X25519 key differs.", damaged(_X25519_PART)),
        ("damaged_tag", "One bit of the authentication tag differs.", damaged(len(sealed) - 1)),
    ):
        yield case(name, about, Verdict.NOT_OPENABLE, wrong)


def room_json(other: Mapping[str, Any]) -> dict[str, Any]:
    """The room of suite 1 with the opening key (a seed) and roster of suite 2."""
    signed = sign_roster(roster(other["units"]), room.signer(room.AUTHORITY))
    return {**other, "opening_key": seed().hex(), "roster": signed.hex()}


def rebuild(
    other: Mapping[str, Any], as_json: Callable[[Case], dict[str, Any]], write: Callable[[Path, object], None]
) -> None:
    """Rebuild tests/vectors/hybrid and check each vector by the verification that ships."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    recorded_path = FOLDER / "sealed.json"
    recorded: dict[str, str] = json.loads(recorded_path.read_text()) if recorded_path.exists() else {}
    cases = hybrid_cases(recorded)
    for case in cases:
        found = verdict_of(case, roster(other["units"]), opener())
        assert found == case.verdict, f"{case.name}: {found} instead of {case.verdict}"
        write(FOLDER / f"{case.name}.json", as_json(case))
    write(FOLDER / "room.json", room_json(other))
    write(recorded_path, recorded)
    kept = {"room", "sealed", *(case.name for case in cases)}
    for stray in FOLDER.glob("*.json"):
        if stray.stem not in kept:
            stray.unlink()
    print(f"{len(cases)} vectors in {FOLDER}")
