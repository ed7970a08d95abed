"""A second implementation, from docs/conformance.md and docs/line-protocol.md: nothing of `device` is in it.

Short and slow on purpose. It stands for an implementation in another language, and what it needs must be on the pages.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

STEPS: Final = {
    1: "too_large",
    2: "not_decodable not_deterministic unknown_version wrong_kind",
    3: "wrong_room wrong_line stale_epoch unknown_epoch",
    4: "unknown_signer signer_of_another_line revoked",
    5: "bad_signature",
    6: "stale_round ungranted_round grant_rewritten",
    7: "wrong_previous lost_race",
    8: "stale_session second_link_in_round acknowledgement_withdrawn",
    9: "sequence_disorder too_many_entries wrong_sealed_size",
    10: "not_openable bad_label",
}
STEP_OF: Final = {code: step for step, codes in STEPS.items() for code in codes.split()}
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
KINDS: Final = {
    "roster": "room epoch lines gateway revoked policy suite",
    "grant": "room line epoch round order accepted prev gateway_ms deadline_ms",
    "link": "room line epoch round unit session entries prev flags",
}
LABEL: Final = (
    "schema window_end_ms time_source state emotion confidence share_speech share_face"
    " speech face abstain_reason bundle"
)
#: Highest code of each label field that has codes, or of a number.
LABEL_LIMITS: Final = (1, 2**48 - 1, 2, 4, 6, 1_000, 1_000, 1_000, 7, 7)
SEALED: Final = {1: 112, 2: 1_200}
OPENING: Final = {1: 32, 2: 1_216}


class Refused(Exception):  # noqa: N818
    """A step failed; the argument is the code."""


def need(condition: object, code: str = "not_decodable") -> None:
    """Refuse unless."""
    if not condition:
        raise Refused(code)


# --- CBOR ----------------------------------------------------------------------------------------------------------


def encode(item: object) -> bytes:
    """The deterministic encoding."""
    match item:
        case int():
            return head(0, item) if item >= 0 else head(1, -1 - item)
        case bytes():
            return head(2, len(item)) + item
        case str():
            return head(3, len(item.encode())) + item.encode()
        case list():
            return head(4, len(item)) + b"".join(map(encode, item))
        case dict():
            pairs = sorted((encode(key), encode(value)) for key, value in item.items())
            return head(5, len(item)) + b"".join(key + value for key, value in pairs)
    raise TypeError(item)


def head(kind: int, number: int) -> bytes:
    """The shortest head."""
    if number < 24:
        return bytes([kind << 5 | number])
    width = next(width for width in (1, 2, 4, 8) if number < 1 << (8 * width))
    return bytes([kind << 5 | 24 + width.bit_length() - 1]) + number.to_bytes(width, "big")


def decode(raw: bytes) -> Any:
    """The item that is all of the bytes."""
    item, end = item_at(raw, 0, 0)
    need(end == len(raw))
    need(encode(item) == raw, "not_deterministic")
    return item


def item_at(raw: bytes, at: int, depth: int) -> tuple[Any, int]:
    """An item and where it ends."""
    need(at < len(raw))
    kind, number = raw[at] >> 5, raw[at] & 31
    need(kind <= 5 and number <= 27)
    at += 1
    if number > 23:
        width = 1 << (number - 24)
        need(at + width <= len(raw))
        number, at = int.from_bytes(raw[at : at + width], "big"), at + width
    if kind <= 1:
        return (number if kind == 0 else -1 - number), at
    need(number <= len(raw) - at)
    if kind <= 3:
        content = raw[at : at + number]
        try:
            return (content if kind == 2 else content.decode()), at + number
        except UnicodeDecodeError:
            raise Refused("not_decodable") from None
    need(depth < 6)
    items = []
    for _ in range(number * (kind - 3)):
        item, at = item_at(raw, at, depth + 1)
        items.append(item)
    if kind == 4:
        return items, at
    keys = items[::2]
    need(all(isinstance(key, int | str) for key in keys) and len(set(keys)) == len(keys))
    return dict(zip(keys, items[1::2], strict=True)), at


# --- envelope ------------------------------------------------------------------------------------------------------


class Signed(NamedTuple):
    """An object taken apart."""

    kind: str
    signer: str
    fields: dict[str, Any]
    protected: bytes
    payload: bytes
    signature: bytes
    digest: bytes


def take_apart(raw: bytes, wanted: str | None) -> Signed:
    """Step 2."""
    need(raw[:1] == b"\xd2")
    parts = decode(raw[1:])
    need(isinstance(parts, list) and [type(part) for part in parts] == [bytes, dict, bytes, bytes])
    protected, unprotected, payload, signature = parts
    need(not unprotected and len(signature) == 64)
    headers = decode(protected)
    need(isinstance(headers, dict))
    need(headers.get(-65537) == 1, "unknown_version")
    need(headers.keys() == {1, 3, 4, -65537} and headers[1] == -8 and isinstance(headers[4], bytes))
    need(isinstance(headers[3], str) and headers[4].isascii() and NAME.fullmatch(headers[4].decode()))
    found = re.fullmatch(r"application/moodline-(roster|policy|grant|link)\+cbor", headers[3])
    need(found)
    assert found
    kind = found[1]
    need(wanted in (None, kind), "wrong_kind")
    values = decode(payload)
    names = KINDS[kind].split()
    need(isinstance(values, dict) and values.keys() == set(range(1, len(names) + 1)))
    fields = {name: values[key] for key, name in enumerate(names, start=1)}
    CHECKS[kind](fields)
    return Signed(kind, headers[4].decode(), fields, protected, payload, signature, hashlib.sha256(raw).digest())


def number(value: object) -> bool:
    """A number as fields have them."""
    return type(value) is int and 0 <= value < 2**63


def names(value: object) -> bool:
    """An array of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def octets(value: object, size: int) -> bool:
    """A byte string of that size."""
    return isinstance(value, bytes) and len(value) == size


