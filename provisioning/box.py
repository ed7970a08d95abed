"""`moodline-box`: the box of one desk finds its room, stays in it, says how it stands, and forgets it.

Exit codes: 0 enrolled (or done), 1 not enrolled yet, refused or revoked, 2 cannot run (the message says why).
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from device.clock import Clock
from device.config import Capture, UnitConfig
from device.errors import ConfigError, MoodlineError, StorageError, TransportError
from device.messages.envelope import KeySigner, digest
from device.system.clock import SystemClock
from device.system.hardware import read_hardware
from device.system.storage import read_record, write_record
from provisioning.box_folder import STATUS_FILE, BoxFolder, BoxSettings
from provisioning.box_light import LIGHT, Sign, Signal, open_light
from provisioning.discovery import find
from provisioning.enrolling import (
    LONGEST_RETRY_S,
    Action,
    BoxState,
    Enrolling,
    Find,
    FoundRegistrar,
    MakeKey,
    Record,
    Remember,
    Send,
    Show,
    Store,
    Tell,
)
from provisioning.enrolment_messages import ANSWER_BYTES, ClaimOpened, Commitment, EnrolmentAnswer
from provisioning.pinned import PinnedClient
from provisioning.publication import OWNERS_DISK
from provisioning.refusals import Refusal, RefusalError
from provisioning.seed_file import SEED_FILE, Seed, read_seed, spend_seed, write_seed
from provisioning.upkeep import Search, Upkeep

LOG: Final = logging.getLogger("moodline-box")

EXIT_OK: Final = 0
EXIT_NOT_YET: Final = 1
EXIT_CANNOT: Final = 2

ROOT: Final = Path("/var/lib/moodline")
#: Raspberry Pi OS mounts the card's first partition here.
BOOT_SEED: Final = Path("/boot/firmware") / SEED_FILE
#: A seed may be laid on a running box; the card is looked at so often.
SEED_LOOK_S: Final = 2.0
RENEW_WAIT_S: Final = 90.0
RENEW_PAUSE_S: Final = 5.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal as people read it."""

    code: str
    sentence: str
    next_step: str


class BoxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """status.json. `key` is the SHA-256 of the box's public key in hexadecimal; `waiting` says for whom it waits."""

    state: BoxState
    sign: Sign
    key: str = ""
    room: str = ""
    unit: str = ""
    code: str = ""
    waiting: str = ""
    refusal: Told | None = None


