"""What systemd hears from us, through a real notification socket; outside systemd nothing happens."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from device.errors import ConfigError
from device.system.systemd import ServiceNotifier, log_handler

SPEAK = """
from device.system.systemd import ServiceNotifier
notifier = ServiceNotifier()
notifier.ready()
notifier.status("line a\\nhas 4 units")
notifier.progressed()
notifier.stopping()
"""


def test_systemd_hears_ready_status_watchdog_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(10)
        subprocess.run([sys.executable, "-c", SPEAK], env={**os.environ, "NOTIFY_SOCKET": address}, check=True)
        heard = [listener.recv(1_000) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=line a has 4 units", b"WATCHDOG=1", b"STOPPING=1"]


def test_outside_systemd_nothing_is_sent_and_the_package_is_not_needed() -> None:
    blocked = "import sys; sys.modules['systemd'] = None\n" + SPEAK + "print('ran')"
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    ran = subprocess.run([sys.executable, "-c", blocked], env=environment, capture_output=True, check=True)
    assert ran.stdout == b"ran\n"


def test_missing_package_under_systemd_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    with pytest.raises(ConfigError, match="systemd-python is not installed"):
        ServiceNotifier({"NOTIFY_SOCKET": "/run/notify"})


def test_watchdog_period_is_half_of_what_systemd_allows() -> None:
    assert ServiceNotifier({"WATCHDOG_USEC": "10000000"}).watchdog_period_s == 5.0
    assert ServiceNotifier({}).watchdog_period_s is None


def test_log_goes_to_standard_error_unless_that_is_the_journal() -> None:
    inherited = {"JOURNAL_STREAM": "1:1"}
    for environment in ({}, inherited):
        handler = log_handler("moodline-unit", environment)
        assert type(handler) is logging.StreamHandler


def test_log_goes_to_the_journal_with_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat(2)
    handler = log_handler("moodline-unit", {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert type(handler).__name__ == "JournalHandler"
