"""What one process of the run is given, and gives back. Here and not in `__main__`, which a new process cannot import.

Decides nothing. INVARIANT: a unit of work depends on its own words alone, so that the order of units changes no figure.
"""

from __future__ import annotations

import asyncio

from bench.agentdojo import suites
from bench.agentdojo.pairs import Tally, Unit

Pairs = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""A suite, a user task, the variants and the wordings."""
Notes = list[tuple[str, ...]]
_LOADED: dict[str, suites.Suite] = {}


def suite_of(name: str) -> suites.Suite:
    """The suite, loaded once in each process."""
    if name not in _LOADED:
        _LOADED.update(suites.load([name]))
    return _LOADED[name]


def run_unit(work: Pairs) -> tuple[Tally, Notes]:
    """All that is counted for one user task."""
    suite, task_id, variants, attacks = work
    unit = asyncio.run(Unit(suite_of(suite), task_id).run(variants, attacks))
    return unit.tally, unit.noted
