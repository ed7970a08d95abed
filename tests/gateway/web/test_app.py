from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import httpx
import pytest
from starlette.applications import Starlette

from device.errors import StorageError
from device.gateway.board import Board
from device.gateway.documents import LabelDocument
from device.gateway.web.app import HEADERS, Health, Labels, PageSources, build_app
from tests.gateway import schemas
from tests.gateway.scripted import a_label, put_room, room_part


class SomeLabels:
    """Stored labels of one desk."""

    def since(self, unit: str, since_ms: int, *, limit: int) -> Sequence[LabelDocument]:
        return [a_label(unit, sequence=number) for number in (1, 2)] if unit == "unit-1" else []


class BrokenLabels:
    """A database that cannot be read."""

    def since(self, unit: str, since_ms: int, *, limit: int) -> Sequence[LabelDocument]:
        raise StorageError("gateway.sqlite: reading labels failed.", next_step="Check the disk.")


class Client:
    """Asks an application without a socket in between."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """One request and its whole answer."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asker:
                return await asker.request(method, path, headers=headers)

        return asyncio.run(ask())

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """A GET."""
        return self.request("GET", path, headers)


def client(labels: Labels | None = None, *, healthy: bool = True, live_clients: int = 5) -> Client:
    board = Board()
    put_room(board)
    sources = PageSources(
        board=board,
        labels=labels,
        health=lambda: Health(healthy, {"broker": "connected" if healthy else "away"}),
        live_clients=live_clients,
    )
    return Client(build_app(sources))


EVERY_ANSWER = [
    ("/", 200),
    ("/static/page.js", 200),
    ("/static/glyph.js", 200),
    ("/static/page.css", 200),
    ("/static/icon.svg", 200),
    ("/api/state", 200),
    ("/api/labels?desk=unit-1", 200),
    ("/healthz", 200),
    ("/nothing", 404),
    ("/static/../app.py", 404),
    ("/static/%2e%2e/app.py", 404),
    ("/static//etc/passwd", 404),
]


@pytest.mark.parametrize(("path", "status"), EVERY_ANSWER)
def test_every_answer_carries_the_headers_that_keep_the_page_to_itself(path: str, status: int) -> None:
    answer = client(SomeLabels()).get(path)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(method: str) -> None:
    for path in ("/", "/api/state", "/api/events", "/api/labels", "/healthz", "/static/page.js"):
        assert client().request(method, path).status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", "127.0.0.1.evil.example"]
)
def test_a_foreign_name_in_the_request_is_refused(host: str) -> None:
    answer = client().get("/api/state", headers={"host": host})
    assert answer.status_code == 421
    assert b"unit" not in answer.content


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "10.0.0.7"])
def test_our_own_names_and_addresses_are_served(host: str) -> None:
    assert client().get("/api/state", headers={"host": host}).status_code == 200


def test_the_state_is_all_that_the_page_shows() -> None:
    state = client().get("/api/state").json()
    assert state["room"] == room_part()
    assert [alert["code"] for alert in state["alerts"]] == ["replayed", "bad_signature", "unit_absent"]
    schemas.check("label", json.dumps(state["desk/a/unit-1"]).encode())


def test_stored_labels_are_given_by_desk_and_moment() -> None:
    answer = client(SomeLabels()).get("/api/labels?desk=unit-1&since=0").json()
    assert [label["sequence"] for label in answer["labels"]] == [1, 2]
    assert answer["more"] is False
    assert client(SomeLabels()).get("/api/labels?desk=unit-2").json()["labels"] == []


@pytest.mark.parametrize(
    "query",
    ["", "desk=", "desk=" + "x" * 33, "desk=unit-1&since=-1", "desk=unit-1&since=soon", "desk=unit-1&since=" + "9" * 16,
     "desk=unit-1&since=1e3", "desk=unit-1&since=٣", "desk=unit-1&since=999999999999999"],
)  # fmt: skip
def test_a_malformed_question_is_refused_with_a_next_step(query: str) -> None:
    answer = client(SomeLabels()).get(f"/api/labels?{query}")
    assert answer.status_code == 400
    assert answer.json()["next_step"]


def test_where_the_policy_shows_no_desk_stored_labels_are_refused() -> None:
    answer = client(None).get("/api/labels?desk=unit-1")
    assert answer.status_code == 403
    assert "policy" in answer.json()["error"]


def test_a_database_that_fails_is_an_answer_with_a_next_step() -> None:
    answer = client(BrokenLabels()).get("/api/labels?desk=unit-1")
    assert answer.status_code == 503
    assert answer.json() == {"error": "gateway.sqlite: reading labels failed.", "next_step": "Check the disk."}


def test_health_is_a_status_code() -> None:
    assert client().get("/healthz").status_code == 200
    ill = client(healthy=False).get("/healthz")
    assert (ill.status_code, ill.json()["checks"]) == (503, {"broker": "away"})


def test_one_viewer_too_many_is_refused() -> None:
    answer = client(live_clients=0).get("/api/events")
    assert answer.status_code == 503
    assert "live_clients" in answer.json()["next_step"]


def test_the_page_itself_holds_no_script_style_or_address_from_elsewhere() -> None:
    page = client().get("/").text
    assert "<script>" not in page and "style=" not in page and "onclick" not in page
    for name in ("/", "/static/page.js", "/static/glyph.js", "/static/page.css"):
        text = client().get(name).text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text
    assert "5(1)(f)" in page
