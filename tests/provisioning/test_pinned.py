"""The registrar is known by its key's digest: nothing is sent to another, and nothing it sends can do harm."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import msgspec
import pytest

from device.errors import TransportError
from provisioning.enrolment_messages import (
    BODY_BYTES,
    CHALLENGE_PATH,
    CLAIMS_PATH,
    TRUST_PATH,
    Challenge,
    ClaimOpened,
    Commitment,
    RefusalBody,
)
from provisioning.pinned import PinnedClient
from provisioning.refusals import REFUSALS, Refusal, RefusalError
from tests.fakes.https_peer import HttpsPeer, http

COMMITMENT = Commitment(commitment=bytes(32))
OPENED = ClaimOpened(claim="a" * 26, nonce=bytes(range(16)))
HOST = ("127.0.0.1",)


def opened(_: bytes) -> bytes:
    return http(msgspec.json.encode(OPENED))


def refuse_connections() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_pinned_registrar_is_asked_though_its_certificate_ended_long_ago(tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, opened) as peer:
        client = PinnedClient(HOST, peer.port, peer.digest)
        assert client.post(CLAIMS_PATH, COMMITMENT, ClaimOpened) == OPENED
        assert client.seen_digest == peer.digest
    assert peer.requests[0].startswith(b"POST /v1/claims HTTP/1.1\r\n")
    assert peer.requests[0].endswith(b"\r\n\r\n" + msgspec.json.encode(COMMITMENT))


def test_man_in_the_middle_gets_not_one_byte_of_the_request(tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, opened) as peer:
        client = PinnedClient(HOST, peer.port, bytes(32))
        with pytest.raises(RefusalError, match=r"127\.0\.0\.1.* shows the key .*Look for a strange device") as caught:
            client.post(CLAIMS_PATH, COMMITMENT, ClaimOpened)
    assert caught.value.refusal is Refusal.OTHER_CHANNEL
    assert peer.handshakes == 1
    assert peer.requests == []
    assert client.seen_digest is None


def test_claim_window_takes_any_key_once_and_says_which(tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, opened) as peer:
        client = PinnedClient(HOST, peer.port, None)
        client.post(CLAIMS_PATH, COMMITMENT, ClaimOpened)
    assert client.seen_digest == peer.digest


def test_second_host_is_asked_when_the_first_is_away(tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, opened) as peer:
        client = PinnedClient(("no-such-host.invalid", *HOST), peer.port, peer.digest)
        assert client.post(CLAIMS_PATH, COMMITMENT, ClaimOpened) == OPENED


def test_nobody_there_is_said_with_host_and_port() -> None:
    port = refuse_connections()
    with pytest.raises(TransportError, match=rf"127\.0\.0\.1:{port}: cannot be asked .*gateway"):
        PinnedClient(HOST, port, None).get(TRUST_PATH, limit=10)
    with pytest.raises(TransportError, match="No address"):
        PinnedClient((), port, None).get(TRUST_PATH, limit=10)


def test_older_tls_is_not_spoken(tmp_path: Path) -> None:
    with (
        HttpsPeer(tmp_path, opened, tls=ssl.TLSVersion.TLSv1_2) as peer,
        pytest.raises(TransportError, match="cannot be asked"),
    ):
        PinnedClient(HOST, peer.port, peer.digest).post(CLAIMS_PATH, COMMITMENT, ClaimOpened)
    assert peer.requests == []


@pytest.mark.parametrize("refusal", list(Refusal))
def test_every_refusal_arrives_as_itself(tmp_path: Path, refusal: Refusal) -> None:
    row = REFUSALS[refusal]
    body = RefusalBody(code=refusal, sentence=row.sentence, next_step=row.next_step, detail="b14\x1b[2J\n")
    with (
        HttpsPeer(tmp_path, lambda _: http(msgspec.json.encode(body), row.status)) as peer,
        pytest.raises(RefusalError) as caught,
    ):
        PinnedClient(HOST, peer.port, peer.digest).post(CHALLENGE_PATH, COMMITMENT, Challenge)
    assert caught.value.refusal is refusal
    assert caught.value.next_step == row.next_step
    assert caught.value.detail == "b14[2J"


def test_refusal_of_a_newer_program_is_told_in_its_own_words_and_asked_again(tmp_path: Path) -> None:
    body = RefusalBody(code="on_strike", sentence="The registrar is on strike.", next_step="Pay it.")
    with (
        HttpsPeer(tmp_path, lambda _: http(msgspec.json.encode(body), 403)) as peer,
        pytest.raises(TransportError, match=r"on strike\. Pay it\."),
    ):
        PinnedClient(HOST, peer.port, peer.digest).post(CHALLENGE_PATH, COMMITMENT, Challenge)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http(b"{}"), RefusalError),
        (http(b"\xff"), RefusalError),
        (http(b"<html>", 404), RefusalError),
        (http(b"{}", 500), TransportError),
        (http(b"{}", 302), TransportError),
        (b"", TransportError),
        (b"SSH-2.0-OpenSSH\r\n", TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", TransportError),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}", TransportError),
        (http(b" " * (BODY_BYTES + 1)), RefusalError),
    ],
)
def test_whatever_comes_back_is_one_of_two_errors(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    with HttpsPeer(tmp_path, lambda _: answer) as peer, pytest.raises(error):
        PinnedClient(HOST, peer.port, peer.digest).post(CHALLENGE_PATH, COMMITMENT, Challenge)
    assert len(peer.requests) == 1


def test_answer_without_end_is_read_up_to_the_limit(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + 4_096 * b"a" + b"\r\n"
    with (
        HttpsPeer(tmp_path, lambda _: answer + 40 * (b"1000\r\n" + 4_096 * b"a" + b"\r\n")) as peer,
        pytest.raises(RefusalError, match="more than 10000 bytes"),
    ):
        PinnedClient(HOST, peer.port, peer.digest).get(TRUST_PATH, limit=10_000)


def test_peer_that_is_silent_or_slow_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.monotonic()
        with pytest.raises(TransportError, match="timed out"):
            PinnedClient(HOST, listener.getsockname()[1], None, timeout_s=0.3).get(TRUST_PATH, limit=10)
        assert time.monotonic() - begun < 3.0


def test_peer_that_sends_one_byte_at_a_time_is_given_up_in_time(tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, lambda _: http(100 * b"a"), pace=1, pause_s=0.1) as peer:
        begun = time.monotonic()
        with pytest.raises(TransportError):
            PinnedClient(HOST, peer.port, peer.digest, timeout_s=0.6).get(TRUST_PATH, limit=1_000)
        assert time.monotonic() - begun < 3.0
