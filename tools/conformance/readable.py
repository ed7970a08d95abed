"""Signed objects and labels as JSON: field names of docs/line-protocol.md, bytes as hex, codes as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import ContentType, Envelope, open_envelope
from device.messages.grant import decode_grant
from device.messages.label import LABEL_BYTES, Label, decode_label, encode_label
from device.messages.link import decode_link

#: Names of the keys 1, 2, 3, … of each payload.
FIELDS: Final[Mapping[ContentType, tuple[str, ...]]] = {
    ContentType.ROSTER: ("room", "epoch", "lines", "gateway", "revoked", "policy", "suite"),
    ContentType.POLICY: (
        *("room", "purpose", "setting", "jurisdiction", "mode", "min_group", "retention_days", "witness_count"),
        *("approved_by", "not_before_ms", "not_after_ms", "capture", "updates"),
    ),
    ContentType.GRANT: (*("room", "line", "epoch", "round", "order", "accepted", "prev", "gateway_ms", "deadline_ms"),),
    ContentType.LINK: ("room", "line", "epoch", "round", "unit", "session", "entries", "prev", "flags"),
}
LABEL_FIELDS: Final = (
    *("schema", "window_end_ms", "time_source", "state", "emotion", "confidence", "share_speech", "share_face"),
    *("speech", "face", "abstain_reason", "bundle"),
)
_DECODERS: Final[Mapping[ContentType, Callable[[Envelope], object]]] = {
    ContentType.GRANT: decode_grant,
    ContentType.LINK: decode_link,
}


def kind_of(content_type: ContentType) -> str:
    """`link`, `grant`, `roster` or `policy`."""
    return content_type.name.lower()


def dump(raw: bytes) -> dict[str, Any]:
    """An object as JSON; its signature is not looked at. Raises RemoteMessageError with a verdict of step 2."""
    envelope = _open(raw)
    content_type = envelope.content_type
    if content_type in _DECODERS:
        _DECODERS[content_type](envelope)
    return {
        "kind": kind_of(content_type),
        "signer": envelope.key_id,
        "fields": _named(envelope.payload, FIELDS[content_type]),
        "protected": envelope.protected.hex(),
        "signature": envelope.signature.hex(),
        "digest": envelope.digest.hex(),
    }


def label_as_json(label: Label) -> dict[str, Any]:
    """A label's fields by name, with the codes of the wire."""
    plaintext = encode_label(label)
    return _named(plaintext[1 : 1 + plaintext[0]], LABEL_FIELDS)


def label_from_json(fields: Mapping[str, object]) -> Label:
    """The other way round. Raises ValueError for unknown or missing fields, RemoteMessageError BAD_LABEL."""
    if fields.keys() != set(LABEL_FIELDS):
        raise ValueError(f"a label has the fields {', '.join(LABEL_FIELDS)}")
    body = cbor.encode({key: fields[name] for key, name in enumerate(LABEL_FIELDS, start=1)})
    if len(body) >= LABEL_BYTES:
        raise RemoteMessageError(Verdict.BAD_LABEL, "The label does not fit.")
    return decode_label((bytes([len(body)]) + body).ljust(LABEL_BYTES, b"\x00"))


def _open(raw: bytes) -> Envelope:
    for wanted in ContentType:
        try:
            return open_envelope(raw, wanted=wanted)
        except RemoteMessageError as error:
            if error.verdict is not Verdict.WRONG_KIND:
                raise
    raise AssertionError("every content type was tried")


def _named(payload: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    fields = cbor.decode(payload)
    if not isinstance(fields, dict) or fields.keys() != set(range(1, len(names) + 1)):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "The fields are not those of this kind of message.")
    return {name: _as_json(fields[key]) for key, name in enumerate(names, start=1)}


def _as_json(item: object) -> object:
    match item:
        case bytes():
            return item.hex()
        case list():
            return [_as_json(each) for each in item]
        case dict():
            return {str(name): _as_json(each) for name, each in item.items()}
    return item
