"""What happened before, as temporal rules see it: which calls and replies are events, and what follows of a match.

    a call that is let through              `call`     judged: a rule that matches refuses it or asks
    a message that is released to the agent `reply`    remembered only
    a server's question to the agent        both       judged: the answer carries out what the agent knows

Decides what an event's attributes are, in whose traces it stands, and what becomes of a match. What a rule means is
`plan.temporal`'s. A refused call is no event: it changed nothing, and whoever can be refused at will would otherwise
write other people's past. What a client needs to find its tools (`PLUMBING`) is none either.

INVARIANTS
1. A rule that forbids and matches denies; one that asks and matches is at best an Ask, and a Deny where nobody could be
   asked. A match in one of the event's traces is a match.
2. Every memory that a verdict rests on is among the rows read: of two calls that race, one sees the other.
3. One reader has one trace, however it is written and whatever stands beside it: in each of its readings, and a URL by
   its host too.
4. What is not known could be anything: an origin where contexts are not kept, a reader where no destination and no
   audience is declared, an object that is not named.
5. More readers or objects than are followed one by one is refused, not cut off.
6. What is forgotten would have decided nothing (`forgettable`), also where the clock is put back by up to `MARGIN_MS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from citywatch.core.call import Call, Deny, Direction, Reason
from citywatch.core.canonical import digest
from citywatch.core.enforce.arguments import declarations
from citywatch.core.enforce.context import Flow, Key, thing_of
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.flow.fold import fold
from citywatch.core.flow.history import Value
from citywatch.core.flow.tokens import Kind, exact_tokens, find_tokens
from citywatch.core.label import Label, join_all
from citywatch.core.manifest import EVERYBODY, SILENT, Role
from citywatch.core.plan.formula import Per, Then
from citywatch.core.plan.temporal import Automaton, Happening, Judged, Memory, is_over, judge, rows_of
from citywatch.core.wire import mcp

TOOL_CALL: Final = "tools/call"
PLUMBING: Final = frozenset(("initialize", "ping", *mcp.OFFERING))
"""What a client needs to find its tools again. Its own name and a cursor are not looked at."""
MAX_TRACES: Final = 64
"""Readers, or objects, of one call that are followed one by one."""
MAX_TEXT: Final = 256
"""A longer name of a reader or an object stands for itself as a digest."""
MARGIN_MS: Final = 24 * 3_600_000
"""For how long after its window is over a memory is kept: no clock is put back by more."""
NAMING: Final = frozenset((Kind.EMAIL, Kind.URL, Kind.HOST, Kind.IBAN, Kind.PHONE))
REACHED: Final = frozenset(("reader", "resource"))
"""What is looked for in a call's arguments only where a rule asks for it."""
NONE: Final = "none"
"""The task, and the principal, of an agent that was given none: a trace like any other."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What of an event is known before its context is: attributes, and the rows of its traces but for the task's."""

    values: Mapping[str, tuple[str, ...]]
    anything: tuple[str, ...]
    rows: tuple[Key, ...]
    crowded: bool = False


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """`why` a person must be asked, whatever the arguments are."""

    why: str = ""


UNRULED: Final = Ruled()


# -- what happens ------------------------------------------------------------------------------------------------------


def event_of(call: Call, rules: Rules, effect: str) -> Event | None:
    """The event that a call is if it goes through; None if no rule ranges over it."""
    if not rules.temporal or not _is_event(call):
        return None
    asked = call.direction is Direction.TO_SERVER
    kinds = ("call",) if asked else ("reply",) if call.rpc_id is None else ("call", "reply")
    watched = frozenset().union(*(one.attributes for one in rules.temporal))
    readers, resources = _reached(call, rules) if asked and watched & REACHED else ((), ())
    readers = readers if "reader" in watched else ()
    resources = resources if "resource" in watched else ()
    everybody = _is_for_everybody(call, rules) if "call" in kinds else False
    anything = (*(("reader",) if everybody else ()), *(() if resources or not asked else ("resource",)))
    return _event(call, rules, kinds, effect, readers, resources, anything)


