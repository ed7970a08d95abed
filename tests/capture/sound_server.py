"""A real sound server for tests: PulseAudio with a null sink, whose monitor is a microphone for ALSA and PortAudio."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

TOOLS = ("pulseaudio", "pactl", "paplay")
RATE_HZ = 16_000


def require_real(what: str, reason: str) -> None:
    """Skip, or fail where everything must run (MOODLINE_REQUIRE_REAL=1, as in CI)."""
    message = f"{what} is not installed: {reason}"
    if os.environ.get("MOODLINE_REQUIRE_REAL") == "1":
        pytest.fail(message)
    pytest.skip(message)


class SoundServer:
    """One private PulseAudio daemon. `microphones` are the names that PortAudio shows.

    libasound reads its configuration once in a process, so the microphone `recorded`, which is ALSA's file plugin and
    gives the samples of the file `spoken.raw` as fast as they are read, stands in the same configuration.
    """

    microphones = ("desk-one", "desk-two")
    recorded = "desk-file"

    def __init__(self, folder: Path, spoken: NDArray[np.int16]) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            require_real(", ".join(missing), "apt install pulseaudio pulseaudio-utils libasound2-plugins")
        self.folder = folder
        (folder / "spoken.raw").write_bytes(spoken.tobytes())
        self.socket = folder / "native"
        self.alsa_configuration = folder / "asound.conf"
        self.alsa_configuration.write_text(self._alsa())
        (folder / "server.pa").write_text(
            f"load-module module-native-protocol-unix socket={self.socket} auth-anonymous=1\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._modules: dict[str, str] = {}

    def _alsa(self) -> str:
        lines = ["</usr/share/alsa/alsa.conf>"]
        for name in self.microphones:
            lines.append(f'pcm.{name} {{ type pulse server "unix:{self.socket}" device "{name}.monitor" }}')
        spoken = f'file /dev/null infile "{self.folder}/spoken.raw" format raw'
        lines.append(f"pcm.{self.recorded} {{ type file slave.pcm null {spoken} }}")
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start the daemon and plug in both microphones."""
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
        command += ["--disallow-exit", "--system=no", "-F", str(self.folder / "server.pa")]
        environment = {**os.environ, "HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        with (self.folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 20
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PulseAudio did not start: {(self.folder / 'server.log').read_text()}")
            time.sleep(0.05)
        for name in self.microphones:
            self.plug_in(name)

    def _answers(self) -> bool:
        return self.socket.exists() and self._control("info", check=False).returncode == 0

    def _control(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PULSE_SERVER": f"unix:{self.socket}", "HOME": str(self.folder)}
        return subprocess.run(
            ["pactl", *words], env=environment, check=check, capture_output=True, text=True, timeout=20
        )

    def plug_in(self, name: str) -> None:
        """Make the microphone `name` appear."""
        found = self._control(
            "load-module",
            "module-null-sink",
            f"sink_name={name}",
            f"rate={RATE_HZ}",
            "channels=1",
            "format=s16le",
        )
        self._modules[name] = found.stdout.strip()

    def unplug(self, name: str) -> None:
        """Make the microphone `name` vanish."""
        self._control("unload-module", self._modules.pop(name))

    def play(self, path: Path, name: str) -> subprocess.Popen[bytes]:
        """Speak a sound file into the microphone `name`, in real time; the caller waits for it."""
        environment = {**os.environ, "PULSE_SERVER": f"unix:{self.socket}", "HOME": str(self.folder)}
        return subprocess.Popen(
            ["paplay", "--device", name, str(path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def freeze(self) -> None:
        """Stop the daemon without ending it: its clients wait, as for a driver that hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the daemon."""
        if self.process is not None:
            self.thaw()
            self.process.kill()
            self.process.wait()
            self.process = None
