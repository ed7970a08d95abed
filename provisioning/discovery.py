"""Finding the registrar on the network without knowing its address: mDNS (RFC 6762) and DNS-SD (RFC 6763).

What is found is a hint and nothing more: anybody on the network may answer. A box with a seed takes only an answer with
its pinned digest, and the TLS handshake proves it; a box in the claim window shows a code that a person compares.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from device.errors import TransportError
from device.messages.envelope import is_identifier
from provisioning.enrolling import FoundRegistrar
from provisioning.enrolment_messages import SERVICE_TYPE

#: Registrars that are looked at in one search; on a network with more somebody plays.
FOUND: Final = 16
ADDRESSES: Final = 8
FIND_S: Final = 3.0
_VERSION: Final = b"1"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RESOLVE_MS: Final = 2_000
_NEXT_STEP: Final = "Is the network up? Finding goes over UDP port 5353, which a firewall may close."


class Advertisement:
    """The registrar's side: tells the network where it is, while the `with` lasts. Raises TransportError.

    Without `addresses` all of this machine's are told.
    """

    def __init__(self, room: str, digest: bytes, port: int, addresses: Sequence[str] = ()) -> None:
        packed = [ipaddress.ip_address(address).packed for address in addresses or own_addresses()]
        # The name must be unique on the network: two rooms may be called alike, two keys are not.
        label = f"moodline-{room[:24]}-{digest.hex()[:12]}"
        self._service = ServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            addresses=packed,
            port=port,
            properties={"version": _VERSION, "room": room, "digest": digest.hex()},
            server=f"{label}.local.",
        )
        self._zeroconf: Zeroconf | None = None

    def __enter__(self) -> Advertisement:
        self._zeroconf = _open()
        try:
            self._zeroconf.register_service(self._service, allow_name_change=True)
        except (ZeroconfError, OSError) as error:
            self._zeroconf.close()
            raise _unusable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._zeroconf is not None
        self._zeroconf.close()


def own_addresses() -> tuple[str, ...]:
    """This machine's IPv4 addresses by which others may reach it, in ascending order.

    A registrar whose addresses change makes a new `Advertisement`.
    """
    found = [address.ip for adapter in ifaddr.get_adapters() for address in adapter.ips if address.is_IPv4]
    return tuple(sorted(ip for ip in found if isinstance(ip, str) and not ipaddress.ip_address(ip).is_loopback))


def find(room: str | None, digest: bytes | None, timeout_s: float = FIND_S) -> list[FoundRegistrar]:
    """The registrars that answer within `timeout_s` seconds, of that room and key where they are given.

    With a digest the first one that has it ends the search; the order of the list is the same whoever answers first.
    Raises TransportError when this machine cannot ask.
    """
    names: queue.SimpleQueue[str] = queue.SimpleQueue()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed:
            names.put(name)

    found: set[FoundRegistrar] = set()
    ends = time.monotonic() + timeout_s
    with _open() as zeroconf:
        browser = ServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[changed])
        while len(found) < FOUND and not (digest is not None and found):
            left_s = ends - time.monotonic()
            if left_s <= 0:
                break
            try:
                name = names.get(timeout=left_s)
            except queue.Empty:
                break
            service = ServiceInfo(SERVICE_TYPE, name)
            if service.request(zeroconf, min(_RESOLVE_MS, 1_000 * left_s)):
                registrar = read_service(service)
                if registrar is not None and room in (None, registrar.room) and digest in (None, registrar.digest):
                    found.add(registrar)
        browser.cancel()
    return sorted(found)


def read_service(service: ServiceInfo) -> FoundRegistrar | None:
    """What a service record says, or None when it is none of this protocol: anybody may have sent it."""
    texts = {key: value or b"" for key, value in service.properties.items()}
    room = texts.get(b"room", b"").decode("ascii", errors="replace")
    digest = texts.get(b"digest", b"").decode("ascii", errors="replace")
    port = service.port or 0
    addresses = service.parsed_scoped_addresses()[:ADDRESSES]
    proper = texts.get(b"version") == _VERSION and is_identifier(room) and _DIGEST.fullmatch(digest) is not None
    if not proper or not 0 < port < 2**16 or not addresses:
        return None
    return FoundRegistrar(room, bytes.fromhex(digest), port, tuple(addresses))


def _open() -> Zeroconf:
    try:
        return Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)
    except (ZeroconfError, OSError) as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> TransportError:
    reason = str(error) or type(error).__name__
    return TransportError(f"Nothing can be found over mDNS ({reason}).", next_step=_NEXT_STEP)
