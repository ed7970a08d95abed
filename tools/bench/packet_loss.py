"""Packet loss below TCP between two network namespaces, without netem: TUN devices and a forwarder that drops packets.

`python -m tools.bench.packet_loss` is the forwarder. It opens a TUN device in the namespace that it was started in (the
near side), moves to a new namespace and opens another there (the far side), and carries IP packets from one to the
other. Each packet is dropped with the probability that was last asked for, in both directions, by a seeded generator;
what TCP does about it is the kernel's own. It ends when its standard input closes, so it never outlives its owner, and
namespace and devices go with it: nothing of them has a name that could be left behind.

`LossyNetwork` starts and drives it; its owner must be in a namespace of its own (`enter_own_network`).
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from device.errors import ConfigError

TUN: Final = Path("/dev/net/tun")
NEAR: Final = "10.77.0.1"
FAR: Final = "10.77.0.2"
NEAR_DEVICE, FAR_DEVICE = "near", "far"
CONGESTION: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
#: What Raspberry Pi OS has.
WANTED_CONGESTION: Final = "cubic"
NEXT_STEP: Final = "Run it as root on Linux, with /dev/net/tun and the program `ip` (apt install iproute2)."
STOP_S: Final = 5.0

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES: Final = 2_048
#: Packets taken from one side before the other has its turn.
_BATCH: Final = 64
_CONNECTIONS: Final = 64


class Order(msgspec.Struct, frozen=True):
    """What the forwarder is told: the probability of loss from now on, 0 to 1."""

    loss: float


class Counted(msgspec.Struct, frozen=True):
    """What the forwarder answers: packets since the order before, [from the near side, from the far side]."""

    seen: tuple[int, int]
    dropped: tuple[int, int]

    @property
    def share(self) -> float | None:
        """Dropped packets over packets seen; None without packets."""
        return sum(self.dropped) / sum(self.seen) if sum(self.seen) else None


class Forwarder:
    """Carries packets between two non-blocking descriptors, one packet a read, and drops each with one probability."""

    def __init__(self, near: int, far: int, seed: int) -> None:
        self._ways = {near: (0, far), far: (1, near)}
        self._dice = tuple(random.Random(f"{seed}/{side}") for side in ("near", "far"))
        self._loss = 0.0
        self._seen = [0, 0]
        self._dropped = [0, 0]

    def order(self, order: Order) -> Counted:
        """Take another probability; returns what was counted under the one before."""
        counted = Counted((self._seen[0], self._seen[1]), (self._dropped[0], self._dropped[1]))
        self._loss, self._seen, self._dropped = order.loss, [0, 0], [0, 0]
        return counted

    def carry(self, source: int) -> None:
        """Take what waits at one side, at most a batch, to the other."""
        side, target = self._ways[source]
        dice = self._dice[side].random
        for _ in range(_BATCH):
            try:
                packet = os.read(source, _PACKET_BYTES)
            except BlockingIOError:
                return
            self._seen[side] += 1
            if dice() < self._loss:
                self._dropped[side] += 1
                continue
            try:
                os.write(target, packet)
            except (BlockingIOError, OSError):
                # The device has no room, or knows no such packet: as good as lost on the way, and counted so.
                self._dropped[side] += 1


def enter_own_network() -> None:
    """Move this thread, and what it starts from now on, to a new network namespace with a loopback of its own.

    Raises ConfigError where that is not allowed, or where TUN or the program `ip` are missing.
    """
    if not TUN.exists():
        raise ConfigError(f"{TUN} is missing.", next_step=NEXT_STEP)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise ConfigError(
            f"A network namespace cannot be made ({os.strerror(ctypes.get_errno())}).", next_step=NEXT_STEP
        )
    _ip("link", "set", "lo", "up")
    # A kernel whose own default is another does not let a namespace choose; `congestion_control` tells.
    with suppress(OSError):
        CONGESTION.write_text(WANTED_CONGESTION)


def congestion_control() -> str:
    """TCP's congestion control in the present namespace."""
    try:
        return CONGESTION.read_text().strip()
    except OSError:
        return "unknown"


