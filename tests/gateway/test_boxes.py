from __future__ import annotations

import json

import pytest

from device.gateway.boxes import STATUS_BYTES, BoxStatus, is_news, read_status

GOOD = {"schema": "moodline/unit-status/1", "unit": "desk-1", "session": 3, "process": "running", "camera": "unplugged"}


def test_a_status_is_read_and_what_the_page_does_not_show_is_left_out() -> None:
    status = read_status(json.dumps(GOOD | {"mute": "muted", "model": "x"}).encode(), "desk-1")
    assert status == BoxStatus(unit="desk-1", session=3, process="running", camera="unplugged")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"unit": "desk-1"}',
        json.dumps(GOOD | {"unit": "desk-2"}).encode(),
        json.dumps(GOOD | {"session": -1}).encode(),
        json.dumps(GOOD | {"process": "<b>running</b>"}).encode(),
        json.dumps(GOOD | {"camera": "x" * 33}).encode(),
        json.dumps(GOOD | {"padding": "x" * STATUS_BYTES}).encode(),
        b"[" * 4_000,
    ],
)
def test_bytes_that_are_no_status_of_that_unit_are_left_alone(payload: bytes) -> None:
    assert read_status(payload, "desk-1") is None


def test_a_last_will_of_an_older_session_says_nothing_about_a_newer_one() -> None:
    running, lost = (BoxStatus(unit="desk-1", session=n, process=p) for n, p in ((4, "running"), (3, "lost")))
    assert is_news(running, lost) and is_news(lost, None)
    assert not is_news(lost, running)
    assert is_news(BoxStatus(unit="desk-1", session=4, process="lost"), running)
