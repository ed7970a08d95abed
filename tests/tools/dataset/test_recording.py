"""Sessions at random, takes without gaps, consent noted; and no box ever records."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from device.capture.recordings import load_recording
from device.errors import CaptureError, CaptureReason, ConfigError
from models.labels import Emotion
from tests.fakes.capture import FakeAudio, FakeVideo, gone, tone
from tests.fakes.clock import FakeClock
from tools.dataset.manifest import Consent, Manifest, clips, read_manifest
from tools.dataset.recording import (
    BOX_ACCOUNTS,
    TAKE_SECONDS,
    Session,
    facts_of,
    record,
    refuse_on_a_box,
    run_sessions,
    schedule,
    with_consent,
)

CONSENT = Consent(person="anna", given_on="2026-01-31", purpose="A test of the tool.")


class Desk:
    """A clock, a microphone and a camera that go on together whenever somebody waits."""

    def __init__(self, *, lost_at: float | None = None, fails_at: float | None = None) -> None:
        self.clock, self.audio, self.video = FakeClock(), FakeAudio(), FakeVideo()
        self._lost_at, self._fails_at, self._began = lost_at, fails_at, self.clock.monotonic()
        self._due_s = 0.0

    def wait(self, seconds: float) -> None:
        now = self.clock.advance(seconds)
        passed = now - self._began
        if self.audio.starts == self.audio.stops or not seconds:
            return
        skip = 0
        if self._lost_at is not None and passed >= self._lost_at:
            skip, self._lost_at = 1_600, None
        if self._fails_at is not None and passed >= self._fails_at:
            self.audio.failure = gone()
        self.audio.put(tone(seconds, hertz=100.0 + passed), now, skip=skip)
        if passed >= self._due_s - 1e-6:
            pixels = np.random.default_rng(int(passed * 1000)).integers(0, 256, (48, 64), np.uint8)
            self.video.put(pixels, now)
            self._due_s = max(self._due_s, passed - 0.4) + 0.5


@pytest.mark.parametrize("seed", range(20))
def test_sessions_last_5_to_10_minutes_in_turn_and_within_the_span(seed: int) -> None:
    plan = schedule(seed, 6, 3 * 3600)
    assert all(300 <= session.seconds <= 600 for session in plan)
    assert all(a.starts_s + a.seconds <= b.starts_s for a, b in pairwise(plan))
    assert plan[0].starts_s >= 0 and plan[-1].starts_s + plan[-1].seconds <= 3 * 3600


def test_a_seed_decides_the_plan() -> None:
    assert schedule(3, 4, 7_200) == schedule(3, 4, 7_200) != schedule(4, 4, 7_200)


@pytest.mark.parametrize(("sessions", "within_s"), [(0, 600), (2, 1_199), (101, 86_400), (1, 86_401), (1, 0)])
def test_a_plan_that_may_not_fit_is_refused(sessions: int, within_s: float) -> None:
    with pytest.raises(ConfigError, match="10 minutes for each"):
        schedule(0, sessions, within_s)


def test_takes_hold_ten_seconds_of_sound_and_the_pictures_of_that_time() -> None:
    desk = Desk()
    takes = list(record(desk.audio, desk.video, desk.clock, desk.wait, 35.0))
    assert [len(take.samples) for take in takes] == [TAKE_SECONDS * 16_000] * 3
    for take in takes:
        assert len(take.pictures) in (19, 20, 21)
        assert all(0 <= picture.seconds <= TAKE_SECONDS for picture in take.pictures)
    assert len({id(picture.content) for take in takes for picture in take.pictures}) == sum(
        len(take.pictures) for take in takes
    )
    assert (desk.audio.stops, desk.video.stops) == (1, 1)


def test_a_take_in_which_sound_was_lost_is_dropped() -> None:
    desk = Desk(lost_at=12.0)
    first, second, _ = record(desk.audio, None, desk.clock, desk.wait, 33.0)
    np.testing.assert_array_equal(first.samples[:1_600], tone(0.1, hertz=100.1))
    np.testing.assert_array_equal(second.samples[:1_600], tone(0.1, hertz=112.0))


def test_a_source_that_fails_ends_the_session_and_both_are_closed() -> None:
    desk = Desk(fails_at=12.0)
    takes = record(desk.audio, desk.video, desk.clock, desk.wait, 60.0)
    assert len(next(takes).samples) == 160_000
    with pytest.raises(CaptureError, match="gone"):
        next(takes)
    assert (desk.audio.stops, desk.video.stops) == (1, 1)


def test_a_camera_that_does_not_open_closes_the_microphone() -> None:
    desk = Desk()
    desk.video.failure = gone(CaptureReason.NOT_FOUND)
    with pytest.raises(CaptureError):
        next(record(desk.audio, desk.video, desk.clock, desk.wait, 60.0))
    assert desk.audio.stops == 1


def test_a_microphone_of_another_rate_is_refused() -> None:
    desk = Desk()
    with pytest.raises(CaptureError, match="8000 Hz"):
        next(record(FakeAudio(8_000), None, desk.clock, desk.wait, 60.0))
    assert not desk.audio.starts


def begun(folder: Path) -> tuple[Manifest, Callable[[Desk], Manifest]]:
    manifest, place = with_consent(Manifest(folder), CONSENT)
    facts = facts_of(person="anna", emotion=Emotion.FEAR, sex="female", language="de", terms="in house", consent=place)
    plan = [Session(5.0, 21.0), Session(40.0, 11.0)]
    return manifest, lambda desk: run_sessions(manifest, facts, plan, (desk.audio, desk.video), desk.clock, desk.wait)


def test_sessions_become_labelled_items_with_the_consent_of_the_person(tmp_path: Path) -> None:
    _, run = begun(tmp_path)
    manifest = run(Desk())
    assert manifest == read_manifest(tmp_path)
    assert [item.name for item in manifest.items] == [
        "recorded/anna/20270115T080005-000",
        "recorded/anna/20270115T080005-001",
        "recorded/anna/20270115T080040-000",
    ]
    for item in manifest.items:
        assert item.consent is not None and manifest.head.consents[item.consent] == CONSENT
        assert (item.kind, item.seconds, item.emotion, item.person) == ("sound and faces", 10.0, Emotion.FEAR, "anna")
        assert len(load_recording(manifest.file_of(item)).pictures) == item.pictures
    assert len(clips(manifest)) == 3


def test_what_was_recorded_before_a_failure_is_kept(tmp_path: Path) -> None:
    _, run = begun(tmp_path)
    with pytest.raises(CaptureError):
        run(Desk(fails_at=20.0))
    assert len(read_manifest(tmp_path).items) == 1


def test_a_camera_that_is_not_there_is_told_before_the_first_session(tmp_path: Path) -> None:
    _, run = begun(tmp_path)
    desk = Desk()
    desk.video.failure = gone(CaptureReason.NOT_FOUND)
    before = desk.clock.monotonic()
    with pytest.raises(CaptureError):
        run(desk)
    assert desk.clock.monotonic() == before


def test_a_consent_is_noted_once(tmp_path: Path) -> None:
    once, place = with_consent(Manifest(tmp_path), CONSENT)
    assert with_consent(once, CONSENT) == (once, place)
    other = Consent(person="bert", given_on="2026-02-01", purpose="The same.")
    assert with_consent(once, other)[1] == 1


@pytest.mark.parametrize(
    ("person", "given_on", "purpose", "field"),
    [("", "2026-01-31", "x", "person"), ("anna", "yesterday", "x", "given_on"), ("anna", "2026-01-31", "", "purpose")],
)
def test_a_consent_without_who_when_or_what_for_is_refused(
    person: str, given_on: str, purpose: str, field: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=field):
        with_consent(Manifest(tmp_path), Consent(person=person, given_on=given_on, purpose=purpose))


def test_a_recording_without_terms_or_with_a_person_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="terms"):
        facts_of(person="anna", terms="")
    with pytest.raises(ConfigError, match="name"):
        facts_of(person="../anna", terms="in house")


@pytest.mark.parametrize("place", ["etc/moodline", "var/lib/moodline"])
def test_a_box_refuses_to_record(place: str, tmp_path: Path) -> None:
    refuse_on_a_box(tmp_path, "anna")
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"a Moodline box .*{place} exists"):
        refuse_on_a_box(tmp_path, "anna")


@pytest.mark.parametrize("account", BOX_ACCOUNTS)
def test_the_accounts_of_a_box_refuse_to_record(account: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"the account {account}"):
        refuse_on_a_box(tmp_path, account)
