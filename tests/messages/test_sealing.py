"""Sealed labels open at their own place only, and look alike: in both suites."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.line.actions import Deliver, Publish
from device.line.gateway import LineGateway
from device.line.unit import LineUnit
from device.line.verify import OpenRound, SignedGrant, Verifier, follow_link
from device.messages.envelope import digest
from device.messages.grant import sign_grant
from device.messages.label import LABEL_BYTES, Label, LabelState, encode_label
from device.messages.link import Entry, Link, sign_link
from device.messages.roster import OPENING_KEY_BYTES, Roster, SealingSuite
from device.messages.sealing import HYBRID, SUITES, X25519, Opener, Place, Sealer, expand_seed, sealed_bytes
from device.publish.outbox import BoundedOutbox
from device.system import keys
from models.labels import ABSTAIN_REASONS, EMOTIONS
from tools.vectors import cases, hybrid, room

PLACE = Place("lab", "row-1", "desk-1", 3, 11)
BLANK = Label(window_end_ms=0, time_source=TimeSource.UNSET, state=LabelState.MUTED)
LIMITS = LineLimits()


@dataclass(frozen=True)
class Party:
    """A suite, its gateway, and how to make a gateway with another key."""

    suite: SealingSuite
    opener: Opener
    stranger: Callable[[bytes], Opener]
    roster: Roster

    @property
    def sealer(self) -> Sealer:
        """What a unit has."""
        return Sealer(self.opener.public_key, self.suite)


PARTIES = {
    "x25519": Party(X25519, room.opener(), lambda k: Opener(X25519PrivateKey.from_private_bytes(k)), room.roster()),
    "hybrid": Party(HYBRID, hybrid.opener(), Opener, hybrid.roster()),
}


@pytest.fixture(params=PARTIES)
def party(request: pytest.FixtureRequest) -> Party:
    return PARTIES[request.param]


def every_label() -> list[Label]:
    """Each emotion, each reason to abstain, opted out, muted; short and long names."""
    return [
        *(replace(BLANK, state=LabelState.GIVEN, emotion=emotion, bundle="x" * 16) for emotion in EMOTIONS),
        *(replace(BLANK, state=LabelState.GIVEN, emotion=emotion, confidence=1_000) for emotion in EMOTIONS),
        *(replace(BLANK, state=LabelState.ABSTAINED, abstain_reason=reason) for reason in ABSTAIN_REASONS),
        replace(BLANK, state=LabelState.OPTED_OUT),
        replace(BLANK, window_end_ms=2**48 - 1),
        BLANK,
    ]


def refusal(opener: Opener, sealed: bytes, place: Place = PLACE) -> Verdict:
    with pytest.raises(RemoteMessageError) as refused:
        opener.open(sealed, place)
    return refused.value.verdict


def test_g4_every_label_abstention_mute_and_opt_out_has_the_same_sealed_size(party: Party) -> None:
    sizes = {len(party.sealer.seal(label, PLACE)) for label in every_label()}
    assert sizes == {sealed_bytes(party.suite)} == {{X25519: 112, HYBRID: 1_200}[party.suite]}


def test_g4_links_of_every_label_have_the_same_size(party: Party) -> None:
    sizes = set()
    for label in every_label():
        entry = Entry(3, 11, party.sealer.seal(label, PLACE))
        link = Link("lab", "row-1", 1, 7, "desk-1", 3, (entry,), bytes(32))
        sizes.add(len(sign_link(link, room.signer("desk-1"))))
    assert len(sizes) == 1


def test_g4_equal_labels_are_sealed_differently(party: Party) -> None:
    sealed = [party.sealer.seal(BLANK, PLACE) for _ in range(20)]
    assert len(set(sealed)) == 20
    assert len({each[:32] for each in sealed}) == len({each[-80:] for each in sealed}) == 20


def test_g4_no_plaintext_shows(party: Party) -> None:
    label = replace(BLANK, bundle="seen-by-everyone")
    assert b"seen-by" in encode_label(label)
    assert b"seen-by" not in party.sealer.seal(label, PLACE)


def test_the_gateway_opens(party: Party) -> None:
    for label in every_label():
        assert party.opener.open(party.sealer.seal(label, PLACE), PLACE) == label


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, room="gym"),
        replace(PLACE, line="row-2"),
        replace(PLACE, unit="desk-2"),
        replace(PLACE, session=4),
        replace(PLACE, sequence=12),
    ],
    ids=["room", "line", "unit", "session", "sequence"],
)
def test_g4_a_moved_entry_does_not_open(party: Party, elsewhere: Place) -> None:
    assert refusal(party.opener, party.sealer.seal(BLANK, PLACE), elsewhere) is Verdict.NOT_OPENABLE


def test_g4_keys_of_peers_broker_and_authority_open_nothing(party: Party) -> None:
    """Every secret of everyone else in the room, used as an opening key, and the public ones beside."""
    sealed = party.sealer.seal(BLANK, PLACE)
    secrets = [room.signer(name).private_key.private_bytes_raw() for name in (*room.unit_names(4), room.AUTHORITY)]
    broker = bytes(32)
    public = [party.opener.public_key[:32], party.opener.public_key[-32:]]
    for key in (*secrets, room.signer(room.GATEWAY).private_key.private_bytes_raw(), broker, *public):
        assert refusal(party.stranger(key), sealed) is Verdict.NOT_OPENABLE


@pytest.mark.parametrize("at", [0, 31, 32, 1_087, 1_088, 1_119, -80, -17, -16, -1])
def test_a_changed_byte_does_not_open(party: Party, at: int) -> None:
    sealed = bytearray(party.sealer.seal(BLANK, PLACE))
    sealed[min(at, len(sealed) - 1)] ^= 1
    assert refusal(party.opener, bytes(sealed)) is Verdict.NOT_OPENABLE


@pytest.mark.parametrize("sealed", [b"", b"\x00" * 31, b"\x00" * 112, b"\xff" * 5_000, bytes(1_120), bytes(1_200)])
def test_garbage_does_not_open(party: Party, sealed: bytes) -> None:
    assert refusal(party.opener, sealed) is Verdict.NOT_OPENABLE


def test_an_entry_of_one_suite_does_not_open_in_the_other() -> None:
    one, two = PARTIES.values()
    assert refusal(one.opener, two.sealer.seal(BLANK, PLACE)) is Verdict.NOT_OPENABLE
    assert refusal(two.opener, one.sealer.seal(BLANK, PLACE)) is Verdict.NOT_OPENABLE


def test_a_sealed_thing_that_is_no_label() -> None:
    nothing = b"\x01\x00".ljust(LABEL_BYTES, b"\x00")
    sealed = SUITES[X25519].encrypt(nothing, room.opening_key().public_key(), PLACE.info)
    assert refusal(room.opener(), sealed) is Verdict.BAD_LABEL
    key = MLKEM768X25519PrivateKey(*expand_seed(hybrid.seed()))
    assert refusal(hybrid.opener(), SUITES[HYBRID].encrypt(nothing, key.public_key(), PLACE.info)) is Verdict.BAD_LABEL


def test_the_fullest_link_fits_a_message_of_the_line(party: Party) -> None:
    """As many entries as a link may hold, names as long as names may be, numbers as large as they may be."""
    name, number = "d" * 32, 2**63 - 1
    entries = tuple(Entry(number, number, bytes(sealed_bytes(party.suite))) for _ in range(LIMITS.entries_per_link))
    link = Link(name, name, number, number, name, number, entries, bytes(32))
    assert len(sign_link(link, replace(room.signer("desk-1"), key_id=name))) <= LIMITS.message_bytes


def test_a_full_link_is_followed_and_an_entry_of_the_other_suite_is_not(party: Party) -> None:
    grant = cases.grant_7()
    raw = sign_grant(grant, room.signer(room.GATEWAY))
    sealer = party.sealer

    def entry(number: int) -> Entry:
        return Entry(5, number, sealer.seal(BLANK, Place("lab", "row-1", "desk-2", 5, number)))

    link = Link("lab", "row-1", 1, 7, "desk-2", 5, tuple(map(entry, range(21, 37))), digest(raw))
    verifier = Verifier(party.roster, room.LINE, LIMITS)
    signed = verifier.link(sign_link(link, room.signer("desk-2")))
    follow_link(signed, OpenRound(SignedGrant(grant, raw, digest(raw))), LIMITS, party.roster.suite)
    other = next(suite for suite in SealingSuite if suite is not party.suite)
    with pytest.raises(RemoteMessageError) as refused:
        follow_link(signed, OpenRound(SignedGrant(grant, raw, digest(raw))), LIMITS, other)
    assert refused.value.verdict is Verdict.WRONG_SEALED_SIZE


def test_g4_on_a_line_of_either_suite_only_the_gateway_reads(party: Party) -> None:
    unit = LineUnit(
        roster=party.roster,
        line=room.LINE,
        session=1,
        signer=room.signer("desk-2"),
        outbox=BoundedOutbox(LIMITS.backlog_entries),
        limits=LIMITS,
    )
    gateway = LineGateway(
        roster=party.roster,
        line=room.LINE,
        signer=room.signer(room.GATEWAY),
        opener=party.opener,
        limits=LIMITS,
        witness_count=2,
    )
    unit.connected(0.0)
    for action in gateway.connected(0.0, cases.WALL_MS):
        if isinstance(action, Publish):
            unit.received(action.topic, action.payload, 0.0)
    (link,) = [*unit.label(BLANK, 0.01), *unit.tick(0.4)]
    assert isinstance(link, Publish)
    assert encode_label(BLANK) not in link.payload
    delivered = gateway.received(link.topic, link.payload, 0.4, cases.WALL_MS)
    assert [action.label for action in delivered if isinstance(action, Deliver)] == [BLANK]


def test_a_key_of_another_suite_than_the_rosters_is_refused() -> None:
    with pytest.raises(ConfigError, match="is of suite 1, the roster asks for suite 2"):
        Opener(room.opening_key(), HYBRID)
    with pytest.raises(ConfigError, match="is of suite 2, the roster asks for suite 1"):
        Opener(hybrid.seed(), X25519)


def test_an_opening_key_that_is_no_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no key of suite 2"):
        Sealer(b"\xff" * OPENING_KEY_BYTES[HYBRID], HYBRID)
    with pytest.raises(ConfigError, match="is no key of suite 1"):
        Sealer(bytes(31), X25519)


def test_a_library_without_the_kem_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    public = hybrid.opener().public_key
    monkeypatch.setattr(backend, "mlkem_supported", lambda: False)
    for make in (lambda: Sealer(public, HYBRID), lambda: Opener(hybrid.seed())):
        with pytest.raises(ConfigError, match=r"suite 2 .*has none.*Install `cryptography` as the lock"):
            make()
    Sealer(room.opener().public_key, X25519)


def _combined(seed: bytes, encapsulated: bytes) -> bytes:
    """The shared secret as docs/conformance.md says it is made."""
    mlkem, x25519 = expand_seed(seed)
    other = encapsulated[1_088:]
    parts = (
        mlkem.decapsulate(encapsulated[:1_088]),
        x25519.exchange(X25519PublicKey.from_public_bytes(other)),
        other,
        x25519.public_key().public_bytes_raw(),
        bytes.fromhex("5c2e2f2f5e5c"),
    )
    return hashlib.sha3_256(b"".join(parts)).digest()


def test_published_vector_of_the_hybrid_kem() -> None:
    """draft-ietf-hpke-pq: key pair from the seed, and opening. The library's single shot has no `aad`, the published
    ciphertexts have one; so the published key and nonce make the ciphertext without."""
    path = Path(cryptography_vectors.__file__).parent / "HPKE/hpke-pq-test-vectors.json"
    wanted = (0, 0x647A, 1, 3)
    found = [v for v in json.loads(path.read_text()) if (v["mode"], v["kem_id"], v["kdf_id"], v["aead_id"]) == wanted]
    assert len(found) == 1
    for vector in found:
        seed, info = bytes.fromhex(vector["skRm"]), bytes.fromhex(vector["info"])
        assert Opener(seed).public_key.hex() == vector["pkRm"]
        first = vector["encryptions"][0]
        aead, nonce = ChaCha20Poly1305(bytes.fromhex(vector["key"])), bytes.fromhex(vector["base_nonce"])
        plaintext = bytes.fromhex(first["pt"])
        assert aead.encrypt(nonce, plaintext, bytes.fromhex(first["aad"])).hex() == first["ct"]
        sealed = bytes.fromhex(vector["enc"]) + aead.encrypt(nonce, plaintext, None)
        assert _combined(seed, bytes.fromhex(vector["enc"])).hex() == vector["shared_secret"]
        key = MLKEM768X25519PrivateKey(*expand_seed(seed))
        assert SUITES[HYBRID].decrypt(sealed, key, info) == plaintext
        with pytest.raises(InvalidTag):
            SUITES[HYBRID].decrypt(sealed, key, info + b"\x00")


def test_the_key_file_is_that_of_the_draft(tmp_path: Path) -> None:
    """draft-connolly-cfrg-xwing-kem, appendix D."""
    path = tmp_path / "opening-key.pem"
    path.write_text(
        "-----BEGIN PRIVATE KEY-----\n"
        "MDQCAQAwDQYLKwYBBAGD5i2ByHoEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\n"
        "GhscHR4f\n"
        "-----END PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    seed = keys.load_opening_key(path)
    assert seed == bytes(range(32))
    assert keys.hybrid_pem(seed).replace(b"\n", b"") == path.read_bytes().replace(b"\n", b"")
