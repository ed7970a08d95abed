"""The sealed label: a closed list of fields in a plaintext of one fixed size.

No audio, image, embedding or identity has a place here, and every state of a desk (label given, abstained, muted,
opted out, presence) fills the same number of bytes, so that a sealed label says nothing by its length.

Plaintext, `LABEL_BYTES` long: one byte n, then n bytes of deterministic CBOR (a map with the integer keys of `_Key`),
then zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from device.clock import TimeSource
from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from models.labels import ABSTAIN_REASONS, EMOTIONS, AbstainReason, Emotion

LABEL_SCHEMA: Final = 1
#: Plaintext size of every label. The fullest label takes 56 bytes of it.
LABEL_BYTES: Final = 64
#: Longest name of a model bundle, in ASCII characters.
BUNDLE_CHARACTERS: Final = 16
#: Full scale of confidence and shares.
PERMILLE: Final = 1_000
#: A presence label tells the sound level in so many steps of so many dB, the first from `LEVEL_FLOOR_DBFS` up.
LEVELS: Final = 16
LEVEL_STEP_DB: Final = 6
LEVEL_FLOOR_DBFS: Final = -96


class LabelState(IntEnum):
    """What a desk says about one window."""

    GIVEN = 0
    ABSTAINED = 1
    MUTED = 2
    OPTED_OUT = 3
    PRESENCE = 4


class SenseState(StrEnum):
    """What a sense contributes to a window; everything but `present` says why it contributes nothing.

    Its position is the code on the wire; new names are appended.
    """

    PRESENT = "present"
    OFF = "off"
    FAILED = "failed"
    WARMING_UP = "warming_up"
    SILENT = "silent"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    LOW_QUALITY = "low_quality"


class _Key(IntEnum):
    SCHEMA = 1
    WINDOW_END_MS = 2
    TIME_SOURCE = 3
    STATE = 4
    EMOTION = 5
    CONFIDENCE = 6
    SHARE_SPEECH = 7
    SHARE_FACE = 8
    SPEECH = 9
    FACE = 10
    ABSTAIN_REASON = 11
    BUNDLE = 12


_TIME_SOURCES: Final = tuple(TimeSource)
_SENSES: Final = tuple(SenseState)
_NOTHING_SENSED: Final = (SenseState.OFF, SenseState.FAILED, SenseState.WARMING_UP)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What one desk expressed in one window, as its unit judged it.

    `window_end_ms` is the unit's wall time (a claim; `time_source` says how far to believe it). `confidence`,
    `share_speech` and `share_face` are whole thousandths, 0..1000. `emotion` is set if and only if `state` is GIVEN,
    `abstain_reason` if and only if it is ABSTAINED. `bundle` names the model bundle, at most 16 ASCII characters.
    A PRESENCE label says by `face` whether a face is seen (present or no_face) and, where `speech` is present, by
    `level` how loud it is: from -96 + 6 * level dB of full scale up; and nothing else. Raises ValueError when the
    fields contradict each other.
    """

    window_end_ms: int
    time_source: TimeSource
    state: LabelState
    emotion: Emotion | None = None
    confidence: int = 0
    share_speech: int = 0
    share_face: int = 0
    speech: SenseState = SenseState.OFF
    face: SenseState = SenseState.OFF
    abstain_reason: AbstainReason | None = None
    bundle: str = ""
    level: int = 0

    def __post_init__(self) -> None:
        if (self.emotion is not None) != (self.state is LabelState.GIVEN):
            raise ValueError("an emotion stands in a given label and in no other")
        if (self.abstain_reason is not None) != (self.state is LabelState.ABSTAINED):
            raise ValueError("a reason to abstain stands in an abstaining label and in no other")
        if not all(0 <= share <= PERMILLE for share in (self.confidence, self.share_speech, self.share_face)):
            raise ValueError("confidence and shares are thousandths, 0 to 1000")
        if len(self.bundle) > BUNDLE_CHARACTERS or not self.bundle.isascii():
            raise ValueError(f"a bundle's name is at most {BUNDLE_CHARACTERS} ASCII characters")
        if not 0 <= self.window_end_ms < 2**48:
            raise ValueError("the window's end is milliseconds since 1970, below 2^48")
        if self.state is LabelState.PRESENCE:
            self._check_presence()
        elif self.level:
            raise ValueError("a sound level stands in a presence label and in no other")

    def _check_presence(self) -> None:
        if self.confidence or self.share_speech or self.share_face or self.bundle:
            raise ValueError("a presence label comes of no model, confidence or share")
        if self.speech not in (SenseState.PRESENT, *_NOTHING_SENSED):
            raise ValueError("a presence label says of the sound how loud it is, and nothing else")
        if self.face not in (SenseState.PRESENT, SenseState.NO_FACE, *_NOTHING_SENSED):
            raise ValueError("a presence label says whether a face is seen, and nothing else of it")
        if not 0 <= self.level < (LEVELS if self.speech is SenseState.PRESENT else 1):
            raise ValueError(f"the level is a step from 0 to {LEVELS - 1}, and 0 where nothing is heard")


