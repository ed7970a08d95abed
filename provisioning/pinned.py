"""HTTPS to the registrar, known by the digest of its public key and by nothing else.

A box that has never met the room has no certificate authority to ask, and its clock may stand at 1970. So the chain,
the name and the dates of the registrar's self-signed certificate are not looked at. The handshake (TLS 1.3, RFC 8446,
section 4.4.3) proves that the peer holds the private key of the certificate that it showed. Right after it, before a
byte of the request is sent, the SHA-256 of that public key (SubjectPublicKeyInfo, DER) is compared with the pinned
one, as in RFC 7858, section 4.2.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import socket
import ssl
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.errors import TransportError
from provisioning.enrolment_messages import BODY_BYTES, CONTENT_TYPE, Body, Message, RefusalBody, decode
from provisioning.refusals import Refusal, RefusalError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

TIMEOUT_S: Final = 10.0
#: On a room's own network whoever is there answers at once; an address that nobody has any more never does.
CONNECT_S: Final = 3.0
DETAIL_CHARACTERS: Final = 300
_OK: Final = 200
_REFUSED: Final = range(400, 500)
_NEXT_STEP: Final = "Is the gateway on, and on the same network? The box asks again by itself."


def key_digest(certificate: bytes) -> bytes:
    """SHA-256 over the SubjectPublicKeyInfo (DER) of a certificate (DER), 32 bytes. Raises ValueError."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class PinnedClient:
    """Asks the registrar, one connection for each question. Hosts are tried in turn until one shows the pinned key.

    With `digest` None, for the first message of a claim window alone, whatever key the peer shows is taken and stands
    in `seen_digest`; `seen_host` is the host that showed it. A question takes `timeout_s` seconds at the most for each
    host, whatever the peer does (looking a host's name up may take longer).
    """

    def __init__(self, hosts: Sequence[str], port: int, digest: bytes | None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.seen_digest: bytes | None = None
        self.seen_host = ""
        self._hosts = tuple(hosts)
        self._port = port
        self._digest = digest
        self._timeout_s = timeout_s
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def post(self, path: str, body: Message | None, kind: type[Body], *, limit: int = BODY_BYTES) -> Body:
        """Send a body (or none), read an answer of that kind and at most `limit` bytes.

        Raises RefusalError (OTHER_CHANNEL when a peer shows another key than the pinned one; MALFORMED for an answer
        that is none; else what the registrar says) and TransportError.
        """
        encoded = msgspec.json.encode(body) if body is not None else b""
        return decode(self._ask("POST", path, encoded, limit), kind, limit=limit)

    def get(self, path: str, *, limit: int) -> bytes:
        """Read at most `limit` bytes. Raises as `post`."""
        return self._ask("GET", path, None, limit)

    def _ask(self, method: str, path: str, body: bytes | None, limit: int) -> bytes:
        with self._connect() as stream:
            connection = http.client.HTTPConnection(stream.host, self._port)
            connection.sock = stream
            headers = {"Content-Type": CONTENT_TYPE} if body is not None else {}
            try:
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                content = response.read(limit + 1)
                if response.length and len(content) <= limit:
                    raise http.client.IncompleteRead(content, response.length)
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(stream.host, error) from error
        if response.status in _REFUSED:
            raise _refusal(content)
        if response.status != _OK:
            raise TransportError(f"{stream.host}:{self._port}: answered {response.status}.", next_step=_NEXT_STEP)
        if len(content) > limit:
            raise RefusalError(Refusal.MALFORMED, f"{stream.host} sent more than {limit} bytes.")
        return content

    def _connect(self) -> _Stream:
        failed: TransportError | RefusalError | None = None
        for host in self._hosts:
            try:
                return self._connect_to(host)
            except RefusalError as error:
                failed = error
            except TransportError as error:
                failed = failed or error
        raise failed or TransportError("No address of the registrar is known.", next_step=_NEXT_STEP)

    def _connect_to(self, host: str) -> _Stream:
        ends = time.monotonic() + self._timeout_s
        try:
            plain = socket.create_connection((host, self._port), timeout=min(self._timeout_s, CONNECT_S))
        except OSError as error:
            raise self._unreachable(host, error) from error
        try:
            plain.settimeout(max(ends - time.monotonic(), 0.001))
            secure = self._context.wrap_socket(plain, suppress_ragged_eofs=False)
        except OSError as error:
            plain.close()
            raise self._unreachable(host, error) from error
        stream = _Stream(secure, host, ends)
        try:
            self._check_key(secure, host)
        except RefusalError:
            secure.close()
            raise
        return stream

    def _check_key(self, secure: ssl.SSLSocket, host: str) -> None:
        try:
            seen = key_digest(secure.getpeercert(binary_form=True) or b"")
        except ValueError as error:
            raise RefusalError(Refusal.OTHER_CHANNEL, f"{host} shows no proper certificate.") from error
        if self._digest is not None and not hmac.compare_digest(seen, self._digest):
            raise RefusalError(
                Refusal.OTHER_CHANNEL,
                f"{host}:{self._port} shows the key {seen.hex()[:16]}…, this box looks for {self._digest.hex()[:16]}….",
            )
        self.seen_digest, self.seen_host = seen, host

    def _unreachable(self, host: str, error: Exception) -> TransportError:
        reason = str(error) or type(error).__name__
        return TransportError(f"{host}:{self._port}: cannot be asked ({reason}).", next_step=_NEXT_STEP)


def _refusal(content: bytes) -> RefusalError | TransportError:
    """What a refusal's body says; a code that this program does not know is asked again later."""
    body = decode(content, RefusalBody)
    if body.code not in set(Refusal):
        return TransportError(_readable(f"The registrar refuses: {body.sentence}"), next_step=_readable(body.next_step))
    return RefusalError(Refusal(body.code), _readable(body.detail))


def _readable(text: str) -> str:
    """A peer's words as they may stand in a log: printable, and not too many."""
    return "".join(letter for letter in text if letter.isprintable())[:DETAIL_CHARACTERS]


class _Stream:
    """The part of a socket that `http.client` uses, with one deadline (monotonic seconds) over all that is done."""

    def __init__(self, secure: ssl.SSLSocket, host: str, ends: float) -> None:
        self.host = host
        self._secure = secure
        self._ends = ends

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._secure.close()

    def sendall(self, content: ReadableBuffer) -> None:
        self._hurry()
        self._secure.sendall(content)

    def recv_into(self, buffer: WriteableBuffer) -> int:
        self._hurry()
        return self._secure.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """`http.client` says so before it has read the body; the socket is closed when the `with` ends."""

    def _hurry(self) -> None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        self._secure.settimeout(left)


class _Reader(io.RawIOBase):
    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._stream.recv_into(buffer)
