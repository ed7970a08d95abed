"""The vectors: one good round, and every defect that verification must find, each named by its defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cbor2

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import Verdict
from device.line.verify import OpenRound, SignedGrant, SignedLink
from device.messages.envelope import digest
from device.messages.grant import NO_PREVIOUS, Accepted, Grant, sign_grant
from device.messages.label import LABEL_BYTES, Label, LabelState, SenseState, encode_label
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.sealing import SUITES, X25519, Place, Sealer
from models.labels import AbstainReason, Emotion
from tools.vectors import room
from tools.vectors.hostile import malleate, nested, parts, protected_of, reassemble, sign_bytes

LIMITS: Final = LineLimits()
ROUND: Final = 7
WALL_MS: Final = 1_800_000_000_000


@dataclass(frozen=True)
class Case:
    """A message, the chain it arrives on, and what verification must say: a verdict, or None for a good one.

    `kind` is link, grant or proof; a proof has two messages. `chain` is the open round: its grant and the links taken
    so far. `grants` are the earlier grants that a unit remembers.
    """

    name: str
    about: str
    kind: str
    messages: tuple[bytes, ...]
    verdict: Verdict | None = None
    chain: tuple[bytes, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class SealedEntries:
    """Sealing is random by design, so sealed entries are recorded once and read again afterwards."""

    def __init__(self, recorded: dict[str, str]) -> None:
        self.recorded = recorded
        suite = room.roster().suite
        self._sealer = Sealer(room.opener().public_key, suite)

    def entry(self, unit: str, session: int, sequence: int, label: Label | None = None) -> Entry:
        """The entry of that place."""
        return Entry(session, sequence, self.once(f"{unit}/{session}/{sequence}", unit, session, sequence, label))

    def once(self, name: str, unit: str, session: int, sequence: int, label: Label | None = None) -> bytes:
        """The sealed bytes recorded under a name, or newly sealed."""
        if name not in self.recorded:
            place = Place(room.ROOM, room.LINE, unit, session, sequence)
            self.recorded[name] = self._sealer.seal(label or given(), place).hex()
        return bytes.fromhex(self.recorded[name])

    def plaintext(self, name: str, unit: str, session: int, sequence: int, plaintext: bytes) -> Entry:
        """Something that need not be a label, properly sealed (suite 1) for that place; recorded under a name."""
        if name not in self.recorded:
            place = Place(room.ROOM, room.LINE, unit, session, sequence)
            public = room.opening_key().public_key()
            self.recorded[name] = SUITES[X25519].encrypt(plaintext, public, place.info).hex()
        return Entry(session, sequence, bytes.fromhex(self.recorded[name]))


def given() -> Label:
    """A plain label."""
    return Label(
        window_end_ms=WALL_MS - 300,
        time_source=TimeSource.GATEWAY,
        state=LabelState.GIVEN,
        emotion=Emotion.HAPPINESS,
        confidence=812,
        share_speech=600,
        share_face=400,
        bundle="2026.1",
    )


def abstained() -> Label:
    """A label that names nothing."""
    return Label(
        window_end_ms=WALL_MS - 300,
        time_source=TimeSource.UNSET,
        state=LabelState.ABSTAINED,
        abstain_reason=AbstainReason.SILENCE,
        bundle="2026.1",
    )


def presence() -> Label:
    """A label of a box that infers no emotion."""
    return Label(
        window_end_ms=WALL_MS - 300,
        time_source=TimeSource.GATEWAY,
        state=LabelState.PRESENCE,
        speech=SenseState.PRESENT,
        face=SenseState.NO_FACE,
        level=9,
    )


def grant_7() -> Grant:
    """The grant of the round in which all vectors play."""
    return Grant(
        room=room.ROOM,
        line=room.LINE,
        epoch=1,
        round=ROUND,
        order=("desk-1", "desk-2", "desk-3", "desk-4"),
        accepted={"desk-1": Accepted(3, 3, 10), "desk-2": Accepted(5, 5, 20), "desk-3": Accepted(2, 2, 1)},
        prev=digest(b"the last link of round 6"),
        gateway_ms=WALL_MS,
        deadline_ms=450,
    )


class Round:
    """The open round of the vectors: a grant, and desk-1's link on it; desk-2 comes next."""

    def __init__(self, sealed: SealedEntries) -> None:
        self.sealed = sealed
        self.grant = sign_grant(grant_7(), room.signer(room.GATEWAY))
        self.first = self.link("desk-1", 3, digest(self.grant), sealed.entry("desk-1", 3, 11))
        self.first_raw = self.signed(self.first)
        self.chain = (self.grant, self.first_raw)
        self.good = self.link("desk-2", 5, digest(self.first_raw), sealed.entry("desk-2", 5, 21, abstained()))

    def link(self, unit: str, session: int, prev: bytes, *entries: Entry) -> Link:
        """A link of round 7."""
        return Link(room.ROOM, room.LINE, 1, ROUND, unit, session, entries, prev)

    def signed(self, link: Link, signer: str | None = None) -> bytes:
        """Signed by its unit, or by another."""
        return sign_link(link, room.signer(signer or link.unit))

    def view(self) -> OpenRound:
        """The round as a verifier has followed it."""
        view = OpenRound(SignedGrant(grant_7(), self.grant, digest(self.grant)))
        view.extend(SignedLink(self.first, self.first_raw, digest(self.first_raw)))
        return view


