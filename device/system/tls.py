"""TLS for a box whose clock may not be set: the peer's certificate is always verified, its time by what is known.

While the clock is not set, OpenSSL's comparison with that clock (and nothing else) is left out, and the end of the
peer's certificate is compared with the floor of `device.system.trusted_time` as soon as the handshake is done, before a
byte of ours is sent. Chain, purpose and name are OpenSSL's to check in either case.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from device.errors import StorageError
from device.system.storage import read

#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; the ssl module has no name for it.
NO_CHECK_TIME: Final = 0x200000
CERTIFICATE_BYTES: Final = 65_536


class PeerSocket(ssl.SSLSocket):
    """A TLS connection that ends with the handshake when the peer's certificate had ended before the floor."""

    def do_handshake(self, block: bool = False) -> None:
        """As in `ssl.SSLSocket`, and then our check. Raises ssl.SSLCertVerificationError."""
        super().do_handshake(block)
        context = self.context
        if not isinstance(context, PeerContext) or context.floor_ms is None:
            return
        certificate = self.getpeercert() or {}
        ended = certificate.get("notAfter")
        if not isinstance(ended, str) or ssl.cert_time_to_seconds(ended) * 1_000 < context.floor_ms:
            self.close()
            raise ssl.SSLCertVerificationError(
                f"certificate verify failed: it ended on {ended}, before the last time that this box knows of"
            )


class PeerContext(ssl.SSLContext):
    """A client's context. `server_name`, when given, is the name that must stand in the peer's certificate in place of
    the address that was called; `floor_ms`, when given, is the time before which it must not have ended."""

    server_name: str | None = None
    floor_ms: int | None = None

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """As in `ssl.SSLContext`, with `server_name` in place of `server_hostname`."""
        return super().wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=self.server_name or server_hostname,
            session=session,
        )


def peer_context(*, server_name: str | None = None, floor_ms: int | None = None) -> PeerContext:
    """A context that asks for a certificate, its chain and its name; it believes no authority yet.

    With `floor_ms` (milliseconds since 1970) the clock counts as not set.
    """
    context: Any = PeerContext(ssl.PROTOCOL_TLS_CLIENT)
    assert isinstance(context, PeerContext)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = PeerSocket
    context.server_name = server_name
    context.floor_ms = floor_ms
    if floor_ms is not None:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | NO_CHECK_TIME)
    return context


def certificate_begins_ms(path: Path) -> int:
    """When the certificate (PEM) in a file begins, in milliseconds since 1970: its authority says that this time has
    come. 0 for a file that cannot be read or holds none; whoever uses it for TLS will say so."""
    try:
        certificate = x509.load_pem_x509_certificate(read(path, limit=CERTIFICATE_BYTES))
    except (StorageError, ValueError):
        return 0
    return max(round(certificate.not_valid_before_utc.timestamp() * 1_000), 0)
