"""Two machines with a cable between them, on one: network namespaces and a virtual Ethernet pair.

mDNS finds nothing over the loopback, and a gateway's address changes only where it has one of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
GATEWAY: Final = 0
BOX: Final = 1
GATEWAY_ADDRESS: Final = "10.77.0.1"
BOX_ADDRESS: Final = "10.77.0.2"


def why_not() -> str:
    """Why no two machines with a cable between them can be made here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip", path=PATH) is None or shutil.which("unshare", path=PATH) is None:
        return "needs iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"needs network namespaces: {tried.stderr.strip()}" if tried.returncode else ""


needs_cable = pytest.mark.skipif(bool(why_not()), reason=why_not())


class Cable:
    """The gateway's machine and the box's, each with one address on the cable and none elsewhere."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []
        self._holders = [self._hold(), self._hold()]
        first, second = (holder.pid for holder in self._holders)
        self._ip(first, "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", f"{second}")
        for pid, device, address in ((first, "cable0", GATEWAY_ADDRESS), (second, "cable1", BOX_ADDRESS)):
            self._ip(pid, "address", "add", f"{address}/24", "dev", device)
            self._ip(pid, "link", "set", "lo", "up")
            self._ip(pid, "link", "set", device, "up")
            self._ip(pid, "route", "add", "224.0.0.0/4", "dev", device)

    def entering(self, side: int) -> tuple[str, ...]:
        """The command before a command that is to run on one side."""
        return ("nsenter", "--net", f"--target={self._holders[side].pid}")

    def start(self, side: int, *command: str) -> subprocess.Popen[str]:
        """Run a program on one side; it is stopped with the cable."""
        started = subprocess.Popen(
            [*self.entering(side), *command], cwd=REPOSITORY, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        self._started.append(started)
        return started

    def change_address(self, old: str, new: str) -> None:
        """The gateway's machine has another address from now on."""
        pid = self._holders[GATEWAY].pid
        self._ip(pid, "address", "delete", f"{old}/24", "dev", "cable0")
        self._ip(pid, "address", "add", f"{new}/24", "dev", "cable0")
        self._ip(pid, "route", "replace", "224.0.0.0/4", "dev", "cable0")

    def close(self) -> None:
        for program in (*self._started, *self._holders):
            program.terminate()
            program.wait(10)
            for stream in (program.stdin, program.stdout):
                if stream is not None:
                    stream.close()

    @staticmethod
    def _hold() -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        return holder

    @staticmethod
    def _ip(pid: int, *words: str) -> None:
        subprocess.run(["nsenter", "--net", f"--target={pid}", "ip", *words], check=True, env={"PATH": PATH})


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        yield made
    finally:
        made.close()
