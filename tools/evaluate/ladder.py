"""The ladder: the same systems by every protocol, from the leaky one up to unseen speakers and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tools.evaluate.results import BASELINES, OURS, OURS_INT8
from tools.evaluate.splits import PROTOCOLS

#: Systems of the ladder's table and of crowded figures; all others are in the table of every system.
SHOWN: Final = (OURS_INT8, OURS, *BASELINES, "cnn_bilstm_attention")


def ladder(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One object a rung, in the order of PROTOCOLS: accuracy and macro recall of every system that climbed it."""
    rungs = []
    for protocol in PROTOCOLS.values():
        mine = [one for one in summaries if one["protocol"] == protocol.name]
        systems = {
            one["system"]: {"accuracy": one["accuracy"], "uar": one["uar"], "seeds": one["seeds"]} for one in mine
        }
        rungs.append(
            {"protocol": protocol.name, "title": protocol.title, "is_result": protocol.is_result, "systems": systems}
        )
    return [rung for rung in rungs if rung["systems"]]


def in_order(systems: Sequence[str]) -> list[str]:
    """Ours first, the others by name."""
    first = [name for name in (OURS_INT8, OURS) if name in systems]
    return first + sorted(name for name in systems if name not in first)


def shown(systems: Sequence[str]) -> list[str]:
    """Those of SHOWN that are there, or all when there is none of them."""
    return [name for name in SHOWN if name in systems] or in_order(systems)
