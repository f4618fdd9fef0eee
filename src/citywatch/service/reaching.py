"""What one agent can reach, from the rows of a store: its approved tools, and its context if that is asked about.

Decides nothing; `core.enforce.probe` asks the gates. INVARIANT: an agent with several keys has several contexts, and
can reach what any of them can.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import msgspec

from citywatch.core.enforce.context import Context, context_key, home_of, item_key
from citywatch.core.enforce.held import FREE, Holding, plan_key, progress_key, take_up
from citywatch.core.enforce.needs import Pin
from citywatch.core.enforce.premises import actual, fresh
from citywatch.core.enforce.probe import Survey, spoken_act
from citywatch.core.enforce.reach import Act, Premise, merged
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import Authority
from citywatch.core.enforce.vouched import vouched
from citywatch.core.errors import Malformed
from citywatch.core.flow.item import Item
from citywatch.core.identity.registration import AgentRow, agent_key, parse_agent_row
from citywatch.core.plan.contract import Plan, Progress
from citywatch.core.plan.narrow import NotAdopted
from citywatch.service.contexts import context_of, held_to
from citywatch.service.ports import Key, Store


class Through(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent of ours can reach that is spoken to: by whom, over whom, from the first to itself."""

    path: tuple[str, ...]
    acts: tuple[Act, ...]


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent can reach, and under which premise; and what those can that it can speak to, or they to others."""

    premise: str
    acts: tuple[Act, ...]
    through: tuple[Through, ...] = ()


async def reach_fresh(
    store: Store, rules: Rules, agent: str, now: int, prompts: Iterable[tuple[str, str]] = (), plan: Plan | None = None
) -> Reached:
    """What an agent reaches from a fresh context. `prompts` are pairs of a principal and what they said.

    A plan is the first of these principals'. `Malformed` for a principal that is not configured, or a plan that cannot
    hold.
    """
    said = tuple(prompts)
    unknown = [name for name, _ in said if name not in rules.principals]
    if unknown:
        raise Malformed(f"no principal `{unknown[0][:80]}` is configured: name it under `principals:`")
    premise = fresh(rules, now, said)
    if plan is not None:
        if not said:
            raise Malformed("a plan is somebody's: say whose, and what they asked for")
        held, progress = _adopted(plan, said[0][0], now)
        premise = msgspec.structs.replace(
            premise, told=f"{premise.told}, and the plan `{plan.name}`", held=held, progress=progress
        )
    return await _reached(store, rules, agent, now, (premise,))


async def reach_through(
    rules: Rules, agent: str, first: Reached, reach: Callable[[str], Awaitable[Reached]]
) -> Reached:
    """What an agent reaches, with all that comes within its reach through agents of ours. `reach` asks about one.

    INVARIANT: who is spoken to by a hijacked agent is hijacked: each is listed once, over the shortest way there. An
    agent that is not registered is not there to be spoken to.
    """
    found: dict[str, Through] = {}
    last: list[tuple[str, tuple[Act, ...], tuple[str, ...]]] = [(agent, first.acts, (agent,))]
    for _ in range(rules.max_hops):
        following: list[tuple[str, tuple[Act, ...], tuple[str, ...]]] = []
        for name, acts, path in last:
            for told in _spoken_to(rules, acts):
                if told in (agent, name) or told in found:
                    continue
                with suppress(Malformed):
                    own = await reach(told)
                    found[told] = Through(path=(*path, told), acts=own.acts)
                    following.append((told, own.acts, (*path, told)))
        last = following
    return msgspec.structs.replace(first, through=tuple(found.values()))


def _spoken_to(rules: Rules, acts: Iterable[Act]) -> list[str]:
    """The agents of ours that somebody with these acts can speak to, by name."""
    names = {act.act for act in acts}
    return sorted(
        {
            peer.agent
            for name, peer in rules.peers.items()
            if peer.agent and any(spoken_act(name, skill) in names for skill in peer.skills or (None,))
        }
    )


async def reach_actual(store: Store, rules: Rules, agent: str, now: int) -> Reached:
    """What an agent reaches from where it stands: what it has received, who spoke, the plan that holds."""
    row = await _registered(store, agent)
    premises: list[Premise] = []
    for key in row.keys:
        context = context_key(row.agent, key)
        loaded = await store.load((context, plan_key(row.agent), progress_key(row.agent)), ())
        found = context_of(context, loaded)
        held, progress = held_to(row.agent, loaded)
        premises += actual(rules, now, await _items(store, context, found), found.label, held, progress)
    return await _reached(store, rules, agent, now, premises)


async def _reached(store: Store, rules: Rules, agent: str, now: int, premises: Iterable[Premise]) -> Reached:
    rules = msgspec.structs.replace(rules, bound=frozenset())  # under some chain, and that could be the widest
    row = await _registered(store, agent)
    pins = await _pins(store)
    authority = Authority(
        agent=row.agent,
        name=agent,
        key=row.keys[0],
        entity=vouched(rules.agent(row.agent, agent), row, now, rules.attestors),
    )
    found = list(premises)
    acts = merged(Survey(rules, authority, premise, pins, now).acts() for premise in found)
    return Reached(premise=found[0].told, acts=acts)


async def _registered(store: Store, agent: str) -> AgentRow:
    key = agent_key(agent)
    row = (await store.load((key,), ())).rows.get(key)
    if row is None:
        raise Malformed(f"no agent `{agent[:80]}` is registered: `citywatch agent list` shows those that are")
    return parse_agent_row(row.value)


async def _pins(store: Store) -> dict[tuple[str, str], Pin]:
    """The approvals of tools and prompts as they stand: what changed since is out of reach until it is reviewed."""
    found = {}
    for id_, row in await store.scan("pin"):
        server, kind, name = id_.split("\n", 2)
        if kind in ("tool", "prompt"):
            found[server, name] = msgspec.json.decode(row.value, type=Pin)
    return found


async def _items(store: Store, key: Key, context: Context) -> list[Item]:
    keys = [item_key(home_of(key, context), number) for number in range(context.items)]
    rows = (await store.load(keys, ())).rows
    return [msgspec.json.decode(rows[one].value, type=Item) for one in keys if one in rows]


def _adopted(plan: Plan, principal: str, now: int) -> tuple[Holding, Progress | None]:
    taken = take_up(plan, "task", principal, FREE, None, now)
    if isinstance(taken, NotAdopted):
        raise Malformed(f"the plan does not hold: {'; '.join(taken.reasons)}")
    return taken
