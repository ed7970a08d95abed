"""The forwarder that drops packets: its share, its fairness, and that it leaves the rest alone."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest

from tools.bench.packet_loss import Counted, Forwarder, Order

PACKETS = 4_000
Ends = tuple[socket.socket, socket.socket, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Near network, near device, far device, far network: datagrams keep their bounds as packets do."""
    near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for one in (*near, *far):
        one.setblocking(False)
    yield (*near, *far)
    for one in (*near, *far):
        one.close()


def sent_through(ends: Ends, forwarder: Forwarder, count: int, *, back: bool = False) -> list[bytes]:
    """What arrives of `count` numbered packets."""
    near, near_device, far_device, far = ends
    source, device, sink = (far, far_device, near) if back else (near, near_device, far)
    arrived = []
    for number in range(count):
        source.send(number.to_bytes(4, "big"))
        forwarder.carry(device.fileno())
        try:
            arrived.append(sink.recv(64))
        except BlockingIOError:
            continue
    return arrived


def forwarder_of(ends: Ends, *, seed: int = 1, loss: float = 0.0) -> Forwarder:
    forwarder = Forwarder(ends[1].fileno(), ends[2].fileno(), seed)
    forwarder.order(Order(loss))
    return forwarder


def test_without_loss_every_packet_arrives_whole_and_in_order(ends: Ends) -> None:
    forwarder = forwarder_of(ends)
    assert sent_through(ends, forwarder, 100) == [number.to_bytes(4, "big") for number in range(100)]
    assert sent_through(ends, forwarder, 50, back=True) == [number.to_bytes(4, "big") for number in range(50)]
    assert forwarder.order(Order(0.0)) == Counted((100, 50), (0, 0))


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("back", [False, True])
def test_it_drops_the_share_that_it_was_told_both_ways(ends: Ends, loss: float, back: bool) -> None:
    arrived = len(sent_through(ends, forwarder_of(ends, loss=loss), PACKETS, back=back))
    # Five standard deviations of the binomial distribution.
    assert abs(PACKETS - arrived - PACKETS * loss) < 5 * math.sqrt(PACKETS * loss * (1 - loss))


def test_the_seed_says_which_packets_are_dropped(ends: Ends) -> None:
    first = sent_through(ends, forwarder_of(ends, seed=7, loss=0.2), 500)
    assert sent_through(ends, forwarder_of(ends, seed=7, loss=0.2), 500) == first
    assert sent_through(ends, forwarder_of(ends, seed=8, loss=0.2), 500) != first


def test_the_two_ways_are_drawn_apart(ends: Ends) -> None:
    forwarder = forwarder_of(ends, loss=0.5)
    assert sent_through(ends, forwarder, 300) != sent_through(ends, forwarder, 300, back=True)


def test_what_was_counted_is_handed_over_with_each_order(ends: Ends) -> None:
    forwarder = forwarder_of(ends, loss=1.0)
    assert sent_through(ends, forwarder, 10) == []
    counted = forwarder.order(Order(0.0))
    assert (counted, counted.share) == (Counted((10, 0), (10, 0)), 1.0)
    assert forwarder.order(Order(0.0)).share is None


def test_a_packet_that_the_other_side_cannot_take_counts_as_dropped(ends: Ends) -> None:
    forwarder = forwarder_of(ends)
    ends[3].close()
    assert sent_through((*ends[:3], ends[0]), forwarder, 3) == []
    assert forwarder.order(Order(0.0)) == Counted((3, 0), (3, 0))
