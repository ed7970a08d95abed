"""The gateway refuses to start on unsafe files, says why, and leaves its session number unused."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from device.config import GatewayConfig, load_gateway
from device.errors import ConfigError, MoodlineError
from device.gateway.__main__ import REFUSED, main
from device.gateway.store import Store
from device.gateway.wiring import STORE_FILE, build
from provisioning import demo_room, keys
from provisioning.demo_room import DemoPlan, DemoRoom
from provisioning.mosquitto import free_port

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


@pytest.fixture
def room(tmp_path: Path) -> DemoRoom:
    return demo_room.build(tmp_path / "room", DemoPlan(takes=[TAKE], port=free_port(), web_port=free_port()))


@pytest.fixture
def config(room: DemoRoom) -> GatewayConfig:
    return load_gateway(room.gateway_config)


def refusal(config: GatewayConfig) -> MoodlineError:
    with pytest.raises(MoodlineError) as caught:
        build(config)
    assert caught.value.next_step
    return caught.value


def sessions_used(config: GatewayConfig) -> int:
    with closing(Store(config.state / STORE_FILE)) as store:
        return store.raise_counter("sessions") - 1


def test_a_private_key_that_others_may_read_is_refused_by_name(config: GatewayConfig) -> None:
    for key in (config.trust.key, config.opening_key):
        key.chmod(0o644)
        assert str(key) in refusal(config).what
        key.chmod(0o600)
    assert sessions_used(config) == 0


@pytest.mark.parametrize(
    "name", ["policy", "roster", "room_authority_key", "key", "certificate", "certificate_authority"]
)
def test_a_missing_file_of_trust_is_refused_by_name(config: GatewayConfig, name: str) -> None:
    path: Path = getattr(config.trust, name)
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        service = build(config)
        try:
            service.run(already_stopped())
        finally:
            assert not (config.state / f"{STORE_FILE}-wal").exists(), "the store was closed"
    assert str(path) in caught.value.what


def already_stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


@pytest.mark.parametrize("name", ["policy", "roster"])
def test_one_changed_byte_in_what_the_authority_signed_is_refused(config: GatewayConfig, name: str) -> None:
    path: Path = getattr(config.trust, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(config).what
    assert sessions_used(config) == 0


def test_an_opening_key_that_is_not_the_rostered_one_is_refused(config: GatewayConfig) -> None:
    config.opening_key.unlink()
    keys.opening_key(config.opening_key)
    assert "opening key" in refusal(config).what


def test_a_gateway_that_is_not_the_rooms_is_refused(config: GatewayConfig) -> None:
    assert "not somebody" in refusal(msgspec.structs.replace(config, gateway="somebody")).what


def test_a_state_folder_that_cannot_be_made_is_refused_and_the_port_is_free_again(config: GatewayConfig) -> None:
    config.state.rmdir()
    config.state.write_bytes(b"")
    for _ in range(2):
        assert str(config.state) in refusal(config).what


def test_a_stored_grant_that_is_none_is_refused(config: GatewayConfig) -> None:
    with closing(Store(config.state / STORE_FILE)) as store:
        store._db.execute("INSERT INTO open_grants VALUES ('a', x'00')")
    assert "stored grant" in refusal(config).what


def test_a_page_certificate_that_is_none_is_refused(config: GatewayConfig) -> None:
    web = msgspec.structs.replace(config.web, certificate=config.trust.policy, key=config.trust.key)
    assert "HTTPS" in refusal(msgspec.structs.replace(config, web=web)).what


def test_the_program_ends_with_2_and_one_plain_sentence(
    room: DemoRoom, config: GatewayConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config.trust.policy.unlink()
    assert main(["--config", str(room.gateway_config)]) == REFUSED
    assert main(["--config", "/nowhere/gateway.toml"]) == REFUSED
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert str(config.trust.policy) in told[0] and "/nowhere/gateway.toml" in told[1]


def test_an_unknown_key_in_the_configuration_is_named(room: DemoRoom, capsys: pytest.CaptureFixture[str]) -> None:
    text = room.gateway_config.read_text(encoding="utf-8")
    room.gateway_config.write_text(f'colour = "blue"\n{text}', encoding="utf-8")
    assert main(["--config", str(room.gateway_config)]) == REFUSED
    assert "colour" in capsys.readouterr().err


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "2 refused to start" in " ".join(capsys.readouterr().out.split())


def test_importing_the_gateway_loads_no_hardware_library_and_no_network() -> None:
    forbidden = ["pyaudio", "picamera2", "libcamera", "tflite_runtime", "ai_edge_litert", "tensorflow", "PIL", "av"]
    loaded = f"print([name for name in {forbidden} if name in sys.modules])"
    program = f"import sys, device.gateway.wiring, device.gateway.__main__; {loaded}"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
