"""What the plan says of one call: a step, and what of it is bound; no step, so at best an Ask; or out of the question.

    forbidden sequence → a step? → (reads pass) → expired or spent → ask

Decides on the plan that the agent is held to, what it has done, and what its context has received. A plan permits
nothing: policy, budget and, for all that the plan does not bind, entitlement (`steering`) have their own say.

INVARIANTS
1. A consequential call that is no step is at best an Ask; one after the plan's time or budget, and any call that would
   complete a forbidden sequence, a read too, is a Deny.
2. What a plan binds by value, by choice or to a source passes without another source; a range only narrows. It does so
   for nothing that the plan's own principal may not steer.
3. A value stands in a step's reply only if it stands there whole and the agent did not put it there: neither with the
   call that the reply answers, nor by an earlier write to what the reply speaks of. What the server vouches for it
   did not take from the agent.
4. What is free, and what is not listed, passes as it would without the plan.
5. A read beside the plan goes to no place that only something in the context named: that it adds nothing of the agent's
   is enough for a step, but here nobody asked to go there.
6. An agent that keeps its tasks apart says for which of them it acts: to name none is no way around the plan of any.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Deny, Direction, Effect, Reason
from citywatch.core.enforce.arguments import MAX_VALUES
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.needs import TOOL_CALL, Known
from citywatch.core.enforce.steering import Finding
from citywatch.core.errors import Code
from citywatch.core.flow.fields import MAX_PATH
from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.item import Item
from citywatch.core.flow.provenance import COUNTED
from citywatch.core.flow.readings import Typed
from citywatch.core.flow.tokens import Kind
from citywatch.core.limit import Path
from citywatch.core.manifest import Principal, Role
from citywatch.core.plan.constraint import How
from citywatch.core.plan.contract import (
    CallFacts,
    InPlan,
    OutOfPlan,
    Progress,
    Trace,
    Why,
    beside,
    continued,
    forbids,
    step,
)

ENTITLING: Final = frozenset((How.VALUE, How.CHOICE, How.SOURCE))
ORDERED: Final = frozenset((Why.ORDER, Why.EDGE))
"""Why a read that is a step in all else is asked about: the plan says when that one may come."""
OVER: Final = frozenset((Why.EXPIRED, Why.SPENT))
FORBIDDEN: Final = OutOfPlan(why=Why.FORBIDDEN)
SHORT: Final = 4
_READ, _TO_SERVER = Effect.READ, Direction.TO_SERVER  # bound once: up to Python 3.11 a look-up runs code of the class
SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_SPAN: Final = re.compile(r"\[[0-9]+:[0-9]+\]\Z")
_PLACE: Final = re.compile(r'\.([^.\[]+)|\[([0-9]+)\]|\[("(?:[^"\\]|\\.)*")\]')


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """`why` a person must be asked whatever the arguments are; which paths the plan binds; one line for the log.

    `bound` is looked up only where something has no other source. `beside`: a read that is no step.
    """

    why: str = ""
    bound: Callable[[], frozenset[str]] = frozenset
    told: tuple[str, ...] = ()
    beside: bool = False

    def over(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """# INVARIANT: 4. What nobody entitled supplied passes where the plan binds it; all else stays as it is."""
        if self.beside:  # INVARIANT: 5
            return tuple(msgspec.structs.replace(one, how=None) if one.how == "quoted" else one for one in findings)
        if not [one for one in findings if one.how is None]:
            return findings
        bound = self.bound()
        return tuple(
            msgspec.structs.replace(one, how="planned") if one.how is None and binds(bound, one) else one
            for one in findings
        )


UNPLANNED: Final = Planned()


def binds(bound: frozenset[str], one: Finding) -> bool:
    """Whether a finding is of one of these paths, or of a link in words that stand under one."""
    return one.path in bound or (one.role is Role.CONTENT and _SPAN.sub("", one.path) in bound)


