"""Configuration files: everything wrong is refused by file and entry, and the page that describes them keeps up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.config import (
    Broker,
    Capture,
    GatewayConfig,
    Inference,
    LineLimits,
    Section,
    Trust,
    UnitConfig,
    Web,
    load_gateway,
    load_unit,
)
from device.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "configuration.md"
TRUST = """
[trust]
key = "key.pem"
certificate = "certificate.pem"
certificate_authority = "/etc/moodline/ca.pem"
room_authority_key = "room-authority.pem"
roster = "roster.cose"
policy = "policy.cose"
[broker]
host = "gateway.local"
"""
UNIT = f"""
room = "r2"
line = "b"
unit = "b1"
desk = "Desk 1"
state = "state"
{TRUST}
[capture]
microphone = "USB Audio"
camera = "none"
"""
GATEWAY = f"""
room = "r2"
gateway = "gateway"
state = "state"
opening_key = "opening-key.pem"
desks = {{ b1 = "Desk 1" }}
{TRUST}
"""


def unit_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "device.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_paths_count_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit_file(tmp_path, UNIT)
    monkeypatch.chdir(tmp_path.parent)
    config = load_unit(Path(tmp_path.name) / "device.toml")
    assert config.trust.key == tmp_path / "key.pem"
    assert config.trust.certificate_authority == Path("/etc/moodline/ca.pem")
    assert config.limits == LineLimits()


def test_gateway_file_is_read(tmp_path: Path) -> None:
    config = load_gateway(unit_file(tmp_path, GATEWAY))
    assert (config.opening_key, config.desks) == (tmp_path / "opening-key.pem", {"b1": "Desk 1"})


def changed(old: str, new: str) -> str:
    assert old in UNIT
    return UNIT.replace(old, new, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (UNIT + 'colour = "blue"\n', r"unknown field `colour` - at `\$.capture`"),
        ('colour = "blue"\n' + UNIT, "unknown field `colour`"),
        (UNIT + "[limits]\nhop_time_out_ms = 60\n", r"unknown field `hop_time_out_ms` - at `\$.limits`"),
        (changed('room = "r2"', ""), "missing required field `room`"),
        (changed("[broker]", "[brokers]"), "unknown field `brokers`"),
        (changed('policy = "policy.cose"', ""), r"missing required field `policy` - at `\$.trust`"),
        (changed('"gateway.local"', "7"), r"Expected `str`, got `int` - at `\$.broker.host`"),
        (changed('"gateway.local"', '""'), r"length >= 1 - at `\$.broker.host`"),
        (changed('"gateway.local"', '"h"\nport = "8883"'), r"Expected `int`, got `str` - at `\$.broker.port`"),
        (changed('"gateway.local"', '"h"\nport = 65536'), r"`int` <= 65535 - at `\$.broker.port`"),
        (changed('"gateway.local"', '"h"\nkeepalive_s = 0'), r"`int` >= 1 - at `\$.broker.keepalive_s`"),
        (changed('"gateway.local"', '"h"\nkeepalive_s = 65536'), r"`int` <= 65535 - at `\$.broker.keepalive_s`"),
        (changed('"key.pem"', "7"), r"expected Path, got int - at `\$.trust.key`"),
        (changed('"b1"', '"B1"'), r"matching regex .* - at `\$.unit`"),
        (changed('"b1"', '"+"'), r"matching regex .* - at `\$.unit`"),
        (changed('"b"', '"b/link"'), r"matching regex .* - at `\$.line`"),
        (changed('"r2"', f'"{"r" * 33}"'), r"matching regex .* - at `\$.room`"),
        (changed('"Desk 1"', '"Desk\\u0007"'), r"matching regex .* - at `\$.desk`"),
        (changed('"USB Audio"', '"none"'), "the box would sense nothing"),
        (changed('"USB Audio"', '"replay"'), "`replay` is missing"),
        (UNIT + "replay_speed = -1.0\n", r">= 0.0 - at `\$.capture.replay_speed`"),
        (UNIT + '[inference]\nruntime = "onnx"\n', r"Invalid enum value 'onnx' - at `\$.inference.runtime`"),
        (UNIT + "[limits]\nround_deadline_ms = 501\n", "must not be above `round_period_ms`"),
        ("room = ", "device.toml: Invalid value"),
        ("room = 'a'\nroom = 'b'", "device.toml: Cannot overwrite a value"),
        (b"\xff\xfe\x00", "device.toml: .*utf-8"),
        (b"\x00" * 100, "device.toml: "),
        ("", "missing required field `room`"),
    ],
)
def test_wrong_entry_is_refused_by_file_and_place(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        load_unit(unit_file(tmp_path, content))
    assert str(refused.value).startswith(f"{tmp_path / 'device.toml'}: ")
    assert "docs/configuration.md" in refused.value.next_step


def test_missing_file_and_folder_in_its_place_are_refused_with_the_next_step(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=rf"{path.name}: cannot be read .{reason}.*moodline-provision"):
            load_gateway(path)


def test_web_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"come together or not at all - at `\$.web`"):
        load_gateway(unit_file(tmp_path, GATEWAY + '[web]\ncertificate = "c.pem"\n'))


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_raise_anything_but_a_config_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError):
        load_unit(unit_file(tmp_path, content))


SECTIONS: dict[str, type[Section]] = {
    "device.toml": UnitConfig,
    "gateway.toml": GatewayConfig,
    "trust": Trust,
    "broker": Broker,
    "capture": Capture,
    "inference": Inference,
    "web": Web,
    "limits": LineLimits,
}
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$")


def default_in_words(field: msgspec.structs.FieldInfo) -> str:
    default: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if default is msgspec.NODEFAULT:
        return "**required**"
    if default is None:
        return "none"
    if isinstance(default, bool | str):
        return f"`{msgspec.json.encode(default).decode()}`"
    return f"`{default}`"


@pytest.mark.parametrize("section", SECTIONS)
def test_page_lists_every_key_with_its_default(section: str) -> None:
    described: dict[str, str] = {}
    here = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            here = line.removeprefix("## ")
        elif here == section and (row := ROW.match(line)):
            described[row[1]] = row[2]
    wanted = {
        field.name: default_in_words(field)
        for field in msgspec.structs.fields(SECTIONS[section])
        if field.name not in SECTIONS
    }
    assert described == wanted
