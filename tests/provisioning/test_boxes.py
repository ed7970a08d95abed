"""Rendered configurations read back as they were meant, whatever the names in them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.config import Broker, Capture, GatewayConfig, Inference, LineLimits, UnitConfig, load_gateway, load_unit
from device.errors import ConfigError
from device.messages import topics
from provisioning.authority import RoomAuthority
from provisioning.boxes import render, trust_in, write_broker_box, write_consumer_box, write_unit_box
from provisioning.broker import BrokerSettings
from provisioning.certificates import Reads, Role
from provisioning.demo_room import DemoPlan, build

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


def unit_config(folder: Path, desk: str = "Desk 1") -> UnitConfig:
    return UnitConfig(
        room="r2",
        line="b",
        unit="b1",
        desk=desk,
        state=folder / "state",
        trust=trust_in(folder),
        broker=Broker(host="gateway.local", port=1_883),
        capture=Capture(microphone="none", camera="replay", replay=Path("/srv/takes"), replay_speed=2.5),
    )


@given(desk=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_desk_of_any_name_reads_back(tmp_path: Path, desk: str) -> None:
    config = unit_config(tmp_path, desk)
    (tmp_path / "device.toml").write_text(render(config, tmp_path), encoding="utf-8")
    assert load_unit(tmp_path / "device.toml") == config


def test_defaults_are_left_to_the_program_and_changes_are_written(tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        unit_config(tmp_path), limits=LineLimits(hop_timeout_ms=90), inference=Inference(runtime="litert"), muted=True
    )
    text = render(config, tmp_path)
    (tmp_path / "device.toml").write_text(text)
    assert load_unit(tmp_path / "device.toml") == config
    assert "[limits]\nhop_timeout_ms = 90\n" in text
    assert "round_period_ms" not in text


def test_box_can_be_moved_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "device.toml").write_text(render(unit_config(tmp_path / "old"), tmp_path / "old"))
    moved = (tmp_path / "old").rename(tmp_path / "new")
    assert load_unit(moved / "device.toml") == unit_config(tmp_path / "new")


def test_gateway_reads_back_with_its_desks(tmp_path: Path) -> None:
    config = GatewayConfig(
        room="r2",
        gateway="gateway",
        state=tmp_path / "state",
        opening_key=tmp_path / "opening-key.pem",
        trust=trust_in(tmp_path),
        broker=Broker(host="127.0.0.1"),
        desks={"b1": 'Desk "1"', "b2": "Tisch 2, Fenster \\ Tür"},
    )
    (tmp_path / "gateway.toml").write_text(render(config, tmp_path), encoding="utf-8")
    assert load_gateway(tmp_path / "gateway.toml") == config


def test_box_of_somebody_who_was_not_admitted_is_not_written(tmp_path: Path) -> None:
    authority = RoomAuthority.found(tmp_path / "authority", "r2")
    with pytest.raises(ConfigError, match=r"b1.pem: is missing.*Admit the member"):
        write_unit_box(tmp_path, authority, unit_config(tmp_path))
    with pytest.raises(ConfigError, match=r"reader.pem: is missing"):
        write_consumer_box(tmp_path, authority, "reader", Broker(host="h"))
    assert not (tmp_path / "device.toml").exists()
    assert not (tmp_path / "broker.toml").exists()


def test_gateway_gets_the_trust_bundle_and_a_consumer_its_right(tmp_path: Path) -> None:
    room = build(tmp_path / "room", DemoPlan(takes=[TAKE], units=1, port=1, web_port=1))
    authority = RoomAuthority.open(room.authority)
    assert (room.gateway / "trust.cbor").read_bytes() == authority.trust_bundle()
    key = Ed25519PrivateKey.generate().public_key()
    authority.admit("board", Role.CONSUMER, key, reads=Reads.CLASS)
    write_broker_box(room.broker, authority, BrokerSettings(port=1))
    access = (room.broker / "access.acl").read_text()
    blocks = {block.splitlines()[0]: block for block in access.split("\n\n") if block.startswith("user ")}
    assert topics.labels("demo", "+", "+") in blocks["user reader"]
    assert topics.labels("demo", "+", "+") not in blocks["user board"]
    assert topics.class_picture("demo") in blocks["user board"]
