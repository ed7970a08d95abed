"""The container of receipts and proofs: one encoding, closed fields, and nothing before or after it."""

from __future__ import annotations

import io
from dataclasses import replace

import cbor2
import pytest

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.receipt import (
    ReceiptHeader,
    ReceiptKind,
    encode_receipt,
    looks_like_receipt,
    read_receipt,
)

OBJECTS = (b"", b"a", b"b" * 23, b"c" * 24, b"d" * 255, b"e" * 256, b"f" * 65_535, b"g" * 65_536)
HEADER = ReceiptHeader(ReceiptKind.SPAN, "lab", "row-1", (b"roster",), 3, 9, len(OBJECTS))


def written(header: ReceiptHeader = HEADER, objects: tuple[bytes, ...] = OBJECTS) -> bytes:
    return b"".join(encode_receipt(header, objects))


def read(raw: bytes) -> tuple[ReceiptHeader, tuple[bytes, ...]]:
    header, objects = read_receipt(io.BytesIO(raw), message_bytes=1 << 17)
    return header, tuple(objects)


def test_what_is_written_is_read_whatever_the_sizes() -> None:
    assert read(written()) == (HEADER, OBJECTS)
    proof = replace(HEADER, kind=ReceiptKind.PROOF, objects=2)
    assert read(written(proof, (b"one", b"two"))) == (proof, (b"one", b"two"))
    assert looks_like_receipt(written()[:64])
    assert not looks_like_receipt(b"SQLite format 3\x00" + bytes(48))


def test_the_file_is_a_sequence_that_a_strange_cbor_decoder_reads() -> None:
    stream = io.BytesIO(written())
    items = [cbor2.load(stream) for _ in range(1 + len(OBJECTS))]
    assert cbor2.loads(items[0]) == {
        1: "application/moodline-receipt+cbor-seq",
        2: 1,
        3: 0,
        4: "lab",
        5: "row-1",
        6: [b"roster"],
        7: 3,
        8: 9,
        9: 8,
    }
    assert tuple(items[1:]) == OBJECTS


def _with_header(**changes: object) -> bytes:
    (encoded,) = encode_receipt(replace(HEADER, objects=0), ())
    fields = cbor2.loads(cbor2.loads(encoded))
    return cbor.encode(cbor.encode({**fields, **{int(key[1:]): value for key, value in changes.items()}}))


SMALL = written(replace(HEADER, objects=1), (b"object",))
LONG_HEAD = SMALL[: -len(b"object") - 1] + b"\x58\x06object"


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        (b"", Verdict.NOT_DECODABLE),
        (SMALL[:-1], Verdict.NOT_DECODABLE),
        (SMALL[:-7], Verdict.NOT_DECODABLE),
        (SMALL + b"\x00", Verdict.NOT_DECODABLE),
        (SMALL + b"\x41a", Verdict.NOT_DECODABLE),
        (SMALL[:-7] + b"\x66object", Verdict.NOT_DECODABLE),
        (SMALL[:-7] + b"\x5f\x46object\xff", Verdict.NOT_DECODABLE),
        (LONG_HEAD, Verdict.NOT_DETERMINISTIC),
        (SMALL[:-7] + b"\x5a\x7f\xff\xff\xff", Verdict.TOO_LARGE),
        (b"\x5b" + b"\xff" * 8, Verdict.TOO_LARGE),
        (cbor.encode(cbor.encode("no map")), Verdict.NOT_DECODABLE),
        (_with_header(_1="application/other"), Verdict.NOT_DECODABLE),
        (_with_header(_2=2), Verdict.UNKNOWN_VERSION),
        (_with_header(_3=7), Verdict.NOT_DECODABLE),
        (_with_header(_4="no name"), Verdict.NOT_DECODABLE),
        (_with_header(_6=["text"]), Verdict.NOT_DECODABLE),
        (_with_header(_6=[b""] * 65), Verdict.NOT_DECODABLE),
        (_with_header(_7=-1), Verdict.NOT_DECODABLE),
        (_with_header(_10=1), Verdict.NOT_DECODABLE),
    ],
    ids=[
        "empty",
        "cut in an object",
        "cut between objects",
        "a byte too many",
        "an object too many",
        "a text",
        "indefinite length",
        "longer head",
        "huge object",
        "huge header",
        "header no map",
        "another content type",
        "another version",
        "another kind",
        "room no name",
        "roster no bytes",
        "too many rosters",
        "negative round",
        "a field more",
    ],
)
def test_a_file_with_one_defect_is_refused_with_its_own_code(raw: bytes, verdict: Verdict) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        read(raw)
    assert refused.value.verdict is verdict