def all_cases(sealed: SealedEntries) -> list[Case]:
    """Every vector, good ones first."""
    play = Round(sealed)
    makers: tuple[Callable[[Round], Iterator[Case]], ...] = (
        _good,
        _broken_bytes,
        _bad_headers,
        _bad_payloads,
        _misplaced,
        _forged,
        _off_the_chain,
        _bad_entries,
        _bad_labels,
        _grants,
        _proofs,
    )
    return [case for maker in makers for case in maker(play)]


def _case(play: Round, name: str, about: str, message: bytes, verdict: Verdict | None = None) -> Case:
    return Case(name, about, "link", (message,), verdict, play.chain)


def _good(play: Round) -> Iterator[Case]:
    good, entry = play.good, play.sealed.entry
    yield _case(play, "good_link", "The next unit continues the head.", play.signed(good))
    yield _case(play, "good_link_without_entries", "A unit witnesses only.", play.signed(replace(good, entries=())))
    yield _case(
        play,
        "good_link_with_gap",
        "The unit's outbox overflowed: numbers 21 and 22 never come.",
        play.signed(replace(good, entries=(entry("desk-2", 5, 23),))),
    )
    yield _case(
        play,
        "good_link_after_restart",
        "Session 6, with what session 5 left behind.",
        play.signed(replace(good, session=6, entries=(entry("desk-2", 5, 21), entry("desk-2", 6, 1)))),
    )
    raw = play.sealed.once("desk-2/5/21 presence", "desk-2", 5, 21, presence())
    yield _case(
        play,
        "good_link_with_presence",
        "A desk of which no emotion is inferred.",
        play.signed(replace(good, entries=(Entry(5, 21, raw),))),
    )
    yield _case(
        play,
        "good_link_of_a_newcomer",
        "A unit that the gateway has never heard of before.",
        play.signed(replace(good, unit="desk-4", session=1, entries=(entry("desk-4", 1, 1),))),
    )