def check_grant(f: dict[str, Any]) -> None:
    """Types of a grant."""
    need(all(number(f[name]) for name in ("epoch", "round", "gateway_ms", "deadline_ms")))
    need(isinstance(f["room"], str) and isinstance(f["line"], str) and octets(f["prev"], 32))
    need(names(f["order"]) and len(set(f["order"])) == len(f["order"]) and all(map(NAME.fullmatch, f["order"])))
    need(isinstance(f["accepted"], dict))
    for unit, row in f["accepted"].items():
        need(isinstance(unit, str) and isinstance(row, list) and len(row) == 3 and all(map(number, row)))


def check_link(f: dict[str, Any]) -> None:
    """Types of a link."""
    need(all(number(f[name]) for name in ("epoch", "round", "session", "flags")) and f["flags"] < 4)
    need(all(isinstance(f[name], str) for name in ("room", "line", "unit")) and octets(f["prev"], 32))
    need(isinstance(f["entries"], list))
    for row in f["entries"]:
        need(isinstance(row, list) and len(row) == 3 and number(row[0]) and number(row[1]) and row[0] and row[1])
        need(isinstance(row[2], bytes))


CHECKS: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "roster": lambda fields: None,
    "grant": check_grant,
    "link": check_link,
}


def to_be_signed(protected: bytes, room: str, line: str, payload: bytes) -> bytes:
    """The Sig_structure."""
    return encode(["Signature1", protected, encode([room, line]), payload])


