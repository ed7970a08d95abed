"""The registrar's HTTPS application: bodies in, answers and refusals out. It decides nothing itself.

Whatever goes wrong, the asker learns a row of `REFUSALS`, or that the registrar cannot answer now; never the text of
another exception. No browser is meant to come here: a request with a body must be JSON, which no foreign page can send.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from device.errors import MoodlineError
from provisioning.enrolment_messages import (
    BODY_BYTES,
    CHALLENGE_PATH,
    CLAIMS_PATH,
    CONTENT_TYPE,
    ENROL_PATH,
    RENEW_PATH,
    TRUST_PATH,
    RefusalBody,
)
from provisioning.refusals import Refusal, RefusalError
from provisioning.registration import Registration

LOG: Final = logging.getLogger(__name__)
BODY_TIMEOUT_S: Final = 10.0
DETAIL_CHARACTERS: Final = 200
UNAVAILABLE: Final = 503
HEALTH_PATH: Final = "/healthz"

HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def build_app(registration: Registration) -> Starlette:
    """The application over a registration, ready to be served."""

    async def announce(request: Request) -> Response:
        body = await _body(request)
        return _json(200, await run_in_threadpool(registration.announce, body, address=_address(request)))

    async def reveal(request: Request) -> Response:
        body, claim = await _body(request), request.path_params["claim"]
        return _json(200, await run_in_threadpool(registration.reveal, claim, body, reached=_reached(request)))

    async def enrol(request: Request) -> Response:
        body = await _body(request)
        return _json(200, await run_in_threadpool(registration.enrol, body, reached=_reached(request)))

    async def challenge(request: Request) -> Response:
        return _json(200, registration.challenge())

    async def renew(request: Request) -> Response:
        return _json(200, await run_in_threadpool(registration.renew, await _body(request)))

    async def trust(request: Request) -> Response:
        return Response(await run_in_threadpool(registration.trust), media_type="application/cbor")

    async def health(request: Request) -> Response:
        await run_in_threadpool(registration.check)
        return _json(200, {"ok": True})

    return Starlette(
        routes=[
            Route(CLAIMS_PATH, _answering(registration, announce), methods=["POST"]),
            Route(CLAIMS_PATH + "/{claim}", _answering(registration, reveal), methods=["POST"]),
            Route(ENROL_PATH, _answering(registration, enrol), methods=["POST"]),
            Route(CHALLENGE_PATH, _answering(registration, challenge), methods=["POST"]),
            Route(RENEW_PATH, _answering(registration, renew), methods=["POST"]),
            Route(TRUST_PATH, _answering(registration, trust), methods=["GET"]),
            Route(HEALTH_PATH, _answering(registration, health), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_such_path, Exception: _unavailable},
    )


def guarded(app: ASGIApp) -> ASGIApp:
    """The application with `HEADERS` on every answer, whoever gives it."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await app(scope, receive, send_guarded if scope["type"] == "http" else send)

    return guard


Handler = Callable[[Request], Awaitable[Response]]


def _answering(registration: Registration, handler: Handler) -> Handler:
    """Count the request, and make every error of ours an answer."""

    async def answer(request: Request) -> Response:
        try:
            registration.enter(_address(request))
            return await handler(request)
        except RefusalError as error:
            LOG.info("%s was refused: %s", _address(request), error)
            return refusal(error)
        except MoodlineError as error:
            LOG.error("%s could not be answered: %s", _address(request), error)
            return _sorry()
        except ClientDisconnect:
            return _sorry()

    return answer


def refusal(error: RefusalError) -> Response:
    """A refusal as it goes to the box."""
    body = RefusalBody(
        code=error.refusal,
        sentence=error.row.sentence,
        next_step=error.row.next_step,
        detail=error.detail[:DETAIL_CHARACTERS],
    )
    return _json(error.row.status, body)


async def _body(request: Request) -> bytes:
    """The request's body. Raises RefusalError MALFORMED when it is no JSON, too large or too slow."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != CONTENT_TYPE:
        raise RefusalError(Refusal.MALFORMED, f"The body must be {CONTENT_TYPE}.")
    try:
        return await asyncio.wait_for(_read(request), BODY_TIMEOUT_S)
    except TimeoutError as error:
        raise RefusalError(Refusal.MALFORMED, f"The body did not come within {BODY_TIMEOUT_S:g} s.") from error


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise RefusalError(Refusal.MALFORMED, f"At most {BODY_BYTES} bytes are read.")
    return bytes(body)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _reached(request: Request) -> str:
    server = request.scope.get("server")
    return str(server[0]) if server else ""


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else UNAVAILABLE
    known = RefusalError(Refusal.MALFORMED, "There is no such path, or not for this method.")
    answer = refusal(known)
    answer.status_code = status
    return answer


async def _unavailable(request: Request, error: Exception) -> Response:
    return _sorry()


def _sorry() -> Response:
    return _json(UNAVAILABLE, {"error": "The registrar cannot answer now.", "next_step": "Ask again later."})


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=CONTENT_TYPE)