def encode_label(label: Label) -> bytes:
    """`LABEL_BYTES` of plaintext, ready to be sealed."""
    body = cbor.encode(
        {
            _Key.SCHEMA: LABEL_SCHEMA,
            _Key.WINDOW_END_MS: label.window_end_ms,
            _Key.TIME_SOURCE: _TIME_SOURCES.index(label.time_source),
            _Key.STATE: int(label.state),
            _Key.EMOTION: label.emotion.code if label.emotion else 0,
            _Key.CONFIDENCE: label.level if label.state is LabelState.PRESENCE else label.confidence,
            _Key.SHARE_SPEECH: label.share_speech,
            _Key.SHARE_FACE: label.share_face,
            _Key.SPEECH: _SENSES.index(label.speech),
            _Key.FACE: _SENSES.index(label.face),
            _Key.ABSTAIN_REASON: label.abstain_reason.code if label.abstain_reason else 0,
            _Key.BUNDLE: label.bundle,
        }
    )
    assert len(body) < LABEL_BYTES, "the closed field list always fits"
    return bytes([len(body)]) + body + bytes(LABEL_BYTES - 1 - len(body))


def decode_label(plaintext: bytes) -> Label:
    """The label of an opened entry. Raises RemoteMessageError BAD_LABEL when any rule of the format is broken."""
    try:
        return _decode(plaintext)
    except (ValueError, IndexError) as error:
        raise RemoteMessageError(Verdict.BAD_LABEL, f"The opened entry is no label: {error}.") from error
    except RemoteMessageError as error:
        raise RemoteMessageError(Verdict.BAD_LABEL, f"The opened entry is no label: {error.what}") from error


def _decode(plaintext: bytes) -> Label:
    if len(plaintext) != LABEL_BYTES:
        raise ValueError(f"{len(plaintext)} bytes instead of {LABEL_BYTES}")
    end = 1 + plaintext[0]
    if end > LABEL_BYTES or any(plaintext[end:]):
        raise ValueError("the padding is not zeros")
    fields = cbor.Fields(cbor.decode(plaintext[1:end]), keys=_Key)
    if fields.unsigned(_Key.SCHEMA) != LABEL_SCHEMA:
        raise ValueError("unknown schema")
    state = LabelState(fields.unsigned(_Key.STATE))
    emotion, reason = fields.unsigned(_Key.EMOTION), fields.unsigned(_Key.ABSTAIN_REASON)
    if (emotion and state is not LabelState.GIVEN) or (reason and state is not LabelState.ABSTAINED):
        raise ValueError("state and content contradict each other")
    number, is_level = fields.unsigned(_Key.CONFIDENCE), state is LabelState.PRESENCE
    return Label(
        window_end_ms=fields.unsigned(_Key.WINDOW_END_MS),
        time_source=_TIME_SOURCES[fields.unsigned(_Key.TIME_SOURCE)],
        state=state,
        emotion=EMOTIONS[emotion] if state is LabelState.GIVEN else None,
        confidence=0 if is_level else number,
        share_speech=fields.unsigned(_Key.SHARE_SPEECH),
        share_face=fields.unsigned(_Key.SHARE_FACE),
        speech=_SENSES[fields.unsigned(_Key.SPEECH)],
        face=_SENSES[fields.unsigned(_Key.FACE)],
        abstain_reason=ABSTAIN_REASONS[reason - 1] if reason else None,
        bundle=fields.text(_Key.BUNDLE),
        level=number if is_level else 0,
    )