def _broken_bytes(play: Round) -> Iterator[Case]:
    raw = play.signed(play.good)
    protected, _, payload, signature = parts(raw)
    short = reassemble(protected, {}, payload, signature[:-1])
    unprotected = reassemble(protected, {4: b"desk-3"}, payload, signature)
    big = raw + bytes(LIMITS.message_bytes)
    yield _case(play, "oversized", "Larger than any message.", big, Verdict.TOO_LARGE)
    yield _case(play, "grant_as_link", "A grant on a link's topic.", play.grant, Verdict.WRONG_KIND)
    for name, about, message in (
        ("empty", "No bytes at all.", b""),
        ("garbage", "Bytes that are no CBOR.", bytes(range(255, 155, -1))),
        ("truncated", "The last byte is missing.", raw[:-1]),
        ("trailing_byte", "A byte too many.", raw + b"\x00"),
        ("untagged", "COSE_Sign1 without its tag.", raw[1:]),
        ("deep_nesting", "10,000 arrays in each other.", b"\xd2" + nested(10_000)),
        ("part_missing", "No signature.", b"\xd2" + cbor2.dumps([protected, {}, payload])),
        ("signature_too_short", "63 bytes of signature.", short),
        ("unprotected_header", "A header outside the signature.", unprotected),
    ):
        yield _case(play, name, about, message, Verdict.NOT_DECODABLE)


def _bad_headers(play: Round) -> Iterator[Case]:
    payload = parts(play.signed(play.good))[2]
    for name, about, headers, verdict in (
        ("headers_no_map", "Protected headers that are a number.", b"\x00", Verdict.NOT_DECODABLE),
        (
            "unknown_content_type",
            "A kind that the protocol does not have.",
            protected_of("desk-2", content_type="x"),
            Verdict.NOT_DECODABLE,
        ),
        ("key_id_no_name", "A key id that breaks a topic.", protected_of("desk/2"), Verdict.NOT_DECODABLE),
        ("other_algorithm", "ES256 by name.", protected_of("desk-2", algorithm=-7), Verdict.NOT_DECODABLE),
        ("unknown_version", "Protocol version 2.", protected_of("desk-2", version=2), Verdict.UNKNOWN_VERSION),
    ):
        yield _case(play, name, about, sign_bytes(payload, room.signer("desk-2"), protected=headers), verdict)


def _bad_payloads(play: Round) -> Iterator[Case]:
    signer = room.signer("desk-2")
    payload = parts(play.signed(play.good))[2]
    fields = cbor2.loads(payload)
    long_form = payload.replace(b"\x03\x01\x04\x07", b"\x03\x18\x01\x04\x07", 1)
    assert long_form != payload
    backwards = cbor2.dumps(dict(reversed(fields.items())))
    for name, about, encoded in (
        ("non_canonical_integer", "Epoch 1 in two bytes.", long_form),
        ("unsorted_keys", "The map runs backwards.", backwards),
    ):
        yield _case(play, name, about, sign_bytes(encoded, signer), Verdict.NOT_DETERMINISTIC)
    for name, about, encoded in (
        ("deep_nesting_in_payload", "10,000 arrays in each other, signed.", nested(10_000)),
        ("huge_array_head", "An array that claims 2^63 items.", b"\x9b" + b"\x7f" * 8),
        ("indefinite_length", "An open-ended map.", b"\xbf" + payload[1:] + b"\xff"),
        ("duplicate_key", "The flags stand twice.", bytes([payload[0] + 1]) + payload[1:] + b"\x09\x00"),
    ):
        yield _case(play, name, about, sign_bytes(encoded, signer), Verdict.NOT_DECODABLE)
    without_epoch = {key: value for key, value in fields.items() if key != 3}
    for name, about, changed in (
        ("field_missing", "No epoch.", without_epoch),
        ("field_added", "A field that the protocol does not have.", {**fields, 99: b"sound"}),
        ("field_of_wrong_type", "A text for a round.", {**fields, 4: "7"}),
        ("tag_in_payload", "A date.", {**fields, 4: cbor2.CBORTag(1, 7)}),
        ("float_in_payload", "Round 7.5.", {**fields, 4: 7.5}),
        ("truth_value_in_payload", "Round true.", {**fields, 4: True}),
        ("negative_round", "Round -7.", {**fields, 4: -7}),
        ("unknown_flag", "A flag that means nothing.", {**fields, 9: 4}),
        ("entry_malformed", "An entry without its label.", {**fields, 7: [[5, 21]]}),
    ):
        yield _case(play, name, about, sign_bytes(cbor2.dumps(changed, canonical=True), signer), Verdict.NOT_DECODABLE)


