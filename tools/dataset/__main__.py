"""`python -m tools.dataset`: an audio-visual emotion database, from recordings to a datasheet. See docs/datasets.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

from device.config import Capture, RuntimeName
from device.errors import ConfigError, MoodlineError
from device.inference.face_detector import BlazeFace
from device.inference.tflite import TFLiteRuntime
from device.system.clock import SystemClock
from device.unit.wiring import open_sources
from models.labels import EMOTIONS
from tools.dataset import checks, importing, recording, splits
from tools.dataset.corpora import ferplus
from tools.dataset.datasheet import datasheet
from tools.dataset.labels import label_all
from tools.dataset.manifest import Consent, Manifest, read_manifest, read_or_new, write_manifest

WRONG: Final = 1
REFUSED: Final = 2
TEXTS: Final = ("motivation", "collection", "uses", "contact")


def import_(asked: argparse.Namespace) -> int:
    """Recordings into the database: a known corpus, a table, or files by themselves."""
    if (asked.corpus is not None) + (asked.table is not None) + bool(asked.paths) != 1:
        raise ConfigError(
            "Nothing to import, or too much.", next_step="Give PATHs, or --table, or --corpus with --data."
        )
    before = read_or_new(asked.database)
    if asked.corpus is not None:
        name, source = asked.corpus, importing.SOURCES[asked.corpus]
        after = _import_corpus(before, asked)
    else:
        name, source = asked.name, asked.source
        said = {field: getattr(asked, field) for field in ("person", "emotion", "sentence", "sex", "language", "terms")}
        if asked.table is not None:
            found = importing.from_table(asked.table, name, asked.terms)
        else:
            found = importing.from_paths(asked.paths, name, said)
        after = importing.import_all(before, found, copy=asked.copy)
    if source:
        after = after.with_head(sources=after.head.sources | {name: source})
    write_manifest(after)
    print(f"{len(after.items) - len(before.items)} items imported; the database has {len(after.items)}.")
    return 0


def _import_corpus(manifest: Manifest, asked: argparse.Namespace) -> Manifest:
    if asked.data is None:
        raise ConfigError("--data is missing.", next_step=f"Give the folder that holds {asked.corpus}/.")
    if asked.corpus != ferplus.KEY:
        found = importing.from_corpus(asked.corpus, asked.data, complete=not asked.incomplete)
        return importing.import_all(manifest, found, copy=asked.copy)
    if asked.copy:
        raise ConfigError("FER+ pictures may not be redistributed, so they are not copied.", next_step="Omit --copy.")
    return importing.import_ferplus(manifest, asked.data)


def record(asked: argparse.Namespace) -> int:
    """Record somebody who agreed to it; refused on a box."""
    recording.refuse_on_a_box()
    if not asked.i_have_consent:
        raise ConfigError(
            "Nobody is recorded without consent.",
            next_step="Ask the person, tell what the recordings are for, and add --i-have-consent once they agreed.",
        )
    if {asked.microphone, asked.camera} & {"replay"} or asked.microphone == "none":
        raise ConfigError(
            "A recording needs a real microphone.", next_step="See moodline-unit --list-devices for names."
        )
    clock = SystemClock()
    plan = recording.schedule(asked.seed, asked.sessions, asked.within_minutes * 60)
    today = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC).date().isoformat()
    consent = Consent(person=asked.person, given_on=asked.consent_on or today, purpose=asked.purpose)
    manifest, place = recording.with_consent(read_or_new(asked.database), consent)
    facts = recording.facts_of(
        person=asked.person,
        emotion=asked.emotion,
        sex=asked.sex,
        language=asked.language,
        terms=asked.terms,
        consent=place,
    )
    opened = open_sources(Capture(microphone=asked.microphone, camera=asked.camera), clock)
    assert opened.audio is not None, "there is a microphone"
    write_manifest(manifest)
    for session in plan:
        print(f"A session of {session.seconds / 60:.1f} min begins in {session.starts_s / 60:.1f} min.")
    after = recording.run_sessions(manifest, facts, plan, (opened.audio, opened.video), clock, time.sleep)
    print(f"{len(after.items) - len(manifest.items)} takes recorded; the database has {len(after.items)} items.")
    return 0


def label(asked: argparse.Namespace) -> int:
    """Set labels, or add votes."""
    manifest = label_all(read_manifest(asked.database), asked.table)
    write_manifest(manifest)
    print(f"{sum(item.emotion is not None for item in manifest.items)} of {len(manifest.items)} items have a label.")
    return 0


def check(asked: argparse.Namespace) -> int:
    """Look at every recording; 1 when something is wrong."""
    detector = None if asked.no_faces else BlazeFace(TFLiteRuntime(asked.runtime))
    report = checks.check_all(read_manifest(asked.database), detector)
    print(
        json.dumps({"clean": report.is_clean, **asdict(report)}, ensure_ascii=False)
        if asked.json
        else checks.as_text(report)
    )
    return 0 if report.is_clean else WRONG


def split(asked: argparse.Namespace) -> int:
    """Make a named split by person, and prove it."""
    manifest = read_manifest(asked.database)
    if asked.leave_one_person_out:
        made = splits.leave_one_person_out(manifest)
    elif asked.folds is not None:
        made = splits.folds(manifest, asked.folds, seed=asked.seed)
    else:
        made = splits.hold_out(manifest, share=asked.share, seed=asked.seed)
    manifest = manifest.with_head(splits=manifest.head.splits | {asked.name: made})
    for part in made.parts if made.folds else ("test",):
        train, test = splits.sides(manifest, asked.name, part)
        print(f"{part}: {len(train)} items for training, {len(test)} for testing, no person and no recording on both.")
    placed = {person for persons in made.parts.values() for person in persons}
    print(f"{sum(item.person not in placed for item in manifest.items)} items of unknown persons are on neither side.")
    write_manifest(manifest)
    return 0


def sheet(asked: argparse.Namespace) -> int:
    """Print the datasheet; texts that are given are kept in the manifest first."""
    manifest = read_manifest(asked.database)
    stated = {field: text for field in TEXTS if (text := getattr(asked, field)) is not None}
    if stated:
        manifest = manifest.with_head(**stated)
        write_manifest(manifest)
    print(datasheet(manifest))
    return 0


def _facts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--emotion", choices=tuple(map(str, EMOTIONS)), help="default: to be labelled later")
    parser.add_argument("--sex", choices=("female", "male"), default="", help="default: not stated")
    parser.add_argument("--language", default="", metavar="TAG", help="such as de")
    parser.add_argument("--terms", default="", help="on what terms the recordings may be used")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.dataset",
        description=__doc__,
        epilog="Exit codes: 0 done; 1 `check` found something wrong; 2 refused, and the message says why.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        said = (run.__doc__ or "").strip()
        added = commands.add_parser(name, help=said, description=said)
        added.add_argument("database", type=Path, metavar="DATABASE", help="the database's folder")
        added.set_defaults(run=run)
        return added

    _import_arguments(command("import", import_))
    _record_arguments(command("record", record))
    command("label", label).add_argument(
        "table", type=Path, help="CSV file: name, emotion, and rater if there are several"
    )
    checking = command("check", check)
    checking.add_argument("--json", action="store_true", help="print the report as one JSON object")
    checking.add_argument("--no-faces", action="store_true", help="do not look for faces")
    checking.add_argument("--runtime", choices=get_args(RuntimeName), default="tflite-runtime")
    splitting = command("split", split)
    splitting.add_argument("--name", default="by-person", help="the split's name; default: %(default)s")
    splitting.add_argument("--seed", type=int, default=0)
    splitting.add_argument(
        "--share", type=float, default=0.2, help="of the persons, for the test; default: %(default)s"
    )
    kind = splitting.add_mutually_exclusive_group()
    kind.add_argument("--folds", type=int, default=None, metavar="N", help="N folds instead")
    kind.add_argument("--leave-one-person-out", action="store_true", help="a fold a person instead")
    sheeting = command("datasheet", sheet)
    for field in TEXTS:
        sheeting.add_argument(f"--{field}", default=None, metavar="TEXT", help="state it, and keep it in the manifest")
    return parser


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="take, sound, video, picture, or a folder of them"
    )
    parser.add_argument("--corpus", choices=importing.SOURCES, help="a known corpus, which is in the folder --data")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the folder that holds the corpus's folder")
    parser.add_argument("--incomplete", action="store_true", help="take a corpus although some of it is missing")
    parser.add_argument(
        "--table", type=Path, metavar="CSV", help="path, person, emotion; sentence, sex, language, terms"
    )
    parser.add_argument("--name", default="own", help="how your corpus is called; default: %(default)s")
    parser.add_argument("--source", default="", help="where your corpus comes from")
    parser.add_argument("--copy", action="store_true", help="convert into the database's folder, 16 kHz mono FLAC")
    parser.add_argument("--person", default="", help="of all PATHs")
    parser.add_argument("--sentence", default="", help="of all PATHs")
    _facts(parser)


def _record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--i-have-consent", action="store_true", help="the person agreed to be recorded for --purpose")
    parser.add_argument("--person", required=True, help="who agreed; a pseudonym will do")
    parser.add_argument("--purpose", required=True, help="for what")
    parser.add_argument("--consent-on", metavar="YYYY-MM-DD", help="when; default: today")
    parser.add_argument("--sessions", type=int, default=1, help="of 5 to 10 minutes; default: %(default)s")
    parser.add_argument("--within-minutes", type=float, default=10.0, help="span of all sessions; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="decides when sessions begin; default: %(default)s")
    parser.add_argument("--microphone", required=True, metavar="NAME", help="see moodline-unit --list-devices")
    parser.add_argument("--camera", default="none", metavar="NAME", help="default: %(default)s")
    _facts(parser)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    asked = arguments().parse_args(words)
    try:
        code: int = asked.run(asked)
    except (MoodlineError, OSError) as error:
        print(f"dataset: {error}", file=sys.stderr)
        return REFUSED
    return code


if __name__ == "__main__":
    sys.exit(main())