def reply_of(call: Call, rules: Rules, effect: str) -> Event | None:
    """The event that a released reply is: it speaks of what its call named, and reaches nobody but the agent."""
    if not rules.temporal or not _is_event(call) or call.direction is not Direction.TO_SERVER:
        return None
    _, resources = _reached(call, rules)
    return _event(call, rules, ("reply",), effect, (), resources, () if resources else ("resource",))


def _is_event(call: Call) -> bool:
    return call.method not in PLUMBING and (call.rpc_id is not None or bool(call.arguments))


def _event(
    call: Call,
    rules: Rules,
    kinds: tuple[str, ...],
    effect: str,
    readers: tuple[str, ...],
    resources: tuple[str, ...],
    anything: tuple[str, ...],
) -> Event:
    tool = (f"{call.server}/{call.name}",) if call.method == TOOL_CALL else ()
    name = call.agent.rpartition("/")[2]
    values = {
        "event": kinds,
        "agent": (name,),
        "server": (call.server,),
        "tool": tool,
        "effect": (effect,),
        "resource": resources[:MAX_TRACES],
        "reader": readers[:MAX_TRACES],
    }
    crowded = len(readers) > MAX_TRACES or len(resources) > MAX_TRACES
    happening = Happening(at=0, values=values, anything=anything)
    rows = tuple(row_key(trace) for one in rules.temporal for trace in rows_of(one, happening))
    return Event(values=values, anything=anything, rows=rows, crowded=crowded)


def row_key(trace: str) -> Key:
    """Where the memory of one rule about one trace is kept."""
    return ("rule", trace)


def task_rows(rules: Rules, task: str) -> tuple[Key, ...]:
    """The rows of the task's traces: which one that is, only the context tells."""
    happening = Happening(at=0, values={"task": (task or NONE,)})
    automata = (one for one in rules.temporal if one.rule.per is Per.TASK)
    return tuple(row_key(trace) for one in automata for trace in rows_of(one, happening))


def _is_for_everybody(call: Call, rules: Rules) -> bool:
    """# INVARIANT: 4. Whether it reaches whom nobody named: no audience, no declared destination, no tool at all."""
    tool = rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    manifest = SILENT if tool is None else tool.manifest
    if call.direction is Direction.TO_AGENT or tool is None or not tool.manifest.declared:
        return True
    named = any(one.declared and one.role is Role.DESTINATION for one in declarations(call, manifest))
    return EVERYBODY in manifest.audience and not named