class Box:
    """The shell around `Enrolling`: does what it asks for, and shows people how the box stands."""

    def __init__(
        self,
        folder: BoxFolder,
        settings: BoxSettings,
        *,
        seeds: Sequence[Path],
        clock: Clock,
        signal: Signal,
        search: Search = find,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._seeds = tuple(seeds)
        self._clock = clock
        self._signal = signal
        self._search = search
        self._sleep = sleep
        self._jitter = jitter
        self._key: KeySigner | None = None
        self._machine: Enrolling | None = None
        self._status = BoxStatus(state=BoxState.BLANK, sign=Sign.BLANK)
        self._seed_fault = ""
        self._host = ""

    # --- enrolment -----------------------------------------------------------------------------------------------

    def enrol(self, *, until: float | None) -> bool:
        """Take the box into its room, or bring an enrolled one up to date; False when `until` (monotonic seconds) came
        first. With `until` in the past everything is tried once. Raises RefusalError for a revoked box, ConfigError,
        StorageError.
        """
        if self._folder.next_key_is_rostered():
            self._folder.take_next_key()
        self._key = self._folder.signer()
        record = self._not_revoked()
        config = self._folder.enrolled() if self._key is not None else None
        if config is not None:
            self._leave_seed(config, record)
            ends = self._clock.monotonic() + RENEW_WAIT_S if until is None else until
            return self.keep_well(config, until=ends)
        if self._folder.undo_half_done():
            LOG.warning("An enrolment had not come to its end, or a part of it is lost; the box asks again.")
        self._machine = Enrolling(
            hardware=read_hardware(),
            key=self._key,
            record=record if self._key is not None else None,
            seed=self._seed(),
            enrolled=False,
            nonce=lambda: secrets.token_bytes(16),
            jitter=self._jitter,
        )
        self._say(self._machine.state, Sign.BLANK)
        return self._run(self._machine, until)

    def _run(self, machine: Enrolling, until: float | None) -> bool:
        self._perform(machine, machine.start(self._clock.monotonic()))
        while machine.state is not BoxState.ENROLLED:
            if machine.state is BoxState.REVOKED:
                raise RefusalError(Refusal.REVOKED)
            now = self._clock.monotonic()
            if until is not None and now >= until:
                return False
            seed = self._new_seed()
            if seed is not None and (asked := machine.seed_found(seed, now)):
                self._perform(machine, asked)
                continue
            due = machine.next_deadline()
            assert due is not None
            if now < due:
                self._sleep(min(due - now, SEED_LOOK_S))
            self._perform(machine, machine.tick(self._clock.monotonic()))
        return True

    def _perform(self, machine: Enrolling, actions: list[Action]) -> None:
        waiting = list(actions)
        while waiting:
            waiting = self._do(machine, waiting[0]) + waiting[1:]

    def _do(self, machine: Enrolling, action: Action) -> list[Action]:
        match action:
            case MakeKey():
                self._key = self._folder.make_key()
                return machine.keyed(self._key, self._clock.monotonic())
            case Find(room, pinned):
                return machine.found(self._look(room, pinned), self._clock.monotonic())
            case Send():
                return self._send(machine, action)
            case Show(code, waiting):
                sign = Sign.WAITING_FOR_CODE if waiting == "operator" else Sign.CLAIMED
                self._say(machine.state, sign, code=code, waiting=waiting)
            case Remember(record):
                self._folder.remember(record)
            case Store():
                return self._store(machine, action)
            case Tell(error):
                self._say(machine.state, Sign.REFUSED, refusal=_told(error))
        return []

    def _look(self, room: str | None, pinned: bytes | None) -> list[FoundRegistrar]:
        try:
            return self._search(room, pinned)
        except TransportError as error:
            LOG.warning("%s", error)
            return []

    def _send(self, machine: Enrolling, send: Send) -> list[Action]:
        client = PinnedClient(send.place.hosts, send.place.port, send.digest)
        try:
            answer: ClaimOpened | EnrolmentAnswer
            if isinstance(send.body, Commitment):
                answer = client.post(send.path, send.body, ClaimOpened)
            else:
                answer = client.post(send.path, send.body, EnrolmentAnswer, limit=ANSWER_BYTES)
        except RefusalError as error:
            return machine.refused(error, self._clock.monotonic())
        except TransportError as error:
            LOG.warning("%s", error)
            return machine.failed(self._clock.monotonic())
        self._host = client.seen_host
        assert client.seen_digest is not None
        return machine.answered(answer, client.seen_digest, self._clock.monotonic())

    def _store(self, machine: Enrolling, store: Store) -> list[Action]:
        assert self._key is not None
        try:
            checked = self._folder.check(store.enrolled, self._key)
        except RefusalError as error:
            return machine.refused(error, self._clock.monotonic())
        config = self._folder.store(store.enrolled, checked, store.record, host=self._host, settings=self._settings)
        done = machine.stored(self._clock.monotonic())
        self._spend_seeds()
        self._say(machine.state, Sign.ENROLLED, room=config.room, unit=config.unit)
        LOG.info("This box is %s (%s) on line %s of room %s.", config.unit, config.desk, config.line, config.room)
        return done

    # --- life after enrolment ------------------------------------------------------------------------------------

    def renew(self, *, until: float | None, at_once: bool = False, new_key: bool = False) -> bool:
        """Bring a box that was enrolled up to date; one that has lost a part of its files gets them again.

        Raises as `enrol`, and ConfigError for a box that was never enrolled.
        """
        config = self._folder.enrolled()
        if config is None:
            if not self._folder.config_file.exists():
                raise ConfigError(f"{self._folder.root}: this box is not enrolled.", next_step="moodline-box enrol")
            return self.enrol(until=until)
        self._not_revoked()
        done = self.keep_well(config, until=until, at_once=at_once)
        if done and (new_key or self._folder.next_key(make=False) is not None):
            return self.rotate(self._folder.enrolled() or config, until=until)
        return done

    def _not_revoked(self) -> Record | None:
        record = self._folder.record()
        if record is not None and record.revoked:
            error = RefusalError(Refusal.REVOKED)
            self._say(BoxState.REVOKED, Sign.REFUSED, room=record.room, unit=record.unit, refusal=_told(error))
            raise error
        return record

    def keep_well(self, config: UnitConfig, *, until: float | None, at_once: bool = False) -> bool:
        """Renew and find what must be, trying again until `until`; False when the registrar was needed and away.

        Raises RefusalError, after it was told, ConfigError and StorageError.
        """
        key = self._folder.signer()
        assert key is not None, "an enrolled box has a key"
        self._key = key
        upkeep = Upkeep(self._folder, key, self._folder.record(), self._clock, self._search)
        failures = 0
        while True:
            try:
                done = upkeep.turn(config, at_once=at_once)
            except TransportError as error:
                LOG.warning("%s", error)
            except RefusalError as error:
                self._refused(error, config)
                raise
            else:
                self._say(BoxState.ENROLLED, Sign.ENROLLED, room=config.room, unit=config.unit)
                if done.renewed:
                    LOG.info("The certificate of %s was renewed.", config.unit)
                if done.moved_to:
                    LOG.info("The gateway has moved to %s.", done.moved_to)
                return True
            if until is not None and self._clock.monotonic() >= until:
                return False
            failures += 1
            self._sleep(min(LONGEST_RETRY_S, RENEW_PAUSE_S * failures) * (1 + self._jitter()) / 2)

    def rotate(self, config: UnitConfig, *, until: float | None) -> bool:
        """Change the box's key, or go on with a change that was cut off. Raises as `keep_well`."""
        key, new_key = self._folder.signer(), self._folder.next_key(make=True)
        assert key is not None, "an enrolled box has a key"
        assert new_key is not None
        self._key = key
        try:
            Upkeep(self._folder, key, self._folder.record(), self._clock, self._search).rotate(config, new_key)
        except RefusalError as error:
            self._refused(error, config)
            raise
        except TransportError as error:
            LOG.warning("%s", error)
            return False
        self._folder.take_next_key()
        LOG.info("The key of %s was changed.", config.unit)
        return self.enrol(until=until)

    def _refused(self, error: RefusalError, config: UnitConfig) -> None:
        record = self._folder.record()
        state = BoxState.ENROLLED
        if error.refusal is Refusal.REVOKED and record is not None:
            self._folder.remember(msgspec.structs.replace(record, revoked=True))
            state = BoxState.REVOKED
        self._say(state, Sign.REFUSED, room=config.room, unit=config.unit, refusal=_told(error))

    # --- seeds ---------------------------------------------------------------------------------------------------

    def _seed(self) -> Seed | None:
        """The first seed that lies there. Raises ConfigError for one that cannot be read."""
        return next((seed for seed in map(read_seed, self._seeds) if seed is not None), None)

    def _new_seed(self) -> Seed | None:
        try:
            seed = self._seed()
        except ConfigError as error:
            if str(error) != self._seed_fault:
                self._seed_fault = str(error)
                LOG.error("%s", error)
            return None
        self._seed_fault = ""
        return seed

    def _spend_seeds(self) -> None:
        for path in self._seeds:
            try:
                spend_seed(path)
            except StorageError as error:
                LOG.warning("%s The seed stays there; its token is of no use to another box.", error)

    def _leave_seed(self, config: UnitConfig, record: Record | None) -> None:
        """An enrolled box follows no seed; it only takes out the one that brought it here."""
        seed = self._new_seed()
        if seed is None:
            return
        if record is not None and (seed.registrar_digest, seed.unit) == (record.registrar, config.unit):
            self._spend_seeds()
            return
        LOG.warning(
            "A seed for %s of room %s lies here, but this box is %s of room %s. To move it: moodline-box wipe.",
            seed.unit,
            seed.room,
            config.unit,
            config.room,
        )

    # --- what people see -----------------------------------------------------------------------------------------

    def _say(
        self,
        state: BoxState,
        sign: Sign,
        *,
        room: str = "",
        unit: str = "",
        code: str = "",
        waiting: str = "",
        refusal: Told | None = None,
    ) -> None:
        """Light, log and status.json. What is said twice is written once."""
        key = digest(self._key.public_key).hex() if self._key is not None else ""
        said = BoxStatus(
            state=state, sign=sign, key=key, room=room, unit=unit, code=code, waiting=waiting, refusal=refusal
        )
        self._signal.show(sign)
        if said == self._status:
            return
        self._status = said
        for line in describe(said):
            LOG.log(logging.ERROR if refusal is not None else logging.INFO, "%s", line)
        write_record(self._folder.root / STATUS_FILE, said, disk=OWNERS_DISK)


def _told(error: RefusalError) -> Told:
    return Told(code=error.refusal, sentence=error.what, next_step=error.next_step)


def describe(status: BoxStatus) -> list[str]:
    """The status in sentences."""
    where = f" as {status.unit} in room {status.room}" if status.unit else ""
    lines = [f"state    {status.state}{where}"]
    if status.key:
        lines.append(f"key      {status.key}")
    if status.code:
        lines.append(f"code     {status.code}   (accept it only if the page or `moodline-provision` shows the same)")
    if status.waiting:
        lines.append(f"waits    for the {_WAITS_FOR.get(status.waiting, status.waiting)}")
    if status.refusal is not None:
        lines.append(f"refused  {status.refusal.code}: {status.refusal.sentence}")
        lines.append(f"do       {status.refusal.next_step}")
    return lines


_WAITS_FOR: Final = {
    "operator": "operator to accept the code",
    "authority": "room authority, which is closed (moodline-provision accept, or open the office)",
}


# --- commands ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="moodline-box: %(message)s", stream=sys.stderr
    )
    # It tells of every browsed name; at our level of talk that is the network's business.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    try:
        return int(options.command(options))
    except RefusalError as error:
        print(f"moodline-box: {error.refusal}: {error}", file=sys.stderr)
        return EXIT_NOT_YET
    except MoodlineError as error:
        print(f"moodline-box: {error}", file=sys.stderr)
        return EXIT_CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moodline-box",
        description="The box of one desk: enrols itself in its room, renews its certificate, says how it stands.",
        epilog="Exit codes: 0 enrolled or done, 1 not enrolled yet, refused or revoked, 2 cannot run.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    enrol = _add(commands, "enrol", _enrol, "enrol this box: by the seed on its card, or in the claim window")
    enrol.add_argument("--seed", type=Path, metavar="FILE", help=f"seed file (default: in ROOT, then {BOOT_SEED})")
    enrol.add_argument("--once", action="store_true", help="ask once; exit with 1 when that does not enrol the box")
    enrol.add_argument("--wait-s", type=float, metavar="N", help="give up after N seconds (default: never)")
    enrol.add_argument("--light", type=Path, default=LIGHT, metavar="FOLDER", help="LED (default %(default)s)")
    enrol.add_argument(
        "--capture-replay",
        type=Path,
        metavar="FOLDER",
        help="the box will play the takes in FOLDER instead of listening: for demonstrations and tests",
    )

    renew = _add(commands, "renew", _renew, "renew the certificate when it is time, and find a gateway that moved")
    renew.add_argument("--new-key", action="store_true", help="change the box's key, too; the authority must be open")
    renew.add_argument("--now", action="store_true", help="renew in any case")
    renew.add_argument(
        "--wait-s", type=float, default=RENEW_WAIT_S, metavar="N", help="try for N seconds (default %(default)g)"
    )

    _add(commands, "status", _status, "print state, code and last refusal with the next step")

    take = _add(commands, "take-seed", _take_seed, "as root: move the seed from the boot partition into ROOT")
    take.add_argument("--seed", type=Path, default=BOOT_SEED, metavar="FILE", help="default: %(default)s")

    wipe = _add(commands, "wipe", _wipe, "decommission: overwrite and remove the key, and all but box.toml")
    wipe.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "--root", "--folder", type=Path, default=ROOT, metavar="ROOT", help="the box's folder (default %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.set_defaults(command=command)
    return parser


