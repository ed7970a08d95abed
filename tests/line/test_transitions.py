"""The table at the top of each machine is what it does, and each step finds the verdicts of its own number."""

from __future__ import annotations

import ast
import inspect
import re
from enum import StrEnum
from types import ModuleType

import pytest

from device.errors import VERDICTS, Verdict
from device.line import gateway, unit, verify
from device.line.gateway import GatewayState
from device.line.unit import UnitState

MACHINES = [(unit, UnitState), (gateway, GatewayState)]
#: Verdicts that need a memory of more than one object: found by the machines, in the step that VERDICTS names.
BY_MEMORY = {Verdict.REPLAYED, Verdict.UNSEEN_HEAD, Verdict.EQUIVOCATION, Verdict.QUARANTINED}


def rows(module: ModuleType, states: type[StrEnum]) -> set[tuple[str, str, str]]:
    """The table of a machine's docstring as (state, event, next), with `any` written out."""
    found = set()
    for state, event, following in re.findall(r"^\| (\w+) +\| (\w+).*?\| (\w+) ", module.__doc__ or "", re.MULTILINE):
        if state == "state" or event == "anything":
            continue
        for each in [one.name for one in states] if state == "any" else [state]:
            found.add((each, event, following))
    return found


@pytest.mark.parametrize(("module", "states"), MACHINES, ids=["unit", "gateway"])
def test_the_table_at_the_top_is_the_table_in_the_code(module: ModuleType, states: type[StrEnum]) -> None:
    code = {(state.name, event.name, following.name) for (state, event), following in module._NEXT.items()}
    page = rows(module, states)
    assert page >= code
    own_rows = {(state, "DISCONNECTED", "OFFLINE") for state in ("LEAVING", "STOPPED")} | {
        ("STOPPED", "DOUBLED", "LEAVING")
    }
    assert page - code <= own_rows, "of these, later rows speak"


@pytest.mark.parametrize(("module", "states"), MACHINES, ids=["unit", "gateway"])
def test_nothing_but_the_table_changes_the_state(module: ModuleType, states: type[StrEnum]) -> None:
    writers = [
        function.name
        for function in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and "self._state" in {ast.unparse(target) for target in node.targets}
    ]
    assert set(writers) == {"__init__", "_step"}
    assert all(writers.count(name) == 1 for name in writers if name == "_step")


def test_no_row_leads_from_signed_to_waiting_without_a_grant() -> None:
    found = {event for (state, event), following in unit._NEXT.items() if (state, following) == ("signed", "waiting")}
    assert found == {"grant"}


def raised(function: ast.FunctionDef) -> set[Verdict]:
    """The verdicts that a function names."""
    return {
        Verdict[node.attr]
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Verdict"
    }


def test_each_step_of_the_procedure_finds_the_verdicts_of_its_own_number() -> None:
    functions = [node for node in ast.walk(ast.parse(inspect.getsource(verify))) if isinstance(node, ast.FunctionDef)]
    steps = {function: int(match[1]) for function in functions if (match := re.match(r"step_(\d+)_", function.name))}
    assert set(steps.values()) == set(range(1, 11))
    for function, number in steps.items():
        assert {VERDICTS[verdict].step for verdict in raised(function)} <= {number}, function.name
        assert (ast.get_docstring(function) or "").startswith(f"{number}"), function.name


def test_the_numbered_steps_run_in_their_order() -> None:
    source = ast.parse(inspect.getsource(verify))
    functions = {node.name: node for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
    orders = {}
    for name in ("link", "grant", "follow_link", "follow_grant"):
        calls = [node.func for node in ast.walk(functions[name]) if isinstance(node, ast.Call)]
        named = [(call.lineno, ast.unparse(call).rpartition(".")[2]) for call in calls]
        orders[name] = [int(call.split("_")[1]) for _, call in sorted(named) if call.startswith("step_")]
    assert orders == {
        "link": [1, 2, 3, 4, 5],
        "grant": [1, 2, 3, 4, 5],
        "follow_link": [6, 7, 8, 9],
        "follow_grant": [6, 8],
    }


def test_the_list_of_verdicts_is_closed() -> None:
    assert set(VERDICTS) == set(Verdict)
    assert {row.step for row in VERDICTS.values()} == set(range(1, 11))
    assert all(row.sentence.endswith(".") and row.next_step for row in VERDICTS.values())
    assert {VERDICTS[verdict].step for verdict in BY_MEMORY} == {6, 7, 8}
