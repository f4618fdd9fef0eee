"""What one process of the run is given, and gives back. Here and not in `__main__`, which a new process cannot import.

Decides nothing. INVARIANT: a unit of work depends on its own words alone, so that the order of units changes no figure.
"""

from __future__ import annotations

import asyncio

from bench.agentdojo import suites
from bench.agentdojo.adversary import Adversary, Tried
from bench.agentdojo.declared import declared, mismatches
from bench.agentdojo.pairs import Tally, Unit
from bench.agentdojo.replay import Counted, replay_part

Pairs = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""A suite, a user task, the variants and the wordings."""
Notes = list[tuple[str, ...]]
_LOADED: dict[str, suites.Suite] = {}


def suite_of(name: str) -> suites.Suite:
    """The suite, loaded once in each process and held against its manifests."""
    if name not in _LOADED:
        _LOADED.update(suites.load([name]))
        wrong = mismatches(declared(name), _LOADED[name].definitions)
        if wrong:
            raise SystemExit("\n".join((f"manifests/{name}.yaml does not fit the suite:", *wrong)))
    return _LOADED[name]


def run_unit(work: Pairs) -> tuple[Tally, Notes]:
    """All that is counted for one user task."""
    suite, task_id, variants, attacks = work
    unit = asyncio.run(Unit(suite_of(suite), task_id).run(variants, attacks))
    return unit.tally, unit.noted


def run_replay(work: tuple[str, int, int, bool]) -> tuple[Counted, Notes]:
    """Every `step`th transcript from `start`, under one variant, with the content model or without."""
    variant, start, step, advice = work
    definitions = {name: suite_of(name).definitions for name in suites.NAMES}
    return asyncio.run(replay_part(variant, start, step, definitions, advice))


def run_adversary(work: tuple[str, str, str, int, bool]) -> tuple[Tried, Notes]:
    """All that the adversary does to one injection task."""
    suite, injection_id, variant, count, exhaustive = work
    found = asyncio.run(Adversary(suite_of(suite), injection_id, variant).run(count, exhaustive))
    return found.tried, found.noted
