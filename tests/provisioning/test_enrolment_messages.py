"""Bodies on the wire: whatever bytes come, only a refusal leaves; what is signed is what the design says."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from provisioning.enrolment_messages import (
    BODY_BYTES,
    Commitment,
    EnrolmentRequest,
    Message,
    RenewalRequest,
    check_request,
    commitment,
    decode,
    short_code,
    sign_request,
    signed_part,
)
from provisioning.refusals import Refusal, RefusalError
from tests.provisioning.registrar_box import FakeBox

REGISTRAR = b"R" * 32
KINDS: list[type[Message]] = [Commitment, EnrolmentRequest, RenewalRequest]
GOOD = msgspec.json.encode(FakeBox(REGISTRAR).request("a" * 26))


def refusals(raw: bytes) -> set[Refusal | None]:
    """What each kind of body finds wrong with the bytes; None where they are a proper one."""
    found: set[Refusal | None] = set()
    for kind in KINDS:
        try:
            body = decode(raw, kind)
            if isinstance(body, (EnrolmentRequest, RenewalRequest)):
                check_request(body, REGISTRAR)
            found.add(None)
        except RefusalError as error:
            found.add(error.refusal)
    return found


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
@example(b"\xff\xfe")
@example(b"[" * 10_000)
@example(b'{"commitment": "\\ud800"}')
def test_garbage_is_refused_and_nothing_else_leaves(raw: bytes) -> None:
    assert refusals(raw) == {Refusal.MALFORMED}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 4))
def test_a_damaged_request_is_refused(at: int, put: bytes, cut: int) -> None:
    damaged = GOOD[:at] + put + GOOD[at + cut :]
    found = refusals(damaged)
    assert found <= {Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.OTHER_CHANNEL, None}
    assert None not in found or decode(damaged, EnrolmentRequest) == decode(GOOD, EnrolmentRequest)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*json.loads(GOOD), "new_key", "commitment"]), JSON, max_size=10))
def test_other_json_is_refused(fields: dict[str, object]) -> None:
    changed = json.dumps({**json.loads(GOOD), **fields}).encode()
    found = refusals(changed)
    assert found <= {Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.OTHER_CHANNEL, None}
    assert None not in found or decode(changed, EnrolmentRequest) == decode(GOOD, EnrolmentRequest)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "AAAA"),
        ("nonce", "A" * 24),
        ("token", "A" * 26),
        ("token", "a" * 25),
        ("serial", "a\nb"),
        ("serial", "x" * 65),
        ("kind", "renew"),
        ("surprise", 1),
    ],
)
def test_a_field_out_of_bounds_is_named(field: str, value: object) -> None:
    with pytest.raises(RefusalError) as caught:
        decode(json.dumps({**json.loads(GOOD), field: value}).encode(), EnrolmentRequest)
    assert caught.value.refusal is Refusal.MALFORMED
    assert field in caught.value.detail


def test_a_body_over_the_limit_is_not_read() -> None:
    with pytest.raises(RefusalError, match=f"at most {BODY_BYTES}"):
        decode(b" " * BODY_BYTES + GOOD, EnrolmentRequest)


def test_a_request_survives_the_wire() -> None:
    request = decode(GOOD, EnrolmentRequest)
    check_request(request, REGISTRAR)
    assert msgspec.json.encode(request) == GOOD


def test_what_is_signed_has_a_domain_and_neither_signature() -> None:
    box, new = FakeBox(REGISTRAR), FakeBox(REGISTRAR)
    request = box.renewal("b3", b"c" * 16, new=new.signer)
    bare = msgspec.structs.replace(request, signature=bytes(64), possession=None)
    assert signed_part(request) == signed_part(bare)
    assert signed_part(request).startswith(b"moodline request v1\0{")
    check_request(request, REGISTRAR)


def test_an_enrolment_cannot_be_taken_for_a_renewal() -> None:
    box = FakeBox(REGISTRAR)
    renewal = box.renewal("b3", b"c" * 16)
    request = msgspec.structs.replace(box.request(), signature=renewal.signature)
    with pytest.raises(RefusalError) as caught:
        check_request(request, REGISTRAR)
    assert caught.value.refusal is Refusal.BAD_SIGNATURE
    assert sign_request(request, box.signer).signature != renewal.signature


def test_a_key_that_is_no_point_is_a_bad_signature() -> None:
    request = msgspec.structs.replace(FakeBox(REGISTRAR).request(), key=b"\xff" * 32)
    with pytest.raises(RefusalError) as caught:
        check_request(request, REGISTRAR)
    assert caught.value.refusal is Refusal.BAD_SIGNATURE


def test_commitment_and_code_are_what_the_design_says() -> None:
    key, ours, theirs = b"k" * 32, b"b" * 16, b"g" * 16
    assert commitment(key, ours) == hashlib.sha256(b"moodline commitment v1" + key + ours).digest()
    bits = int.from_bytes(hashlib.sha256(b"moodline code v1" + key + REGISTRAR + ours + theirs).digest(), "big") >> 226
    wanted = ""
    for _ in range(6):
        bits, digit = divmod(bits, 32)
        wanted = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[digit] + wanted
    assert short_code(key, REGISTRAR, ours, theirs) == wanted
