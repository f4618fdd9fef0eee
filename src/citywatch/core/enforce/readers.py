"""Whether a call would show somebody what they may not see: its audience against the readers of what was read.

Decides on the context's label, the call and the manifest's `audience`. Assumes *havoc*: the model may have put anything
that it read into any argument, in any disguise. So where the audience may not see all of the context, an argument
passes only as words that the audience may see anyway: whole, in a principal's prompt or in an item for that audience,
and in no dress of the agent's own. Which of those words it picks still tells a little; budgets bound how much.

INVARIANTS
1. Any effect, any argument, any name of a member that the approved definition does not have: a search carries a secret
   out as a letter does. What is no tool is for everybody.
2. A label whose readers include the audience, or are everybody, refuses nothing.
3. A person is asked only where the tool's manifest says so, and then one who may see all that the call could carry
   (`owners`): nobody can tell what a model put between the letters. Their yes is a release, for that one call.
4. What a handle stands for goes only where its own readers allow, whoever said the same elsewhere.
5. Where an operator let down who may see a context, a value of an item that it holds is still only for that item's
   readers.
6. A cursor is an argument like any other, but one that this server gave this agent: it knows that already.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from citywatch.core.call import Call, Deny, Direction, Reason
from citywatch.core.enforce.arguments import MAX_VALUES
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.cursors import cursor_of
from citywatch.core.enforce.exchanging import is_exchange
from citywatch.core.enforce.needs import TOOL_CALL, Known
from citywatch.core.enforce.past import PLUMBING
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import ApprovedTool
from citywatch.core.errors import Code
from citywatch.core.flow.fold import fold
from citywatch.core.flow.history import History, Value
from citywatch.core.flow.index import met
from citywatch.core.flow.mentions import find_phrase
from citywatch.core.flow.readings import Typed, typed
from citywatch.core.label import Label, join, join_all, may_flow
from citywatch.core.manifest import EVERYBODY, audience_of
from citywatch.core.policy.shapes import Listed, Recorded, Shape

PARAMS: Final = frozenset(("cursor", "uri", "name", "arguments", "ref", "type", "argument", "value", "context"))
"""Names of members that MCP gives to the parameters of what is no tool."""


def disclosed(call: Call, known: Known) -> Deny | None:
    """Refuse a call that could carry what was read to those who may not see it."""
    flow = known.flow
    if flow is None:
        return None
    if (behind := _behind_handles(call, known)) is not None:
        return behind
    if _high(flow).readers is None:  # INVARIANT: 2.
        return None
    tool = None
    if call.direction is Direction.TO_AGENT:
        if call.rpc_id is None or may_flow(_high(flow), None):
            return None
        return _refused((EVERYBODY,))
    if call.method == TOOL_CALL:
        tool = known.rules.tools.get((call.server, call.name or ""))
    elif call.method in PLUMBING and _goes_on(call, known):
        return None
    if tool is not None and tool.manifest.inside:
        return None
    names = (EVERYBODY,) if tool is None else tool.manifest.audience
    if is_exchange(call):
        return None  # `tokens` has asked, of all that was read and of no words of it
    if is_message(call):
        peer = known.rules.peers.get(call.server)
        names = (EVERYBODY,) if peer is None else peer.audience
    audience = audience_of(names)
    if may_flow(_high(flow), audience):
        return None
    values = list(itertools.islice(_carried(call.arguments, _names(tool)), MAX_VALUES + 1))
    if len(values) > MAX_VALUES or call.continuation is not None:
        return _refused(names)
    carried = [flow.readings.of(one) for one in values]
    if may_flow(flow.context.label, audience):  # INVARIANT: 5.
        carried = [one for one in carried if _kept(one, flow.history, audience)]
    return None if all(stands(one, flow.history, audience) for one in carried) else _refused(names)


def owners(call: Call, known: Known) -> tuple[str, ...]:
    """# INVARIANT: 3. The principals who may see all that this call could carry."""
    if known.flow is None:
        return ()
    label = join_all((_high(known.flow), *(one.label for one in call.filled)))
    return tuple(sorted(name for name in known.rules.principals if may_flow(label, frozenset((f"principal:{name}",)))))


