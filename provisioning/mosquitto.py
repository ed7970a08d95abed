"""Run the room's own mosquitto in the foreground of a process that we hold: for the demo room and for tests.

On a deployed gateway systemd runs mosquitto from the same rendered files.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from device.errors import ConfigError, TransportError
from provisioning.broker import check_files

START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10.0
SERVICE: Final = "moodline-broker.service"
EXTRA_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def find_mosquitto() -> str | None:
    """The program's path, also where ordinary users do not look; None when it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=EXTRA_FOLDERS)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def reload_service(folder: Path, service: str = SERVICE) -> None:
    """The same for the mosquitto that systemd runs over that folder, for a caller who may reload the service.

    Raises ConfigError for files that must not be read, TransportError when systemd refuses.
    """
    check_files(folder)
    try:
        subprocess.run(["systemctl", "reload", service], check=True, capture_output=True, timeout=STOP_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise TransportError(
            f"{service}: was not reloaded ({error}).", next_step=f"Run as root: systemctl reload {service}"
        ) from error


class Mosquitto:
    """One mosquitto over a rendered broker folder (see `provisioning.broker`)."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self._folder = folder
        self._address = (host, port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        return self._process.pid if self._process is not None else None

    @property
    def log(self) -> Path:
        """What mosquitto has said since the folder was made."""
        return self._folder / "mosquitto.log"

    def start(self) -> None:
        """Start, and return when the port accepts connections.

        Raises ConfigError when mosquitto is not installed or refuses its configuration.
        """
        program = find_mosquitto()
        if program is None:
            raise ConfigError("mosquitto is not installed.", next_step="Run: apt install mosquitto")
        # A group of its own: Ctrl-C at the terminal must not end the broker before the programs that speak through it.
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._wait_until_listening()

    def reload(self) -> None:
        """Read access list, certificates and revocation list again without dropping anybody.

        It takes effect at the end of mosquitto's turn, some milliseconds later. Raises ConfigError for files that must
        not be read (see `provisioning.broker.check_files`), TransportError when mosquitto does not run.
        """
        if self.pid is not None:
            check_files(self._folder)
        self._signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it cleanly: it saves its sessions and retained messages. May be called twice."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would. May be called twice."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop cleanly and start."""
        self.stop()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise TransportError("mosquitto is not running.", next_step=f"Read {self.log}.")
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _wait_until_listening(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                raise ConfigError(f"mosquitto ended at once: {self._last_line()}", next_step=f"Read {self.log}.")
            try:
                socket.create_connection(self._address, timeout=0.2).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.kill()
        raise ConfigError(f"mosquitto does not listen on {self._address}.", next_step=f"Read {self.log}.")

    def _last_line(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "no reason given"
