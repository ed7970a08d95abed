"""What the service tells systemd, and the journal. Outside systemd every call does nothing; the only systemd import."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping

from device.errors import ConfigError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class ServiceNotifier:
    """sd_notify(3) for a `Type=notify` service: ready, status text, watchdog, stopping.

    Without NOTIFY_SOCKET in the environment nothing is sent and systemd-python is not needed.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._send: Callable[[str], object] | None = None
        if environment.get("NOTIFY_SOCKET"):
            try:
                from systemd.daemon import notify
            except ImportError as error:
                raise _missing("NOTIFY_SOCKET is set") from error
            self._send = notify
        self._watchdog_us = int(environment.get("WATCHDOG_USEC", "0") or "0")

    @property
    def watchdog_period_s(self) -> float | None:
        """How often `progressed` must come at least (half of WatchdogSec, as sd_watchdog_enabled(3) advises)."""
        return self._watchdog_us / 2e6 if self._watchdog_us else None

    def ready(self) -> None:
        """The service has started: call once, when it does its work."""
        self._notify("READY=1")

    def progressed(self) -> None:
        """Feed the watchdog; call it from the work itself, never from a timer."""
        self._notify("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notify("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._notify("STOPPING=1")

    def _notify(self, message: str) -> None:
        if self._send is not None:
            self._send(message)


def log_handler(name: str, environment: Mapping[str, str] = os.environ) -> logging.Handler:
    """Where log records go: the journal, with its fields, when standard error is connected to it; else standard error.

    `name` is the journal's SYSLOG_IDENTIFIER. JOURNAL_STREAM alone says nothing, because children inherit it: it must
    name the device and inode of our standard error (systemd.exec(5)). Raises ConfigError when the journal is there and
    systemd-python is not.
    """
    if environment.get("JOURNAL_STREAM", "") != _identity_of_standard_error():
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        return handler
    try:
        from systemd.journal import JournalHandler
    except ImportError as error:
        raise _missing("Standard error is the journal") from error
    journal: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER=name)
    return journal


def _identity_of_standard_error() -> str:
    found = os.fstat(2)
    return f"{found.st_dev}:{found.st_ino}"


def _missing(why: str) -> ConfigError:
    return ConfigError(
        f"{why}, but the Python package systemd-python is not installed.",
        next_step="Install this box's locked dependencies, or start the program outside systemd.",
    )
