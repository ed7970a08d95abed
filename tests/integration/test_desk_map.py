"""The map of the room on the live page, in a real Chromium: desks stand where the gateway says that they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from device.gateway.board import Board
from device.gateway.web.server import PageServer
from models.labels import Emotion
from provisioning.classroom import Desk, default_classroom
from provisioning.mosquitto import free_port
from tests.gateway.scripted import a_label, line_part, put_label, room_part
from tests.integration import browser
from tests.integration.browser import Browser, Watched
from tests.integration.test_page import serve

ROOM = default_classroom(3, 4)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def served(board: Board) -> Iterator[PageServer]:
    server = serve(board, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def chromium(one_browser: Browser, served: PageServer) -> Iterator[Browser]:
    """The browser; its tabs close before the server stops, which they would complain of."""
    yield one_browser
    for watched in one_browser.tabs:
        watched.tab.close()


def put_lines(board: Board, desks: tuple[Desk, ...] = ROOM.desks, *, mode: str = "labels") -> None:
    """The board as the gateway fills it, with the place of each desk that has one."""
    board.put("room", room_part(mode))
    for line in sorted({desk.line for desk in desks}):
        of_line = [desk for desk in desks if desk.line == line]
        units = [desk.unit for desk in of_line]
        told = [
            {"unit": desk.unit, "desk": desk.name} | ({"place": desk.place} if desk.place else {}) for desk in of_line
        ]
        whole = {"line": line, "opener": units[0], "order": units, "signed": units, "live": units, "desks": told}
        board.put(f"line/{line}", line_part(["unit-1", "unit-2"], **whole))
    board.put("alerts", [])


def stands(page: Watched) -> dict[str, tuple[int, int]]:
    """Row and column of each desk of the map, by where it is drawn."""
    boxes = page.tab.evaluate(
        "[...document.querySelectorAll('[data-place]')].map((tile) => { const box = tile.getBoundingClientRect();"
        " return [tile.dataset.place, Math.round(box.top), Math.round(box.left)]; })"
    )
    rows, columns = (sorted({box[axis] for box in boxes}) for axis in (1, 2))
    return {unit: (rows.index(top) + 1, columns.index(left) + 1) for unit, top, left in boxes}


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_desks_stand_on_the_map_as_in_the_room(
    board: Board, served: PageServer, chromium: Browser, width: int, scheme: str
) -> None:
    put_lines(board)
    put_label(board, a_label("b2", label=Emotion.SURPRISE, line="b", desk="Desk 6"))
    put_label(board, a_label("c4", label=None, state="muted", abstain_reason=None, line="c", desk="Desk 12"))
    page = chromium.open(served.address, width=width, color_scheme=scheme)
    page.wait_for_glyph("b2", "surprise")
    assert stands(page) == ROOM.places
    assert page.text("[data-place=b2]").split("\n") == ["Desk 6", "Surprise"]
    assert page.tab.locator("[data-place=b2] .glyph-surprise").count() == 1
    assert page.text("[data-place=c4]").split("\n") == ["Desk 12", "Muted"]
    assert page.tab.locator(".desk:visible").count() == 12, "the lines stand below as ever"
    assert page.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.tab.get_by_role("img", name="Desk 6: Surprise").count() == 1, "spoken once, not twice"
    page.picture(f"map-{width}-{scheme}")


def test_a_place_leads_to_its_desk_and_follows_what_the_desk_shows(
    board: Board, served: PageServer, chromium: Browser
) -> None:
    put_lines(board)
    page = chromium.open(served.address, height=400)
    page.tab.locator("[data-place=c4] a").click()
    assert page.tab.evaluate("location.hash") == "#desk-c-c4"
    page.tab.wait_for_function(
        "(() => { const box = document.querySelector('[data-unit=c4]').getBoundingClientRect();"
        " return box.top < innerHeight && box.bottom > 0; })()"
    )
    put_label(board, a_label("c4", label=Emotion.FEAR, line="c", desk="Desk 12"))
    page.tab.locator("[data-place=c4] .glyph-fear").wait_for()
    put_label(board, a_label("c4", label=Emotion.ANGER, line="c", desk="Desk 12", sequence=2))
    page.tab.locator("[data-place=c4] .glyph-anger").wait_for()
    assert page.tab.locator("[data-place=c4] .glyph").count() == 1


def test_aisles_stay_and_an_empty_margin_goes(board: Board, served: PageServer, chromium: Browser) -> None:
    desks = (
        Desk("Left", "a", "a1", (3, 5)),
        Desk("Right", "a", "a2", (3, 7)),
        Desk("Behind", "a", "a3", (5, 5)),
        Desk("Nowhere", "a", "a4"),
    )
    put_lines(board, desks)
    page = chromium.open(served.address)
    page.tab.locator("[data-place=a3]").wait_for()
    areas = page.tab.evaluate(
        "[...document.querySelectorAll('[data-place]')].map((t) => [t.dataset.place, t.style.gridArea])"
    )
    assert dict(areas) == {"a1": "1 / 1", "a2": "1 / 3", "a3": "3 / 1"}
    assert page.tab.locator("[data-unit=a4]").count() == 1, "a desk without a place stands on its line alone"


def test_a_desk_that_moves_is_drawn_where_it_now_stands(board: Board, served: PageServer, chromium: Browser) -> None:
    put_lines(board)
    page = chromium.open(served.address)
    page.tab.locator("[data-place=c4]").wait_for()
    moved = tuple(Desk("By the door", "c", "c4", (4, 1)) if desk.unit == "c4" else desk for desk in ROOM.desks)
    put_lines(board, moved)
    page.tab.get_by_text("By the door").first.wait_for()
    assert stands(page)["c4"] == (4, 1)
    put_lines(board, (*ROOM.desks[:11], Desk("Desk 12", "c", "c4")))
    page.tab.locator("[data-place=c4]").wait_for(state="detached")
    assert len(stands(page)) == 11


def test_without_places_there_is_no_map(board: Board, served: PageServer, chromium: Browser) -> None:
    put_lines(board, tuple(Desk(desk.name, desk.line, desk.unit) for desk in ROOM.desks))
    page = chromium.open(served.address)
    page.tab.locator("[data-unit=c4]").wait_for()
    assert page.tab.locator("#map").count() == 0


def test_under_a_class_policy_the_map_shows_no_desk(board: Board, served: PageServer, chromium: Browser) -> None:
    put_lines(board, mode="class-aggregate")
    page = chromium.open(served.address)
    page.tab.locator("#map").wait_for(state="attached")
    assert page.tab.locator("[data-place]:visible").count() == 0
