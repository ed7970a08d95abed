"""The broker link over paho-mqtt: MQTT 5, mutual TLS, a session that outlives the connection.

Paho's callbacks run on the link's own thread and only enqueue; the service reads events on its thread.
"""

from __future__ import annotations

import logging
import queue
import random
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from device.config import Broker
from device.errors import ConfigError, TransportError
from device.publish.ports import Connected, Disconnected, Event, LastWill, Received, Refused
from device.system.keys import check_owner_only
from device.system.tls import PeerContext, peer_context

LOG: Final = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
FIRST_DELAY_S: Final = 0.5
LOOP_S: Final = 1.0
INFLIGHT_MESSAGES: Final = 20
UNACKNOWLEDGED_MESSAGES: Final = 200
PACKET_OVERHEAD_BYTES: Final = 1_024
#: What a PUBLISH holds beside topic and payload: type, lengths, packet number; and a little to spare.
PUBLISH_OVERHEAD_BYTES: Final = 16
EVENTS_KEPT_FREE: Final = 64
"""Places in the event queue that messages may not take, so that news of the connection still find one."""

NOT_TAKEN: Final = (
    "The broker closed the connection before it took us. Is our certificate revoked, expired or of another room?"
)


class Credentials(Protocol):
    """The files that mutual TLS needs; `device.config.Trust` is one."""

    @property
    def key(self) -> Path:
        """Our private key, PEM, readable by its owner alone."""
        ...

    @property
    def certificate(self) -> Path:
        """Our certificate, PEM."""
        ...

    @property
    def certificate_authority(self) -> Path:
        """The room's certificate authority, PEM: the only one that we believe."""
        ...


def tls_context(
    credentials: Credentials, *, server_name: str | None = None, floor_ms: int | None = None
) -> PeerContext:
    """A client context that believes the room's certificate authority alone; see `device.system.tls.peer_context`.

    `floor_ms` is given when the clock is not set. Raises ConfigError naming the file.
    """
    check_owner_only(credentials.key)
    context = peer_context(server_name=server_name, floor_ms=floor_ms)
    try:
        context.load_verify_locations(credentials.certificate_authority)
    except OSError as error:
        raise _unusable(f"{credentials.certificate_authority}", error) from error
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key, and wait.
        context.load_cert_chain(credentials.certificate, credentials.key, password="")
    except OSError as error:
        raise _unusable(f"{credentials.certificate} with {credentials.key}", error) from error
    return context


def _unusable(files: str, error: OSError) -> ConfigError:
    reason = error.strerror or type(error).__name__
    return ConfigError(
        f"{files}: cannot be used for TLS ({reason}).", next_step="Provision this box again (moodline-provision)."
    )


