"""What a decision rested on, argument by argument, for the person who has to understand it: never for the agent.

Decides nothing: the verdict is `admit`'s own, and each argument's is that of the objects that `admit` asked. Here they
are only joined to the items they stand in: which server, tool or person, when, by which call, and who may have written
it. What would let the call pass is `remedies`'.

INVARIANTS: the decision that is explained is the one that `admit` gives for the same call, rows and time; a value that
stands nowhere is said to stand nowhere, with what the agent had read when it was made up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import msgspec

from citywatch.core.call import Call, Decision, Deny, Direction
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.needs import TOOL_CALL, Known, Needs
from citywatch.core.enforce.planned import Planned, planned
from citywatch.core.enforce.rooted import rooted
from citywatch.core.enforce.steering import Finding, Steering
from citywatch.core.enforce.verify import Authority
from citywatch.core.flow.history import History, Sighting, Value
from citywatch.core.flow.item import Item
from citywatch.core.label import may_flow
from citywatch.core.manifest import EVERYBODY, audience_of

MAX_PLACES: Final = 3
"""Places of one value that are named; where it stands oftener, how often is said."""
MAX_INFLUENCES: Final = 4
"""Items that are named as what may have talked the agent into it, or as what others may not see."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a value stands: `source` is `principal:<name>` or `<server>/<tool>`, `call` the call or the task.

    `at` is when it came, in milliseconds since the epoch; `vouched`: the operator's manifest says that this field is
    the server's own; `origins` could have shaped the item, None is anybody; `readers` may see all of it, None is
    everybody. `digest` names the item.
    """

    source: str
    path: str
    start: int
    end: int
    at: int
    call: str
    digest: str
    vouched: bool
    origins: tuple[str, ...] | None
    readers: tuple[str, ...] | None


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """One argument: `how` it was let through, None if nobody entitled supplied it; `told` is what the entry says of it.

    `places` is how often the value stands in what the agent had received, `seen` the first of them.
    """

    path: str
    role: str
    value: Value | None
    how: str | None
    told: str
    seen: tuple[Seen, ...]
    places: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of `admit`, and what it rested on.

    `influences` are what third parties can have written of all that the agent had received, the newest first: what may
    have talked it into a value that stands nowhere. `secrets` are what the call's audience may not see.
    """

    decision: Decision
    plan: str
    arguments: tuple[Argument, ...]
    influences: tuple[Seen, ...]
    secrets: tuple[Seen, ...]
    audience: tuple[str, ...]


def explain(call: Call, authority: Authority, known: Known, need: Needs, now: int) -> Explanation:
    """Decide the call by `admit`, and say where each of its arguments came from."""
    decision = admit(call, authority, known, need, now)
    flow = known.flow
    if flow is None:
        return Explanation(decision=decision, plan="", arguments=(), influences=(), secrets=(), audience=())
    names = audience_names(call, known)
    plan = planned(call, known, now)
    return Explanation(
        decision=decision,
        plan=plan.reason.detail if isinstance(plan, Deny) else plan.why or "; ".join(plan.told),
        arguments=tuple(_argument(one, flow.history) for one in findings_of(call, authority, known, plan)),
        influences=tuple(_whole(one) for one in _newest(_strange(flow))),
        secrets=tuple(_whole(one) for one in _newest(_hidden(flow, names))),
        audience=names,
    )


def findings_of(call: Call, authority: Authority, known: Known, plan: Planned | Deny) -> tuple[Finding, ...]:
    """What `admit` found of each argument, in the same words; empty where it does not look at them."""
    flow, tool = known.flow, known.rules.tools.get((call.server, call.name or ""))
    if flow is None or tool is None or call.method != TOOL_CALL or call.direction is not Direction.TO_SERVER:
        return ()
    found = Steering(call, tool, known.rules, flow).findings()
    return rooted(call, authority, known).over(found if isinstance(plan, Deny) else plan.over(found))


def audience_names(call: Call, known: Known) -> tuple[str, ...]:
    """Whom the call reaches, by the names of the configuration; what is no declared tool reaches everybody."""
    tool = known.rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    return (EVERYBODY,) if tool is None else tool.manifest.audience


def _argument(one: Finding, history: History) -> Argument:
    sightings = [] if one.value is None else _sightings(one.value, history)
    return Argument(
        path=one.path,
        role=one.role.value,
        value=one.value,
        how=one.how,
        told=one.told(),
        seen=tuple(seen_of(seen, history) for seen in sightings[:MAX_PLACES]),
        places=len(sightings),
    )


def _sightings(value: Value, history: History) -> list[Sighting]:
    """Where it stands: people's words first, then the newest; a reader wants to know who said it, then who else did."""
    found = history.sightings(value)
    return sorted(found, key=lambda seen: (not history.items[seen.item].text, -seen.item))


def seen_of(seen: Sighting, history: History) -> Seen:
    """A sighting with all that is known of the item it is in."""
    item, part = history.items[seen.item], history.part(seen)
    return msgspec.structs.replace(_whole(item), path=part.path, start=seen.start, end=seen.end, vouched=part.trusted)


def _whole(item: Item) -> Seen:
    origins, readers = item.label.origins, item.label.readers
    return Seen(
        source=item.source,
        path="$",
        start=0,
        end=0,
        at=item.at,
        call=item.call,
        digest=item.digest,
        vouched=all(part.trusted for part in item.parts),
        origins=None if origins is None else tuple(sorted(origins)),
        readers=None if readers is None else tuple(sorted(readers)),
    )


def _strange(flow: Flow) -> Iterable[Item]:
    for item in reversed(flow.history.items):
        origins = item.label.origins
        if origins is None or any(not one.startswith(("principal:", "server:")) for one in origins):
            yield item


def _hidden(flow: Flow, names: tuple[str, ...]) -> Iterable[Item]:
    audience = audience_of(names)
    return (item for item in reversed(flow.history.items) if not may_flow(item.label, audience))


def _newest(items: Iterable[Item]) -> Iterable[Item]:
    return itertools.islice(items, MAX_INFLUENCES)
