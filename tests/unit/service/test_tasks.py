"""A principal's words enter an agent's context: over the principal's own session, with their entry, or not at all."""

from __future__ import annotations

import msgspec
import pytest

from citywatch.core.enforce.context import Context, context_key, item_key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.events import TaskStarted
from citywatch.core.flow.item import MAX_PROMPT, Item
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.service.ports import Append, Stale
from tests.simulation.city import AGENT, KEY
from tests.simulation.flow_city import FlowCity


async def context(here: FlowCity, key: str = KEY) -> Context | None:
    row = (await here.store.load((context_key(AGENT, key),), ())).rows.get(context_key(AGENT, key))
    return None if row is None else msgspec.json.decode(row.value, type=Context)


async def test_the_words_their_entry_and_their_item_are_one_transaction() -> None:
    here = await FlowCity().open()
    task = await here.task("Pay 5 to bob@x.example")
    after = FlowCity(store=here.store.after_power_loss())
    found = await context(after)
    assert found is not None
    assert found.label.origins == frozenset(("principal:alice",))
    key = item_key(context_key(AGENT, KEY), 0)
    item = msgspec.json.decode((await after.store.load((key,), ())).rows[key].value, type=Item)
    (event,) = [one for one in await after.events() if isinstance(one, TaskStarted)]
    assert (event.task, event.principal, event.agent, event.by) == (task, "alice", AGENT, "test")
    assert item.text == "Pay 5 to bob@x.example"


async def test_every_key_of_the_agent_hears_it() -> None:
    here = await FlowCity().open()
    row = AgentRow(agent=AGENT, keys=(KEY, "other"), added_at=0)
    await here.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    await here.task("hello")
    for key in (KEY, "other"):
        found = await context(here, key)
        assert found is not None
        assert found.items == 1


@pytest.mark.parametrize("prompt", ["", " \n", "x" * (MAX_PROMPT + 1), "a \udcff b"])
async def test_what_is_no_prompt_changes_nothing(prompt: str) -> None:
    here = await FlowCity().open()
    with pytest.raises(Malformed):
        await here.task(prompt)
    assert await context(here) is None
    assert not [one for one in await here.events() if isinstance(one, TaskStarted)]


async def test_strangers_and_the_revoked_are_given_no_task() -> None:
    here = await FlowCity().open()
    with pytest.raises(Malformed, match="no principal"):
        await here.task("hello", "eve")
    with pytest.raises(Refused) as caught:
        await here.tasks.start("alice", "nobody", "hello", "test")
    assert caught.value.code is Code.AGENT_UNKNOWN
    row = AgentRow(agent=AGENT, keys=(KEY,), added_at=0, revoked=True, reason="stolen")
    await here.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    with pytest.raises(Refused):
        await here.task("hello")


async def test_a_context_that_keeps_changing_is_told_after_some_tries() -> None:
    here = await FlowCity().open()
    tries: list[Append] = []

    async def stale(change: Append) -> Stale:
        tries.append(change)
        return Stale(context_key(AGENT, KEY))

    here.store.append = stale  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable):
        await here.task("hello")
    assert len(tries) == 8
    assert all(context_key(AGENT, KEY) in dict(one.reads) for one in tries)
