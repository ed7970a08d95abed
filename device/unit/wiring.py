"""Chooses the adapters of one unit by its configuration. Nothing is chosen anywhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import models
from device.capture.ports import AudioSource, VideoSource
from device.capture.replay import Replay
from device.clock import Clock
from device.config import Capture, UnitConfig
from device.errors import ConfigError
from device.inference.bundle import load_bundle, read_manifest
from device.inference.decision import Decider
from device.inference.face_detector import BlazeFace
from device.inference.tflite import TFLiteRuntime
from device.line.unit import LineUnit
from device.messages import topics
from device.messages.policy import DeploymentPolicy, Mode
from device.messages.roster import Roster
from device.messages.trust_bundle import BUNDLE_BYTES
from device.publish.mqtt import MqttLink
from device.publish.ports import LastWill
from device.publish.spill import Spill, place_digest
from device.system.clock import SystemClock
from device.system.storage import DISK, SESSION_FILE, SPILL_FILE, Disk, SessionCounter
from device.system.systemd import ServiceNotifier
from device.system.tls import certificate_begins_ms
from device.system.trusted_time import TIME_FILE, TrustedTime
from device.trust import PROVISION_AGAIN, TrustStore, load_signer, load_trusted
from device.unit.pipeline import Pipeline
from device.unit.presence import PresencePipeline
from device.unit.proofs import FOLDER, ProofFolder
from device.unit.schedule import SEED_FILE, CaptureTimes, DailySeed, ScheduledSenses
from device.unit.service import Identity, Senses, UnitService
from device.unit.status import last_will

LOG: Final = logging.getLogger(__name__)
BUNDLE: Final = Path(models.__file__).parent / "bundle"


@dataclass(frozen=True)
class Sources:
    """Where this unit's sound and pictures come from; `replay` is set when one of them is a recording."""

    audio: AudioSource | None
    video: VideoSource | None
    replay: Replay | None


def build(config: UnitConfig, clock: Clock | None = None, disk: Disk = DISK) -> UnitService:
    """A service ready to run; `disk` is what everything durable goes through.

    Raises ConfigError, InferenceError, CaptureError or StorageError, each naming the file or device. The session number
    is raised last, so a box that refuses to start uses none.
    """
    clock = clock or SystemClock()
    trusted = load_trusted(config.trust, config.room, clock, disk)
    config = _on_its_line(config, trusted.roster)
    keys = {unit.unit: unit.key for unit in trusted.roster.units_of(config.line)}
    signer = load_signer(config.trust, config.unit, keys.get(config.unit))
    time = TrustedTime(
        config.state / TIME_FILE, clock, known_ms=certificate_begins_ms(config.trust.certificate), disk=disk
    )
    senses, observe, bundle = _senses(config, trusted.policy, clock)
    if senses is not None:
        seeds = DailySeed(config.state / SEED_FILE, disk=disk)
        senses = ScheduledSenses(senses, CaptureTimes(trusted.policy.capture, seeds), time.now_ms)
    session = SessionCounter(config.state / SESSION_FILE, disk=disk).raise_()
    spill = _open_spill(config, trusted.roster, session, disk)
    status_topic = topics.unit_status(config.room, config.line, config.unit)
    link = _link(config, LastWill(status_topic, last_will(config.unit, config.line, session)), time)
    machine = LineUnit(
        roster=trusted.roster,
        line=config.line,
        session=session,
        signer=signer,
        outbox=spill.outbox,
        limits=config.limits,
    )
    LOG.info("Unit %s (%s), line %s, session %d, bundle %s", config.unit, config.desk, config.line, session, bundle)
    return UnitService(
        Identity(config.room, config.line, config.unit, session, bundle, trusted.policy.mode.value, signer.public_key),
        clock=clock,
        senses=senses,
        machine=machine,
        spill=spill,
        link=link,
        status_topic=status_topic,
        trust_topic=topics.trust(config.room),
        trust=TrustStore(config.trust, config.room, trusted, clock, disk=disk),
        time=time,
        notifier=ServiceNotifier(),
        period_s=config.limits.round_period_ms / 1000,
        resting={
            "microphone": "off" if config.capture.microphone == "none" else "ok",
            "camera": "off" if config.capture.camera == "none" else "ok",
        },
        on_tick=observe,
        proofs=ProofFolder(
            config.state / FOLDER, room=config.room, line=config.line, roster=trusted.roster_raw, disk=disk
        ),
    )