def _misplaced(play: Round) -> Iterator[Case]:
    good = play.good
    for name, changed, verdict in (
        ("another_room", replace(good, room="gym"), Verdict.WRONG_ROOM),
        ("another_line", replace(good, line=room.OTHER_LINE), Verdict.WRONG_LINE),
        ("unknown_epoch", replace(good, epoch=2), Verdict.UNKNOWN_EPOCH),
        ("stale_epoch", replace(good, epoch=0), Verdict.STALE_EPOCH),
    ):
        yield _case(play, name, "Genuine, but not of this place.", play.signed(changed), verdict)
    yield _case(
        play,
        "unknown_key",
        "Signed by someone who is not on the roster.",
        play.signed(replace(good, unit="stranger")),
        Verdict.UNKNOWN_SIGNER,
    )
    yield _case(
        play,
        "name_of_another",
        "desk-3 signs properly, in the name of desk-2.",
        sign_bytes(parts(play.signed(good))[2], room.signer("desk-3")),
        Verdict.UNKNOWN_SIGNER,
    )
    yield _case(
        play,
        "unit_of_another_line",
        "A rostered unit that belongs to row-2.",
        play.signed(replace(good, unit=room.OTHER_UNIT)),
        Verdict.SIGNER_OF_ANOTHER_LINE,
    )
    revoked = _case(play, "revoked_unit", "desk-2 was revoked.", play.signed(good), Verdict.REVOKED)
    yield replace(revoked, extra={"revoked": ["desk-2"]})


def _forged(play: Round) -> Iterator[Case]:
    bad = Verdict.BAD_SIGNATURE
    raw = play.signed(play.good)
    protected, unprotected, payload, signature = parts(raw)
    yield _case(play, "malleable_signature", "S + L in place of S.", malleate(raw), bad)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    yield _case(
        play, "damaged_signature", "One bit differs.", reassemble(protected, unprotected, payload, flipped), bad
    )
    yield _case(
        play,
        "forged_signature",
        "desk-2's name over another key's signature.",
        sign_bytes(payload, room.signer("forger"), protected=protected),
        bad,
    )
    yield _case(
        play,
        "altered_after_signing",
        "The session was raised after signing.",
        reassemble(protected, unprotected, cbor2.dumps({**cbor2.loads(payload), 6: 6}, canonical=True), signature),
        bad,
    )
    yield _case(
        play,
        "signed_for_another_line",
        "The payload says row-1, the signature was made for row-2.",
        sign_bytes(payload, room.signer("desk-2"), line=room.OTHER_LINE),
        bad,
    )


def _off_the_chain(play: Round) -> Iterator[Case]:
    good = play.good
    entry = play.sealed.entry
    yield _case(
        play,
        "replayed_link_in_later_round",
        "A link of round 6 comes in round 7.",
        play.signed(replace(good, round=6)),
        Verdict.STALE_ROUND,
    )
    yield _case(
        play,
        "ungranted_round",
        "Round 8, which nobody opened.",
        play.signed(replace(good, round=8)),
        Verdict.UNGRANTED_ROUND,
    )
    yield _case(
        play,
        "wrong_prev",
        "It continues something unknown.",
        play.signed(replace(good, prev=digest(b"elsewhere"))),
        Verdict.WRONG_PREVIOUS,
    )
    yield _case(
        play,
        "lost_race",
        "It continues the grant; desk-1's link was first.",
        play.signed(replace(good, prev=digest(play.grant))),
        Verdict.LOST_RACE,
    )
    yield _case(
        play,
        "restored_backup",
        "Session 4, after the gateway accepted session 5.",
        play.signed(replace(good, session=4, entries=(entry("desk-2", 4, 1),))),
        Verdict.STALE_SESSION,
    )
    yield _case(
        play,
        "second_link_in_round",
        "desk-1 restarted and signs again.",
        play.signed(play.link("desk-1", 4, digest(play.first_raw), entry("desk-1", 4, 1))),
        Verdict.SECOND_LINK_IN_ROUND,
    )