def _box(options: argparse.Namespace, folder: BoxFolder, settings: BoxSettings, light: Path) -> Box:
    given = getattr(options, "seed", None)
    seeds = [given] if given is not None else [folder.root / SEED_FILE, BOOT_SEED]
    return Box(folder, settings, seeds=seeds, clock=SystemClock(), signal=open_light(light))


def _enrol(options: argparse.Namespace) -> int:
    folder = BoxFolder(options.root, disk=OWNERS_DISK)
    with folder.alone():
        settings = folder.settings()
        if options.capture_replay is not None:
            replay = Capture(microphone="replay", camera="replay", replay=options.capture_replay.absolute())
            settings = msgspec.structs.replace(settings, capture=replay)
        until: float | None = None
        if options.once or options.wait_s is not None:
            until = time.monotonic() + (0.0 if options.once else options.wait_s)
        return EXIT_OK if _box(options, folder, settings, options.light).enrol(until=until) else EXIT_NOT_YET


def _renew(options: argparse.Namespace) -> int:
    folder = BoxFolder(options.root, disk=OWNERS_DISK)
    with folder.alone():
        box = _box(options, folder, folder.settings(), LIGHT)
        until = time.monotonic() + options.wait_s
        return EXIT_OK if box.renew(until=until, at_once=options.now, new_key=options.new_key) else EXIT_NOT_YET


