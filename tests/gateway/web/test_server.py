from __future__ import annotations

import socket

import pytest

from device.config import Web
from device.errors import ConfigError
from device.gateway.web.server import bind


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "school.example", ""])
def test_a_page_without_log_in_is_not_opened_to_the_network(host: str) -> None:
    with pytest.raises(ConfigError, match="log-in") as caught:
        bind(Web(host=host, port=free_port()))
    assert "127.0.0.1" in caught.value.next_step


def test_a_port_that_is_taken_is_named() -> None:
    port = free_port()
    first = bind(Web(port=port))
    first.listen()
    with first, pytest.raises(ConfigError, match=str(port)) as caught:
        bind(Web(port=port))
    assert "web.port" in caught.value.next_step


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.5"])
def test_loopback_is_bound(host: str) -> None:
    with bind(Web(host=host, port=free_port())) as listener:
        assert listener.getsockname()[0].startswith("127.")
