"""From what the line delivers to what consumers get. Pure: builds documents and says which topic carries them.

What may leave depends on the signed policy's mode alone: `labels` hands out one document per desk, `class-aggregate`
only counts over at least `min_group` desks, `presence` one document per desk without any emotion, `off` nothing at all.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from device.errors import VERDICTS, Verdict
from device.gateway.documents import (
    AlertDocument,
    ClassDocument,
    LabelDocument,
    Presence,
    Senses,
    Severity,
    Shares,
    StateName,
    encode,
)
from device.line.actions import Alert, Deliver, Gap, Notice, Publish
from device.messages import topics
from device.messages.label import LEVEL_FLOOR_DBFS, LEVEL_STEP_DB, PERMILLE, Label, LabelState, SenseState
from models.labels import EMOTIONS

UNNAMED: Final = "unnamed"
CLASS_BIN_MS: Final = 10_000

#: What happened, and what to do, for what is nobody's attack.
NOTICES: Final[dict[Notice, tuple[str, str]]] = {
    Notice.UNIT_ABSENT: (
        "A desk has left the line.",
        "Check that its box has power and network. The line goes on without it, and the box keeps its labels.",
    ),
    Notice.UNIT_RETURNED: ("A desk is back on the line.", "Nothing to do: it sends what it has kept."),
    Notice.OUTBOX_OVERFLOW: (
        "A box was away for so long that its oldest labels had to go.",
        "Check its network; the gap is noted.",
    ),
    Notice.ENROL_ANEW: (
        "A box finds its identity in use elsewhere, or itself restored from a copy. It has stopped signing.",
        "Enrol that desk anew.",
    ),
    Notice.ROSTER_REFUSED: (
        "The roster or policy that was put into the gateway's folder does not count. The one before stands.",
        "Copy the room authority's newest files there, all of them.",
    ),
}

GAP: Final = "gap"
LABELS_MISSING: Final = (
    "Some labels of a desk are lost: its box was away for longer than it can keep them.",
    "Check the network of that desk; the bounds of the gap are noted.",
)

_STATES: Final[dict[LabelState, StateName]] = {
    LabelState.GIVEN: "given",
    LabelState.ABSTAINED: "abstained",
    LabelState.MUTED: "muted",
    LabelState.OPTED_OUT: "opted_out",
    LabelState.PRESENCE: "presence",
}


def label_document(delivered: Deliver, *, room: str, desk: str) -> LabelDocument:
    """The document of a label that has just been verified: status `signed`, no witness yet."""
    label = delivered.label
    return LabelDocument(
        event_id=f"{delivered.unit}/{delivered.session}/{delivered.sequence}",
        room=room,
        line=delivered.line,
        unit=delivered.unit,
        desk=desk,
        session=delivered.session,
        sequence=delivered.sequence,
        round=delivered.round,
        state=_STATES[label.state],
        label=label.emotion,
        abstain_reason=label.abstain_reason,
        confidence=label.confidence / PERMILLE,
        shares=Shares(speech=label.share_speech / PERMILLE, face=label.share_face / PERMILLE),
        senses=Senses(speech=label.speech, face=label.face),
        status="signed",
        witnesses=0,
        window_end_ms=label.window_end_ms,
        time_source=label.time_source,
        accepted_ms=delivered.arrived_wall_ms,
        delay_ms=max(0, delivered.arrived_wall_ms - label.window_end_ms) if delivered.time_plausible else None,
        model=label.bundle,
        presence=_presence(label) if label.state is LabelState.PRESENCE else None,
    )


def _presence(label: Label) -> Presence:
    seen = {SenseState.PRESENT: True, SenseState.NO_FACE: False}
    heard = label.speech is SenseState.PRESENT
    return Presence(
        face_seen=seen.get(label.face), level_dbfs=LEVEL_FLOOR_DBFS + LEVEL_STEP_DB * label.level if heard else None
    )


def with_witnesses(document: LabelDocument, count: int, *, enough: bool) -> LabelDocument:
    """The same label, covered by `count` later signatures; `witnessed` once the policy's number is reached."""
    return msgspec.structs.replace(document, witnesses=count, status="witnessed" if enough else "signed")


def is_newer(document: LabelDocument, than: LabelDocument | None) -> bool:
    """Whether this label comes after the other one of the same unit (a backlog may arrive late)."""
    return than is None or (document.session, document.sequence) > (than.session, than.sequence)


def label_message(document: LabelDocument, *, newest: bool) -> Publish:
    """The message for the unit's label topic; the broker keeps it for late joiners when it is the newest."""
    topic = topics.labels(document.room, document.line, document.unit)
    return Publish(topic, encode(document), qos=1, retain=newest)


def alert_document(found: Alert | Gap, *, room: str, event_id: str, at_ms: int, repeats: int) -> AlertDocument:
    """The document of one finding: what it means, what exactly was found, and what to do."""
    step: int | None = None
    severity: Severity = "warning"
    if isinstance(found, Gap):
        code, peer, (sentence, next_step) = GAP, found.unit, LABELS_MISSING
        detail = f"Numbers {found.first} to {found.last} of session {found.session} will not come."
    elif isinstance(found.code, Verdict):
        code, peer, detail, row = found.code.value, found.peer, found.text, VERDICTS[found.code]
        step, sentence, next_step = row.step, row.sentence, row.next_step
        severity = "note" if row.honest else "refused"
    else:
        code, peer, detail = found.code.value, found.peer, found.text
        sentence, next_step = NOTICES[found.code]
        severity = "note" if found.code is Notice.UNIT_RETURNED else "warning"
    return AlertDocument(
        event_id=event_id,
        at_ms=at_ms,
        room=room,
        line=found.line,
        peer=peer,
        severity=severity,
        code=code,
        step=step,
        sentence=sentence,
        detail=detail,
        next_step=next_step,
        repeats=repeats,
    )


class ClassPicture:
    """Counts over the class, in time bins; which desk showed what never leaves this object.

    A desk counts once in a bin, with the last thing it said. A bin is not shown when fewer than `min_group` desks took
    part, nor when other desks took part than in the bin before: the difference of two bins would tell what the desk
    that came or went had shown.
    """

    def __init__(self, *, room: str, min_group: int) -> None:
        self._room = room
        self._min_group = min_group
        self._said: dict[str, str] = {}
        self._before: frozenset[str] = frozenset()
        self._from_ms: int | None = None

    def add(self, document: LabelDocument) -> None:
        """Take in one verified label."""
        self._said[document.unit] = document.label.value if document.label is not None else UNNAMED

    def close_bin(self, now_ms: int) -> ClassDocument | None:
        """The document of the bin that ends now, or None while it is still open. Call it again and again."""
        if self._from_ms is None or now_ms < self._from_ms:
            self._from_ms = now_ms
        if now_ms - self._from_ms < CLASS_BIN_MS:
            return None
        said, self._said = self._said, {}
        same, self._before = frozenset(said) == self._before, frozenset(said)
        shown = same and len(said) >= self._min_group
        counted = Counter(said.values())
        names = [emotion.value for emotion in EMOTIONS] + [UNNAMED]
        document = ClassDocument(
            event_id=f"{self._room}/{self._from_ms}",
            room=self._room,
            from_ms=self._from_ms,
            to_ms=now_ms,
            min_group=self._min_group,
            desks=len(said) if shown else None,
            counts={name: counted[name] for name in names} if shown else None,
        )
        self._from_ms = now_ms
        return document


def class_message(document: ClassDocument) -> Publish:
    """The message for the room's class topic."""
    return Publish(topics.class_picture(document.room), encode(document), qos=1, retain=True)