def planned(call: Call, known: Known, now: int) -> Planned | Deny:
    """Hold a call against the plan; `UNPLANNED` where there is none, or where a plan does not speak of such calls."""
    flow, tool = known.flow, known.rules.tools.get((call.server, call.name or ""))
    if flow is None or tool is None or not _is_tool_call(call):
        return UNPLANNED
    if call.task is None and tool.effect is not _READ and known.rules.is_isolated(call.agent):  # INVARIANT: 6
        return Planned(why="plan: no task is named")
    if flow.held.plan is None:
        return UNPLANNED
    if flow.progress is None:  # a row is missing: what was done is not known
        return _over(Why.SPENT)
    held, name = flow.held.plan.held, f"{call.server}/{call.name}"
    found = _step(call, flow, now)
    if isinstance(found, OutOfPlan):
        # Of a plan that is over, or has no call left, `step` has not said whether a sequence would be completed.
        late = found.why in OVER and flow.continues not in flow.progress.calls
        if found == FORBIDDEN or (late and forbids(held, flow.progress, name)):
            return _over(Why.FORBIDDEN)
        if tool.effect is _READ:
            return Planned(why=_why(found) if found.why in ORDERED else "", beside=True)
        return _over(found.why) if found.why in OVER else Planned(why=_why(found))  # INVARIANT: 1
    principal = known.rules.principals.get(flow.held.plan.principal)
    told = f"plan: step `{found.step}` of `{held.plan.name}` {held.digest[:12]}, {held.kind}"
    return Planned(bound=partial(_bound, call, found, principal), told=(told,))


def progressed(call: Call, flow: Flow, now: int) -> Progress | None:
    """What was done under the plan once this call has gone through; None if that changes nothing."""
    if flow.held.plan is None or flow.progress is None or not _is_tool_call(call):
        return None
    found = _step(call, flow, now)
    if isinstance(found, InPlan):
        return found.progress
    if flow.continues in flow.progress.calls:
        return None
    after = beside(flow.held.plan.held, flow.progress, f"{call.server}/{call.name}")
    return after if after != flow.progress else None


def _step(call: Call, flow: Flow, now: int) -> InPlan | OutOfPlan:
    assert flow.held.plan is not None
    assert flow.progress is not None
    arguments = dict(call.arguments)
    traces = _Traces(arguments, flow, flow.held.plan.task, frozenset(flow.progress.calls))
    facts = CallFacts(id=call.id, at=now, tool=f"{call.server}/{call.name}", arguments=arguments, traces=traces)
    held, progress = flow.held.plan.held, flow.progress
    if flow.continues in progress.calls:
        return continued(held, progress, flow.continues, facts)
    return step(held, progress, facts)


def _is_tool_call(call: Call) -> bool:
    return call.method == TOOL_CALL and call.direction is _TO_SERVER


def _over(why: Why) -> Deny:
    return Deny(Reason(Code.OUT_OF_PLAN, detail=f"plan: {why.value}"))


def _why(found: OutOfPlan) -> str:
    step = f", step `{found.step}`" if found.step else ""
    place = f", argument `{'.'.join(str(one)[:80] for one in found.argument[:8])}`" if found.argument else ""
    return f"plan: {found.why.value}{step}{place}"


# -- which values the plan binds ---------------------------------------------------------------------------------------


def _bound(call: Call, found: InPlan, principal: Principal | None) -> frozenset[str]:
    """The paths under which the plan binds all values, if its own principal may steer the act."""
    if principal is None or not principal.steers(call.server, call.name or ""):  # INVARIANT: 2
        return frozenset()
    return paths_bound(call, [one.path for one in found.bound() if one.how in ENTITLING])


