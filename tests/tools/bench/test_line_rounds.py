"""The tables behind the line's numbers: every link accepted, and costs that are of the right machine."""

from __future__ import annotations

from tools.bench.line_rounds import RoundTable


def test_rounds_with_and_without_labels_are_accepted_whole() -> None:
    table = RoundTable(3)
    full = table.turn()
    empty = table.turn(labels=False)
    again = table.turn()
    assert full.link_bytes == again.link_bytes
    # A sealed label of 112 bytes and its numbers.
    assert 3 * 112 < full.link_bytes - empty.link_bytes < 3 * 125
    assert min(full.unit, full.gateway, full.closing, table.bare_checks()) > 0


def test_a_longer_line_costs_its_units_more_and_a_link_less_grant() -> None:
    short, long = RoundTable(2), RoundTable(8)
    few, many = short.turn(), long.turn()
    assert many.grant_bytes > few.grant_bytes
    assert many.grant_bytes / 8 < few.grant_bytes / 2