def check_signature(signed: Signed, key: bytes, room: str, line: str) -> None:
    """Step 5."""
    try:
        message = to_be_signed(signed.protected, room, line, signed.payload)
        Ed25519PublicKey.from_public_bytes(key).verify(signed.signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad_signature") from None


def read_roster(raw: bytes, authority: bytes, room: str) -> dict[str, Any]:
    """A roster that passes."""
    need(len(raw) <= 1 << 20, "too_large")
    signed = take_apart(raw, "roster")
    check_signature(signed, authority, room, "")
    f = signed.fields
    need(f["room"] == room, "wrong_room")
    need(f["suite"] in SEALED, "unknown_version")
    need(isinstance(f["gateway"], list) and len(f["gateway"]) == 4 and octets(f["gateway"][2], OPENING[f["suite"]]))
    rows = [row for rows in f["lines"].values() for row in rows]
    need(all(octets(row[1], 32) and octets(row[2], 32) for row in rows) and octets(f["gateway"][1], 32))
    listed = [f["gateway"][0], *(row[0] for row in rows)]
    need(len(set(listed)) == len(listed) and set(f["revoked"]) <= set(listed) and f["epoch"] > 0)
    need(f["revoked"] == sorted(set(f["revoked"])))
    need(len({f["gateway"][1], *(row[1] for row in rows)}) == len(listed))
    return f


class Found(Exception):  # noqa: N818
    """What a log shows: a code, and where."""

    def __init__(self, code: str, round_number: int, place: int | None) -> None:
        super().__init__(code)
        self.code, self.round, self.place = code, round_number, place


FINDINGS: Final = {
    "start_missing": "ungranted_round",
    "round_missing": "ungranted_round",
    "round_out_of_order": "stale_round",
    "resealed": "bad_signature",
    "cut_at_end": "ungranted_round",
}


@contextmanager
def located(round_number: int, place: int) -> Iterator[None]:
    """A refusal with its place in a log."""
    try:
        yield
    except Refused as refused:
        raise Found(str(refused), round_number, place) from refused


def told_more(found: Found, rest: list[list[bytes]]) -> Found:
    """What the rest of a log adds; `rest` begins with the round in which it was found."""
    if found.code == "round_missing" and found.round in [stated(one[0], "round") for one in rest[1:]]:
        return Found("round_out_of_order", found.round, found.place)
    if found.code == "bad_signature" and found.place is not None:
        flat = [*rest[0], *(one[0] for one in rest[1:2]), b""]
        if stated(flat[found.place + 1], "prev") == hashlib.sha256(flat[found.place]).digest():
            return Found("resealed", found.round, found.place)
    return found


def stated(raw: bytes, field: str) -> object:
    """A field of an object of which nothing is verified."""
    try:
        return take_apart(raw, None).fields.get(field)
    except Refused:
        return None


# --- the steps -----------------------------------------------------------------------------------------------------


class Line:
    """One line under one roster, and the round that is open."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.room, self.line, self.limits = request["room"], request["line"], request["limits"]
        try:
            roster = bytes.fromhex(request["roster"])
            self.roster = read_roster(roster, bytes.fromhex(request["authority"]), self.room)
        except Refused as refused:
            raise ValueError(f"the roster is not good: {refused}") from refused
        self.units = {row[0]: row[1] for row in self.roster["lines"].get(self.line, [])}

    def speaker(self, unit: str, named: str) -> bytes:
        """Step 4 for units."""
        elsewhere = any(unit == row[0] for rows in self.roster["lines"].values() for row in rows)
        need(unit in self.units or not elsewhere, "signer_of_another_line")
        need(unit in self.units and unit == named, "unknown_signer")
        need(unit not in self.roster["revoked"], "revoked")
        return bytes(self.units[unit])

    def authentic(self, raw: bytes, kind: str) -> Signed:
        """Steps 1 to 5."""
        need(len(raw) <= self.limits["message_bytes"], "too_large")
        signed = take_apart(raw, kind)
        f = signed.fields
        need(f["room"] == self.room, "wrong_room")
        need(f["line"] == self.line, "wrong_line")
        need(f["epoch"] >= self.roster["epoch"], "stale_epoch")
        need(f["epoch"] <= self.roster["epoch"], "unknown_epoch")
        if kind == "grant":
            need(signed.signer == self.roster["gateway"][0], "unknown_signer")
            key = self.roster["gateway"][1]
        else:
            key = self.speaker(signed.signer, f["unit"])
        check_signature(signed, key, self.room, self.line)
        return signed

    def open(self, chain: list[str]) -> None:
        """Take a grant and links."""
        first, *links = map(bytes.fromhex, chain)
        self.start(self.authentic(first, "grant"))
        for raw in links:
            self.take(raw)

    def start(self, grant: Signed) -> None:
        """Open a round."""
        self.grant = grant
        self.objects = [self.grant.digest]
        self.accepted = {unit: list(row) for unit, row in self.grant.fields["accepted"].items()}
        self.signed: set[str] = set()

    def take(self, raw: bytes) -> None:
        """A link becomes the head."""
        link = self.authentic(raw, "link")
        self.follow(link)
        f = link.fields
        before = self.accepted.get(f["unit"], [0, 0, 0])
        self.accepted[f["unit"]] = [f["session"], *(f["entries"][-1][:2] if f["entries"] else before[1:])]
        self.objects.append(link.digest)
        self.signed.add(f["unit"])

    def log(self, rounds: list[dict[str, Any]], newer: str | None) -> None:
        """Closed rounds from the first on, and a newer grant that somebody holds."""
        self.objects, self.accepted, wanted = [bytes(32)], {}, 1
        objects = [list(map(bytes.fromhex, [one["grant"], *one["links"]])) for one in rounds]
        for index, (first, *links) in enumerate(objects):
            try:
                self.start(self.next_grant(first, wanted, started=index > 0))
                for place, raw in enumerate(links, start=1):
                    with located(wanted, place):
                        self.take(raw)
            except Found as found:
                raise told_more(found, objects[index:]) from None
            wanted += 1
        if newer is not None:
            self.next_grant(bytes.fromhex(newer), wanted, started=True, closing=True)

    def next_grant(self, raw: bytes, wanted: int, *, started: bool, closing: bool = False) -> Signed:
        """A grant that continues a log."""
        with located(wanted, 0):
            grant = self.authentic(raw, "grant")
        f = grant.fields
        if f["round"] < wanted:
            raise Found("round_out_of_order", f["round"], 0)
        if f["round"] > wanted and (closing or not started):
            raise Found("cut_at_end" if closing else "start_missing", f["round"], 0)
        if f["round"] > wanted:
            raise Found("round_missing", wanted, None)
        with located(wanted, 0):
            need(f["prev"] == self.objects[-1], "wrong_previous")
            need(f["accepted"] == self.accepted, "acknowledgement_withdrawn")
        return grant

    def follow(self, link: Signed) -> None:
        """Steps 6 to 9."""
        f = link.fields
        need(f["round"] >= self.grant.fields["round"], "stale_round")
        need(f["round"] <= self.grant.fields["round"], "ungranted_round")
        if f["prev"] != self.objects[-1]:
            raise Refused("lost_race" if f["prev"] in self.objects else "wrong_previous")
        accepted = self.accepted.get(f["unit"], [0, 0, 0])
        need(f["session"] and f["session"] >= accepted[0], "stale_session")
        need(f["unit"] not in self.signed, "second_link_in_round")
        need(len(f["entries"]) <= self.limits["entries_per_link"], "too_many_entries")
        before = accepted[1:]
        for session, sequence, sealed in f["entries"]:
            need([session, sequence] > before and session <= f["session"], "sequence_disorder")
            need(len(sealed) == SEALED[self.roster["suite"]], "wrong_sealed_size")
            before = [session, sequence]

    def follow_grant(self, grant: Signed) -> None:
        """Steps 6 and 8 of a grant."""
        f, before = grant.fields, self.grant.fields
        need(f["round"] != before["round"] or grant.digest == self.grant.digest, "grant_rewritten")
        need(f["round"] > before["round"], "stale_round")
        for unit, row in before["accepted"].items():
            after = f["accepted"].get(unit, [0, 0, 0])
            need(after[0] >= row[0] and after[1:] >= row[1:], "acknowledgement_withdrawn")

    def proof(self, messages: list[bytes]) -> None:
        """Two objects that exclude each other."""
        try:
            first, second = (self.authentic(raw, "link") for raw in messages)
        except Refused as refused:
            need(str(refused) == "wrong_kind", str(refused))
            first, second = (self.authentic(raw, "grant") for raw in messages)
            need(first.digest != second.digest)
            self.grant, later = sorted((first, second), key=lambda grant: int(grant.fields["round"]))
            try:
                self.follow_grant(later)
            except Refused:
                return
            raise Refused("not_decodable") from None
        a, b = first.fields, second.fields
        need(a["unit"] == b["unit"] and first.digest != second.digest and exclude_each_other(a, b))

    def hpke(self) -> Suite:
        """The roster's suite."""
        kem = KEM.X25519 if self.roster["suite"] == 1 else KEM.MLKEM768_X25519
        return Suite(kem, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

    def info(self, unit: str, session: int, sequence: int) -> bytes:
        """The place of an entry."""
        return encode(["moodline label", 1, self.room, self.line, unit, session, sequence])

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """A sealed entry."""
        raw = self.roster["gateway"][2]
        key: Any = X25519PublicKey.from_public_bytes(raw[-32:])
        if self.roster["suite"] == 2:
            key = MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:1_184]), key)
        return self.hpke().encrypt(plaintext, key, info)

    def labels(self, link: Signed, secret: str) -> list[dict[str, Any]]:
        """Step 10."""
        raw = bytes.fromhex(secret)
        key: Any
        if self.roster["suite"] == 1:
            key = X25519PrivateKey.from_private_bytes(raw)
        else:
            wide = hashlib.shake_256(raw).digest(96)
            mlkem = MLKEM768PrivateKey.from_seed_bytes(wide[:64])
            key = MLKEM768X25519PrivateKey(mlkem, X25519PrivateKey.from_private_bytes(wide[64:]))
        found = []
        for session, sequence, sealed in link.fields["entries"]:
            try:
                plaintext = self.hpke().decrypt(sealed, key, self.info(link.fields["unit"], session, sequence))
            except (InvalidTag, ValueError):
                raise Refused("not_openable") from None
            found.append({"session": session, "sequence": sequence, "label": read_label(plaintext)})
        return found