def _ip(*words: str) -> None:
    _run_ip(["ip", *words])


def _run_ip(command: list[str]) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise ConfigError(f"{command[0]}: {error.strerror}.", next_step=NEXT_STEP) from error
    if done.returncode != 0:
        raise ConfigError(f"{' '.join(command)}: {done.stderr.strip()}", next_step=NEXT_STEP)


def open_tun(device: str, own: str, peer: str) -> int:
    """A TUN device of the present namespace, up, with a route to its peer. Returns its non-blocking descriptor.

    Raises ConfigError.
    """
    try:
        tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        raise ConfigError(f"{TUN}: no device can be made ({error.strerror}).", next_step=NEXT_STEP) from error
    _ip("address", "add", f"{own}/32", "dev", device)
    _ip("link", "set", device, "up")
    _ip(*_route(device, own, peer, None))
    return tun


def _route(device: str, own: str, peer: str, rto_min_ms: int | None) -> list[str]:
    least = [] if rto_min_ms is None else ["rto_min", f"{rto_min_ms}ms"]
    return ["route", "replace", f"{peer}/32", "dev", device, "src", own, *least]


def round_trip_us(host: str, port: int) -> float:
    """Median microseconds of a TCP connection's making: one packet there and one back, answered by the kernel."""
    taken = []
    for _ in range(_CONNECTIONS):
        start = time.perf_counter()
        socket.create_connection((host, port), timeout=5.0).close()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


class LossyNetwork:
    """The forwarder as a program, and what runs on its far side. Raises ConfigError when it cannot be set up."""

    def __init__(self, *, seed: int) -> None:
        command = [sys.executable, "-m", "tools.bench.packet_loss", "--seed", str(seed)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        try:
            self._answer()
        except ConfigError:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The forwarder's process."""
        return self._process.pid

    def far(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a program on the far side."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def set_loss(self, loss: float) -> Counted:
        """Lose so great a share of the packets from now on; returns what was counted before."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(Order(loss)) + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error
        return self._answer()

    def set_rto_min(self, milliseconds: int | None) -> None:
        """TCP's least retransmission time-out of connections made from now on; None leaves the kernel's, 200 ms."""
        _run_ip(["ip", *_route(NEAR_DEVICE, NEAR, FAR, milliseconds)])
        _run_ip(self.far(["ip", *_route(FAR_DEVICE, FAR, NEAR, milliseconds)]))

    def stop(self) -> None:
        """End the forwarder; with it go both devices and, when nothing runs there, the far side."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _answer(self) -> Counted:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return msgspec.json.decode(line, type=Counted)

    def _ended(self) -> ConfigError:
        assert self._process.stderr is not None
        self._process.wait(STOP_S)
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return ConfigError(f"The forwarder ended: {said[-1] if said else 'it said nothing'}", next_step=NEXT_STEP)


def _run(forwarder: Forwarder, near: int, far: int, orders: IO[bytes], answers: IO[bytes]) -> None:
    poll = select.poll()
    for source in (near, far, orders.fileno()):
        poll.register(source, select.POLLIN)
    pending = b""
    while True:
        for ready, _ in poll.poll():
            if ready != orders.fileno():
                forwarder.carry(ready)
                continue
            read = os.read(ready, 4_096)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                answers.write(msgspec.json.encode(forwarder.order(msgspec.json.decode(line, type=Order))) + b"\n")
                answers.flush()


def main(arguments: list[str] | None = None) -> int:
    """The forwarder: standard input brings orders, standard output says what was counted."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.packet_loss", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args(arguments)
    try:
        near = open_tun(NEAR_DEVICE, NEAR, FAR)
        enter_own_network()
        far = open_tun(FAR_DEVICE, FAR, NEAR)
    except ConfigError as error:
        print(f"packet_loss: {error}", file=sys.stderr)
        return 2
    forwarder = Forwarder(near, far, options.seed)
    sys.stdout.buffer.write(msgspec.json.encode(forwarder.order(Order(0.0))) + b"\n")
    sys.stdout.buffer.flush()
    _run(forwarder, near, far, sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
