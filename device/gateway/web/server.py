"""Serves the page on its own thread, on a socket that was bound before anything else started."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from device.config import Web
from device.errors import ConfigError
from device.system.keys import check_owner_only

LOG: Final = logging.getLogger(__name__)

STOP_TIMEOUT_S: Final = 3.0
SPARE_CONNECTIONS: Final = 20


def bind(web: Web) -> socket.socket:
    """A listening socket for the page.

    Raises ConfigError when the address is not this machine's own (the page has no log-in yet, so it must not be open to
    the network) or when the port is taken.
    """
    if web.host != "localhost" and not _is_loopback(web.host):
        raise ConfigError(
            f"web.host = {web.host!r} would open the page, which has no log-in, to the network.",
            next_step='Set web.host = "127.0.0.1" and reach it through a proxy that asks who comes, or an SSH tunnel.',
        )
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((web.host, web.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"web: {web.host} port {web.port} cannot be used ({error.strerror}).",
            next_step="Stop the program that uses it (perhaps another gateway), or set another web.port.",
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_certificate(web: Web) -> None:
    """Raise ConfigError when the page's certificate and key cannot be used; nothing when there is none."""
    if web.certificate is None or web.key is None:
        return
    check_owner_only(web.key)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(web.certificate, web.key)
    except OSError as error:
        raise ConfigError(
            f"{web.certificate} with {web.key}: cannot be used for HTTPS ({error.strerror or type(error).__name__}).",
            next_step="Give the page's own certificate and its key, or leave both out.",
        ) from error


class PageServer:
    """uvicorn behind start and stop. With `certificate` and `key` it speaks HTTPS only."""

    def __init__(self, app: Starlette, listener: socket.socket, web: Web) -> None:
        self._app = app
        self._listener = listener
        scheme = "https" if web.certificate else "http"
        host, self.port = listener.getsockname()[:2]
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            server_header=False,
            limit_concurrency=web.live_clients + SPARE_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            ssl_certfile=_name(web.certificate),
            ssl_keyfile=_name(web.key),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)

    def start(self) -> None:
        """Begin to serve, and return at once."""
        self._thread.start()

    @property
    def serving(self) -> bool:
        """Whether the page's thread is alive."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End live streams, close connections, and wait a little for the thread."""
        self._app.state.close_live_feed()
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._listener.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except SystemExit:
            LOG.error("the page could not be served on %s", self.address)


def _name(path: Path | None) -> str | None:
    return str(path) if path is not None else None
