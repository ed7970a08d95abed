"""Our implementation behind the door: what each command answers, and how it says no."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from device.messages import grant, label, link, policy, roster
from device.messages.label import encode_label
from tools.conformance.line import GOOD, NOT_ANSWERED, REFUSED, answer, batch, main
from tools.conformance.readable import FIELDS, LABEL_FIELDS, label_as_json, label_from_json
from tools.conformance.vectors import Vector, load
from tools.vectors import cases

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
BY_NAME = {vector.name: vector for vector in load(VECTORS / "line")}
GOOD_LINK = BY_NAME["good_link"]


def verify_request(vector: Vector, **changed: Any) -> dict[str, Any]:
    content = vector.content
    request = {"kind": vector.kind, "chain": content["chain"], "messages": content["messages"]}
    return {**vector.room.in_room(), **request, **changed}


def init_request(**changed: Any) -> dict[str, Any]:
    room = GOOD_LINK.room
    return {**room.in_room(), "unit": "desk-2", "key": room.content["signing_keys"]["desk-2"], "session": 6, **changed}


def test_verify_gives_labels_only_to_whoever_has_the_gateways_key() -> None:
    assert answer("verify", verify_request(GOOD_LINK)) == (GOOD, {"verdict": None, "step": None, "labels": []})
    code, found = answer("verify", verify_request(GOOD_LINK, opening_key=GOOD_LINK.room.content["opening_key"]))
    (entry,) = found["labels"]
    assert (code, entry["session"], entry["sequence"]) == (GOOD, 5, 21)
    assert entry["label"] == label_as_json(cases.abstained())


@pytest.mark.parametrize(
    ("command", "request_", "says"),
    [
        ("sing", {}, "there is no command 'sing'"),
        ("dump", {}, "missing required field `object`"),
        ("dump", {"object": "zz"}, "non-hexadecimal"),
        ("dump", {"object": "00", "more": 1}, "unknown field `more`"),
        ("verify", verify_request(GOOD_LINK, kind="dance"), "kind 'dance' is unknown here"),
        ("verify", verify_request(GOOD_LINK, messages=[]), "not enough values"),
        ("verify", verify_request(GOOD_LINK, chain=[]), "not enough values"),
        ("verify", verify_request(GOOD_LINK, opening_key="00"), "the opening key has 1 bytes, not 32"),
        ("verify", verify_request(GOOD_LINK, authority="00" * 32), "the roster is not good"),
        ("init", init_request(session=0), "the session is not above 0"),
        ("init", init_request(key="00" * 32), "the key is not that of the unit"),
        ("append", {"state": 7, "grant": ""}, "Expected `object`, got `int`"),
    ],
)
def test_what_cannot_be_answered_is_said(command: str, request_: dict[str, Any], says: str) -> None:
    code, found = answer(command, request_)
    assert code == NOT_ANSWERED
    assert says in found["error"]


def test_append_numbers_seals_and_remembers() -> None:
    _, made = answer("init", init_request())
    opened, *heard = GOOD_LINK.content["chain"]
    labels = [label_as_json(cases.given()), label_as_json(cases.abstained())]
    request = {"state": made["state"], "grant": opened, "links": heard, "labels": labels, "more_backlog": True}
    code, found = answer("append", request)
    assert code == GOOD
    assert (found["state"]["sequence"], found["state"]["signed_in_round"]) == (2, 7)
    _, dumped = answer("dump", {"object": found["link"]})
    assert dumped["digest"] == found["digest"]
    assert [entry[:2] for entry in dumped["fields"]["entries"]] == [[6, 1], [6, 2]]
    assert dumped["fields"]["flags"] == 1
    again = {**request, "state": found["state"]}
    assert answer("append", again) == (REFUSED, {"verdict": "second_link_in_round", "step": 8})


@pytest.mark.parametrize("change", [{"state": 9}, {"emotion": 99}, {"bundle": "x" * 40}, {"confidence": 1.5}])
def test_a_label_that_is_none_is_refused(change: dict[str, Any]) -> None:
    _, made = answer("init", init_request())
    changed = {**label_as_json(cases.given()), **change}
    request = {"state": made["state"], "grant": GOOD_LINK.content["chain"][0], "labels": [changed]}
    assert answer("append", request) == (REFUSED, {"verdict": "bad_label", "step": 10})


def test_labels_come_back_from_json() -> None:
    for each in (cases.given(), cases.abstained()):
        assert encode_label(label_from_json(label_as_json(each))) == encode_label(each)
    with pytest.raises(ValueError, match="a label has the fields"):
        label_from_json({"schema": 1})


def test_plaintexts_of_the_hybrid_vectors_are_what_they_open_to() -> None:
    for vector in load(VECTORS / "hybrid"):
        if vector.good:
            request = verify_request(vector, opening_key=vector.room.content["opening_key"])
            code, found = answer("verify", request)
            opened = [encode_label(label_from_json(each["label"])).hex() for each in found["labels"]]
            assert (code, opened) == (GOOD, vector.content["plaintexts"])


def test_batch_answers_every_line_and_survives_nonsense() -> None:
    asked = {"command": "dump", "request": {"object": GOOD_LINK.content["messages"][0]}}
    lines = [json.dumps(asked), "", "[]", '{"command": "dump"}', '{"command": {}, "request": 1}', json.dumps(asked)]
    out = io.StringIO()
    assert batch(io.StringIO("\n".join(lines) + "\n"), out) == 0
    codes = [json.loads(line)["exit"] for line in out.getvalue().splitlines()]
    assert codes == [0, 2, 2, 2, 2, 0]


def test_a_request_comes_from_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(verify_request(BY_NAME["wrong_prev"])))
    assert main(["verify", str(path)]) == REFUSED
    assert json.loads(capsys.readouterr().out) == {"verdict": "wrong_previous", "step": 7}
    assert main(["verify", str(tmp_path / "absent.json")]) == NOT_ANSWERED
    assert "cannot be read" in json.loads(capsys.readouterr().out)["error"]


def test_field_names_are_those_of_the_code() -> None:
    keys_of = (roster._Key, policy._Key, grant._Key, link._Key, label._Key)
    for names, keys in zip((*FIELDS.values(), LABEL_FIELDS), keys_of, strict=True):
        assert [name.upper() for name in names] == [key.name for key in keys]
        assert [key.value for key in keys] == list(range(1, len(names) + 1))
