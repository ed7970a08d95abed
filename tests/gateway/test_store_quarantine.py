"""A unit that equivocated is not listened to after the gateway's restart either."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from device.config import load_gateway, load_unit
from device.gateway.store import Store
from device.gateway.wiring import STORE_FILE, build
from device.messages.link import Link, sign_link
from device.system.clock import SystemClock
from device.trust import load_signer, load_trusted
from provisioning import demo_room
from provisioning.demo_room import DemoPlan
from provisioning.mosquitto import free_port
from tests.gateway.scripted import an_alert

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


def test_a_stored_proof_keeps_its_unit_out_of_the_line_after_a_restart(tmp_path: Path) -> None:
    room = demo_room.build(tmp_path / "room", DemoPlan(takes=[TAKE], port=free_port(), web_port=free_port()))
    config = load_gateway(room.gateway_config)
    roster = load_trusted(config.trust, config.room, SystemClock()).roster
    cheat, *honest = room.units
    key = {unit.unit: unit.key for unit in roster.units_of("a")}[cheat]
    signer = load_signer(load_unit(room.unit_config(cheat)).trust, cheat, key)
    link = Link(config.room, "a", roster.epoch, 1, cheat, 1, (), bytes(32))
    proof = [sign_link(each, signer) for each in (link, replace(link, prev=b"\x01" * 32))]
    config.state.mkdir(mode=0o700, exist_ok=True)
    with closing(Store(config.state / STORE_FILE)) as store:
        store.alert(an_alert(1), proof)
    service = build(config)
    try:
        machine = service._ingest._shells["a"]._machine
        machine.connected(0.0, 1_800_000_000_000)
        assert sorted(machine.order) == honest
    finally:
        stopped = threading.Event()
        stopped.set()
        service.run(stopped)
