"""The procedure as such: ten steps in their order, one error family out, whatever the bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import device.line.verify
from device.clock import TimeSource
from device.config import LineLimits
from device.errors import VERDICTS, ConfigError, RemoteMessageError, Verdict
from device.line.verify import OpenRound, Verifier, follow_link, step_10_time
from device.messages.label import Label, LabelState
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries
from tools.vectors.hostile import sign_bytes

WALL_MS = 1_800_000_000_000
DAY_MS = 86_400_000
VERIFIER = Verifier(room.roster(), room.LINE, LIMITS)
PLAY = Round(SealedEntries({}))


def test_the_code_has_ten_numbered_steps_and_the_verdicts_name_them() -> None:
    source = Path(device.line.verify.__file__).read_text()
    assert {int(number) for number in re.findall(r"def step_(\d+)_", source)} == set(range(1, 11))
    assert {row.step for row in VERDICTS.values()} == set(range(1, 11))
    assert set(VERDICTS) == set(Verdict)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_bring_only_remote_message_errors(raw: bytes) -> None:
    for verify in (VERIFIER.link, VERIFIER.grant):
        with pytest.raises(RemoteMessageError):
            verify(raw)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_a_rostered_unit_that_signs_random_bytes_brings_only_remote_message_errors(payload: bytes) -> None:
    with pytest.raises(RemoteMessageError):
        VERIFIER.link(sign_bytes(payload, room.signer("desk-2")))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_link_is_refused(data: st.DataObject) -> None:
    raw = bytearray(PLAY.signed(PLAY.good))
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        at = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
        raw[at] ^= data.draw(st.integers(min_value=1, max_value=255))
    if bytes(raw) != PLAY.signed(PLAY.good):
        with pytest.raises(RemoteMessageError):
            VERIFIER.link(bytes(raw))


def test_the_signature_is_checked_before_the_chain() -> None:
    """So that nobody without a key learns anything about the chain from verdicts, nor touches any state."""
    stale_and_forged = sign_bytes(b"\x00", room.signer("forger"), protected=None)
    with pytest.raises(RemoteMessageError) as refused:
        VERIFIER.link(stale_and_forged)
    assert refused.value.step < 6


def test_the_view_is_untouched_by_a_refused_link() -> None:
    view = PLAY.view()
    before = (view.head, dict(view.accepted), dict(view.links), set(view.objects))
    link = VERIFIER.link(PLAY.first_raw)
    with pytest.raises(RemoteMessageError):
        follow_link(link, view, LIMITS, room.roster().suite)
    assert (view.head, view.accepted, view.links, view.objects) == before


def test_a_round_moves_on_with_each_link() -> None:
    view: OpenRound = PLAY.view()
    link = VERIFIER.link(PLAY.signed(PLAY.good))
    follow_link(link, view, LIMITS, room.roster().suite)
    view.extend(link)
    assert view.head == link.digest
    assert view.accepted["desk-2"].covers(5, 21)
    assert not view.accepted["desk-2"].covers(5, 22)


def test_a_line_longer_than_the_limit_is_the_operators_to_correct() -> None:
    Verifier(room.roster(LIMITS.units_per_line), room.LINE, LIMITS)
    with pytest.raises(ConfigError, match="units_per_line"):
        Verifier(room.roster(LIMITS.units_per_line + 1), room.LINE, LIMITS)


def test_a_full_link_that_no_message_could_hold_is_the_operators_to_correct() -> None:
    small = LineLimits(message_bytes=2_400)
    with pytest.raises(ConfigError, match="message_bytes"):
        Verifier(room.roster(), room.LINE, small)


@pytest.mark.parametrize(
    ("source", "ahead_ms", "plausible"),
    [
        (TimeSource.NTP, 0, True),
        (TimeSource.NTP, LineLimits().clock_tolerance_ms, True),
        (TimeSource.NTP, LineLimits().clock_tolerance_ms + 1, False),
        (TimeSource.GATEWAY, DAY_MS, False),
        (TimeSource.GATEWAY, -DAY_MS, False),
        (TimeSource.NTP, 70 * DAY_MS, False),
        (TimeSource.NTP, -1_800_000 * 1_000, False),
        (TimeSource.NTP, -3_000_000, True),
        (TimeSource.UNSET, 70 * DAY_MS, True),
    ],
)
def test_times_are_judged_and_nothing_is_refused_for_them(source: TimeSource, ahead_ms: int, plausible: bool) -> None:
    label = Label(window_end_ms=WALL_MS + ahead_ms, time_source=source, state=LabelState.MUTED)
    assert step_10_time(label, WALL_MS, LineLimits()) is plausible
