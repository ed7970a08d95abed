"""`moodline-provision`: what is done in the room authority's folder: found it, look at it, change who belongs to it."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import ConfigError
from device.messages.policy import DeploymentPolicy
from device.messages.sealing import HYBRID, X25519
from device.system.keys import load_verifying_key
from provisioning.authority import RoomAuthority
from provisioning.authority_files import (
    AUTHORITY_KEY,
    POLICY_FILE,
    REGISTRAR_PUBLIC,
    read_continuity_records,
    read_policy_file,
    read_roster_file,
    read_succession_records,
)
from provisioning.book import Book, Entry, read_book
from provisioning.certificates import Role, load_certificate
from provisioning.keys import check_passphrase, is_encrypted, key_digest, read_passphrase
from provisioning.policy_form import FIELDS, add_flags, fill_in, show_day
from provisioning.policy_words import in_words
from provisioning.schedule_form import show_schedule

SUITE_NAMES: Final = {"x25519": X25519, "hybrid": HYBRID}
EXITS: Final = "Exit codes: 0 done; 2 it cannot be done."
ISSUED_LIMIT: Final = 10_000
CEREMONY: Final = """\
The key ceremony: once per room, by two people, on a machine that belongs to IT and not to the room.

  1. FOLDER lies on an encrypted USB stick (or disk) that is used for nothing else.
  2. The passphrase is made at random (five words or more), and written down on paper; the paper is sealed and kept
     apart from the stick. One person keeps the stick, the other the paper: it takes both to change the room.
  3. After every change copy FOLDER to a second stick and lock it away elsewhere. This folder is the room's one backup:
     with it a dead gateway is replaced, without it every box is enrolled anew.
  4. Take the stick out when you are done. Boxes, gateway and registrar work all year without it.
"""
HAND_OVER: Final = "Now carry it over: moodline-provision publish --authority FOLDER"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add init, show, revoke, replace, move, rotate and policy."""
    init = commands.add_parser(
        "init",
        help="make a room authority's keys in FOLDER",
        description=CEREMONY,
        epilog="Running it again changes nothing. " + EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    init.add_argument("folder", type=Path, metavar="FOLDER")
    init.add_argument("--room", required=True, help="small letters, digits and dashes")
    add_suite(init)
    add_passphrase(init)
    init.set_defaults(command=_init)

    show = _command(commands, "show", "verify and print roster, policy and records; needs no private key")
    show.set_defaults(command=_show)

    revoke = _command(commands, "revoke", "put a unit or consumer out: new roster and revocation list")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument(
        "--issued", type=Path, metavar="FOLDER", help="certificates (*.pem) that the registrar issued: revoked, too"
    )
    add_passphrase(revoke)
    revoke.set_defaults(command=_revoke)

    replace = _command(commands, "replace", "put another unit in a unit's place, with a signed record of it")
    replace.add_argument("old", metavar="OLD", help="the unit that leaves; it is revoked")
    replace.add_argument("new", metavar="NEW", help="the unit that comes; a name that nobody had, or an enrolled spare")
    replace.add_argument("--key", type=Path, metavar="PEM", help="NEW's public key, unless NEW is enrolled already")
    replace.add_argument("--reason", required=True, help="one line, for the record")
    add_passphrase(replace)
    replace.set_defaults(command=_replace)

    move = _command(commands, "move", "put a unit on another line or at another desk")
    move.add_argument("unit", metavar="UNIT")
    move.add_argument("--line", help="the line, as whose last it stands then")
    move.add_argument("--desk", help="the desk's name for people")
    add_passphrase(move)
    move.set_defaults(command=_move)

    rotate = _command(commands, "rotate", "take a new signing key, to which boxes follow by themselves")
    add_passphrase(rotate)
    rotate.add_argument(
        "--new-passphrase-file", type=Path, metavar="FILE", help="encrypt all keys by another passphrase (mode 600)"
    )
    rotate.set_defaults(command=_rotate)

    policy = _command(commands, "policy", "sign the deployment policy: by flags, or by asking when none is given")
    add_flags(policy)
    policy.add_argument("--dry-run", action="store_true", help="say the policy in plain words, and sign nothing")
    add_passphrase(policy)
    policy.set_defaults(command=_policy)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what.capitalize() + ".", epilog=EXITS)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the authority's folder")
    return parser


