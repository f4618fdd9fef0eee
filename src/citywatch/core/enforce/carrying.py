"""Text that came to an agent and leaves it again: whether a call carries it on, and how many agents have done so.

    what leaves in a message, or in an act that is no mere reading
    → less what people said, servers vouch for and the operator approved
    → what came to the agent from outside, or was carried on by another agent
    → the agents that carried so much of it on within `WINDOW_MS`, this one included: `context.spread`

Decides what is counted; a policy or a temporal rule decides what that is too much of. Assumes *havoc*: nobody need have
copied on purpose, and an attempt that is refused counts like any other, for it would have gone on.

INVARIANTS
1. A text counts for an agent once it came to it from outside of itself and leaves it; what a principal said, a server
   vouches for or the operator approved does not.
2. An agent is in the count once, however often it repeats itself; one that was in it an hour ago still is.
3. More text in a message never makes the count lower, as far as what is copied fits in `MAX_FOLLOWED` fingerprints;
   past that the sample is the same for all that share it.
4. Work and rows are bounded; what an agent makes up itself adds at most `MAX_PROBED` rows to what is looked at, and
   pushes nothing out of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.chains import are_links
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import Rules
from citywatch.core.flow.history import History
from citywatch.core.flow.prints import GRAM, fingerprints, kept
from citywatch.core.wire import a2a

Key = tuple[str, str]
PRINT: Final = "print"
WINDOW_MS: Final = 24 * 3_600_000
"""For how long it counts that an agent carried a text on."""
FRESH_MS: Final = WINDOW_MS // 24
"""What is younger is not written anew."""
LEAST: Final = 7
"""Fingerprints that make a copy, some ninety letters: fewer are a turn of phrase, a greeting, a line under a mail."""
MAX_FOLLOWED: Final = 4096
"""Fingerprints of one call that came from outside and are looked up, of some forty thousand letters."""
MAX_WRITTEN: Final = 256
"""Rows that one call leaves: first of what others carried on before, so that nothing new hides it."""
MAX_PROBED: Final = 32
"""Those of words that came from nowhere we saw: another agent may have carried them past us."""
MAX_CARRIERS: Final = 32
"""Agents that are told apart for one fingerprint: the count goes no higher."""
MAX_TEXT: Final = 1 << 20
# Bound once: up to Python 3.11 each look-up of a member runs code of its class.
_READ, _TO_SERVER = Effect.READ, Direction.TO_SERVER


class Carried(msgspec.Struct, frozen=True):
    """The agents that carried a fingerprint on, by name, and when they did so last."""

    agents: Mapping[str, int] = {}


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that carried on what a call carries on, this one last; nobody if it carries on nothing.

    `rows` are what is remembered of it once the call was tried, `rests_on` the rows that say so.
    """

    carriers: tuple[str, ...] = ()
    rows: Mapping[Key, Carried] = {}
    rests_on: tuple[Key, ...] = ()

    @property
    def count(self) -> int:
        return len(self.carriers)


NOTHING: Final = Spread()


def print_key(one: int) -> Key:
    """Where it is kept who carried a fingerprint on."""
    return (PRINT, f"{one:016x}")


def leaving(call: Call, rules: Rules) -> tuple[int, ...]:
    """The fingerprints of the text that leaves an agent with a call; none for a call that only reads."""
    if call.direction is not _TO_SERVER or not _takes_along(call, rules):
        return ()
    text = said_in(_words(call))
    return () if len(text) < GRAM else tuple(fingerprints(text[:MAX_TEXT]) - rules.boilerplate)


def _takes_along(call: Call, rules: Rules) -> bool:
    if is_message(call):
        return a2a.sends(call.method)
    tool = rules.tools.get((call.server, call.name or "")) if call.method == "tools/call" else None
    return tool is not None and tool.effect is not _READ


def _words(call: Call) -> Mapping[str, Any]:
    """What a call says. A chain that is handed on is the same from hand to hand, and says what its grammar can."""
    metadata = call.arguments.get("metadata") if is_message(call) else None
    if not isinstance(metadata, Mapping) or not are_links(metadata.get(a2a.HANDED, ())):
        return call.arguments
    return {**call.arguments, "metadata": {key: one for key, one in metadata.items() if key != a2a.HANDED}}


def said_in(value: Any) -> str:
    """All words of a JSON value, in their order, so that what was cut in two is whole; the names of members last."""
    words: list[str] = []
    names: list[str] = []
    pending = [value]
    while pending:
        one = pending.pop()
        if type(one) is str:
            words.append(one)
        elif isinstance(one, Mapping):
            names += one
            pending += reversed(list(one.values()))
        elif isinstance(one, list | tuple):
            pending += reversed(one)
    return "\n".join((*words, *names))


def looked_up(leaves: Collection[int], history: History) -> tuple[int, ...]:
    """Those whose rows say who carried them on: what came from outside, and a few of the rest."""
    if len(leaves) < LEAST:
        return ()
    open_ = [one for one in leaves if one not in history.vouched]
    came = [one for one in open_ if one in history.received]
    rest = (one for one in open_ if one not in history.received)
    return (*kept(came, MAX_FOLLOWED), *kept(rest, MAX_PROBED))


def spread_of(found: Iterable[int], history: History, rows: Mapping[Key, Carried], agent: str, now: int) -> Spread:
    """Who carried on what this agent is about to, from the rows of `looked_up`."""
    others = {one: _others(rows.get(print_key(one)), agent, now) for one in found}
    carried = [one for one, by in others.items() if by or one in history.received]
    if len(carried) < LEAST:
        return NOTHING
    counts: dict[str, int] = {}
    for one in carried:
        for name in others[one]:
            counts[name] = counts.get(name, 0) + 1
    before = sorted(name for name, count in counts.items() if count >= LEAST)[:MAX_CARRIERS]
    carried.sort(key=lambda one: (not others[one], one))
    written = dict(itertools.islice(_written(carried, rows, agent, now), MAX_WRITTEN))
    # Whoever carries on the same at the same instant writes the same rows first, and one of the two sees the other.
    return Spread(carriers=(*before, agent), rows=written, rests_on=tuple({**dict.fromkeys(rows), **written}))


def _others(row: Carried | None, agent: str, now: int) -> tuple[str, ...]:
    if row is None:
        return ()
    return tuple(name for name, at in row.agents.items() if name != agent and now - at <= WINDOW_MS)


def _written(
    carried: Iterable[int], rows: Mapping[Key, Carried], agent: str, now: int
) -> Iterator[tuple[Key, Carried]]:
    """The rows that change. Those who carried it on longest ago make room for the next."""
    for one in carried:
        key = print_key(one)
        row = rows.get(key, Carried())
        at = row.agents.get(agent)
        if at is not None and now - at < FRESH_MS:
            continue
        alive = {name: when for name, when in row.agents.items() if name != agent and now - when <= WINDOW_MS}
        latest = sorted(alive, key=lambda name: (alive[name], name))[-(MAX_CARRIERS - 1) :]
        yield key, Carried({**{name: alive[name] for name in latest}, agent: max(now, at or 0)})


def is_over(row: Carried, now: int) -> bool:
    """Whether nothing in a row counts any more."""
    return all(now - at > WINDOW_MS for at in row.agents.values())
