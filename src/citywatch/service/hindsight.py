"""A decision of the log as it was made: its call, and the rows that it rested on, as far as they are still on record.

Decides nothing: it puts the snapshot together, `core.enforce` judges it again. An item's row never changes, so a
context of then is the first of its items; a plan's progress is what was done by then; what an answer to a ticket said
stands in the entry.

INVARIANTS
1. What cannot be put together is named (`missing`), and never taken for agreement.
2. No item counts that entered after the decision.
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Allow, Call, Decision, Deny, Direction
from citywatch.core.enforce.abroad import brought_from_abroad
from citywatch.core.enforce.admit import DISCLOSED
from citywatch.core.enforce.carrying import Spread
from citywatch.core.enforce.context import MAX_ITEMS, Context, Flow, FlowNeed, home_of, item_key
from citywatch.core.enforce.held import FREE, Holding, TaskRow, plan_key, task_key
from citywatch.core.enforce.needs import Known, needs
from citywatch.core.enforce.peers import receiver_of, thing_rows
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item
from citywatch.core.identity.registration import AgentRow, agent_key, parse_agent_row
from citywatch.core.label import BOTTOM, Label, join, join_all
from citywatch.core.log.entry import decode_event
from citywatch.core.plan.contract import Progress
from citywatch.service.contexts import context_of, from_abroad, held_to, parties_of
from citywatch.service.entries import MAX_POLICIES, MAX_SOURCES
from citywatch.service.handles import refilled
from citywatch.service.ports import Loaded, Store
from citywatch.service.recorded import Then, holders_of, pin_of, standing_of
from citywatch.service.rejections import MAX_DETAIL

SLICE: Final = 512
EVERYBODY: Final = ("everybody",)
"""As `entries.readers_of` says it."""
PASSING: Final = frozenset(
    (
        Code.ID_IN_USE,
        Code.INPUT_UNEXPECTED,
        Code.OUTCOME_UNKNOWN,
        Code.ALREADY_HAPPENED,
        Code.BUDGET_SPENT,
        Code.HOPS_EXCEEDED,
        Code.RATE_EXCEEDED,
        Code.RULE_MATCHED,
        Code.PEER_TASK_UNKNOWN,
        Code.CARD_CHANGED,
        Code.TOOL_CHANGED,
        Code.TOOL_NOT_APPROVED,
        Code.HANDLE_UNKNOWN,
        Code.HANDLE_EXPIRED,
    )
)
"""Refusals that rested on rows which have moved on since: what the entry says is all there is."""


async def then(store: Store, rules: Rules, index: int, decided: events.Decided, call: Call) -> Then:
    """Put together what the decision at this index of the log rested on."""
    call, lacking = await refilled(store, decided, call, "what stood behind its handles is not kept any more")
    hearer = await _heard_by(store, rules, call, decided)
    need = needs(call, rules, decided.at, decided.key, hearer=hearer)
    missing = [lacking] if lacking else []
    if decided.policy != rules.policies.digest:
        missing.append("the policies have changed since")
    if decided.manifest != rules.manifest:
        missing.append("the configuration has changed since")
    if decided.code in PASSING:
        missing.append("it rested on rows that have moved on since: budgets, open calls, approvals, handles")
    if need.event is not None:
        missing.append("what temporal rules remembered then is not kept")
    flow = None
    if need.flow is not None:
        flow = await _flow(store, need.flow, index, decided, missing)
        abroad = brought_from_abroad(call, rules)
        flow = flow if abroad is None else from_abroad(flow, abroad)
    row = await _registered(store, decided.agent)
    known = Known(
        rules=rules,
        agent=row,
        things=await _things(store, call),
        hearer=hearer,
        session=None,
        pin=pin_of(decided),
        lost=None,
        invited=None,
        taken=decided.code == Code.ID_IN_USE,
        used={},
        reads=(),
        flow=flow,
        spread=Spread(carriers=decided.carriers),
        task=await _task(store, call.task),
    )
    authority = standing_of(decided, rules, need.chain, row)
    if row is not None and decided.at < row.vouched_at:
        missing.append("what was vouched for of the agent then is not kept")
    return Then(call=call, authority=authority, known=known, need=need, missing=tuple(missing))


async def _things(store: Store, call: Call) -> dict[tuple[str, str], str | None]:
    """Whose the tasks and conversations are that a message goes on with: they change hands no more."""
    keys = thing_rows(call)
    rows = (await store.load(keys, ())).rows if keys else {}
    return {key: msgspec.json.decode(rows[key].value, type=str) if key in rows else None for key in keys}


async def _task(store: Store, task: str | None) -> TaskRow | None:
    """Whose the task was that the call named, and since when: neither changes."""
    key = task_key(task or "")
    found = None if task is None else (await store.load((key,), ())).rows.get(key)
    return None if found is None else msgspec.json.decode(found.value, type=TaskRow)


async def _registered(store: Store, agent: str) -> AgentRow | None:
    key = agent_key(agent.rpartition("/")[2])
    found = (await store.load((key,), ())).rows.get(key)
    return None if found is None else parse_agent_row(found.value)


async def _heard_by(store: Store, rules: Rules, call: Call, decided: events.Decided) -> AgentRow | None:
    """The agent of ours that was spoken to, in the standing that it had: it was heard, or the entry says otherwise."""
    name = receiver_of(call, rules)
    if name is None or decided.code == Code.PEER_STOPPED:
        return None
    agent = f"spiffe://{rules.domain}/agent/{name}"
    row = await _registered(store, agent)
    held = tuple(key for name, key in holders_of(decided)[1:] if name == agent)
    keys = held or (() if row is None else row.keys)
    return AgentRow(agent=agent, keys=keys or ("",), added_at=0)


def agrees(decided: events.Decided, decision: Decision) -> bool:
    """Whether a decision is the one that was recorded, in its words and its policies too."""
    recorded = (decided.verdict, decided.code, decided.detail, decided.sources, decided.policies)
    if isinstance(decision, Allow):
        told = tuple(one[:MAX_DETAIL] for one in decision.sources[:MAX_SOURCES])
        return recorded == ("allow", None, "", told, decision.policies[:MAX_POLICIES])
    reason = decision.reason
    said = "deny" if isinstance(decision, Deny) else "ask"
    return recorded == (said, reason.code.value, reason.detail[:MAX_DETAIL], (), reason.policies[:MAX_POLICIES])


async def _flow(store: Store, need: FlowNeed, index: int, decided: events.Decided, missing: list[str]) -> Flow:
    loaded = await store.load(need.rows(), ())
    context = context_of(need.context, loaded)
    parties = parties_of(need.parties, loaded)
    apart = bool(need.plan) and need.plan[0] != plan_key(decided.agent)
    past = await _before(store, index, decided.agent, decided.key, decided.task if apart else None)
    arrived = past.arrived
    history, label, before = History(), *_let_down(past, 0, BOTTOM, BOTTOM)
    for item in await _items(store, home_of(need.context, context), context.items):
        at = next((number for number, one in enumerate(arrived) if _brought(item, one)), None)
        if at is None:
            break
        del arrived[: at + 1]
        history.add(item)
        label, before = _let_down(past, len(history.items), join(label, item.label), before)
    if context.items >= MAX_ITEMS:
        missing.append("the context is at its bound: what came beyond it has left no item")
        label = join_all((label, context.label))
    held, progress = await _held(store, need, index, past, loaded, missing)
    return Flow(
        context=Context(label=label, items=len(history.items), home=context.home, before=before),
        history=history,
        parties=frozenset(form for form, one in parties.items() if not one.waits),
        learnt={form: one for form, one in parties.items() if one.waits},
        ticket=_ticket(decided),
        held=held,
        progress=progress,
        task=decided.task,
    )


_Arrival = tuple[int, str]
"""When something may have entered the agent's context, and the call or the task that brought it."""


