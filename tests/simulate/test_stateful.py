"""Hypothesis drives a room step by step: whatever it does in whatever order, the guarantees hold, and a short story of
what breaks one comes out. tools/simulate draws long stories; this finds short ones."""

from __future__ import annotations

from functools import partial

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from device.config import LineLimits
from device.errors import Verdict
from tools.simulate import cheats
from tools.simulate.broker import Cut, Faults, Retained
from tools.simulate.faults import DAY_MS
from tools.simulate.line import SimulatedLine
from tools.simulate.parties import GATEWAY

UNITS = ("desk-1", "desk-2", "desk-3")
units = strategies.sampled_from(UNITS)
boxes = strategies.sampled_from((GATEWAY, *UNITS))
recent = strategies.integers(min_value=1, max_value=60)


class Room(RuleBasedStateMachine):
    """Three units. Every check of tools/simulate/checks.py runs at every step; `teardown` lets all faults end."""

    def __init__(self) -> None:
        super().__init__()
        self.line = SimulatedLine(0, units=len(UNITS), limits=LineLimits(spill_after_ms=600), own_clock=True)

    @initialize(drop=strategies.sampled_from((0.0, 0.05, 0.3)), late=strategies.sampled_from((0.0, 0.1)))
    def begin(self, drop: float, late: float) -> None:
        self.line.faults = Faults(drop=drop, late=late)
        self.line.start()
        self.line.run(1.2)

    @rule(seconds=strategies.sampled_from((0.02, 0.3, 0.5, 1.7)))
    def time_goes_by(self, seconds: float) -> None:
        self.line.run(seconds)

    @rule(unit=units)
    def unit_dies(self, unit: str) -> None:
        self.line.kill_unit(unit)

    @rule(unit=units)
    def unit_starts(self, unit: str) -> None:
        self.line.start_unit(unit)

    @rule(unit=units, rounds=recent)
    def unit_starts_with_an_old_grant(self, unit: str, rounds: int) -> None:
        grants = [payload for topic, payload in self.line.wire if topic == cheats.GRANT_TOPIC]
        if grants:
            self.line.kill_unit(unit)
            self.line.broker.lies[unit] = grants[-min(rounds, len(grants))]
            self.line.start_unit(unit)

    @rule()
    def gateway_dies(self) -> None:
        self.line.kill_gateway()

    @rule()
    def gateway_starts(self) -> None:
        self.line.start_gateway()

    @rule(number=strategies.integers(min_value=1, max_value=4), keeps=strategies.booleans())
    def power_is_cut_at_a_write(self, number: int, keeps: bool) -> None:
        self.line.disk.cut_at, self.line.disk.cut_keeps = self.line.disk.writes + number, keeps

    @rule(box=boxes, how=strategies.sampled_from(list(Cut)))
    def box_is_cut_off(self, box: str, how: Cut) -> None:
        if box not in self.line.broker.cuts:
            self.line.cut(box, how)

    @precondition(lambda self: self.line.broker.cuts)
    @rule()
    def boxes_come_back(self) -> None:
        for box in list(self.line.broker.cuts):
            self.line.heal(box)

    @rule(retained=strategies.sampled_from(list(Retained)), seconds=strategies.sampled_from((0.1, 1.0)))
    def broker_restarts(self, retained: Retained, seconds: float) -> None:
        self.line.stop_broker()
        self.line.at(self.line.now + seconds, partial(self.line.start_broker, retained))

    @rule(back=recent)
    def an_old_message_comes_back(self, back: int) -> None:
        if self.line.wire:
            self.line.checks.explained.add(Verdict.REPLAYED)
            topic, payload = self.line.wire[-min(back, len(self.line.wire))]
            self.line.publish(topic, payload)

    @rule(how=strategies.sampled_from(sorted(cheats.STRANGERS)))
    def a_stranger_sends(self, how: str) -> None:
        cheats.attack(self.line, how)

    @rule(unit=units, what=strategies.sampled_from((cheats.copy_while_off, cheats.sign_two_links)))
    def somebody_cheats(self, unit: str, what: object) -> None:
        if not self.line.checks.compromised:
            assert callable(what)
            what(self.line, unit)

    @rule(days=strategies.sampled_from((1, -1, 70)))
    def the_gateways_clock_steps(self, days: int) -> None:
        self.line.box.clock.wall_zero_ms += days * DAY_MS

    def teardown(self) -> None:
        """All faults end; everything must come home."""
        self.line.end_faults()
        self.line.run(5.0)
        self.line.check()
        self.line.checks.drained(self.line.units, set())
        self.line.checks.all_noticed()


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)
