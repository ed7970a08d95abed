"""What somebody on the room's network can try against a running line: each is refused, told, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from device.errors import VERDICTS, Verdict
from device.line.actions import Notice
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.link import decode_link, sign_link
from tests.simulators.line import SimulatedLine
from tools.attacks import forge_link
from tools.vectors import room
from tools.vectors.hostile import malleate, nested, sign_bytes

Attack = Callable[[bytes], bytes]


def _resigned(captured: bytes, signer: str, **changes: object) -> bytes:
    link = decode_link(open_envelope(captured, wanted=ContentType.LINK))
    changed = replace(link, round=link.round + 1, **changes)  # type: ignore[arg-type]
    return sign_link(changed, room.signer(signer))


ATTACKS: dict[str, tuple[Attack, Verdict]] = {
    "forged link": (forge_link, Verdict.BAD_SIGNATURE),
    "replayed link": (bytes, Verdict.REPLAYED),
    "malleable signature": (malleate, Verdict.BAD_SIGNATURE),
    "unknown key": (lambda raw: _resigned(raw, "stranger", unit="stranger"), Verdict.UNKNOWN_SIGNER),
    "unit of another line": (
        lambda raw: _resigned(raw, room.OTHER_UNIT, unit=room.OTHER_UNIT),
        Verdict.SIGNER_OF_ANOTHER_LINE,
    ),
    "another room": (lambda raw: _resigned(raw, "desk-1", room="gym"), Verdict.WRONG_ROOM),
    "another line": (lambda raw: _resigned(raw, "desk-1", line=room.OTHER_LINE), Verdict.WRONG_LINE),
    "stale epoch": (lambda raw: _resigned(raw, "desk-1", epoch=0), Verdict.STALE_EPOCH),
    "oversized": (lambda raw: raw + bytes(100_000), Verdict.TOO_LARGE),
    "deep nesting": (lambda raw: sign_bytes(nested(5_000), room.signer("desk-1")), Verdict.NOT_DECODABLE),
    "random bytes": (lambda raw: bytes(range(200)), Verdict.NOT_DECODABLE),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_injected_message_is_refused_told_and_leaves_nothing(name: str) -> None:
    attack, verdict = ATTACKS[name]
    line = SimulatedLine(1).start()
    line.run(3.1)
    before = line.alerts.copy()
    captured = line.units["desk-1"].published[-2]
    line.inject(attack(captured))
    line.run(3)
    assert before == []
    assert [alert.code for alert in line.alerts] == [verdict]
    assert not VERDICTS[verdict].honest or verdict is Verdict.STALE_EPOCH
    line.check()
    assert all(len(closed.links) == 4 for closed in line.log)
    assert all(len(unit.outbox) <= 1 for unit in line.units.values())


def test_a_forged_grant_moves_no_unit() -> None:
    line = SimulatedLine(2).start()
    line.run(3.1)
    captured = line.units["desk-1"].published[-1]
    line.publish(topics.grant(room.ROOM, room.LINE), captured)
    line.run(3)
    for unit in line.units.values():
        assert [alert.code for alert in unit.alerts] == [Verdict.WRONG_KIND]
    assert all(len(closed.links) == 4 for closed in line.log)


def test_a_thousand_hostile_messages_delay_nobody_for_long() -> None:
    line = SimulatedLine(3).start()
    line.run(2)
    for number in range(1_000):
        line.inject(line.random.randbytes(number % 300), unit="desk-2")
    line.run(3)
    line.check()
    assert all(len(closed.links) == 4 for closed in line.log)


def test_a_box_started_from_a_copied_card_stops_and_the_rest_of_the_line_goes_on() -> None:
    line = SimulatedLine(4).start()
    line.run(3)
    copied = line.units["desk-1"]
    line.kill_unit("desk-1")
    copied.session -= 1
    line.start_unit("desk-1")
    line.run(3)
    assert copied.machine is not None
    assert copied.machine.state == "stopped"
    assert Notice.ENROL_ANEW in {alert.code for alert in copied.alerts}
    assert all(len(closed.links) == 3 for closed in line.log[-3:])
    line.check()