def _status(options: argparse.Namespace) -> int:
    path = options.root / STATUS_FILE
    if not path.exists():
        raise ConfigError(f"{path}: there is none; this box has never been started.", next_step="moodline-box enrol")
    status = read_record(path, BoxStatus)
    print("\n".join(describe(status)))
    return EXIT_OK if status.state is BoxState.ENROLLED and status.refusal is None else EXIT_NOT_YET


def _take_seed(options: argparse.Namespace) -> int:
    """The box's own user may not write to the boot partition, and so could not take the token out after its use."""
    seed = read_seed(options.seed)
    if seed is None:
        return EXIT_OK
    target = options.root / SEED_FILE
    write_seed(target, seed)
    owner = options.root.stat()
    os.chown(target, owner.st_uid, owner.st_gid, follow_symlinks=False)
    spend_seed(options.seed)
    return EXIT_OK


def _wipe(options: argparse.Namespace) -> int:
    folder = BoxFolder(options.root)
    if not options.yes:
        answer = input(f"Overwrite this box's key and remove all of {folder.root}? Type yes: ")
        if answer.strip() != "yes":
            return EXIT_NOT_YET
    with folder.alone():
        folder.wipe()
    print(f"{folder.root}: wiped. Revoke its unit, too (moodline-provision revoke), if it does not come back.")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
