"""The page's application: static files, the state as JSON, live events, stored labels, health. Read only.

Every answer carries the headers of `HEADERS`. A request whose Host is neither this machine nor an address is refused,
so that a foreign site cannot read the page through the viewer's browser (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from device.errors import StorageError
from device.gateway.board import Board
from device.gateway.documents import LabelDocument
from device.gateway.web.live import LiveFeed

STATIC: Final = Path(__file__).with_name("static")

HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Labels(Protocol):
    """Stored labels, by desk and time."""

    def since(self, unit: str, since_ms: int, *, limit: int) -> Sequence[LabelDocument]:
        """Labels of a unit accepted at or after a moment, oldest first. Raises StorageError."""
        ...


@dataclass(frozen=True)
class Health:
    """What /healthz says: `ok` decides the status code, `checks` say which part is how."""

    ok: bool
    checks: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PageSources:
    """Where the page's content comes from. `labels` is None when the policy lets no desk be shown."""

    board: Board
    labels: Labels | None
    health: Callable[[], Health]
    live_clients: int
    hosts: frozenset[str] = frozenset({"localhost"})


LABELS_PER_ANSWER: Final = 500
LATEST_MOMENT_MS: Final = 2**48


def build_app(sources: PageSources) -> Starlette:
    """The application, ready to be served."""
    feed = LiveFeed(sources.board, sources.live_clients)

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    async def state(request: Request) -> Response:
        return _json(200, sources.board.since(0).parts)

    async def events(request: Request) -> Response:
        if feed.full:
            return _refusal(503, "Too many pages are open.", "Close one, or raise web.live_clients in gateway.toml.")
        return StreamingResponse(feed.stream(), media_type="text/event-stream")

    async def labels(request: Request) -> Response:
        return await run_in_threadpool(_stored_labels, sources.labels, request)

    async def health(request: Request) -> Response:
        found = sources.health()
        return _json(200 if found.ok else 503, {"ok": found.ok, "checks": found.checks})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        feed.open()
        try:
            yield
        finally:
            feed.close()

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/api/state", state),
            Route("/api/events", events),
            Route("/api/labels", labels),
            Route("/healthz", health),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
    )
    app.state.close_live_feed = feed.close
    app.add_middleware(Guard, hosts=sources.hosts)
    return app


def _stored_labels(source: Labels | None, request: Request) -> Response:
    if source is None:
        return _refusal(403, "The policy in force lets no single desk be shown.", "Ask for the class picture instead.")
    unit = request.query_params.get("desk", "")
    since = request.query_params.get("since", "0")
    if not 0 < len(unit) <= 32:
        return _refusal(400, "`desk` is missing.", "Ask like this: /api/labels?desk=UNIT&since=MILLISECONDS")
    if not (since.isascii() and since.isdigit() and len(since) <= 15 and int(since) < LATEST_MOMENT_MS):
        return _refusal(400, "`since` is no moment.", "Give milliseconds since 1970-01-01 UTC.")
    try:
        found = source.since(unit, int(since), limit=LABELS_PER_ANSWER)
    except StorageError as error:
        return _refusal(503, error.what, error.next_step)
    return _json(200, {"labels": found, "more": len(found) == LABELS_PER_ANSWER})


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _refusal(status: int, what: str, next_step: str) -> Response:
    return _json(status, {"error": what, "next_step": next_step})


class Guard:
    """Refuses foreign Host names and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        app: ASGIApp = self._app
        if not self._is_ours(Headers(scope=scope).get("host", "")):
            app = PlainTextResponse("This page is not served under that name.\n", 421)
        await app(scope, receive, send_guarded)

    def _is_ours(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True