def add_suite(parser: argparse.ArgumentParser) -> None:
    """The flag --suite; its value is a key of `SUITE_NAMES` or None."""
    parser.add_argument(
        "--suite",
        choices=sorted(SUITE_NAMES),
        help="how labels are sealed: x25519, or hybrid (with ML-KEM-768, against later quantum computers; a room keeps"
        " its suite; default x25519)",
    )


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """The flag --passphrase-file, which `passphrase_of` reads."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="file whose first line encrypts the authority's keys (mode 600); without it a terminal is asked",
    )


def passphrase_of(options: argparse.Namespace) -> bytes | None:
    """The passphrase of the authority in `options.folder`: from the file, else from the terminal; None without both.

    A terminal is asked only when the keys are encrypted. Raises ConfigError, StorageError.
    """
    if options.passphrase_file is not None:
        return read_passphrase(options.passphrase_file)
    key = options.folder / AUTHORITY_KEY
    if key.exists() and is_encrypted(key) and sys.stdin.isatty():
        return _ask_secretly("Passphrase: ")
    return None


def open_authority(options: argparse.Namespace) -> RoomAuthority:
    """The authority in `options.folder`. Raises ConfigError, StorageError."""
    read_book(options.folder)
    return RoomAuthority.open(options.folder, passphrase_of(options))


def _ask_secretly(prompt: str) -> bytes:
    try:
        return getpass.getpass(prompt).encode()
    except (EOFError, UnicodeError) as error:
        raise ConfigError("No passphrase was given.", next_step="Type it, or use --passphrase-file.") from error


def _new_passphrase(options: argparse.Namespace) -> bytes | None:
    """For a folder that is to be founded: ask a terminal twice; nothing typed means no encryption."""
    if options.passphrase_file is not None or (options.folder / AUTHORITY_KEY).exists() or not sys.stdin.isatty():
        return passphrase_of(options)
    print(CEREMONY)
    typed = _ask_secretly("New passphrase (nothing: leave the keys unencrypted): ")
    if not typed:
        return None
    check_passphrase(typed)
    if _ask_secretly("Once more: ") != typed:
        raise ConfigError("The two passphrases differ.", next_step="Run the command again.")
    return typed


def _init(options: argparse.Namespace) -> int:
    passphrase = _new_passphrase(options)
    authority = RoomAuthority.found(options.folder, options.room, passphrase, suite=SUITE_NAMES.get(options.suite))
    print(f"Room authority of {authority.room}: {options.folder}")
    print(f"registrar  {authority.registrar_digest.hex()}   (the digest that boxes pin)")
    if passphrase is None:
        print("Its keys are NOT encrypted: use --passphrase-file for a real room.")
    print("Keep this folder offline; whoever has its keys decides who belongs to the room.")
    print("Where to keep it, and who: moodline-provision init --help. Next: moodline-provision policy")
    return 0


def _show(options: argparse.Namespace) -> int:
    roster = read_roster_file(options.folder)
    book = read_book(options.folder)
    print(f"room {roster.room}, epoch {roster.epoch}, signature good")
    for succession in read_succession_records(options.folder):
        print(f"authority  new key {succession.new_key.hex()[:16]}…  from epoch {succession.epoch} on")
    if (options.folder / REGISTRAR_PUBLIC).exists():
        print(f"registrar  {key_digest(load_verifying_key(options.folder / REGISTRAR_PUBLIC)).hex()}")
    print(f"gateway  {roster.gateway.gateway}")
    print(f"sealing  suite {roster.suite:d} ({roster.suite.name})")
    for line, units in roster.lines.items():
        for unit in units:
            state = "REVOKED" if unit.unit in roster.revoked else f"since epoch {unit.since}"
            desk = _desk_of(book, unit.unit)
            print(f"line {line}   {unit.unit}{desk}  key {unit.key.hex()[:16]}…  {state}")
    for entry in book.members:
        if entry.role is Role.CONSUMER:
            print(f"consumer {entry.name}  {'REVOKED' if entry.revoked else f'reads as {_reads(entry)}'}")
    _show_policy(read_policy_file(options.folder))
    for record in read_continuity_records(options.folder):
        print(
            f"record   {record.new_unit} replaced {record.old_unit} on line {record.line} after epoch {record.epoch}:"
            f" {record.reason}"
        )
    return 0


def _desk_of(book: Book, unit: str) -> str:
    entry = book.entry(unit)
    return f"  {entry.desk}" if entry is not None and entry.desk else ""


def _reads(entry: Entry) -> str:
    return entry.reads.value if entry.reads is not None else "operator"


def _show_policy(policy: DeploymentPolicy) -> None:
    print(
        f"policy   {policy.mode.value} for {policy.purpose.value} in {policy.setting.value} ({policy.jurisdiction}),"
        f" groups from {policy.min_group}, retention {policy.retention_days} d, until {show_day(policy.not_after_ms)}"
    )
    print(f"capture  {show_schedule(policy.capture)}")
    print(f"updates  {show_schedule(policy.updates)}")
    print(f"approved by: {policy.approved_by}")


def _revoke(options: argparse.Namespace) -> int:
    authority = open_authority(options)
    authority.revoke(options.name)
    roster = authority.publish()
    print(f"{options.name} is revoked from epoch {roster.epoch} on.")
    print(HAND_OVER)
    if options.issued is not None:  # last, so that an unusable file there delays no revocation
        paths = sorted(options.issued.glob("*.pem"))[:ISSUED_LIMIT]
        authority.learn_certificates(load_certificate(path) for path in paths)
        authority.publish()
        print(f"{len(paths)} certificates of the registrar are taken into account.")
    return 0


def _replace(options: argparse.Namespace) -> int:
    authority = open_authority(options)
    authority.replace_unit(options.old, options.new, _key_of(authority, options), options.reason)
    roster = authority.publish()
    print(f"{options.new} stands in the place of {options.old} from epoch {roster.epoch} on; {options.old} is revoked.")
    print(HAND_OVER)
    return 0


def _key_of(authority: RoomAuthority, options: argparse.Namespace) -> Ed25519PublicKey:
    if options.key is not None:
        return load_verifying_key(options.key)
    for entry in authority.members:
        if entry.name == options.new:
            return Ed25519PublicKey.from_public_bytes(entry.key)
    raise ConfigError(
        f"{options.new}: is not enrolled yet, so its key is not known.",
        next_step="Give its public key by --key, or enrol the box first.",
    )


def _move(options: argparse.Namespace) -> int:
    if options.line is None and options.desk is None:
        raise ConfigError("Nothing to move.", next_step="Give --line, --desk or both.")
    authority = open_authority(options)
    before = read_book(options.folder).epoch
    authority.move(options.unit, line=options.line, desk=options.desk)
    roster = authority.publish()
    print(f"{options.unit} stands on line {roster.line_of(options.unit)} (epoch {roster.epoch}).")
    if options.desk is not None:
        print(f"Its desk is {options.desk}: the page shows it when the gateway's settings are written anew.")
    if roster.epoch != before:
        print(HAND_OVER)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    new = read_passphrase(options.new_passphrase_file) if options.new_passphrase_file is not None else None
    if read_book(options.folder).rotating and new is not None:
        authority = RoomAuthority.open(options.folder, new)  # cut off after the new passphrase began to count
    else:
        authority = open_authority(options)
    began = authority.rotate(new)
    epoch = read_roster_file(options.folder).epoch
    print(f"The room authority's new key {authority.verifying_key.hex()[:16]}… holds from epoch {epoch} on.")
    if not began:
        print("This completed the rotation that was cut off before.")
    print("Back this folder up now: the older copies hold the old key.")
    print(HAND_OVER)
    return 0


def _policy(options: argparse.Namespace) -> int:
    authority = open_authority(options)
    given = {field.name: getattr(options, field.name) for field in FIELDS}
    standing = authority.standing_policy()
    if standing is None and (options.folder / POLICY_FILE).exists():
        print(f"{options.folder / POLICY_FILE}: cannot be read by this program; a whole new policy takes its place.")
    somebody_is_there = sys.stdin.isatty()
    policy = fill_in(authority.room, given, standing, _ask if somebody_is_there else None)
    print(in_words(policy))
    if options.dry_run:
        print("Nothing was signed.")
        return 0
    if somebody_is_there and policy != standing and _ask("Sign this? (yes or no): ").strip().lower() != "yes":
        raise ConfigError("The policy was not signed.", next_step="Run the command again when it is agreed.")
    authority.set_policy(policy)
    if any(entry.role is Role.GATEWAY for entry in authority.members):
        print(f"Signed; it holds from epoch {authority.publish().epoch} on.")
        print(HAND_OVER)
    else:
        print("Signed. The room has its first roster when the gateway is admitted.")
    return 0


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError as error:
        raise ConfigError("The answers ended early.", next_step="Run the command again.") from error