def read_label(plaintext: bytes) -> dict[str, Any]:
    """The label of a plaintext."""
    end = 1 + plaintext[0]
    need(len(plaintext) == 64 and end <= 64 and not any(plaintext[end:]), "bad_label")
    try:
        values = decode(plaintext[1:end])
    except Refused:
        raise Refused("bad_label") from None
    need(isinstance(values, dict) and values.keys() == set(range(1, 13)), "bad_label")
    row = [values[key] for key in range(1, 13)]
    need(all(number(value) and value <= limit for value, limit in zip(row, LABEL_LIMITS, strict=False)), "bad_label")
    need(number(row[10]) and isinstance(row[11], str) and len(row[11]) <= 16 and row[11].isascii(), "bad_label")
    state, emotion, reason = row[3], row[4], row[10]
    need(row[0] == 1 and (state == 0 or emotion == 0) and (reason > 0) == (state == 1), "bad_label")
    if state == 4:
        heard, seen = row[8], row[9]
        need(heard in (0, 1, 2, 3) and seen in (0, 1, 2, 3, 5) and row[6:8] == [0, 0] and row[11] == "", "bad_label")
        need(row[5] <= (15 if heard == 0 else 0), "bad_label")
    return dict(zip(LABEL.split(), row, strict=True))


# --- commands ------------------------------------------------------------------------------------------------------