def _reached(call: Call, rules: Rules) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is reached, in each notation, and which objects are named."""
    tool = rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    if tool is None:
        return (), (f"{call.server}/{_short(call.name)}",) if call.name else ()
    readers: dict[str, None] = {one: None for one in tool.manifest.audience if one != EVERYBODY}
    resources: dict[str, None] = {}
    consequential = tool.manifest.effect.value != "read"
    for one in declarations(call, tool.manifest):
        if one.role is Role.DESTINATION and (one.declared or consequential):
            readers.update(dict.fromkeys(forms_of(one.value)))
        elif one.role is Role.OBJECT:
            resources[f"{call.server}/{_short(thing_of(one.value))}"] = None
        if max(len(readers), len(resources)) > MAX_TRACES:
            break  # it is refused: INVARIANT 5
    return tuple(readers), tuple(resources)


def forms_of(value: Value) -> Iterator[str]:
    """# INVARIANT: 3. The names under which one reader has one trace, whatever the notation.

    Each address in a text is one: `Eve <eve@x.example>` and `eve@x.example, ann@y.example` both reach Eve.
    """
    yield _short(fold(value) if isinstance(value, str) else str(value))
    for token in find_tokens(value, names=False) if isinstance(value, str) else exact_tokens(value):
        if token.kind in NAMING:
            yield _short(token.value)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"sha256:{digest(text.encode('utf-8', 'surrogatepass'))}"


# -- what follows ------------------------------------------------------------------------------------------------------


def ruled(
    event: Event | None,
    rules: Rules,
    flow: Flow | None,
    rows: Mapping[Key, Memory],
    call: Call,
    now: int,
    spread: int = 0,
) -> Ruled | Deny:
    """What the rules say of a call that would happen now."""
    if event is None or "call" not in event.values["event"]:
        return UNRULED
    if event.crowded:  # INVARIANT: 5
        return Deny(Reason(Code.RULE_MATCHED, detail=f"more than {MAX_TRACES} readers or objects in one call"))
    matches = _judged(rules.temporal, happening_of(event, flow, call, now, spread), rows).matches
    forbidding = [one.rule for one in matches if one.then is Then.FORBID]
    if forbidding:  # INVARIANT: 1
        return Deny(Reason(Code.RULE_MATCHED, detail=told(forbidding)))
    return Ruled(why=told(one.rule for one in matches)) if matches else UNRULED


def remembered(rules: Rules, rows: Mapping[Key, Memory], happening: Happening) -> Iterator[tuple[Key, Memory]]:
    """The rows that are others once this has happened; a trace in which nothing is worth remembering has none."""
    for trace, memory in _judged(rules.temporal, happening, rows).rows.items():
        key = row_key(trace)
        before = rows.get(key)
        if memory.cells != before.cells if before is not None else any(memory.cells):
            yield key, memory


def forgettable(rules: Rules, rows: Mapping[Key, Memory], now: int) -> Iterator[Key]:
    """The rows whose window is over. # INVARIANT: 6. That of a rule that is gone stays: who puts it back finds it."""
    automata = {one.digest: one for one in rules.temporal}
    for key, memory in rows.items():
        automaton = automata.get(key[1].partition("\n")[0])
        if automaton is not None and is_over(automaton, memory, now - MARGIN_MS):
            yield key


def happening_of(event: Event, flow: Flow | None, call: Call, now: int, spread: int = 0) -> Happening:
    """A call in its context: who could have shaped what it carries, in which task, for whom.

    Text that `spread` over three agents did so over two: it has the values 1, 2 and 3.
    """
    if spread:
        values = {**event.values, "spread": tuple(str(count) for count in range(1, spread + 1))}
        event = msgspec.structs.replace(event, values=values)
    if flow is None:
        return _happening(event, None, NONE, NONE, now)
    label = join_all((flow.context.label, *(one.label for one in call.filled)))  # what handles carry counts as read
    if call.direction is Direction.TO_AGENT and label.origins is not None:
        label = Label(label.origins | {f"outside:{call.server}/{call.method}"}, None)
    return _happening(event, label, flow.context.task, flow.context.principal, now)


def arriving(event: Event, label: Label | None, task: str, principal: str, now: int) -> Happening:
    """A reply with the label of what it brings; None: where contexts are not kept."""
    return _happening(event, label, task, principal, now)


def _happening(event: Event, label: Label | None, task: str, principal: str, now: int) -> Happening:
    origins = None if label is None else label.origins
    return Happening(
        at=now,
        values={
            **event.values,
            "task": (task or NONE,),
            "principal": (principal or NONE,),
            "origin": tuple(sorted(origins or ())),
        },
        anything=event.anything if origins is not None else (*event.anything, "origin"),  # INVARIANT: 4
    )


def _judged(automata: tuple[Automaton, ...], happening: Happening, rows: Mapping[Key, Memory]) -> Judged:
    """All rules at one event, each memory under its trace."""
    return judge(automata, {trace: memory for (_, trace), memory in rows.items()}, happening)


def told(rules: Iterable[str]) -> str:
    return ", ".join(f"rule `{one}`" for one in rules)
