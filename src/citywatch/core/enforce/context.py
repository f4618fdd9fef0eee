"""What an agent's key has received, as rows: the context's label, its items, known parties, what writes brought where.

Decides the names and the forms of these rows, not what they let through. INVARIANTS: a context's label only rises; the
label follows the key, so that a task that the model names cleans nothing (unless *honest runtime* is assumed of the
agent: then it follows the task); a value is known under each of its notations
or under none.
"""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.approval import Answer, Shown, answer_key
from citywatch.core.enforce.arguments import MAX_VALUES, arguments
from citywatch.core.enforce.held import FREE, Holding, holder_of, plan_key, progress_key
from citywatch.core.enforce.rules import ApprovedTool
from citywatch.core.flow.fold import fold
from citywatch.core.flow.history import History
from citywatch.core.flow.item import MAX_WHOLE
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.readings import Readings, Typed, Value, typed
from citywatch.core.label import BOTTOM, Label
from citywatch.core.manifest import Role
from citywatch.core.plan.contract import Progress

Key = tuple[str, str]

ANY_OBJECT: Final = "*"
"""Beside each object that was written: what was written to any, for a reply that speaks of very many."""
MAX_ITEMS: Final = 10_000
"""Items of a context that are kept as an index. Those beyond it still join their label; what they hold is not found."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """All that one key has received: the join of its labels, and how many items there are.

    `home` is the key under which the items are kept, if an earlier one of the agent received the first of them.
    `task` is the last one that a principal gave it, and whose that is.
    """

    label: Label = BOTTOM
    items: int = 0
    home: str = ""
    task: str = ""
    principal: str = ""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A call that only a person may let through. `state` is pending, approved, denied or used.

    `of`: one of these principals has to approve it (None: whoever is on call may). `answer` is the row for an answer
    that outlives this call, `exact` its arguments, `shown` what stopped it (`approval.Answer`).
    """

    id: str
    agent: str
    server: str
    tool: str
    state: str
    asked: int
    expires: int
    why: str
    call: str
    by: str = ""
    advice: tuple[str, ...] = ()
    of: tuple[str, ...] | None = None
    answer: str = ""
    exact: str = ""
    shown: tuple[Shown, ...] = ()


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent's key has received, which of the call's values are known parties, a person's answer if any.

    `held` is what the agent is held to, `progress` what was done under it; `readings` what its calls carried, as read.
    `continues` is the id of the call that this one goes on with, after a server's question.
    """

    context: Context
    history: History
    parties: frozenset[str] = frozenset()
    ticket: Ticket | None = None
    answer: Answer | None = None
    held: Holding = FREE
    progress: Progress | None = None
    continues: str = ""
    readings: Readings = msgspec.field(default_factory=Readings)


class FlowNeed(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that say where this call's values come from; `written` are those that it would taint.

    `around` are contexts that what enters this one enters as well.
    `readers` may see what a server's own message brings, for it came while the server worked on a call for their eyes.
    """

    context: Key
    parties: tuple[Key, ...] = ()
    ticket: Key | None = None
    answer: Key | None = None
    written: tuple[Key, ...] = ()
    plan: tuple[Key, ...] = ()
    around: tuple[Key, ...] = ()
    readers: frozenset[str] | None = None

    def rows(self) -> tuple[Key, ...]:
        asked = tuple(key for key in (self.ticket, self.answer) if key is not None)
        return (self.context, *self.parties, *asked, *self.written, *self.plan, *self.around)


