"""What an agent's key has received, as rows: the context's label, its items, known parties, what writes brought where.

Decides the names and the forms of these rows, not what they let through. INVARIANTS: a context's label only rises; the
label follows the key, so that a task that the model names cleans nothing (unless *honest runtime* is assumed of the
agent: then it follows the task); a value is known under each of its notations or under none. What an operator let down
(`clearing`) is kept beside what is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import Ticket, ticket_key
from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.approval import Answer, answer_key
from citywatch.core.enforce.arguments import MAX_VALUES, Argument, Traced, all_values, trace, words_of
from citywatch.core.enforce.exchanging import is_exchange
from citywatch.core.enforce.held import FREE, Holding, holder_of, plan_key, progress_key
from citywatch.core.enforce.rules import ApprovedTool
from citywatch.core.flow.fold import fold
from citywatch.core.flow.history import History
from citywatch.core.flow.item import MAX_WHOLE, Item
from citywatch.core.flow.readings import NAMING, Readings, Typed, Value, typed
from citywatch.core.flow.tokens import find_tokens
from citywatch.core.label import BOTTOM, Label, join_all
from citywatch.core.manifest import Role
from citywatch.core.plan.contract import Progress

Key = tuple[str, str]

ANY_OBJECT: Final = "*"
"""Beside each object that was written: what was written to any, for a reply that speaks of very many."""
MAX_BROUGHT: Final = 64
"""Names that one call carries to a server which feeds known parties; with more, all of that server is written to."""
MAX_TEXT: Final = 64 << 10
MAX_PEOPLE: Final = 16
_OBJECT, _READ = Role.OBJECT, Effect.READ  # bound once: up to Python 3.11 each look-up runs code of the class
SOMEBODY: Final = "principal:*"
"""Stands for more people than are told apart in what was written. Nobody has that name."""
MAX_ITEMS: Final = 10_000
"""Items of a context that are kept as an index. Those beyond it still join their label; what they hold is not found."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """All that one key has received: the join of its labels, and how many items there are.

    `home` is the key under which the items are kept, if an earlier one of the agent received the first of them.
    `task` is the last one that a principal gave it, and whose that is.
    `before` joins the labels that operators let down: with one, the label may be below that of an item.
    """

    label: Label = BOTTOM
    items: int = 0
    home: str = ""
    task: str = ""
    principal: str = ""
    before: Label = BOTTOM

    @property
    def cleared(self) -> bool:
        return self.before != BOTTOM


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """A known party: learnt at that instant. `waits`: an agent's write may have brought it, in words of those in `by`.

    Then it counts only in a task that began later, and only for an act that all of them may steer.
    """

    at: int = 0
    waits: bool = False
    by: tuple[str, ...] = ()


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent's key has received, which of the call's values are known parties, a person's answer if any.

    `parties` are those that count at once, `learnt` those that an agent's write may have brought.
    `held` is what the agent is held to, `progress` what was done under it; `readings` what its calls carried, as read.
    `continues` is the id of the call that this one goes on with, after a server's question. `task` is the one that the
    call names.
    """

    context: Context
    history: History
    parties: frozenset[str] = frozenset()
    learnt: Mapping[str, Party] = msgspec.field(default_factory=dict)
    ticket: Ticket | None = None
    answer: Answer | None = None
    held: Holding = FREE
    progress: Progress | None = None
    continues: str = ""
    readings: Readings = msgspec.field(default_factory=Readings)
    task: str | None = None

    def counts(self, item: Item) -> bool:
        """Whether a person's words still entitle to anything, for this call."""
        return (not item.handed or item.speaks_for(self.task)) and self.held.counts(item)


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of ours that is spoken to. `contexts` are those that hold what it hears, and what it says comes out of.

    `around` are contexts that only their labels enter; `handed` says of each context whether it holds the words of the
    person whose task it is. `carries`: the call brings words along.
    """

    agent: str
    contexts: tuple[Key, ...]
    around: tuple[Key, ...]
    handed: tuple[Key, ...]
    carries: bool

    @property
    def rows(self) -> tuple[Key, ...]:
        return (*self.contexts, *self.around, *self.handed)

    @property
    def told(self) -> tuple[str, ...]:
        """The contexts as an entry names them."""
        return tuple(key[1] for key in (*self.contexts, *self.around))


class FlowNeed(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that say where this call's values come from; `written` are those that it would taint.

    `adds` are those of the parties that it adds, `brought` those of the names that it would carry to the server, each
    with the argument it stands in.
    `around` are contexts that what enters this one enters as well.
    `readers` may see what a server's own message brings, for it came while the server worked on a call for their eyes.
    `traced` are the values of the call, as they were found.
    `hushed`: that message reached the agent without its words.
    `hearing`: the agent of ours that is spoken to. `task` is the one that the call names.
    `leaves` are the fingerprints of the text that leaves with the call; `followed`: what enters is read with its own.
    """

    context: Key
    parties: tuple[Key, ...] = ()
    ticket: Key | None = None
    answer: Key | None = None
    written: tuple[Key, ...] = ()
    plan: tuple[Key, ...] = ()
    adds: tuple[tuple[str, Key], ...] = ()
    brought: tuple[tuple[str, Key], ...] = ()
    around: tuple[Key, ...] = ()
    readers: frozenset[str] | None = None
    traced: Traced | None = None
    hushed: bool = False
    hearing: Hearing | None = None
    task: str | None = None
    leaves: tuple[int, ...] = ()
    followed: bool = False

    def rows(self) -> tuple[Key, ...]:
        named: Iterable[Key] = self.parties
        if self.adds or self.brought:
            named = dict.fromkeys((*self.parties, *(key for _, key in (*self.adds, *self.brought))))
        ticket = () if self.ticket is None else (self.ticket,)
        answer = () if self.answer is None else (self.answer,)
        hears = () if self.hearing is None else self.hearing.rows
        return (self.context, *named, *ticket, *answer, *self.written, *self.plan, *self.around, *hears)


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

    `isolated`: the agent keeps its tasks apart, and so each has a context, a plan and tickets of its own. `likeness` is
    that of the call, empty where nobody could be asked about it.
    """
    context = context_of_call(call, key, isolated=isolated)
    task = call.task if isolated else None
    if tool is None:
        # A server's own message enters: the key's context has what came for any of its tasks
        around = (context_key(call.agent, key),) if task is not None and call.direction is Direction.TO_AGENT else ()
        holder = holder_of(call.agent, task)
        plan = (plan_key(holder), progress_key(holder)) if is_exchange(call) else ()
        need = FlowNeed(context=context, around=around, plan=plan, task=call.task)
        if not likeness:
            return need
        ticket, answer = _asked(call, words_of(call), likeness, task)
        return msgspec.structs.replace(need, ticket=ticket, answer=answer)
    read = Typed if readings is None else readings.of
    parties: dict[Key, None] = {}
    adds: dict[tuple[str, Key], None] = {}
    things: dict[Key, None] = {}
    found = trace(call, tool.manifest)
    traced = found.values
    for one in traced[:MAX_VALUES]:
        if one.party is not None:
            for form in party_forms(one.party, read(one.value)):
                parties[party_key(form)] = None
        if one.adds is not None:
            adds.update(dict.fromkeys((one.path, party_key(form)) for form in party_forms(one.adds, read(one.value))))
        if one.role is _OBJECT:
            things[_written(call.server, read(one.value))] = None
    written: tuple[Key, ...] = ()
    brought: tuple[tuple[str, Key], ...] = ()
    if tool.effect is not _READ and call.arguments:  # what carries no word brings none anywhere
        written = (*things, written_key(call.server, ANY_OBJECT)) if things else (written_key(call.server),)
        names = tuple(itertools.islice(names_in(call, read), MAX_BROUGHT + 1)) if tool.feeds else ()
        brought = tuple((path, brought_key(call.server, form)) for path, form in names[:MAX_BROUGHT])
        # It may write more objects than are looked up one by one, or bring more names.
        if len(traced) > MAX_VALUES or len(names) > MAX_BROUGHT:
            written = (*written, written_key(call.server))
    holder = holder_of(call.agent, task)
    ticket, answer = _asked(call, traced[:MAX_VALUES], likeness, task, read)
    return FlowNeed(
        context=context,
        parties=tuple(parties),
        ticket=ticket,
        answer=answer,
        written=written,
        plan=(plan_key(holder), progress_key(holder)),
        adds=tuple(adds),
        brought=brought,
        traced=found,
        task=call.task,
    )


def _asked(
    call: Call, values: Iterable[Argument], likeness: str, task: str | None, read: Callable[[Value], Typed] = Typed
) -> tuple[Key, Key]:
    """Where the ticket of a call lies, and the answer that outlives one."""
    ticket = ticket_key(_within(likeness, task))
    return ticket, ("answer", _within(answer_key(call, values, read)[1], task))


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


def written_key(server: str, thing: str = "") -> Key:
    """Where the origins are kept that writes brought to one object of a server, or (no object) to all of it."""
    return ("written", f"{server}\n{fold(thing)[:MAX_WHOLE] if thing else thing}")


def _written(server: str, value: Typed) -> Key:
    """The same of the object that a value names; a name is folded once."""
    return ("written", f"{server}\n{value.thing[:MAX_WHOLE]}")


def thing_of(value: Value | Typed) -> str:
    """The object that a value names, folded."""
    return typed(value).thing


def party_key(form: str) -> Key:
    return ("party", form)


def party_forms(party: str, value: Value | Typed) -> tuple[str, ...]:
    """Under which names a value may be known in a set (`Typed.names`)."""
    return tuple([f"{party}\n{name}" for name in typed(value).names])


def carried_by(call: Call, flow: Flow) -> Label:
    """What a call carries to what it writes: all that shaped it.

    Where a context was cleared, a value of an earlier item brings that item's label along.
    """
    if not flow.context.cleared:
        return flow.context.label
    values = itertools.islice((value for _, value in all_values(call)), MAX_VALUES)
    items = {seen.item for value in values for seen in flow.history.sightings(value)}
    return join_all((flow.context.label, *(flow.history.items[one].label for one in items)))


def onward(label: Label) -> Label:
    """What of a label an act carries on to what it writes: all but the servers' own data, which gives no orders.

    Of very many people it says only that they are some: one object that all write to must not read as anybody's.
    `principal:*` is no principal, and steers nothing. Readers stay: what was written is as confidential as before.
    """
    if label.origins is None:
        return label
    people = frozenset(one for one in label.origins if one.startswith("principal:"))
    kept = frozenset(one for one in label.origins if not one.startswith("server:"))
    if SOMEBODY in people or len(people) > MAX_PEOPLE:
        kept = kept - people | {SOMEBODY}
    return Label(kept, label.readers)


def names_in(call: Call, read: Callable[[Value], Typed]) -> Iterator[tuple[str, str]]:
    """Whatever a call carries that can be somebody's name in a set of known parties, with where it stands.

    Whole values under each of their notations, and what stands in a text: a card, a list, a letter.
    """
    for path, value in itertools.islice(all_values(call), MAX_VALUES):
        yield from ((path, form) for form in party_forms("", read(value)))
        if isinstance(value, str):
            for token in find_tokens(value[:MAX_TEXT], names=False):
                if token.kind in NAMING:
                    yield f"{path}[{token.start}:{token.end}]", f"\n{token.kind}:{token.value}"


def brought_key(server: str, form: str) -> Key:
    """Where it is kept who had this name carried to a server; a name is a party's form, of whatever set."""
    return ("brought", f"{server}\n{form.partition(chr(10))[2]}")
