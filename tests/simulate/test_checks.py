"""The simulator's checks catch what they are there for: each broken machine fails a seed with the right name."""

from __future__ import annotations

import pytest

from tests.simulate.broken import BROKEN
from tools.simulate.seeds import run_seed

#: Seeds after which a broken machine that was not caught counts as not caught.
PATIENCE = 60


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_machine_fails_a_seed_with_the_guarantee_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, guarantees = BROKEN[what]
    machines = break_it(monkeypatch)
    outcomes = (run_seed(seed, units=(2, 4), seconds=8.0, machines=machines) for seed in range(PATIENCE))
    broken = next((outcome for outcome in outcomes if outcome.broken), None)
    assert broken is not None, "no seed noticed"
    assert broken.broken in guarantees, broken.text
