"""The live page in a real Chromium, served by the gateway's own server from a scripted room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from device.config import Web
from device.gateway.board import Board
from device.gateway.web.app import Health, PageSources, build_app
from device.gateway.web.server import PageServer, bind
from models.labels import Emotion
from provisioning.mosquitto import free_port
from tests.gateway.scripted import NOW_MS, a_label, an_alert, line_part, put_label, put_room, room_part
from tests.integration import browser
from tests.integration.browser import Browser

FOUR = [f"unit-{number}" for number in range(1, 5)]


@pytest.fixture
def board() -> Board:
    return Board()


def serve(board: Board, port: int) -> PageServer:
    web = Web(port=port)
    sources = PageSources(board=board, labels=None, health=lambda: Health(True, {}), live_clients=10)
    return PageServer(build_app(sources), bind(web), web)


@pytest.fixture
def served(board: Board) -> Iterator[PageServer]:
    server = serve(board, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with browser.opened() as opened:
        yield opened


def put_four(board: Board, **line: Any) -> None:
    """The demo's room: four desks, two of them sure, one not, one muted."""
    board.put("room", room_part())
    board.put("line/a", line_part(FOUR, **({"signed": FOUR[1:], "refused": 0} | line)))
    board.put("alerts", [])
    put_label(board, a_label(FOUR[0], label=Emotion.HAPPINESS, confidence=0.91))
    put_label(board, a_label(FOUR[1], label=Emotion.ANGER, confidence=0.74, delay_ms=1_240))
    put_label(board, a_label(FOUR[2], label=None, status="signed", witnesses=1))
    put_label(board, a_label(FOUR[3], label=None, state="muted", abstain_reason=None, delay_ms=None))


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [
        ("desk", 1440, 900, "light"),
        ("desk-dark", 1440, 900, "dark"),
        ("phone", 390, 844, "light"),
        ("projector", 1920, 1080, "light"),
    ],
)
def test_every_state_of_a_desk_has_its_own_picture_and_words_at_every_width(
    board: Board, served: PageServer, chromium: Browser, name: str, width: int, height: int, scheme: str
) -> None:
    put_room(board)
    page = chromium.open(served.address, width=width, height=height, color_scheme=scheme)
    page.wait_for_glyph("unit-13", "away")
    kinds = [page.glyph(f"unit-{number}") for number in range(1, 14)]
    assert kinds == [*(emotion.value for emotion in Emotion), "unsure", "unsure", "muted", "opted-out", "away"]
    drawings = {page.drawing(f"unit-{number}") for number in range(1, 14)}
    assert len(drawings) == 12, "no two kinds look the same"
    words = [page.text(f"[data-unit=unit-{number}] .label") for number in (1, 9, 11, 12, 13)]
    assert words == ["Anger", "No label", "Muted", "Opted out", "Away"]
    assert page.text("[data-unit=unit-5] .fault") == "Camera unplugged"
    assert page.text("[data-unit=unit-13] .why") == "Lost: power, network?"
    sideways = page.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert sideways == 0, "nothing sticks out at the side"
    page.tab.locator(".key summary").click()
    page.picture(name)


def test_forty_desks_stay_readable_and_nothing_sticks_out(board: Board, served: PageServer, chromium: Browser) -> None:
    units = [f"unit-{number}" for number in range(1, 41)]
    board.put("room", room_part())
    board.put("line/a", line_part(units, signed=units))
    board.put("alerts", [])
    for unit, emotion in zip(units, 5 * list(Emotion), strict=True):
        put_label(board, a_label(unit, label=emotion))
    for width in (390, 1920):
        page = chromium.open(served.address, width=width, height=1080)
        page.wait_for_glyph("unit-40", "surprise")
        assert page.tab.locator(".desk:visible").count() == 40
        assert "83 % sure" in page.text("[data-unit=unit-17]") and "84 ms" in page.text("[data-unit=unit-17]")
        assert page.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        page.picture(f"forty-desks-{width}")


def test_the_faces_can_be_told_apart_without_colour(board: Board, served: PageServer, chromium: Browser) -> None:
    put_room(board)
    page = chromium.open(served.address, forced_colors="active")
    page.wait_for_glyph("unit-8", "surprise")
    without_colour = page.tab.evaluate(
        """() => [...document.querySelectorAll('.desk .glyph')].slice(0, 8).map((glyph) => {
            const copy = glyph.cloneNode(true);
            for (const part of copy.querySelectorAll('*')) part.removeAttribute('class');
            copy.querySelectorAll('title, .ring-share').forEach((part) => part.remove());
            return copy.innerHTML;
        })"""
    )
    assert len(set(without_colour)) == 8
    page.picture("forced-colours")


def test_a_new_label_is_drawn_live_with_its_words_and_figures(
    board: Board, served: PageServer, chromium: Browser
) -> None:
    put_four(board)
    page = chromium.open(served.address)
    page.wait_for_glyph(FOUR[0], "happiness")
    assert "1 so far" in page.text(f"[data-unit={FOUR[2]}]")
    put_label(board, a_label(FOUR[0], label=Emotion.SADNESS, confidence=0.66, sequence=2, witnesses=3, delay_ms=57))
    page.wait_for_glyph(FOUR[0], "sadness")
    card = page.text(f"[data-unit={FOUR[0]}]")
    for words in ("Sadness", "66 % sure", "60 · 40 %", "3 ✓", "57 ms"):
        assert words in card
    assert page.tab.get_by_role("img", name="Desk 1: Sadness, 66 % sure").count() == 1