def init(request: dict[str, Any]) -> dict[str, Any]:
    """A unit's state."""
    key = Line(request).speaker(request["unit"], request["unit"])
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(request["key"]))
    if private.public_key().public_bytes_raw() != key or request["session"] < 1:
        raise ValueError("the key is not the roster's, or session 0")
    return {"state": {"signed_in_round": 0, "number": 0, **request}}


def append(request: dict[str, Any]) -> dict[str, Any]:
    """A unit's link."""
    state = request["state"]
    line = Line(state)
    line.open([request["grant"], *request["links"]])
    granted = line.grant.fields
    need(state["signed_in_round"] < granted["round"], "second_link_in_round")
    known = granted["accepted"].get(state["unit"], [0, 0, 0])[0]
    need(state["signed_in_round"] or state["session"] > known, "stale_session")
    unit, session, last = state["unit"], state["session"], state["number"]
    if "entries" in request:
        entries = [[s, n, bytes.fromhex(sealed)] for s, n, sealed in request["entries"]]
        flags = request.get("flags", 0)
    else:
        entries = []
        for label in request["labels"]:
            last += 1
            body = encode(dict(enumerate((label[name] for name in LABEL.split()), start=1)))
            plaintext = (bytes([len(body)]) + body).ljust(64, b"\0")
            read_label(plaintext)
            entries.append([session, last, line.seal(plaintext, line.info(unit, session, last))])
        flags = int(request.get("more_backlog", False)) + 2 * (known == session)
    place = [line.room, line.line, line.roster["epoch"], granted["round"]]
    row = [*place, unit, session, entries, line.objects[-1], flags]
    payload = encode(dict(enumerate(row, start=1)))
    protected = encode({1: -8, 3: "application/moodline-link+cbor", 4: unit.encode(), -65537: 1})
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(state["key"]))
    signature = private.sign(to_be_signed(protected, line.room, line.line, payload))
    raw = b"\xd2" + encode([protected, {}, payload, signature])
    line.follow(line.authentic(raw, "link"))
    after = {**state, "signed_in_round": granted["round"], "number": last}
    return {"link": raw.hex(), "digest": hashlib.sha256(raw).hexdigest(), "state": after}