class MqttLink:
    """Implements `device.publish.ports.Link`.

    `client_id` names the session at the broker, so two programs must never share one. The filters in `subscriptions`
    are asked for at each connection, which also brings the retained messages again; with `subscription_qos` 0 the
    broker keeps nothing for us while we are away. The broker answers "granted" to a filter that its access list forbids
    (mosquitto 2.0), so an answer proves nothing: only what arrives does. `floor` is asked before each connection: None
    when the clock is set, else the time (ms since 1970) before which the broker's certificate must not have ended.
    """

    def __init__(
        self,
        client_id: str,
        broker: Broker,
        credentials: Credentials,
        *,
        subscriptions: Sequence[str] = (),
        subscription_qos: int = 1,
        will: LastWill | None = None,
        message_bytes: int = 32_768,
        unacknowledged_messages: int = UNACKNOWLEDGED_MESSAGES,
        floor: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._client_id = client_id
        self._broker = broker
        self._credentials = credentials
        self._subscriptions = [(topic, SubscribeOptions(qos=subscription_qos)) for topic in subscriptions]
        self._will = will
        self._message_bytes = message_bytes
        self._unacknowledged_messages = unacknowledged_messages
        self._events: queue.Queue[Event] = queue.Queue(broker.queue_messages + EVENTS_KEPT_FREE)
        self._dropped = 0
        self._taken = False
        self._subscribed = False
        self._largest: int | None = None
        self._stopping = threading.Event()
        self._under_way: paho.MQTTMessageInfo | None = None
        self._floor = floor
        self._context: ssl.SSLContext | None = None
        self._client: paho.Client | None = None
        self._thread: threading.Thread | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker has taken us and has not gone since, as far as we know."""
        client = self._client
        return client is not None and client.is_connected()

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered our subscriptions in this connection: what is published now will come."""
        return self.connected and self._subscribed

    @property
    def dropped(self) -> int:
        """Received messages that found the event queue full, since start."""
        return self._dropped

    def start(self) -> None:
        """Begin to connect, and return at once. Raises ConfigError for unusable trust files."""
        if self._thread is not None:
            raise AssertionError("a link is started once")
        self._context = self._fresh_context()
        self._thread = threading.Thread(target=self._run, name=f"mqtt {self._client_id}", daemon=True)
        self._thread.start()

    def next_event(self, timeout_s: float) -> Event | None:
        """The oldest event, waiting at most `timeout_s` seconds for one; None when there is none."""
        try:
            return self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand one message to the connection.

        Raises TransportError when it is down, too much is under way, or the message is larger than the broker takes.
        """
        client = self._client
        if client is None or not client.is_connected():
            raise TransportError(f"{topic}: not published, the broker is away.", next_step="It is tried again.")
        size = len(topic.encode()) + len(payload)
        if self._largest is not None and size + PUBLISH_OVERHEAD_BYTES > self._largest:
            # A broker that gets such a packet closes the connection, and would again at the next try.
            raise TransportError(
                f"{topic}: {size} bytes; the broker takes {self._largest}.", next_step="Raise its max_packet_size."
            )
        sent = client.publish(topic, payload, qos=qos, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            reason = paho.error_string(sent.rc)
            raise TransportError(f"{topic}: not published ({reason}).", next_step="It is tried again.")
        self._under_way = sent

    def stop(self, *, flush_s: float = 2.0) -> None:
        """Wait at most `flush_s` seconds for what is under way, say goodbye (no last will), and free everything."""
        if self._thread is None:
            return
        under_way = self._under_way
        if under_way is not None and self.connected:
            try:
                under_way.wait_for_publish(flush_s)
            except (ValueError, RuntimeError) as error:
                LOG.warning("%s: the last message may not have arrived: %s", self._client_id, error)
        self._stopping.set()
        if (client := self._client) is not None:
            client.disconnect()
        self._thread.join(CONNECT_TIMEOUT_S + self._broker.keepalive_s)

    def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            self._taken = False
            self._subscribed = not self._subscriptions
            self._renew_context()
            self._connect_and_read()
            delay_s = FIRST_DELAY_S if self._taken else min(2 * delay_s, self._broker.reconnect_max_s)
            # A room's units must not all come back in the same moment.
            self._stopping.wait(delay_s * random.uniform(0.5, 1.0))

    def _fresh_context(self) -> ssl.SSLContext:
        return tls_context(self._credentials, server_name=self._broker.server_name, floor_ms=self._floor())

    def _renew_context(self) -> None:
        """For each connection anew: the clock may have been set, and our certificate renewed."""
        try:
            self._context = self._fresh_context()
        except ConfigError as error:
            LOG.warning("%s: connecting with the certificate that was loaded before. %s", self._client_id, error)

    def _connect_and_read(self) -> None:
        """One connection from its first to its last byte.

        Each has its own client: paho would send what the last connection left unacknowledged again, after newer
        messages. What must not be lost is the outbox's to repeat; whatever else is late is stale.
        """
        assert self._context is not None
        client = self._new_client(self._context)
        try:
            client.reconnect()
        except OSError as error:
            self._tell(Disconnected(f"{self._broker.host}:{self._broker.port} cannot be reached: {error}."))
            return
        self._client = client
        try:
            if isinstance(connection := client.socket(), socket.socket):
                # A link must not wait for the acknowledgement of the message before it (Nagle): it is our turn now.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while client.loop(LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self._stopping.is_set():
                    client.disconnect()
        except Exception:
            # Whatever the library's parser meets in malformed bytes costs the connection, and never this thread: a dead
            # thread would look like a quiet room.
            LOG.exception("%s: the broker's bytes could not be read", self._client_id)
            self._tell(Disconnected("The broker's bytes could not be read."))
        finally:
            self._client = self._under_way = None
            if (left_open := client.socket()) is not None:
                left_open.close()

    def _new_client(self, context: ssl.SSLContext) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=paho.MQTTv5)
        client.tls_set_context(context)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(INFLIGHT_MESSAGES)
        client.max_queued_messages_set(self._unacknowledged_messages)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        # With this callback paho leaves all writing to the thread that calls `loop`; without it, `publish` would write
        # to the TLS socket from the caller's thread while the loop reads from it.
        client.on_socket_register_write = self._on_socket_register_write
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._broker.session_expiry_s
        properties.MaximumPacketSize = self._message_bytes + PACKET_OVERHEAD_BYTES
        client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=self._broker.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        return client

    def _tell(self, event: Event) -> None:
        room = 0 if not isinstance(event, Received | Refused) else EVENTS_KEPT_FREE
        try:
            if self._events.maxsize - self._events.qsize() <= room:
                raise queue.Full
            self._events.put_nowait(event)
        except queue.Full:
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:
                LOG.warning("%s: event queue is full, %d dropped so far", self._client_id, self._dropped)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._taken = True
        self._largest = getattr(properties, "MaximumPacketSize", None)
        if reason.is_failure:
            self._tell(Disconnected(f"The broker refused us: {reason}."))
            return
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        self._tell(Connected(session_present=flags.session_present))

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not self._taken:
            self._tell(Disconnected(NOT_TAKEN))
        elif not self._stopping.is_set():
            self._tell(Disconnected(f"The connection to the broker ended: {reason}."))

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._dropped += 1
            return
        self._tell(Received(topic, bytes(message.payload), message.retain))

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        message_id: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        for (topic, _), reason in zip(self._subscriptions, reasons, strict=False):
            if reason.is_failure:
                self._tell(Refused(topic, str(reason)))
        self._subscribed = True

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        message_id: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason.is_failure:
            self._tell(Refused("a published message", str(reason)))

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, socket: Any) -> None:
        return
