"""Finished folds are kept; two processes do not do the same fold; nothing of another code or split counts."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from device.errors import ConfigError
from tests.tools.evaluate.made_up import NearestMean, corpus, honest
from tools.evaluate.runs import Job, Store, digest_of, hours, read_fold, run, seeds_of
from tools.evaluate.splits import PROTOCOLS, SplitError, manifest
from tools.evaluate.system import Material, Outcome, System
from tools.training.splits import Split

LOSO = PROTOCOLS["loso"]


@dataclass
class Counting:
    """Counts its runs, and ends early when told to."""

    inner: NearestMean = field(default_factory=NearestMean)
    ran: list[str] = field(default_factory=list)
    fails_at: str = ""
    name: str = "counting"
    digest: str = "1"

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        if split.name == self.fails_at:
            raise KeyboardInterrupt
        self.ran.append(f"{seed} {split.name}")
        return self.inner.run(material, split, seed)


def jobs_of(system: System, given: Material, seed: int = 0) -> list[Job]:
    splits = LOSO.splits(given.clips, seed)
    digests = [manifest(LOSO, given.clips, seed, split).digest for split in splits]
    return [Job(system, digest_of(system), LOSO, seed, *one) for one in zip(splits, digests, strict=True)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    given, store = corpus(), Store(tmp_path)
    first = Counting(fails_at="09")
    with pytest.raises(KeyboardInterrupt):
        run(given, [first], [LOSO], [0], store)
    second = Counting()
    run(given, [second], [LOSO], [0], store)
    assert first.ran + second.ran == ["0 03", "0 08", "0 09", "0 10"]


def test_a_fold_holds_the_answers_and_where_they_come_from(tmp_path: Path) -> None:
    given, store = corpus(), Store(tmp_path)
    run(given, [honest()], [LOSO], [0, 1], store)
    fold = read_fold(tmp_path / "nearest_mean" / "loso" / "seed-1" / "08.npz")
    split = LOSO.splits(given.clips, 1)[1]
    assert fold.names.tolist() == [given.clips[row].name for row in split.test]
    assert set(fold.speakers) == {"08"} and set(fold.sexes) == {"female"}
    assert fold.facts.split_digest == manifest(LOSO, given.clips, 1, split).digest
    expected = honest().run(given, split, 1)
    np.testing.assert_allclose(fold.log_probabilities, expected.log_probabilities)
    assert fold.epochs.shape == (3, 10)


def test_another_code_or_another_split_is_computed_again(tmp_path: Path) -> None:
    given, store = corpus(), Store(tmp_path)
    run(given, [Counting()], [LOSO], [0], store)
    changed = Counting(digest="2")
    run(given, [changed], [LOSO], [0], store)
    assert len(changed.ran) == 4
    assert all(fold.facts.system_digest == "2" for fold in store.folds("counting"))
    clips = [replace(clip, digest=clip.digest[::-1]) for clip in given.clips]
    other_files = Counting(digest="2")
    run(replace(given, clips=clips), [other_files], [LOSO], [0], store)
    assert len(other_files.ran) == 4


def test_folds_of_earlier_code_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, store = corpus(), Store(tmp_path)
    run(given, [honest()], [LOSO], [0], store)
    store.note_current("nearest_mean", "2")
    assert store.folds("nearest_mean") == []
    assert "4 folds of earlier code" in capsys.readouterr().out


def test_the_code_that_counts_is_the_one_that_was_loaded(tmp_path: Path) -> None:
    """The file of a system is edited while its first fold is computed."""
    given, store = corpus(), Store(tmp_path)

    class Edited(NearestMean):
        def run(self, material: Material, split: Split, seed: int) -> Outcome:
            self.digest = "edited meanwhile"
            return super().run(material, split, seed)

    run(given, [Edited()], [LOSO], [0], store)
    assert {fold.facts.system_digest for fold in store.folds("nearest_mean")} == {"1"}
    assert len(store.folds("nearest_mean")) == 4


def test_a_system_without_a_digest_is_known_by_its_file() -> None:
    class Nameless:
        name = "nameless"

        def run(self, material: Material, split: Split, seed: int) -> Outcome:
            raise AssertionError

    assert len(digest_of(Nameless())) == 16
    assert digest_of(NearestMean(digest="of its own")) == "of its own"


def _hold(folder: Path, claimed: multiprocessing.synchronize.Event, let_go: multiprocessing.synchronize.Event) -> None:
    with Store(folder).claim(jobs_of(honest(), corpus())[0]) as mine:
        assert mine
        claimed.set()
        let_go.wait(30)
        os._exit(1)


def test_a_fold_that_another_process_works_on_is_left_to_it_and_taken_over_when_that_process_dies(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    claimed, let_go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, claimed, let_go))
    other.start()
    assert claimed.wait(60)
    job = jobs_of(honest(), corpus())[0]
    with Store(tmp_path).claim(job) as mine:
        assert not mine
    lock = Store(tmp_path).file(job).with_suffix(".lock")
    assert lock.read_text().strip() == str(other.pid)
    let_go.set()
    other.join(30)
    with Store(tmp_path).claim(job) as mine:
        assert mine


def test_hours_come_from_finished_folds(tmp_path: Path) -> None:
    given, store = corpus(), Store(tmp_path)
    jobs = jobs_of(honest(), given)
    assert hours(store, jobs) == (4, 0.0, 4)
    outcome = honest().run(given, jobs[0].split, 0)
    store.file(jobs[0]).parent.mkdir(parents=True)
    store.keep(jobs[0], given, replace(outcome, training_s=3000.0, test_s=600.0))
    count, expected, unknown = hours(store, jobs)
    assert (count, unknown) == (3, 0)
    assert expected == pytest.approx(3.0)


def test_an_answer_that_the_checks_refuse_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(SplitError):
        run(corpus(), [NearestMean(answer_of_best_epoch=True)], [LOSO], [0], store)
    assert store.folds("nearest_mean") == []


@pytest.mark.parametrize(("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("2", [2]), ("0,3-4", [0, 3, 4])])
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "1-2-x"])
def test_what_is_no_list_of_seeds_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        seeds_of(text)
