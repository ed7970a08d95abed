"""Running mosquitto: absent, refusing its configuration, not running, ended twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device.errors import ConfigError, TransportError
from provisioning import mosquitto
from provisioning.mosquitto import Mosquitto, free_port
from tests.integration.room_broker import require_mosquitto


def minimal(folder: Path, *entries: str) -> Mosquitto:
    port = free_port()
    (folder / "mosquitto.conf").write_text("\n".join([f"listener {port} 127.0.0.1", *entries, ""]))
    return Mosquitto(folder, "127.0.0.1", port)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_absent_mosquitto_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "EXTRA_FOLDERS", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"mosquitto is not installed. Run: apt install mosquitto"):
        minimal(tmp_path).start()


def test_configuration_that_mosquitto_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    require_mosquitto()
    broker = minimal(tmp_path, "no_such_option true")
    with pytest.raises(ConfigError, match=r"mosquitto ended at once: .*mosquitto.log"):
        broker.start()
    assert broker.pid is None
    assert "no_such_option" in broker.log.read_text()


def test_reload_of_a_broker_that_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="mosquitto is not running"):
        minimal(tmp_path).reload()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that notes how it is called, and fails when told to; returns the note's path."""
    programs = tmp_path / "programs"
    programs.mkdir()
    note = tmp_path / "called"
    stand_in = programs / "systemctl"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {note}\ntest "$2" != refused.service\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return note


def test_systemds_broker_is_reloaded_by_systemd(
    tmp_path: Path, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "check_files", lambda folder: None)
    mosquitto.reload_service(tmp_path)
    assert systemctl.read_text() == "reload moodline-broker.service\n"
    with pytest.raises(TransportError, match=r"refused.service: was not reloaded.*systemctl reload refused.service"):
        mosquitto.reload_service(tmp_path, "refused.service")


def test_systemds_broker_is_not_told_to_read_ruined_files(tmp_path: Path, systemctl: Path) -> None:
    with pytest.raises(ConfigError, match=r"mosquitto.conf: is missing"):
        mosquitto.reload_service(tmp_path)
    assert not systemctl.exists()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_ended_broker_leaves_no_process_and_may_be_ended_twice(tmp_path: Path, how: str) -> None:
    require_mosquitto()
    broker = minimal(tmp_path, "allow_anonymous true")
    broker.start()
    pid = broker.pid
    assert pid is not None and alive(pid)
    for _ in range(2):
        (broker.stop if how == "stop" else broker.kill)()
    assert broker.pid is None
    assert not alive(pid)


def test_ctrl_c_at_the_terminal_does_not_reach_the_broker(tmp_path: Path) -> None:
    require_mosquitto()
    broker = minimal(tmp_path, "allow_anonymous true")
    broker.start()
    try:
        assert broker.pid is not None
        assert os.getpgid(broker.pid) != os.getpgid(0)
    finally:
        broker.stop()
