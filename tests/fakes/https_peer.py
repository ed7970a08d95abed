"""A TLS server of one self-signed key that answers each connection as a test says: well, badly, slowly or never."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

Answer = Callable[[bytes], bytes]


def http(body: bytes, status: int = 200) -> bytes:
    """An HTTP answer with that body."""
    head = f"HTTP/1.1 {status} Any\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


class HttpsPeer:
    """Listens on `host`; `requests` are the bytes that came in, one for each connection that sent any.

    `answer` gets a request's bytes and returns what is sent back, `pace` bytes at a time with a pause after them. `tls`
    is the version that it speaks at most. The certificate ended in 1980: whoever looks at its dates refuses it.
    """

    def __init__(
        self,
        folder: Path,
        answer: Answer,
        *,
        tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        pace: int = 1 << 20,
        pause_s: float = 0.0,
        key: Ed25519PrivateKey | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        key = key or Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.digest = hashlib.sha256(public).digest()
        self.requests: list[bytes] = []
        self.handshakes = 0
        self._answer = answer
        self._pace = pace
        self._pause_s = pause_s
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = tls
        self._context.load_cert_chain(_certificate_file(folder, key))
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> HttpsPeer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5.0)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(5.0)
            try:
                with self._context.wrap_socket(plain, server_side=True) as secure:
                    self.handshakes += 1
                    self._speak(secure)
            except OSError:
                continue

    def _speak(self, secure: ssl.SSLSocket) -> None:
        request = _read_request(secure)
        if not request:
            return
        self.requests.append(request)
        answer = self._answer(request)
        for start in range(0, len(answer), self._pace):
            secure.sendall(answer[start : start + self._pace])
            time.sleep(self._pause_s)
        secure.unwrap()


def _read_request(secure: ssl.SSLSocket) -> bytes:
    """Head and body of one request; whatever came when the other side hung up."""
    content = b""
    while True:
        head, end, body = content.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if end and len(body) >= int(lengths[0] if lengths else b"0"):
            return content
        chunk = secure.recv(65_536)
        if not chunk:
            return content
        content += chunk


def _certificate_file(folder: Path, key: Ed25519PrivateKey) -> Path:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    begin = datetime(1980, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .sign(key, algorithm=None)
    )
    path = folder / f"peer-{x509.random_serial_number():x}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path