def flow_need(
    call: Call,
    tool: ApprovedTool | None,
    likeness: str,
    key: str,
    readings: Readings | None = None,
    *,
    isolated: bool = False,
) -> FlowNeed:
    """The rows for a call of this tool (None: it is no tool call, so that only what it brings back counts).

    `isolated`: the agent keeps its tasks apart, and so each has a context, a plan and tickets of its own.
    """
    context = context_of_call(call, key, isolated=isolated)
    task = call.task if isolated else None
    if tool is None:
        # A server's own message enters: the key's context has what came for any of its tasks
        around = (context_key(call.agent, key),) if task is not None and call.direction is Direction.TO_AGENT else ()
        return FlowNeed(context=context, around=around)
    read = Typed if readings is None else readings.of
    parties: dict[Key, None] = {}
    things: dict[Key, None] = {}
    traced = list(itertools.islice(arguments(call, tool.manifest), MAX_VALUES + 1))
    for one in traced[:MAX_VALUES]:
        if one.party is not None:
            parties.update(dict.fromkeys(map(party_key, party_forms(one.party, read(one.value)))))
        if one.role is Role.OBJECT:
            things[written_key(call.server, thing_of(read(one.value)))] = None
    written: tuple[Key, ...] = ()
    if tool.effect is not Effect.READ and call.arguments:  # what carries no word brings none anywhere
        written = (*things, written_key(call.server, ANY_OBJECT)) if things else (written_key(call.server),)
        if len(traced) > MAX_VALUES:  # it may write more objects than are looked up one by one
            written = (*written, written_key(call.server))
    return FlowNeed(
        context=context,
        parties=tuple(parties),
        ticket=ticket_key(_within(likeness, task)),
        answer=("answer", _within(answer_key(call, traced[:MAX_VALUES], read)[1], task)),
        written=written,
        plan=(plan_key(holder_of(call.agent, task)), progress_key(holder_of(call.agent, task))),
    )


def _within(name: str, task: str | None) -> str:
    """What a person answers for one task of an agent that keeps them apart is no answer for another."""
    return name if task is None else f"{name}\n{task}"


def context_of_call(call: Call, key: str, *, isolated: bool) -> Key:
    """Whose context a call is made in: its key's; or its task's, where the program around the model keeps those apart.

    # INVARIANT: which task that is, the model may say only where *honest runtime* is assumed, and then only one that a
    # principal gave the agent (`verify`).
    """
    if isolated and call.task is not None:
        return task_context_key(call.agent, call.task)
    return context_key(call.agent, key)


def task_context_key(agent: str, task: str) -> Key:
    """The context of one task, whichever of the agent's keys works on it."""
    return ("context", f"{agent}\ntask\n{task}")


def context_key(agent: str, key: str) -> Key:
    """Contexts follow the key. A SPIFFE ID and a thumbprint hold no newline."""
    return ("context", f"{agent}\n{key}")


def home_of(key: Key, context: Context) -> Key:
    """Where the items of a context are kept."""
    return ("context", context.home) if context.home else key


def carried_over(key: Key, context: Context) -> Context:
    """# INVARIANT: a context is the process's, and a new key makes no other process of it."""
    return msgspec.structs.replace(context, home=home_of(key, context)[1])


def item_key(context: Key, number: int) -> Key:
    return ("item", f"{context[1]}\n{number}")


def ticket_key(likeness: str) -> Key:
    return ("ticket", likeness)


def written_key(server: str, thing: str = "") -> Key:
    """Where the origins are kept that writes brought to one object of a server, or (no object) to all of it."""
    return ("written", f"{server}\n{fold(thing)[:MAX_WHOLE] if thing else thing}")


def thing_of(value: Value | Typed) -> str:
    """An object under one name, whether its number is written 7, 7.0 or 07: the server may not tell them apart."""
    read = typed(value)
    numbers = {token.value for token in read.exact if token.kind is Kind.NUMBER}
    return numbers.pop() if len(numbers) == 1 else str(read.value)


def party_key(form: str) -> Key:
    return ("party", form)


def party_forms(party: str, value: Value | Typed) -> tuple[str, ...]:
    """Under which names a value may be known in a set: itself, folded, and each typed token that it is."""
    read = typed(value)
    text = read.folded
    forms = [f"{party}\n={text}"] if text and len(text) <= 256 else []
    kinds = [token.kind for token in read.exact]
    # INVARIANT: who is known in one reading is not known in another, and we do not know which one the tool takes.
    forms += [
        f"{party}\n{one.kind}:{one.value}" for one in read.exact if one.kind in _NAMING and kinds.count(one.kind) == 1
    ]
    return tuple(forms)


_NAMING: Final = frozenset(("email", "url", "host", "iban", "phone"))
"""Kinds of token that name somebody. A number or a date names nobody."""


def outside_of(label: Label) -> Label:
    """What of a label an act would carry on to what it writes: all but people's and servers' own origins.

    And its readers, whoever shaped it: what was written and read again is as confidential as before.
    """
    if label.origins is None:
        return label
    foreign = frozenset(one for one in label.origins if not one.startswith(("principal:", "server:")))
    return Label(foreign, label.readers)