class _Past(msgspec.Struct):
    """What may have entered an agent's contexts before an entry, the plan that held, and what operators let down.

    `lifted` says when the last plan was; `tasks` are those that had begun, of the ones that the plan follows.
    `let_down`: after how many items the label was; true, where who may see it was as well.
    """

    arrived: list[_Arrival] = []
    plan: str | None = None
    lifted: Holding = FREE
    tasks: set[str] = set()
    let_down: dict[int, bool] = {}

    def begin(self, event: events.TaskStarted) -> None:
        """The plan that holds once this task has begun."""
        if self.plan is not None and event.plan is None:
            self.lifted = Holding(since=max(event.at, self.lifted.since), first=event.task)
        self.plan = event.plan
        self.tasks.add(event.task)


def _let_down(past: _Past, items: int, label: Label, before: Label) -> tuple[Label, Label]:
    """The label of a context with so many items, and what operators let down of it, by then."""
    readers = past.let_down.get(items)
    if readers is None:
        return label, before
    return Label(frozenset(), None if readers else label.readers), join(before, label)


def _brought(item: Item, arrival: _Arrival) -> bool:
    return item.at == arrival[0] and item.call in ("", arrival[1])


async def _before(store: Store, index: int, agent: str, key: str, task: str | None) -> _Past:
    """What came before this entry. `task` is the one that the plan follows, where the agent keeps its tasks apart."""
    past = _Past()
    arrived, calls, started = past.arrived, set(), dict[str, int]()
    for start in range(0, index, SLICE):
        for leaf in await store.entries(start, min(start + SLICE, index)):
            event = decode_event(leaf)
            if isinstance(event, events.TaskStarted):
                started[event.task] = event.at
            if isinstance(event, events.Decided) and event.forwarded and _hears(event, agent):
                if event.task in started:  # whose words may have come along
                    arrived.append((started[event.task], event.task))
                arrived.append((event.at, event.call))
            if isinstance(event, events.TaskStarted) and event.agent == agent:
                arrived.append((event.at, event.task))
                if task in (None, event.task):
                    past.begin(event)
            elif isinstance(event, events.PlanWritten) and event.agent == agent and task is None:
                past.plan = event.plan
            elif isinstance(event, events.ContextReleased) and (event.agent, event.context) == (agent, key):
                past.let_down[event.items] = past.let_down.get(event.items, False) or event.to_readers == EVERYBODY
            elif isinstance(event, events.Decided) and event.agent == agent:
                calls.add(event.call)
                if event.direction == Direction.TO_AGENT.value and event.forwarded:
                    arrived.append((event.at, event.call))
            elif isinstance(event, events.Settled) and event.call in calls and event.outcome == "released":
                arrived.append((event.at, event.call))
    return past