def _bad_entries(play: Round) -> Iterator[Case]:
    good, entry = play.good, play.sealed.entry
    disorder = Verdict.SEQUENCE_DISORDER

    def with_entries(name: str, about: str, verdict: Verdict, *entries: Entry) -> Case:
        return _case(play, name, about, play.signed(replace(good, entries=entries)), verdict)

    yield with_entries("entry_accepted_before", "Number 20 is stored already.", disorder, entry("desk-2", 5, 20))
    yield with_entries("entries_backwards", "22 before 21.", disorder, entry("desk-2", 5, 22), entry("desk-2", 5, 21))
    yield with_entries("entry_twice", "21 and 21 again.", disorder, entry("desk-2", 5, 21), entry("desk-2", 5, 21))
    yield with_entries("entry_of_a_later_session", "Session 6 in session 5.", disorder, entry("desk-2", 6, 1))
    yield with_entries(
        "too_many_entries",
        "One more than a link holds.",
        Verdict.TOO_MANY_ENTRIES,
        *(entry("desk-2", 5, 21 + number) for number in range(LIMITS.entries_per_link + 1)),
    )
    sealed = entry("desk-2", 5, 21).sealed
    for name, wrong in (("sealed_too_short", sealed[:-1]), ("sealed_too_long", sealed + b"\x00")):
        yield with_entries(name, "One byte off.", Verdict.WRONG_SEALED_SIZE, Entry(5, 21, wrong))
    yield with_entries(
        "entry_of_another_unit",
        "desk-1's sealed label in desk-2's link.",
        Verdict.NOT_OPENABLE,
        Entry(5, 21, entry("desk-1", 3, 11).sealed),
    )
    yield with_entries(
        "entry_of_another_number",
        "Sealed for number 22, sent as 21.",
        Verdict.NOT_OPENABLE,
        Entry(5, 21, entry("desk-2", 5, 22).sealed),
    )
    yield with_entries(
        "entry_of_random_bytes", "The right size, nothing inside.", Verdict.NOT_OPENABLE, Entry(5, 21, b"\x55" * 112)
    )


def _bad_labels(play: Round) -> Iterator[Case]:
    """Properly sealed by the unit, for the right place and the right gateway; but what is inside is no label."""
    proper = encode_label(given())
    fields = cbor2.loads(proper[1 : 1 + proper[0]])

    def padded(body: bytes) -> bytes:
        return bytes([len(body)]) + body.ljust(LABEL_BYTES - 1, b"\x00")

    def changed(**fields_by_key: object) -> bytes:
        numbers = {int(key.removeprefix("key_")): value for key, value in fields_by_key.items()}
        return padded(cbor2.dumps({**fields, **numbers}, canonical=True))

    def presence_with(key: int, value: int) -> bytes:
        encoded = encode_label(presence())
        return padded(cbor2.dumps({**cbor2.loads(encoded[1 : 1 + encoded[0]]), key: value}, canonical=True))

    for name, about, plaintext in (
        ("label_of_garbage", "64 bytes that are no label.", b"\xff" * LABEL_BYTES),
        ("label_of_another_schema", "Schema 2.", changed(key_1=2)),
        ("label_with_emotion_while_muted", "A muted desk names an emotion.", changed(key_4=2, key_6=0)),
        ("label_with_unknown_emotion", "An emotion that the vocabulary does not have.", changed(key_5=23)),
        ("presence_label_with_emotion", "Presence, and an emotion.", presence_with(5, 3)),
        ("presence_label_with_share", "Presence, and how much the face weighed.", presence_with(8, 400)),
        ("presence_label_of_several_faces", "Presence, and how many faces.", presence_with(10, 6)),
        ("label_field_missing", "No bundle.", padded(cbor2.dumps({k: v for k, v in fields.items() if k != 12}))),
        ("label_padding_not_zeros", "A byte hides in the padding.", proper[:-1] + b"\x01"),
        ("label_longer_than_its_place", "It claims 200 bytes of 63.", bytes([200]) + proper[1:]),
    ):
        assert len(plaintext) == LABEL_BYTES
        entry = play.sealed.plaintext(f"desk-2/5/21 {name}", "desk-2", 5, 21, plaintext)
        yield _case(play, name, about, play.signed(replace(play.good, entries=(entry,))), Verdict.BAD_LABEL)


