"""Who takes part when the running line is measured: units that speak recorded labels, and a party without the key.

A `Speaker` is a unit's real line (`LineUnit`, outbox, signing key, MQTT over mutual TLS) whose senses are a recorded
list of answers. The `Outsider` holds the demo room's intruder certificate: as a dishonest broker it hears every link
and writes to every unit's topic. Nobody here opens anything while labels are under way, so that it costs them no time.
`Speakers` are several units as threads of this program; `tools.bench.line_boxes` has them in programs of their own.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.clock import TimeSource
from device.config import UnitConfig
from device.errors import RemoteMessageError, TransportError, Verdict
from device.line.actions import Action, Infer, Publish
from device.line.unit import LineUnit
from device.line.verify import Verifier
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.label import PERMILLE, Label, LabelState
from device.messages.link import Link, decode_link
from device.messages.sealing import Opener, Place
from device.publish.mqtt import MqttLink
from device.publish.outbox import BoundedOutbox
from device.publish.ports import Connected, Disconnected, Event, Received
from device.publish.ports import Link as BrokerLink
from device.system.clock import SystemClock
from device.system.storage import SESSION_FILE, SessionCounter
from device.trust import load_signer, load_trusted
from models.labels import AbstainReason, Emotion
from tools.attacks import forge_link
from tools.demo.programs import ProgramError

LOG: Final = logging.getLogger(__name__)
CLOCK_S: Final = 0.003
#: A replayed link is at least so many rounds old, as in the demo's staged attack.
OLD_ROUNDS: Final = 3
#: Few enough that the gateway remembers the oldest.
ROUNDS_KEPT: Final = 30
BUNDLE: Final = "recorded"

_MUTED: Final = Label(window_end_ms=0, time_source=TimeSource.UNSET, state=LabelState.MUTED, bundle=BUNDLE)

#: (unit, session, sequence): a label's name for ever.
LabelName = tuple[str, int, int]


@dataclass(frozen=True)
class Answer:
    """A recorded decision beside the truth; `decided` is None, and `reason` set, where the box abstained."""

    true: Emotion
    decided: Emotion | None
    confidence: float = 0.0
    reason: AbstainReason | None = None


@dataclass(frozen=True)
class Sent:
    """A label as its unit made it; `made_ms` in milliseconds since 1970."""

    answer: Answer
    made_ms: int


@dataclass(frozen=True)
class Said:
    """What units have said since they were asked before, when it was first published, and the links they heard."""

    sent: Mapping[LabelName, Sent]
    published_ms: Mapping[LabelName, int]
    heard: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True)
class Pace:
    """How fast a unit speaks, between two moments in monotonic seconds.

    With `every_rounds` it speaks when the grant of each so-manieth round comes, as a box does; else by its own clock.
    """

    rate_hz: float
    begins: float
    ends: float
    every_rounds: int | None = None


def every_rounds(rate_hz: float, round_period_ms: int) -> int | None:
    """In each how-manieth round a unit of that rate speaks; None when the rounds do not give the rate."""
    rounds = 1_000 / (rate_hz * round_period_ms)
    whole = round(rounds)
    return whole if whole >= 1 and abs(rounds - whole) < 1e-9 else None


class _DirectLink(MqttLink):
    """A link whose events are handled on its own thread: with many units in one program, hand-over would be most of
    the work."""

    def __init__(self, handle: Callable[[Event], None], config: UnitConfig) -> None:
        super().__init__(
            config.unit,
            config.broker,
            config.trust,
            subscriptions=(topics.grant(config.room, config.line), topics.link(config.room, config.line, "+")),
            subscription_qos=0,
            message_bytes=config.limits.message_bytes,
        )
        self._handle = handle

    def _tell(self, event: Event) -> None:
        self._handle(event)


class Speaker:
    """One unit's line. `place`, 0..1, shifts its own clock against those of other units.

    It acts on its link's thread when something comes, and on its owner's when `turn` is called. Without `keep_heard` it
    forgets the links that it heard. With `verifier`, which must be for its roster, line and limits, it shares steps 1
    to 5 of verification with other units. With `fills` it says a muted label, which counts nowhere, in each round for
    which it has none: a box says something in every round.
    """

    def __init__(
        self,
        config: UnitConfig,
        answers: Sequence[Answer],
        place: float,
        *,
        keep_heard: bool = True,
        fills: bool = False,
        verifier: Verifier | None = None,
    ) -> None:
        """Raises ConfigError or StorageError naming the file of the box."""
        assert answers
        self.unit = config.unit
        self.sent: dict[LabelName, Sent] = {}
        self.published_ms: dict[LabelName, int] = {}
        self.heard: list[bytes] = []
        self._keep_heard = keep_heard
        self._fills = fills
        self._clock = SystemClock()
        self._answers = answers
        self._place = place
        self._room, self._line = config.room, config.line
        roster = load_trusted(config.trust, config.room, self._clock).roster
        keys = {unit.unit: unit.key for unit in roster.units_of(config.line)}
        signer = load_signer(config.trust, config.unit, keys.get(config.unit))
        self._session = SessionCounter(config.state / SESSION_FILE).raise_()
        self._machine = LineUnit(
            roster=roster,
            line=config.line,
            session=self._session,
            signer=signer,
            outbox=BoundedOutbox(config.limits.backlog_entries),
            limits=config.limits,
        )
        if verifier is not None:
            self._machine._verifier = verifier
        self._link = _DirectLink(self._act, config)
        self._pace: Pace | None = None
        self._spoken = 0
        self._sequence = 0
        self._lock = threading.Lock()
        self._moment = math.inf
        self._failure: Exception | None = None

    @property
    def has_said_all(self) -> bool:
        """Whether no label of its own clock is due any more."""
        return self._due() is None

    def check(self) -> None:
        """Raises ProgramError when the line has failed."""
        if self._failure is not None:
            raise ProgramError(
                f"The line of {self.unit} ended: {self._failure!r}.", next_step="This is a defect; report it."
            )

    def start(self) -> None:
        """Connect and follow the line; nothing is said before `speak`."""
        self._link.start()

    def speak(self, pace: Pace) -> None:
        """Say labels at that pace. The pace before must have ended."""
        with self._lock:
            self._spoken = 0
            self._pace = pace
            self._set_moment()

    def turn(self, now: float) -> None:
        """Do what is due at that moment, in monotonic seconds."""
        if now >= self._moment:
            self._act(None)

    def stop(self) -> None:
        """Leave; may be called twice, and before `start`."""
        self._link.stop()

    def _act(self, event: Event | None) -> None:
        with self._lock:
            try:
                if event is not None:
                    self._handle(event)
                if (due := self._machine.next_deadline()) is not None and due <= self._clock.monotonic():
                    self._carry_out(self._machine.tick(self._clock.monotonic()))
                while (due := self._due()) is not None and due <= self._clock.monotonic():
                    self._say()
                self._set_moment()
            except Exception as error:
                # The link's thread would take it for malformed bytes; `check` tells the owner.
                self._failure = error
                self._moment = math.inf

    def _set_moment(self) -> None:
        moments = (self._machine.next_deadline(), self._due())
        self._moment = min((moment for moment in moments if moment is not None), default=math.inf)

    def _due(self) -> float | None:
        """When the own clock wants the next label, in monotonic seconds."""
        pace = self._pace
        if pace is None or pace.every_rounds is not None:
            return None
        due = pace.begins + (self._spoken + self._place) / pace.rate_hz
        return due if due < pace.ends else None

    def _handle(self, event: Event) -> None:
        now = self._clock.monotonic()
        match event:
            case Connected():
                self._carry_out(self._machine.connected(now))
            case Disconnected():
                self._carry_out(self._machine.disconnected(now))
            case Received(topic, payload, _):
                if self._keep_heard and topic.startswith(topics.link(self._room, self._line, "")):
                    self.heard.append(payload)
                self._carry_out(self._machine.received(topic, payload, now))

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Publish(topic, payload, qos, retain):
                    try:
                        self._link.publish(topic, payload, qos=qos, retain=retain)
                    except TransportError as error:
                        LOG.info("%s", error)
                    else:
                        self._note_published(payload)
                case Infer(number, _):
                    if self._is_of_this_round(number):
                        self._say()
                    elif self._fills and self._due() is None:
                        self._hand_in(_MUTED)
                case _:
                    LOG.info("%s: %s", self.unit, action)

    def _is_of_this_round(self, number: int) -> bool:
        pace, now = self._pace, self._clock.monotonic()
        if pace is None or pace.every_rounds is None or not pace.begins <= now < pace.ends:
            return False
        return number % pace.every_rounds == 0

    def _note_published(self, raw: bytes) -> None:
        now_ms = self._clock.wall_ms()
        for entry in read_link(raw).entries:
            self.published_ms.setdefault((self.unit, entry.session, entry.sequence), now_ms)

    def _say(self) -> None:
        answer = self._answers[(self._spoken + int(self._place * len(self._answers))) % len(self._answers)]
        self._spoken += 1
        label = Label(
            window_end_ms=self._clock.wall_ms(),
            time_source=self._clock.time_source(),
            state=LabelState.ABSTAINED if answer.decided is None else LabelState.GIVEN,
            emotion=answer.decided,
            confidence=round(answer.confidence * PERMILLE),
            abstain_reason=answer.reason,
            bundle=BUNDLE,
        )
        self.sent[self.unit, self._session, self._sequence + 1] = Sent(answer, label.window_end_ms)
        self._hand_in(label)

    def _hand_in(self, label: Label) -> None:
        self._sequence += 1
        self._carry_out(self._machine.label(label, self._clock.monotonic()))


class Speakers:
    """Several units in this program, with one clock thread."""

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        self._speakers = speakers
        self._stop = threading.Event()
        self._clock = threading.Thread(target=self._turn, name="units' clock", daemon=True)

    def start(self) -> None:
        """Connect all of them."""
        for speaker in self._speakers:
            speaker.start()
        self._clock.start()

    def speak(self, pace: Pace) -> None:
        """Say labels at that pace."""
        for speaker in self._speakers:
            speaker.speak(pace)

    def have_said_all(self) -> bool:
        """Whether no label of their own clocks is due any more."""
        return all(speaker.has_said_all for speaker in self._speakers)

    def check(self) -> None:
        """Raises ProgramError when a line has failed."""
        for speaker in self._speakers:
            speaker.check()

    def take(self) -> Said:
        """What was said since the last time; to be called while nobody speaks."""
        said = Said(
            {name: one for speaker in self._speakers for name, one in speaker.sent.copy().items()},
            {name: at for speaker in self._speakers for name, at in speaker.published_ms.copy().items()},
            {speaker.unit: speaker.heard for speaker in self._speakers},
        )
        for speaker in self._speakers:
            speaker.sent, speaker.published_ms, speaker.heard = {}, {}, []
        return said

    def stop(self) -> None:
        """Leave, all at once, for each waits for its connection; may be called twice."""
        self._stop.set()
        if self._clock.ident is not None:
            self._clock.join()
        with ThreadPoolExecutor(max(len(self._speakers), 1)) as pool:
            list(pool.map(Speaker.stop, self._speakers))

    def _turn(self) -> None:
        while not self._stop.wait(CLOCK_S):
            now = time.monotonic()
            for speaker in self._speakers:
                speaker.turn(now)


class Outsider:
    """Hears every link, and sends forged and old ones in the units' names."""

    def __init__(self, link: BrokerLink) -> None:
        self.heard: list[bytes] = []
        self.forged: list[bytes] = []
        self.replayed: list[bytes] = []
        self.units: set[str] = set()
        self._link = link
        self._known: set[bytes] = set()
        self._newest: deque[tuple[str, bytes, Link]] = deque()

    @property
    def ready(self) -> bool:
        """Whether enough was heard to strike."""
        return bool(self._newest) and self._newest[-1][2].round - self._newest[0][2].round >= OLD_ROUNDS

    def listen(self) -> None:
        """Take in what the line has said; what comes back of our own messages is left alone."""
        while (event := self._link.next_event(0.0)) is not None:
            if isinstance(event, Received) and event.payload not in self._known:
                self._known.add(event.payload)
                self.heard.append(event.payload)
                self._newest.append((event.topic, event.payload, read_link(event.payload)))
                self.units.add(self._newest[-1][2].unit)
                while self._newest[0][2].round < self._newest[-1][2].round - ROUNDS_KEPT:
                    self._newest.popleft()

    def strike(self) -> None:
        """Send one forged link and one old one; nothing while too little was heard. Raises TransportError."""
        if not self.ready:
            return
        topic, raw, _ = self._newest[-1]
        old_topic, old_raw, _ = self._newest[0]
        forged = forge_link(raw)
        self._known.add(forged)
        self._link.publish(topic, forged, qos=1, retain=False)
        self.forged.append(forged)
        self._link.publish(old_topic, old_raw, qos=1, retain=False)
        self.replayed.append(old_raw)


