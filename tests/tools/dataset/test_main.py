"""The commands, one after the other as a stranger uses them, and what each refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.errors import ConfigError
from tests.tools.dataset.made_up import sound, table, take
from tests.tools.dataset.test_corpora import packed
from tools.dataset import recording
from tools.dataset.__main__ import main
from tools.dataset.manifest import clips, read_manifest, sound_file

REPOSITORY = Path(__file__).resolve().parents[3]


def stranger(folder: Path) -> Path:
    """A stranger's corpus of four persons, with its table."""
    rows = ["path,person,emotion,sex,language"]
    for k, person in enumerate(("anna", "bert", "carl", "dora")):
        take(folder / person / "t", seed=10 * k)
        sound(folder / person / "t" / "audio.wav", seconds=1.5, hertz=150 + 20 * k)
        sound(folder / person / "a.wav", hertz=400 + 20 * k, rate=44_100)
        rows += [f"{person}/t,{person},fear,,de", f"{person}/a.wav,{person},,,de"]
    return table(folder / "table.csv", *rows)


def test_a_stranger_brings_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, database = stranger(tmp_path / "corpus"), str(tmp_path / "database")
    source = ["--name", "mine", "--terms", "CC BY 4.0", "--source", "recorded by me", "--copy"]
    assert main(["import", database, "--table", str(rows), *source]) == 0
    assert "8 items imported" in capsys.readouterr().out
    votes = table(tmp_path / "v.csv", "name,emotion,rater", "mine/anna/a,anger,r1", "mine/anna/a,anger,r2")
    assert main(["label", database, str(votes)]) == 0
    assert "5 of 8 items have a label" in capsys.readouterr().out
    assert main(["check", database, "--no-faces"]) == 0
    assert main(["split", database, "--share", "0.5", "--seed", "1"]) == 0
    assert "4 items for training, 4 for testing" in capsys.readouterr().out
    assert main(["split", database, "--name", "lopo", "--leave-one-person-out"]) == 0
    assert main(["split", database, "--name", "two", "--folds", "2"]) == 0
    assert len(clips(read_manifest(tmp_path / "database"))) == 5
    assert set(read_manifest(tmp_path / "database").head.splits) == {"by-person", "lopo", "two"}


def test_a_datasheet_counts_and_says_what_nobody_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = str(tmp_path / "database")
    main(["import", database, "--table", str(stranger(tmp_path / "corpus")), "--terms", "CC BY 4.0"])
    main(["split", database])
    capsys.readouterr()
    assert main(["datasheet", database, "--motivation", "To try the tool."]) == 0
    assert main(["datasheet", database]) == 0
    text = capsys.readouterr().out
    assert text.count("To try the tool.") == 2
    assert "8 items of 4 known persons (4 not stated)" in text
    assert "| fear | 4 | 4 | 6 |" in text and "| none | 4 | 4 | 4 |" in text
    assert "| CC BY 4.0 | 8 | 4 | 10 |" in text and "| anna | 2 | 1 | 2 |" in text
    assert "Not stated; state it with `python -m tools.dataset datasheet database --uses TEXT`" in text
    assert "- split by-person: parts by person, seed 0: train 3, test 1" in text
    for question in ("Motivation", "Composition", "Collection", "Uses", "Distribution", "Maintenance"):
        assert f"## {question}" in text


def test_check_ends_with_1_and_a_report_when_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(tmp_path / "database")
    sound(tmp_path / "short.wav", seconds=0.2)
    assert main(["import", database, str(tmp_path / "short.wav"), "--terms", "CC0-1.0", "--emotion", "fear"]) == 0
    capsys.readouterr()
    assert main(["check", database, "--no-faces", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["clean"] and report["wrong"]["length"] == [["own/short", "0.20 s"]]
    assert main(["check", database, "--no-faces"]) == 1
    assert "- own/short: 0.20 s" in capsys.readouterr().out


def test_known_corpora_go_through_the_same_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = tmp_path / "database"
    (tmp_path / "emodb" / "wav").mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "clips" / "03a02Wc.wav", tmp_path / "emodb" / "wav")
    words = ["import", str(database), "--data", str(tmp_path)]
    assert main([*words, "--corpus", "emodb"]) == 2
    assert "535" in capsys.readouterr().err
    assert main([*words, "--corpus", "emodb", "--incomplete", "--copy"]) == 0
    packed(tmp_path)
    assert main([*words, "--corpus", "ferplus"]) == 0
    manifest = read_manifest(database)
    voice, first, _ = manifest.items
    assert (voice.person, voice.language, voice.terms) == ("03", "de", "CC0-1.0")
    assert sound_file(manifest, voice) == database / "items" / "emodb" / "03a02Wc.flac"
    assert manifest.file_of(first) == tmp_path / "ferplus" / "ferplus.npz"
    assert set(manifest.head.sources) == {"emodb", "ferplus"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nothing to import"),
        (["a.wav", "--table", "t.csv"], "or too much"),
        (["a.wav"], "--terms"),
        (["--corpus", "nemo"], "--data is missing"),
        (["--corpus", "nemo", "--data", "."], "amu-cai/nEMO"),
        (["--corpus", "ferplus", "--data", ".", "--copy"], "may not be redistributed"),
        (["--table", "t.csv"], "cannot be read"),
        (["nothing.wav", "--terms", "x"], "no such file"),
        (["a.wav", "--terms", "x", "--name", ".own"], "name"),
        (["a.wav", "--terms", "x", "--source", "x" * 3_000], "length"),
    ],
)
def test_an_import_that_cannot_be_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "a.wav")
    assert main(["import", "database", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "database").exists()


@pytest.mark.parametrize("command", [["label", "t.csv"], ["check", "--no-faces"], ["split"], ["datasheet"]])
def test_a_folder_that_is_no_database_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "manifest.jsonl" in capsys.readouterr().err


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "database").write_text("a file in the place of the folder")
    path = sound(tmp_path / "a.wav")
    assert main(["import", str(tmp_path / "database"), str(path), "--terms", "x", "--copy"]) == 2
    assert "database" in capsys.readouterr().err


RECORD = ["--person", "anna", "--purpose", "a test", "--terms", "in house", "--microphone", "Some microphone"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nobody is recorded without consent"),
        (["--i-have-consent", "--microphone", "replay"], "real microphone"),
        (["--i-have-consent", "--sessions", "2"], "10 minutes for each"),
        (["--i-have-consent", "--consent-on", "today"], "given_on"),
        (["--i-have-consent", "--terms", ""], "terms"),
    ],
)
def test_a_recording_that_may_not_be_is_refused_before_anything_is_opened(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recording, "refuse_on_a_box", lambda: None)
    assert main(["record", str(tmp_path / "database"), *RECORD, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "database").exists()


def test_a_box_refuses_to_record_even_with_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise ConfigError("This is a Moodline box.", next_step="Go elsewhere.")

    monkeypatch.setattr(recording, "refuse_on_a_box", refuse)
    assert main(["record", str(tmp_path / "database"), *RECORD, "--i-have-consent"]) == 2
    assert "This is a Moodline box" in capsys.readouterr().err


def test_every_command_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["import"], ["record"], ["label"], ["check"], ["split"], ["datasheet"]):
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--help"])
        assert "usage: python -m tools.dataset" in capsys.readouterr().out


def test_the_tool_runs_as_a_module(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tools.dataset", "check", str(tmp_path)]
    run = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "manifest.jsonl" in run.stderr