def test_a_surer_label_fills_more_of_the_ring(board: Board, served: PageServer, chromium: Browser) -> None:
    put_four(board)
    page = chromium.open(served.address)
    page.wait_for_glyph(FOUR[1], "anger")

    def filled(unit: str) -> float:
        ring = page.tab.locator(f"[data-unit={unit}] .ring-share").get_attribute("stroke-dasharray")
        return float(ring.split()[0])

    assert filled(FOUR[0]) > filled(FOUR[1]) > 0


def test_who_opened_the_round_and_who_has_signed_can_be_seen(
    board: Board, served: PageServer, chromium: Browser
) -> None:
    put_four(board)
    page = chromium.open(served.address)
    page.wait_for_glyph(FOUR[3], "muted")
    assert page.tab.locator(".desk.opens").get_attribute("data-unit") == FOUR[1]
    assert page.text(".desk.opens .flag") == "opens the round"
    assert page.tab.locator(".desk.signed").count() == 3
    assert "3 of 4" in page.text(".facts")
    board.put("line/a", line_part(FOUR, round=1043, opener=FOUR[2], signed=FOUR, live=FOUR[:3]))
    page.wait_for_glyph(FOUR[3], "away")
    assert page.tab.locator(".desk.opens").get_attribute("data-unit") == FOUR[2]
    assert "1,043" in page.text(".facts") and "3 of 4" in page.text(".facts")
    page.picture("four-desks")


def test_a_refused_message_appears_with_the_reason_and_what_to_do(
    board: Board, served: PageServer, chromium: Browser
) -> None:
    put_four(board)
    page = chromium.open(served.address)
    page.tab.get_by_text("Nothing was refused").wait_for()
    board.put("alerts", [an_alert(1)])
    page.tab.locator(".alert.refused").wait_for()
    told = page.text(".alert.refused")
    for words in (
        "The signature is not by the unit that it names.",
        "Look for a strange device",
        "Desk 2 (unit-2)",
        "step 5",
    ):
        assert words in told
    assert page.tab.locator("#alerts").get_attribute("aria-live") == "polite"
    page.picture("refused")


def test_names_from_the_network_are_text_and_never_markup(board: Board, served: PageServer, chromium: Browser) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    put_four(board)
    board.put("alerts", [an_alert(1, peer=hostile, detail=hostile, sentence=hostile, next_step=hostile)])
    put_label(board, a_label(FOUR[0], label=None, abstain_reason=None, state="abstained"))
    page = chromium.open(served.address)
    page.tab.locator(".alert").wait_for()
    assert hostile in page.text(".alert")
    assert page.tab.locator(".alert img").count() == 0


def test_the_class_picture_shows_no_desk(board: Board, served: PageServer, chromium: Browser) -> None:
    counts = {emotion.value: 0 for emotion in Emotion} | {"happiness": 6, "neutral": 4, "boredom": 1, "unnamed": 2}
    board.put("room", room_part("class-aggregate"))
    board.put("line/a", line_part(FOUR))
    board.put("alerts", [])
    board.put(
        "class",
        {
            "schema": "moodline/class/1",
            "event_id": "room-1/1",
            "room": "room-1",
            "from_ms": NOW_MS,
            "to_ms": NOW_MS + 10_000,
            "min_group": 11,
            "desks": 13,
            "counts": counts,
        },
    )
    page = chromium.open(served.address)
    page.tab.locator(".band .glyph-happiness").wait_for()
    assert page.tab.locator(".desk:visible").count() == 0
    assert "13 desks" in page.text("#class") and "6" in page.text(".band:has(.glyph-happiness)")
    page.picture("class")
    board.put("class", {"from_ms": NOW_MS, "to_ms": NOW_MS, "min_group": 11, "desks": None, "counts": None})
    page.tab.get_by_text("nothing is shown").wait_for()
    assert page.tab.locator(".band").count() == 0


def test_when_the_policy_is_not_in_force_the_page_says_so(board: Board, served: PageServer, chromium: Browser) -> None:
    part = room_part()
    part["policy"] |= {"in_force": False, "why_not": "policy of room room-1: not in force at this time."}
    board.put("room", part | {"broker": "away"})
    board.put("alerts", [])
    page = chromium.open(served.address)
    page.tab.get_by_text("not in force at this time").wait_for()
    assert "away" in page.text("#pill-broker") and "not in force" in page.text("#pill-policy")
    assert "5(1)(f)" in page.text(".notice")
    page.picture("not-in-force")


def test_when_the_gateway_goes_and_comes_back_the_page_says_so_and_goes_on(
    board: Board, served: PageServer, chromium: Browser
) -> None:
    put_four(board)
    page = chromium.open(served.address)
    page.wait_for_glyph(FOUR[0], "happiness")
    served.stop()
    page.tab.locator("#pill-page[data-state=bad]").wait_for()
    assert "reconnecting" in page.text("#pill-page")
    assert page.glyph(FOUR[0]) == "happiness", "what was shown stays, marked as old"
    again = serve(board, served.port)
    put_label(board, a_label(FOUR[0], label=Emotion.FEAR, sequence=2))
    again.start()
    try:
        page.wait_for_glyph(FOUR[0], "fear")
        assert "live" in page.text("#pill-page")
    finally:
        again.stop()
        page.complaints.clear()