def read_link(raw: bytes) -> Link:
    """A link without a look at its signature. Raises RemoteMessageError when `raw` is none."""
    return decode_link(open_envelope(raw, wanted=ContentType.LINK))


def sealed_entries(links: Iterable[bytes]) -> dict[Place, bytes]:
    """Every sealed label in these links, once."""
    return {
        Place(link.room, link.line, link.unit, entry.session, entry.sequence): entry.sealed
        for link in map(read_link, links)
        for entry in link.entries
    }


def openers_of(key: Ed25519PrivateKey) -> list[Opener]:
    """What a unit's only secret, its Ed25519 key, can be turned into for opening.

    The seed as an X25519 key, and the X25519 key on the same scalar: the first half of SHA-512(seed), RFC 8032
    section 5.1.5, which RFC 7748 clamps in the same way.
    """
    seed = key.private_bytes_raw()
    return [Opener(X25519PrivateKey.from_private_bytes(k)) for k in (seed, hashlib.sha512(seed).digest()[:32])]


def random_opener() -> Opener:
    """With a key that nobody has."""
    return Opener(X25519PrivateKey.generate())


def try_to_open(sealed: Mapping[Place, bytes], openers: Sequence[Opener]) -> tuple[int, int]:
    """(attempts, how many gave a plaintext): every key on every sealed label. A plaintext that is no label counts."""
    readable = 0
    for place, entry in sealed.items():
        for opener in openers:
            try:
                opener.open(entry, place)
            except RemoteMessageError as error:
                readable += error.verdict is not Verdict.NOT_OPENABLE
            else:
                readable += 1
    return len(sealed) * len(openers), readable
