"""Chooses the adapters of the room's gateway by its configuration. Nothing is chosen anywhere else."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from device.clock import Clock
from device.config import GatewayConfig
from device.errors import ConfigError, StorageError
from device.gateway.alerts import AlertBook
from device.gateway.board import Board
from device.gateway.consumers import ClassPicture
from device.gateway.documents import encode
from device.gateway.ingest import Ingest, LineShell, Outlets
from device.gateway.roll_out import RosterWatch, bundle_for_units
from device.gateway.service import GatewayService, Identity, status_document
from device.gateway.store import LabelReader, Store
from device.gateway.web.app import PageSources, build_app
from device.gateway.web.server import PageServer, bind, check_certificate
from device.line.gateway import LineGateway
from device.line.verify import Verifier
from device.messages import topics
from device.messages.envelope import Signer
from device.messages.policy import Mode
from device.messages.sealing import Opener
from device.publish.mqtt import MqttLink
from device.publish.ports import LastWill
from device.system.clock import SystemClock
from device.system.keys import load_opening_key
from device.system.systemd import ServiceNotifier
from device.system.tls import certificate_begins_ms
from device.system.trusted_time import TIME_FILE, TrustedTime
from device.trust import PROVISION_AGAIN, Trusted, load_signer, load_trusted

STORE_FILE: Final = "gateway.sqlite"
SESSIONS: Final = "sessions"
#: After a break a whole line brings its backlog: 40 units, 16 labels a link, each told twice, in some rounds.
UNACKNOWLEDGED_MESSAGES: Final = 5_000


def build(config: GatewayConfig, clock: Clock | None = None) -> GatewayService:
    """A service ready to run.

    Raises ConfigError or StorageError naming the file. The session is counted last, so a gateway that refuses to start
    uses none.
    """
    clock = clock or SystemClock()
    trusted = load_trusted(config.trust, config.room, clock)
    signer, opener = _keys(config, trusted)
    check_certificate(config.web)
    bundle = bundle_for_units(config.trust, trusted)
    time = TrustedTime(config.state / TIME_FILE, clock, known_ms=certificate_begins_ms(config.trust.certificate))
    with ExitStack() as undo:
        listener = bind(config.web)
        undo.callback(listener.close)
        store = _open_store(config)
        undo.callback(store.close)
        board = Board()
        identity = Identity(
            room=config.room,
            gateway=config.gateway,
            session=store.raise_counter(SESSIONS),
            version=_version(),
            policy=trusted.policy,
            roster=trusted.roster,
        )
        link = _link(config, identity, time)
        ingest = _lines(config, trusted, _outlets(config, identity, link, store, board), signer, opener, bundle)
        service = GatewayService(
            identity,
            clock=clock,
            link=link,
            ingest=ingest,
            store=store,
            board=board,
            page=lambda health: PageServer(
                build_app(
                    PageSources(
                        board=board,
                        labels=LabelReader(store.path) if trusted.policy.mode is Mode.LABELS else None,
                        health=health,
                        live_clients=config.web.live_clients,
                    )
                ),
                listener,
                config.web,
            ),
            notifier=ServiceNotifier(),
            watch=RosterWatch(config.trust, trusted, bundle, clock, lambda found: _check(config, found)),
            time=time,
        )
        undo.pop_all()
    return service


def _lines_of(identity: Identity) -> tuple[str, ...]:
    """A room whose policy is off has no lines."""
    return () if identity.policy.mode is Mode.OFF else tuple(identity.roster.lines)


def _link(config: GatewayConfig, identity: Identity, time: TrustedTime) -> MqttLink:
    will = status_document(identity, online=False, in_force=False, ingest=None)
    return MqttLink(
        config.gateway,
        config.broker,
        config.trust,
        subscriptions=[
            topic
            for line in _lines_of(identity)
            for topic in (topics.link(config.room, line, "+"), topics.unit_status(config.room, line, "+"))
        ],
        will=LastWill(topics.gateway_status(config.room), encode(will)),
        message_bytes=config.limits.message_bytes,
        unacknowledged_messages=UNACKNOWLEDGED_MESSAGES,
        floor=time.floor_for_tls,
    )


def _outlets(config: GatewayConfig, identity: Identity, link: MqttLink, store: Store, board: Board) -> Outlets:
    return Outlets(
        room=config.room,
        mode=identity.policy.mode,
        desks=config.desks,
        places=config.places,
        store=store,
        board=board,
        alerts=AlertBook(room=config.room, gateway=config.gateway, session=identity.session, store=store, board=board),
        publish=lambda message: link.publish(message.topic, message.payload, qos=message.qos, retain=message.retain),
        class_picture=ClassPicture(room=config.room, min_group=identity.policy.min_group),
    )


def _lines(
    config: GatewayConfig, trusted: Trusted, outlets: Outlets, signer: Signer, opener: Opener, bundle: bytes
) -> Ingest:
    policy, roster, store = trusted.policy, trusted.roster, outlets.store
    shells = {}
    for line in () if policy.mode is Mode.OFF else roster.lines:
        machine = LineGateway(
            roster=roster,
            line=line,
            signer=signer,
            opener=opener,
            limits=config.limits,
            witness_count=policy.witness_count,
            stored_grant=store.open_grant(line),
            quarantined=store.quarantined(roster, line, config.limits),
            recent=store.recent_links(line, rounds=config.limits.rounds_in_memory),
        )
        shells[line] = LineShell(line, [unit.unit for unit in roster.units_of(line)], machine, outlets)
    if policy.mode is Mode.LABELS:
        for line, shell in shells.items():
            shell.resume_with([label for label in LabelReader(store.path).latest() if label.line == line])
    return Ingest(shells, outlets, trusted.roster_raw, bundle)


def _keys(config: GatewayConfig, trusted: Trusted) -> tuple[Signer, Opener]:
    """What this gateway signs and opens with. Raises ConfigError when the roster has another gateway, or other keys."""
    if trusted.roster.gateway.gateway != config.gateway:
        raise ConfigError(
            f"{config.trust.roster}: the room's gateway is {trusted.roster.gateway.gateway}, not {config.gateway}.",
            next_step=PROVISION_AGAIN,
        )
    return load_signer(config.trust, config.gateway, trusted.roster.gateway.key), _opener(config, trusted)


def _check(config: GatewayConfig, found: Trusted) -> None:
    """Raises ConfigError when this gateway could not begin again under that roster."""
    _keys(config, found)
    for line in found.roster.lines:
        Verifier(found.roster, line, config.limits)


def _opener(config: GatewayConfig, trusted: Trusted) -> Opener:
    opener = Opener(load_opening_key(config.opening_key), trusted.roster.suite)
    if opener.public_key != trusted.roster.gateway.opening_key:
        raise ConfigError(
            f"{config.opening_key}: is not the opening key on the roster, so no label would open.",
            next_step=PROVISION_AGAIN,
        )
    return opener


def _open_store(config: GatewayConfig) -> Store:
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{config.state}: cannot be made ({error.strerror}).",
            next_step="Make it for the gateway's user, or correct `state` in gateway.toml.",
        ) from error
    return Store(config.state / STORE_FILE)


def _version() -> str:
    try:
        return version("moodline")
    except PackageNotFoundError:
        return "source"
