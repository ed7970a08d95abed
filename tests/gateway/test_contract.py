"""docs/mqtt-contract.md says what the program does."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from device.gateway import alerts, consumers
from device.gateway.documents import AlertDocument, ClassDocument, GatewayStatusDocument, LabelDocument
from device.gateway.web.app import LABELS_PER_ANSWER
from device.messages import topics
from models.labels import EMOTIONS
from tests.gateway import schemas

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mqtt-contract.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
KINDS: dict[str, type[msgspec.Struct]] = {
    "label": LabelDocument,
    "class": ClassDocument,
    "alert": AlertDocument,
    "gateway-status": GatewayStatusDocument,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_document_agrees_with_schema_and_type(kind: str) -> None:
    (example,) = [each for each in EXAMPLES if each["schema"] == f"moodline/{kind}/1"]
    schemas.check(kind, json.dumps(example).encode())
    assert msgspec.convert(example, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_type_have_the_same_fields(kind: str) -> None:
    wanted = {field.name for field in msgspec.structs.fields(KINDS[kind])}
    schema = schemas.validator(kind).schema
    assert isinstance(schema, dict) and set(schema["properties"]) == set(schema["required"]) == wanted


def test_every_schema_that_is_shipped_is_documented() -> None:
    shipped = {entry.name for entry in (files("device.gateway") / "schemas").iterdir()}
    assert shipped == {f"{kind}.json" for kind in KINDS}
    assert all(f"schemas/{name}" in PAGE for name in shipped)


def test_the_topics_are_those_of_the_program() -> None:
    room, line, unit = "ROOM", "LINE", "UNIT"
    for topic in (
        topics.labels(room, line, unit),
        topics.class_picture(room),
        topics.alerts(room),
        topics.gateway_status(room),
        topics.grant(room, line),
        topics.link(room, line, unit),
        topics.unit_status(room, line, unit),
        topics.roster(room),
    ):
        assert f"`{topic}`" in PAGE


def test_the_numbers_are_those_of_the_program() -> None:
    assert f"every {consumers.CLASS_BIN_MS // 1_000} seconds" in PAGE
    assert f"At most {alerts.ALERTS_PER_WINDOW} alerts" in PAGE
    assert alerts.REPEAT_WINDOW_S == 10
    assert f"at most {LABELS_PER_ANSWER}" in PAGE
    assert all(f"`{emotion.value}`" in PAGE for emotion in EMOTIONS)