def _hears(event: events.Decided, agent: str) -> bool:
    return any(context.partition("\n")[0] == agent for context in event.hears)


async def _items(store: Store, home: tuple[str, str], count: int) -> list[Item]:
    keys = [item_key(home, number) for number in range(count)]
    rows = (await store.load(keys, ())).rows
    return [msgspec.json.decode(rows[key].value, type=Item) for key in keys if key in rows]


async def _held(
    store: Store,
    need: FlowNeed,
    index: int,
    past: _Past,
    loaded: Loaded,
    missing: list[str],
) -> tuple[Holding, Progress | None]:
    """The plan that held then, and what was done under it by then."""
    if not need.plan:
        return FREE, None
    holding, progress = held_to(need.plan[0][1], loaded)
    if past.plan is None:  # the row may be that of a later plan
        return past.lifted, None
    again = holding.first not in ("", *past.tasks)  # the same one, taken up anew
    if holding.plan is None or holding.plan.held.digest != past.plan or again:
        missing.append("the plan of then is not on record any more")
        return FREE, None
    if progress is None:
        return holding, progress
    done = await _decided_before(store, index, progress.calls)
    before = msgspec.structs.replace(
        progress,
        at=progress.begun,  # time never counts backwards: no later than the decision itself
        steps=progress.steps[:done],
        tools=progress.tools[:done],
        calls=progress.calls[:done],
        beside=tuple(one for one in progress.beside if one[0] <= done),
    )
    return holding, before


async def _decided_before(store: Store, index: int, calls: tuple[str, ...]) -> int:
    wanted, found = set(calls), set()
    for start in range(0, index if wanted else 0, SLICE):
        for leaf in await store.entries(start, min(start + SLICE, index)):
            event = decode_event(leaf)
            if isinstance(event, events.Decided) and event.call in wanted:
                found.add(event.call)
    return sum(call in found for call in calls)


def _ticket(decided: events.Decided) -> Ticket | None:
    """The answer that a person had given, as the entry tells it."""
    first = decided.sources[0] if decided.sources else decided.detail
    words = first.split(" ")
    approved = decided.verdict == "allow" and len(words) >= 4 and words[0] == "ticket" and words[2] == "by"
    if not approved and decided.code != Code.APPROVAL_DENIED.value:
        return None
    disclosing = next((one for one in decided.sources if one.startswith(DISCLOSED)), None)
    return Ticket(
        id=words[1] if approved else first.removeprefix("ticket "),
        agent=decided.agent,
        server=decided.server,
        tool=decided.name or "",
        state=State.APPROVED if approved else State.DENIED,
        asked=decided.at,
        expires=decided.at + 1,
        why="",
        call=decided.call,
        by=" ".join(words[3:]) if approved else "",
        discloses=disclosing is not None,
        principal="" if disclosing is None else disclosing.removeprefix(DISCLOSED).partition(":")[0],
    )