def _grants(play: Round) -> Iterator[Case]:
    authority = room.signer(room.GATEWAY)
    following = replace(
        grant_7(),
        round=8,
        order=("desk-2", "desk-3", "desk-4", "desk-1"),
        accepted={**grant_7().accepted, "desk-1": Accepted(3, 3, 11)},
        prev=digest(play.first_raw),
    )

    def grant(name: str, about: str, message: bytes, verdict: Verdict | None = None) -> Case:
        return Case(name, about, "grant", (message,), verdict, play.chain)

    yield grant("good_grant", "It opens the next round.", sign_grant(following, authority))
    yield grant(
        "grant_by_a_unit",
        "desk-1 plays gateway.",
        sign_grant(following, room.signer("desk-1")),
        Verdict.UNKNOWN_SIGNER,
    )
    yield grant(
        "order_names_a_unit_twice",
        "desk-2 would go first and third.",
        sign_grant(replace(following, order=("desk-2", "desk-3", "desk-2")), authority),
        Verdict.NOT_DECODABLE,
    )
    yield grant("link_as_grant", "A link on the grant's topic.", play.first_raw, Verdict.WRONG_KIND)
    yield grant(
        "replayed_grant",
        "A grant of round 5, after round 7.",
        sign_grant(replace(following, round=5, prev=NO_PREVIOUS), authority),
        Verdict.STALE_ROUND,
    )
    yield grant(
        "rewritten_grant",
        "Another grant for round 7.",
        sign_grant(replace(grant_7(), prev=digest(b"another history")), authority),
        Verdict.GRANT_REWRITTEN,
    )
    yield grant(
        "withdrawn_acknowledgement",
        "Grant 8 acknowledges less of desk-2.",
        sign_grant(replace(following, accepted={**following.accepted, "desk-2": Accepted(5, 5, 19)}), authority),
        Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
    )


def _proofs(play: Round) -> Iterator[Case]:
    good, entry = play.good, play.sealed.entry
    other = Entry(5, 21, play.sealed.once("desk-2/5/21 again", "desk-2", 5, 21, given()))

    def proof(name: str, about: str, first: Link, second: Link, verdict: Verdict | None = None) -> Case:
        return Case(name, about, "proof", (play.signed(first), play.signed(second)), verdict)

    yield proof(
        "proof_two_links_in_round",
        "Two links, one session and round.",
        good,
        replace(good, prev=digest(play.grant)),
    )
    yield proof(
        "proof_two_contents",
        "One number, two sealed labels.",
        good,
        replace(good, round=8, entries=(other,)),
    )
    yield proof(
        "proof_session_backwards",
        "Session 4 in round 8, after session 5 in round 7 over a grant that knew it.",
        replace(good, flags=LinkFlag.SESSION_KNOWN),
        replace(good, round=8, session=4, entries=(entry("desk-2", 4, 1),)),
    )
    yield proof(
        "no_proof_old_grant",
        "Session 5 in round 8, then session 6 in round 7: an old grant was replayed to a unit that had just started.",
        replace(good, round=8, flags=LinkFlag.SESSION_KNOWN, entries=()),
        replace(good, round=7, session=6, entries=()),
        Verdict.NOT_DECODABLE,
    )
    yield proof(
        "no_proof_honest_resend",
        "The same entry again in the next round: what honest units do.",
        good,
        replace(good, round=8),
        Verdict.NOT_DECODABLE,
    )