def exclude_each_other(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two links of one unit are a proof."""
    if (a["session"], a["round"]) == (b["session"], b["round"]):
        return True
    low, high = sorted((a, b), key=lambda link: int(link["session"]))
    if low["session"] < high["session"] and low["round"] >= high["round"] and high["flags"] & 2:
        return True
    sealed = {(session, number): content for session, number, content in a["entries"]}
    return any(sealed.get((s, n), content) != content for s, n, content in b["entries"])


def verify(request: dict[str, Any]) -> dict[str, Any]:
    """Judge messages."""
    kind, messages = request["kind"], [bytes.fromhex(raw) for raw in request.get("messages", [])]
    good: dict[str, Any] = {"verdict": None, "step": None, "labels": []}
    if kind == "roster":
        read_roster(messages[0], bytes.fromhex(request["authority"]), request["room"])
        return good
    line = Line(request)
    if kind == "proof":
        line.proof(messages)
    elif kind == "log":
        line.log(request["rounds"], request["newer_grant"])
    elif kind == "grant":
        line.open(request["chain"])
        line.follow_grant(line.authentic(messages[0], "grant"))
    elif kind == "link":
        line.open(request["chain"])
        link = line.authentic(messages[0], "link")
        line.follow(link)
        if request.get("opening_key"):
            good["labels"] = line.labels(link, request["opening_key"])
    else:
        raise ValueError("unknown kind")
    return good


def dump(request: dict[str, Any]) -> dict[str, Any]:
    """An object as JSON."""
    signed = take_apart(bytes.fromhex(request["object"]), None)
    rest = {"protected": signed.protected, "signature": signed.signature, "digest": signed.digest}
    found: dict[str, Any] = plain({"kind": signed.kind, "signer": signed.signer, "fields": signed.fields, **rest})
    return found


def plain(item: Any) -> Any:
    """Bytes as hex."""
    match item:
        case bytes():
            return item.hex()
        case list():
            return [plain(each) for each in item]
        case dict():
            return {key: plain(each) for key, each in item.items()}
    return item


COMMANDS: Final = {"init": init, "append": append, "verify": verify, "dump": dump}


def answer(command: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Exit code and answer."""
    try:
        return 0, COMMANDS[command](request)
    except Refused as refused:
        verdict = str(refused)
        return 1, {"verdict": verdict, "step": STEP_OF[verdict]}
    except Found as found:
        verdict = FINDINGS.get(found.code, found.code)
        where = {"finding": found.code, "round": found.round, "place": found.place}
        return 1, {"verdict": verdict, "step": STEP_OF[verdict], **where}
    except (ValueError, KeyError, TypeError) as error:
        return 2, {"error": repr(error)}


def main() -> int:
    """One command, or a batch."""
    if sys.argv[1] == "batch":
        for asked in map(json.loads, sys.stdin):
            code, found = answer(asked["command"], asked["request"])
            print(json.dumps({"exit": code, "answer": found}))
        return 0
    try:
        code, found = answer(sys.argv[1], json.load(sys.stdin))
    except ValueError as error:
        code, found = 2, {"error": str(error)}
    print(json.dumps(found))
    return code


if __name__ == "__main__":
    sys.exit(main())