def paths_bound(call: Call, bound: list[Path]) -> frozenset[str]:
    """The paths, as `arguments` writes them, under which all values are bound: two arguments may read as one path."""
    # What holds an argument holds all in it; what holds a member of it holds the names on the way there.
    wholly, partly = {one[0] for one in bound if len(one) == 1}, [one for one in bound if len(one) != 1]
    given = call.arguments
    if not partly and len(given) <= MAX_VALUES and SCALARS.issuperset(map(type, given.values())):  # each is one value
        return frozenset([name for name in given if name in wholly])
    covered: dict[str, bool] = {}
    for count, (text, place, names) in enumerate(_values(call.arguments)):
        if count >= MAX_VALUES:
            return frozenset()  # it would not be traced, so nothing of it is vouched for
        held = place[0] in wholly
        if not held and partly:
            held = any(place[: len(one)] == one or (names and one[: len(place)] == place) for one in partly)
        covered[text] = covered.get(text, True) and held
    return frozenset(text for text, held in covered.items() if held)


def _values(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path, bool]]:
    """Each value of a call: its path as text, as a place, and whether it is the name of a member."""
    pending: list[tuple[str, Path, Any]] = [(name, (name,), value) for name, value in arguments.items()]
    while pending:
        text, place, value = pending.pop()
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield text, (*place, key), True
                pending.append((f"{text}.{key[:80]}", (*place, key), inner))
        elif isinstance(value, list | tuple):
            pending += [(f"{text}[{at}]", (*place, at), inner) for at, inner in enumerate(value)]
        else:
            yield text, place, False


# -- where a value stands ----------------------------------------------------------------------------------------------


class _Traces(Mapping[Path, Iterable[Trace]]):
    """Where each leaf of a call's arguments stands whole, looked up when the plan asks and as far as it asks."""

    def __init__(self, arguments: dict[str, Any], flow: Flow, task: str, calls: frozenset[str]) -> None:
        self._arguments, self._task, self._calls = arguments, task, calls
        self._history, self._readings = flow.history, flow.readings

    def __getitem__(self, path: Path) -> Iterable[Trace]:
        value: Any = self._arguments
        for one in path:
            value = value[one]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise KeyError(path)  # a yes stands nowhere: there are too many of them
        read = self._readings.of(value)
        return itertools.chain(self._brought(read), self._said(read))

    def __iter__(self) -> Iterator[Path]:
        return iter((name,) for name in self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def _said(self, value: Typed) -> Iterator[Trace]:
        for prompt in self._history.prompts:
            if self._history.items[prompt.item].call == self._task:
                kinds = {token.kind for token in met(value, prompt.held)}
                if kinds - {Kind.NAME} or (kinds and not any(one.kind in COUNTED for one in value.exact)):
                    yield Trace(None)

    def _brought(self, value: Typed) -> Iterator[Trace]:
        for seen in self._history.sightings(value):
            item = self._history.items[seen.item]
            part = self._history.part(seen)
            if item.call in self._calls and not item.text and (part.trusted or not _own(value, item)):
                yield Trace(item.call, parse_place(part.path))


def _own(value: Typed, item: Item) -> bool:
    """# INVARIANT: 3. Whether the agent may have put the value there, with the call or before: replies repeat a lot."""
    if item.shaped or item.overlong:
        return True
    words = _squashed(value.folded)
    if len(words) < SHORT:
        repeated = any(words in re.findall(r"\w+", one) for one in item.about)
    else:
        asked = [_squashed(one) for one in item.about]
        repeated = any(words in "".join(order) for order in (asked, reversed(asked)))
    return repeated or any(met(value, index_text(one)) for one in item.about)


def _squashed(words: str) -> str:
    """Letters and digits alone: a server may put together what it was asked in pieces."""
    return "".join(letter for letter in words if letter.isalnum())


def parse_place(path: str) -> Path:
    """The place that a part's path names: `$.a[0]["b c"]` is `("a", 0, "b c")`.

    What stands beside the fields has none; a path that may have been cut, maybe within a name that a reply chose, names
    no field either: the reply as a whole.
    """
    if len(path) >= MAX_PATH:
        return ()
    if not path.startswith("$"):
        return ()
    return tuple(
        name if name else int(number) if number else json.loads(quoted)
        for name, number, quoted in _PLACE.findall(path[1:])
    )
