"""Which calls a policy can match at all, found without any call: by types, and by the ids that exist.

Decides, for a list of conditions, whether some action, principal and resource can make all of them true, and which
attributes they read that no such call can have. INVARIANT: one-sided. What depends on arguments counts as possible
unless the types alone exclude it, so whatever is said never to match never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from citywatch.core.policy.compile import Closure, Compiler
from citywatch.core.policy.facts import Facts, entity
from citywatch.core.policy.slices import scope_of
from citywatch.core.policy.static import Types, entity_types, reads_of
from citywatch.core.policy.text import expression_text
from citywatch.core.policy.values import Uid
from citywatch.core.policy.world import Act, World

_NOBODY = entity(Uid("Nobody", ""))


class Finding(msgspec.Struct, frozen=True):
    """What is wrong: the condition that is never true, if the policy never matches; undeclared attributes by path, each
    with the names that are declared in its place."""

    never: str | None
    undeclared: Mapping[str, frozenset[str]]


class _Condition(msgspec.Struct, frozen=True):
    node: Any
    holds: Closure
    about: str | None


class Coverage:
    """Holds policies against all acts of a world, one policy after the other."""

    def __init__(self, world: World, compiler: Compiler) -> None:
        entities = entity_types(world)
        self.compiler = compiler
        self.acts = [(act, Types(act, entities)) for act in world.acts]

    def of(self, conditions: Sequence[Any]) -> Finding:
        """What is wrong with a policy of these conditions; raises `NotCompiled` for what the compiler does not know."""
        parts = [_Condition(node, self.compiler.expression(node), scope_of(node)) for node in conditions]
        reads = {read for node in conditions for read in reads_of(node)}
        matched, furthest = not parts, 0
        undeclared: dict[str, frozenset[str]] = {}
        declared: set[str] = set()
        memo: dict[int, int | None] = {}
        for act, types in self.acts:
            stop = _outside(parts, act, memo)
            if stop is None:
                for read in reads:
                    there = types.declared(read)
                    if there is not None and read.name in there:
                        declared.add(read.path)
                    elif there is not None:
                        undeclared[read.path] = undeclared.get(read.path, frozenset()) | there
                stop = next((n for n, part in enumerate(parts) if types.truth(part.node) is False), None)
            matched = matched or stop is None
            furthest = max(furthest, stop or 0)
            if matched and len(declared) == len(reads):
                break
        never = None if matched else expression_text(parts[furthest].node)
        return Finding(never, {path: known for path, known in undeclared.items() if path not in declared})


def _outside(parts: Sequence[_Condition], act: Act, memo: dict[int, int | None]) -> int | None:
    """The number of the condition that the act's own name fails, or the name of everything that it can be done to.

    Principals are left alone: that nobody holds two roles today is no mistake of the policy that forbids it.
    """
    number = _left(parts, "action", [Facts(_NOBODY, act.action, _NOBODY, {})])
    if number is None:
        if id(act.resources) not in memo:
            memo[id(act.resources)] = _left(parts, "resource", [Facts(_NOBODY, _NOBODY, r, {}) for r in act.resources])
        number = memo[id(act.resources)]
    return number


def _left(parts: Sequence[_Condition], about: str, candidates: Sequence[Facts]) -> int | None:
    """The number of the condition that the last of the candidates fails, of those that only ask for a name or group."""
    for number, part in enumerate(parts):
        if part.about == about:
            candidates = [one for one in candidates if part.holds(one)]
            if not candidates:
                return number
    return None
