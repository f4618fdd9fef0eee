"""The trees that a call belongs to, loaded once it is known in which its agent stands; `core.enforce.trees` decides.

INVARIANT: what was loaded here is read by the decision like every other row: the entry commits only if none changed.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Call
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.held import task_key
from citywatch.core.enforce.needs import BudgetNeed, Known, Needs, agent_name
from citywatch.core.enforce.peers import receiver_of
from citywatch.core.enforce.trees import NOBODY, Reached, branches, hops_of, payer, possible_tasks, reached_key, spoken
from citywatch.service.judged import Judged
from citywatch.service.ports import Key, Puts, Store
from citywatch.service.snapshots import Snapshots, versions_of


class Crowded(Exception):
    """Somebody else spoke to the same agent meanwhile: what is kept of it has changed."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


async def joined(
    store: Store, snapshots: Snapshots, call: Call, need: Needs, known: Known, now: int
) -> tuple[Needs, Known]:
    """What judging a call needs and what is known of it, with the trees that it belongs to and the budget that pays."""
    rules, own = known.rules, _reached(known, agent_name(call))
    current = known.flow.context.task if known.flow is not None else ""
    tasks = possible_tasks(call, own, current, rules, now)
    if not tasks and not rules.heard:
        return need, known
    keys = [task_key(task) for task in tasks]
    loaded = await store.load(keys, ())
    rows = {task: snapshots.decode(key, loaded) for task, key in zip(tasks, keys, strict=True)}
    found = branches(call, own, rows, rules, now)
    reads = (*known.reads, *versions_of(keys, loaded))
    budgets = [(one.budget, 0) for one in found if one.calls]
    used = (await store.load((), budgets)).used if budgets else {}
    paying = payer(found, used) if budgets else None
    if paying is None:
        return need, msgspec.structs.replace(known, branches=found, reads=reads)
    counter = BudgetNeed(paying.budget, 0, paying.calls, False)
    known = msgspec.structs.replace(known, branches=found, reads=reads, used={**known.used, **used})
    return msgspec.structs.replace(need, budgets=(*need.budgets, counter)), known


def reaching(call: Call, known: Known, now: int) -> Puts:
    """The row of the agent that a message reaches, where it says something new."""
    receiver = receiver_of(call, known.rules)
    if receiver is None:
        return ()
    row = spoken(call, known.branches, _reached(known, receiver), known.rules, now)
    return () if row is None else ((reached_key(receiver), msgspec.json.encode(row)),)


def told_hops(judged: Judged) -> int | None:
    """How many agents a message came through, as its receiver is told; None where nobody knows."""
    chain = judged.known.chain
    chained = len(chain.hops) if isinstance(chain, Chain) else 0
    if not chained and receiver_of(judged.call, judged.known.rules) is None:
        return None
    return hops_of(judged.known.branches, chained)


def _reached(known: Known, agent: str) -> Reached:
    return known.reached.get(reached_key(agent)) or NOBODY
