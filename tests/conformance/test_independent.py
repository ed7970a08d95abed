"""A second implementation passes the kit, and agrees with ours about messages that nobody thought of beforehand."""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any, Final

import cbor2

from tests.conformance import independent
from tools.conformance import line
from tools.conformance.__main__ import load_all, run
from tools.conformance.door import Door
from tools.conformance.vectors import Vector
from tools.vectors import room
from tools.vectors.hostile import parts, sign_bytes

SEED: Final = 20_261_125
DAMAGED: Final = 600
SIGNED: Final = 600
ENCODING: Final = {"not_decodable", "not_deterministic"}
ODD: Final[tuple[object, ...]] = (
    0,
    1,
    2,
    5,
    7,
    23,
    24,
    255,
    2**32,
    2**63 - 1,
    2**63,
    -1,
    "",
    "desk-2",
    "row-1",
    b"",
    bytes(32),
    [],
    {},
)


def test_a_second_implementation_passes_the_kit() -> None:
    rows = run(Door([sys.executable, "-m", "tests.conformance.independent"]), machines=False)
    assert [row for row in rows if not row.same and not row.left_out] == []
    assert {row.group for row in rows if row.left_out} == {"play line/sequences"}


def test_two_implementations_agree_about_damaged_messages() -> None:
    """Bytes changed, cut, doubled and put in at random places of good and bad messages."""
    chance = random.Random(SEED)
    vectors = [vector for vector in load_all() if vector.kind in ("link", "grant") and vector.name != "oversized"]
    verdicts = Counter(
        agreed(vector, damaged(bytes.fromhex(vector.content["messages"][0]), chance))
        for vector in chance.choices(vectors, k=DAMAGED)
    )
    assert len(verdicts) >= 5, verdicts


def test_two_implementations_agree_about_signed_nonsense() -> None:
    """Payloads with odd values in some fields, signed by the unit or gateway that they name."""
    chance = random.Random(SEED)
    good = [vector for vector in load_all() if vector.good and vector.kind in ("link", "grant")]
    verdicts = Counter(agreed(vector, odd(vector, chance)) for vector in chance.choices(good, k=SIGNED))
    assert len(verdicts) >= 10, verdicts


def agreed(vector: Vector, message: bytes) -> object:
    """The verdict on which both agree; of two broken rules of the encoding, each may find another first."""
    request = {
        **vector.room.in_room(),
        "kind": vector.kind,
        "chain": vector.content["chain"],
        "messages": [message.hex()],
        "opening_key": vector.room.content["opening_key"],
    }
    ours, theirs = line.answer("verify", request), independent.answer("verify", request)
    verdicts = {ours[1]["verdict"], theirs[1]["verdict"]}
    assert ours == theirs or verdicts == ENCODING, f"{vector.folder}/{vector.name} as {message.hex()}"
    return ours[1]["verdict"]


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three defects."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(raw) + 1)
        some = chance.randbytes(chance.randint(1, 4))
        raw = chance.choice(
            (
                raw[:at] + some + raw[at:],
                raw[:at] + some + raw[at + len(some) :],
                raw[:at] + raw[at + 1 :],
                raw[: max(1, at)],
                raw[:at] + bytes([(raw[at] if at < len(raw) else 0) ^ 1 << chance.randrange(8)]) + raw[at + 1 :],
            )
        )
    return raw


def odd(vector: Vector, chance: random.Random) -> bytes:
    """The vector's message with odd values in one or two fields, or an odd key, signed anew."""
    raw = bytes.fromhex(vector.content["messages"][0])
    protected, _, payload, _ = parts(raw)
    fields: dict[Any, Any] = cbor2.loads(payload)
    for _ in range(chance.randint(1, 2)):
        key, value = chance.choice(list(fields)), chance.choice(ODD)
        match chance.choice((0, 0, 0, 0, 1, 2, 3)):
            case 0 if isinstance(fields[key], int):
                fields[key] += chance.choice((-1, 1))
            case 1 if isinstance(fields[key], list):
                fields[key] = [*fields[key], value]
            case 2:
                fields[chance.choice((0, 10, 11))] = value
            case _:
                fields[key] = value
    key_id = cbor2.loads(protected)[4].decode()
    return sign_bytes(cbor2.dumps(fields, canonical=True), room.signer(key_id), protected=protected)
