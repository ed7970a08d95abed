"""What one object says can be written in one way only: also where a field is a set."""

from __future__ import annotations

import cbor2
import pytest

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import ContentType
from device.messages.roster import read_roster, sign_roster
from tools.vectors import room
from tools.vectors.hostile import parts, protected_of, sign_bytes

AUTHORITY = room.signer(room.AUTHORITY)
REVOKED = 5


@pytest.mark.parametrize(
    "names", [["desk-3", "desk-2"], ["desk-2", "desk-2", "desk-3"], ["desk-2", "desk-3", "desk-2"]]
)
def test_a_roster_with_unsorted_or_doubled_revoked_units_is_refused(names: list[str]) -> None:
    good = sign_roster(room.roster(revoked=frozenset({"desk-2", "desk-3"})), AUTHORITY)
    fields = cbor2.loads(parts(good)[2])
    assert fields[REVOKED] == ["desk-2", "desk-3"]
    headers = protected_of(room.AUTHORITY, content_type=ContentType.ROSTER)
    payload = cbor2.dumps({**fields, REVOKED: names}, canonical=True)
    with pytest.raises(RemoteMessageError, match="not sorted") as refused:
        read_roster(
            sign_bytes(payload, AUTHORITY, protected=headers, line=""),
            authority_key=AUTHORITY.public_key,
            room=room.ROOM,
        )
    assert refused.value.verdict is Verdict.NOT_DECODABLE
