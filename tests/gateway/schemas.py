"""Checks documents against the JSON Schemas that consumers get."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import msgspec
from jsonschema import Draft202012Validator


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of one schema; the schema itself is checked, too."""
    schema = json.loads((files("device.gateway") / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(name: str, payload: bytes) -> None:
    """Fails with every disagreement between a message and its schema."""
    found = [
        f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(msgspec.json.decode(payload))
    ]
    assert not found, found
