"""Topics: made and taken apart alike."""

from __future__ import annotations

import pytest

from device.messages import topics
from device.messages.topics import LineTopic, TopicKind


def test_line_topics_come_back() -> None:
    made = {
        topics.grant("lab", "row-1"): LineTopic("lab", "row-1", TopicKind.GRANT),
        topics.link("lab", "row-1", "desk-1"): LineTopic("lab", "row-1", TopicKind.LINK, "desk-1"),
        topics.unit_status("lab", "row-1", "desk-1"): LineTopic("lab", "row-1", TopicKind.STATUS, "desk-1"),
    }
    assert {topic: topics.parse_line_topic(topic) for topic in made} == made


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "moodline/v1/",
        "moodline/v2/lab/row-1/grant",
        "x/moodline/v1/lab/row-1/grant",
        "moodline/v1/lab/row-1/grant/more",
        "moodline/v1/lab/row-1/link",
        topics.roster("lab"),
        topics.alerts("lab"),
        topics.gateway_status("lab"),
        topics.labels("lab", "row-1", "desk-1"),
    ],
)
def test_other_topics_are_no_line_topics(topic: str) -> None:
    assert topics.parse_line_topic(topic) is None