def _on_its_line(config: UnitConfig, roster: Roster) -> UnitConfig:
    """The configuration with the line on which the roster has this unit. Raises ConfigError when it has it on none."""
    line = roster.line_of(config.unit)
    if config.unit in roster.revoked:
        raise ConfigError(
            f"{config.trust.roster}: {config.unit} is revoked.",
            next_step="Wipe this box and enrol it anew, or take it off the network (moodline-provision).",
        )
    if line is None:
        raise ConfigError(f"{config.trust.roster}: {config.unit} is not on it.", next_step=PROVISION_AGAIN)
    if line != config.line:
        LOG.info("The roster has this unit on line %s; `line` in its configuration says %s.", line, config.line)
    return msgspec.structs.replace(config, line=line)


def _link(config: UnitConfig, will: LastWill, time: TrustedTime) -> MqttLink:
    return MqttLink(
        config.unit,
        config.broker,
        config.trust,
        subscriptions=(
            topics.trust(config.room),
            topics.grant(config.room, config.line),
            topics.link(config.room, config.line, "+"),
        ),
        # What the line said while we were away is over: the retained grant says where it stands now.
        subscription_qos=0,
        will=will,
        message_bytes=max(config.limits.message_bytes, BUNDLE_BYTES),
        floor=time.floor_for_tls,
    )


def _open_spill(config: UnitConfig, roster: Roster, session: int, disk: Disk) -> Spill:
    return Spill(
        config.state / SPILL_FILE,
        place_digest(roster, config.line, config.unit),
        session=session,
        capacity=config.limits.backlog_entries,
        spill_after_s=config.limits.spill_after_ms / 1000,
        disk=disk,
    )


def _senses(
    config: UnitConfig, policy: DeploymentPolicy, clock: Clock
) -> tuple[Senses | None, Callable[[int], None] | None, str]:
    """The pipeline (None when nothing may be captured), what to call at each tick, and the bundle's name.

    Where the policy lets presence be told alone, no emotion network is loaded, and the name is empty.
    """
    folder = config.inference.bundle or BUNDLE
    if policy.mode is Mode.OFF or config.muted:
        LOG.info("Nothing is captured: %s", "muted" if config.muted else "the deployment policy's mode is off")
        return None, None, "" if policy.mode is Mode.PRESENCE else read_manifest(folder).version
    runtime = TFLiteRuntime(config.inference.runtime, threads=config.inference.threads)
    sources = open_sources(config.capture, clock)
    observe = None if sources.replay is None else _announce_takes(sources.replay)
    if policy.mode is Mode.PRESENCE:
        return PresencePipeline(clock, sources.audio, sources.video, BlazeFace(runtime)), observe, ""
    bundle = load_bundle(folder, runtime)
    pipeline = Pipeline(
        clock, sources.audio, sources.video, bundle, BlazeFace(runtime), Decider(bundle.manifest.decision)
    )
    return pipeline, observe, bundle.manifest.version


def open_sources(capture: Capture, clock: Clock) -> Sources:
    """The adapters that the configuration names; nothing is opened yet, and no hardware library loaded in vain."""
    replay: Replay | None = None
    if "replay" in (capture.microphone, capture.camera):
        assert capture.replay is not None, "the configuration's own check"
        replay = Replay(
            capture.replay,
            clock,
            speed=capture.replay_speed,
            loop=capture.replay_loop,
            block_ms=capture.block_ms,
            ring_seconds=capture.ring_seconds,
            frames_per_second=capture.frames_per_second,
        )
    return Sources(_audio(capture, clock, replay), _video(capture, clock, replay), replay)


def _audio(capture: Capture, clock: Clock, replay: Replay | None) -> AudioSource | None:
    if capture.microphone == "none":
        return None
    if capture.microphone == "replay":
        return replay.audio if replay else None
    from device.capture.microphone import Microphone

    return Microphone(
        capture.microphone,
        clock,
        block_ms=capture.block_ms,
        ring_seconds=capture.ring_seconds,
        silent_driver_after_ms=capture.silent_driver_after_ms,
    )


def _video(capture: Capture, clock: Clock, replay: Replay | None) -> VideoSource | None:
    if capture.camera == "none":
        return None
    if capture.camera == "replay":
        return replay.video if replay else None
    from device.capture.camera import Camera

    return Camera(
        capture.camera,
        clock,
        frames_per_second=capture.frames_per_second,
        silent_driver_after_ms=capture.silent_driver_after_ms,
    )


def _announce_takes(replay: Replay) -> Callable[[int], None]:
    """Logs which recording a window came from, whenever that changes: only a replaying box knows the truth."""
    last = ""

    def observe(window_end_ms: int) -> None:
        nonlocal last
        if replay.playing != last:
            last = replay.playing
            LOG.info("Replaying %s from window %d", last, window_end_ms)

    return observe
