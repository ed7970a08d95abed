"""The harness check on made-up functionals, and the finding that the report prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.tools.evaluate.made_up import corpus, features
from tools.evaluate.harness import PUBLISHED, TOLERANCE, macro_recall

REPOSITORY = Path(__file__).resolve().parents[3]


def test_informative_functionals_are_learned_and_noise_is_not() -> None:
    given = corpus(separation=6.0)
    learned = macro_recall(features(given.clean).astype(np.float32), given.clips)
    noise = np.random.default_rng(0).standard_normal((140, 34)).astype(np.float32)
    assert learned.value > 0.9
    assert macro_recall(noise, given.clips).value < 0.3


def test_the_published_finding_says_what_its_numbers_say() -> None:
    finding = json.loads((REPOSITORY / "docs" / "evaluation" / "harness.json").read_text())
    assert finding["published"] == PUBLISHED
    assert finding["reproduced"] == (abs(finding["uar"] - PUBLISHED) <= TOLERANCE)
    assert finding["clips"] == 535