def _goes_on(call: Call, known: Known) -> bool:
    """# INVARIANT: 6."""
    cursor = cursor_of(call, known.rules)
    return cursor is None or (known.issued is not None and known.issued.holds(cursor))


def _high(flow: Flow) -> Label:
    """The context's label as if nobody had ever let it down."""
    return join(flow.context.label, flow.context.before)


def _kept(value: Typed, history: History, audience: frozenset[str] | None) -> bool:
    """Whether this value stands in something that the audience may not see."""
    return any(not may_flow(history.items[seen.item].label, audience) for seen in history.sightings(value))


def _behind_handles(call: Call, known: Known) -> Deny | None:
    """# INVARIANT: 4. The context has not read it, so its own label speaks for it."""
    if not call.filled:
        return None
    tool = known.rules.tools.get((call.server, call.name or ""))
    if tool is not None and tool.manifest.inside:
        return None
    names = (EVERYBODY,) if tool is None else tool.manifest.audience
    allowed = all(may_flow(one.label, audience_of(names)) for one in call.filled)
    return None if allowed else _refused(names)


def stands(carried: Value | Typed, history: History, audience: frozenset[str] | None) -> bool:
    """Whether this value is in so many words what a principal said, or what an item for this audience holds."""
    read = typed(carried)
    value = read.value
    for prompt in history.prompts:
        if isinstance(value, str):  # letter by letter: the raw text is kept
            found = find_phrase(value, history.items[prompt.item].text) >= 0
        else:
            found = bool(met(read, prompt.held))
        if found:
            return True
    came = history.blobs(value)  # byte for byte, as it came, in an item for that audience
    if came and any(may_flow(history.items[one.item].label, audience) for one in came):
        return True
    words = read.folded
    if not words or (isinstance(value, str) and not _undressed(value)):
        return False
    for seen in history.sightings(read):
        part = history.part(seen)
        if part.hidden:  # the agent was not shown it, and its label is not the item's
            continue
        if not may_flow(history.items[seen.item].label, audience):
            continue
        # A number has one notation in JSON. A text has many, and which one was chosen could say something else.
        if not isinstance(value, str) or part.whole == words or seen.end - seen.start == len(value):
            return True
    return False


def _undressed(value: str) -> bool:
    """Whether a text is written plainly: nothing unseen, no look-alikes, no letters in an odd case, to hide bits in."""
    return fold(value) == value.lower() and value in (value.lower(), value.upper(), value.title(), _capital(value))


def _capital(value: str) -> str:
    return value[:1].upper() + value[1:].lower()


def _carried(arguments: Mapping[str, Any], names: frozenset[str]) -> Iterator[Value]:
    """Everything in which a call can carry something: each leaf, what fills a list, each name that nobody declared."""
    pending: list[Any] = [arguments]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            yield from (name for name in value if name not in names)
            pending += value.values()
        elif isinstance(value, list | tuple):
            yield from ("" for one in value if one is None or one in ("", [], {}))  # so many of nothing are a number
            pending += value
        elif value is not None and value != "":
            yield value


def _names(tool: ApprovedTool | None) -> frozenset[str]:
    """The names of members that stand in the approved definition: they are not the agent's words."""
    if tool is None:
        return PARAMS
    found: set[str] = set(tool.manifest.parameters)
    pending: list[Shape] = [tool.arguments.shape]
    while pending:
        shape = pending.pop()
        if isinstance(shape, Listed):
            pending.append(shape.item)
        elif isinstance(shape, Recorded):
            found.update(shape.fields)
            pending += [one.shape for one in shape.fields.values()]
    return frozenset(found)


def _refused(names: tuple[str, ...]) -> Deny:
    return Deny(Reason(Code.NOT_A_READER, detail=f"it would reach {', '.join(f'`{one}`' for one in names[:8])}"))
