"""The policy in words: whoever approves it reads everything that will be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.messages.policy import Mode
from device.messages.schedule import ALWAYS
from provisioning.policy_words import in_words
from tools.fuzz.seeds import policy

SAMPLED = policy()


def test_a_policy_with_sampled_sessions() -> None:
    assert in_words(SAMPLED).splitlines() == [
        "Room lab: purpose demonstration, setting laboratory, country DE.",
        "The boxes infer emotions. The gateway hands out each desk's label.",
        "Microphone and camera are open only for 4 sessions of 5 to 10 minutes a day, which each box draws at random in"
        " the hours Europe/Berlin Mon-Fri 08:00-13:00, Tue+Thu 14:00-15:00.",
        "What the boxes sign is kept for 7 days.",
        "It counts as witnessed after 2 later signatures.",
        "Updates may be installed only in the hours UTC-03:30 Sat+Sun 00:00-05:00.",
        "It holds from 2027-01-15 to before 2027-01-15 (UTC).",
        "Approved by: A. Person",
    ]


@pytest.mark.parametrize(
    ("mode", "says", "leaves_out"),
    [
        (Mode.OFF, "Nothing is captured", "Microphone"),
        (Mode.CLASS_AGGREGATE, "Fewer than 11 desks are not counted.", "each desk's label"),
        (Mode.PRESENCE, "No emotion is inferred. Each desk tells whether a face is seen", "infer emotions"),
    ],
)
def test_each_mode_says_what_is_told_and_nothing_of_what_is_not(mode: Mode, says: str, leaves_out: str) -> None:
    words = in_words(replace(SAMPLED, mode=mode))
    assert says in words
    assert leaves_out not in words


def test_a_policy_without_hours_says_so() -> None:
    assert "Microphone and camera are open at all times." in in_words(replace(SAMPLED, capture=ALWAYS))
