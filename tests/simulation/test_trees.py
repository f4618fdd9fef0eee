"""Agents that speak to each other without chains: circles end, one task pays for all of its tree, nobody else does."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryAnswer, MemoryStore, MemoryUpstream
from citywatch.core import events
from citywatch.core.call import Call, Direction
from citywatch.core.enforce.trees import MAX_TREES, Reached, reached_key
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.log.entry import encode_event
from citywatch.core.manifest import Peer
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import FROM_AGENT, Request, parse_message
from citywatch.main.replay import rebuild
from citywatch.service.ports import Append, NewEntry
from citywatch.service.rehearsal import Rehearsal
from citywatch.service.unknowns import Status
from tests.simulation.city import DOMAIN, code_of
from tests.simulation.flow_city import TOOLS, FlowCity
from tests.simulation.test_peers import code, says

NAMES = ("clerk", "billing", "stock", "night")
POLICY = "permit(principal, action, resource);"


class Mesh(FlowCity):
    """Four agents who may all speak to each other; each is a peer of its own name."""

    def __init__(self, max_hops: int = 8, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.configured = msgspec.structs.replace(
            self.configured,
            agents=tuple(AgentFacts(id=AgentId(DOMAIN, name)) for name in NAMES),
            peers={name: Peer(callers=tuple(one for one in NAMES if one != name), agent=name) for name in NAMES},
            max_hops=max_hops,
        )
        self.policies = parse_policies([Source("test.cedar", POLICY)])
        self.enforcer.rules = self.tasks._rules = self.rules(*TOOLS)
        self.peer = MemoryUpstream(
            lambda _: MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "result": says("noted")}).encode(), None)])
        )
        for name in NAMES:
            self.exchange.upstreams[name] = self.peer  # type: ignore[index]

    async def open(self) -> Mesh:
        await super().open()
        for name in NAMES:
            row = AgentRow(agent=spiffe(name), keys=(f"key of {name}",), added_at=0)
            event = events.AgentAdded(
                at=self.clock.now_ms(), replica="r1", agent=spiffe(name), key=f"key of {name}", by="test"
            )
            await self.store.append(
                Append(entries=(NewEntry(encode_event(event)),), puts=((agent_key(name), format_row(row)),))
            )
        return self

    async def given(self, agent: str, calls: int = 0) -> str:
        """Alice gives somebody a task."""
        return await self.tasks.start("alice", agent, "see to the orders", "test", calls=calls)

    def letter(self, agent: str, to: str, task: str | None = None) -> Call:
        own = {a2a.TASK: task} if task else {}
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go on"}]}
        params = {"message": message, "metadata": own}
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()
        read = parse_message(raw, FROM_AGENT)
        assert isinstance(read, Request)
        reading = a2a.read_request(read)
        return Call(
            id=self.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=spiffe(agent),
            server=to,
            method="SendMessage",
            name=None,
            arguments=reading.arguments,
            body=read.body,
            revision=a2a.REVISION,
            rpc_id=1,
            task=task,
        )

    async def tell(self, agent: str, to: str, task: str | None = None) -> str | None:
        call = self.letter(agent, to, task)
        return code(await self.ask(call, self.credential(agent=call.agent, key=f"key of {agent}")))

    async def look(self, agent: str, task: str | None = None) -> str | None:
        """A call of a tool."""
        call = self.call(name="inbox", agent=spiffe(agent), task=task)
        return code_of(await self.ask(call, self.credential(agent=spiffe(agent), key=f"key of {agent}")))

    async def circle(self, task: str | None, times: int) -> list[str | None]:
        """Clerk and billing ask each other back; the clerk names the task, billing has none to name.

        Who is refused tries again: the other was not asked.
        """
        said: list[str | None] = []
        for _ in range(times):
            turn = said.count(None) % 2
            said.append(await (self.tell("billing", "clerk") if turn else self.tell("clerk", "billing", task)))
        return said


def spiffe(name: str) -> str:
    return f"spiffe://{DOMAIN}/agent/{name}"


@pytest.mark.parametrize("named", [True, False])
async def test_two_agents_that_ask_each_other_for_ever_are_stopped(named: bool) -> None:
    """The attack: both are talked into asking the other again. Unguarded it never ends."""
    free = await Mesh(max_hops=64).open()
    task = await free.given("clerk")
    assert await free.circle(task if named else None, 40) == [None] * 40

    mesh = await Mesh().open()
    task = await mesh.given("clerk")
    assert await mesh.circle(task if named else None, 40) == [None] * 8 + [Code.HOPS_EXCEEDED] * 32
    assert len(mesh.peer.sent) == 8


async def test_a_circle_that_nobody_gave_a_task_ends_too() -> None:
    mesh = await Mesh().open()
    assert await mesh.circle(None, 12) == [None] * 8 + [Code.HOPS_EXCEEDED] * 4


async def test_an_honest_row_of_three_goes_through_and_each_is_told_how_far_it_came() -> None:
    mesh = await Mesh(max_hops=3).open()
    task = await mesh.given("clerk")
    row = (("clerk", "billing", task), ("billing", "stock", None), ("stock", "night", None))
    for _ in range(5):
        assert [await mesh.tell(*one) for one in row] == [None] * 3
    hops = [json.loads(body)["params"]["metadata"][a2a.HOPS] for _, body, *_ in mesh.peer.sent]
    assert hops == [1, 2, 3] * 5
    assert await mesh.tell("night", "clerk") == Code.HOPS_EXCEEDED


async def test_a_word_from_where_a_tree_began_makes_it_no_shallower() -> None:
    """The attack: stock and billing go in a circle, and the clerk, who is in none, speaks to billing now and then."""
    mesh = await Mesh(max_hops=4).open()
    task = await mesh.given("clerk")
    said = [await mesh.tell("clerk", "billing", task)]
    for _ in range(6):
        said += [await mesh.tell("billing", "stock"), await mesh.tell("stock", "billing")]
        assert await mesh.tell("clerk", "billing", task) is None
    row = (await mesh.store.load([reached_key("billing")], ())).rows[reached_key("billing")]
    assert msgspec.json.decode(row.value, type=Reached).trees[task].depth == 3
    assert said.count(Code.HOPS_EXCEEDED) == 5


async def test_who_only_answers_is_asked_as_often_as_anybody_likes() -> None:
    mesh = await Mesh(max_hops=2).open()
    task = await mesh.given("clerk")
    assert [await mesh.tell("clerk", "billing", task) for _ in range(30)] == [None] * 30
    assert [await mesh.tell("billing", "stock") for _ in range(30)] == [None] * 30


async def test_a_tree_that_ran_into_its_end_stops_no_other() -> None:
    mesh = await Mesh(max_hops=7).open()
    first, second = await mesh.given("clerk"), await mesh.given("stock")
    await mesh.circle(first, 10)
    assert await mesh.tell("billing", "night") == Code.HOPS_EXCEEDED
    assert await mesh.tell("stock", "billing", second) is None
    assert await mesh.tell("billing", "night") is None


async def test_another_task_named_in_the_circle_is_another_tree_and_no_way_out_of_the_first() -> None:
    mesh = await Mesh().open()
    tasks = [await mesh.given("clerk") for _ in range(3)]
    said = [await mesh.circle(task, 20) for task in tasks]
    assert sum(one.count(None) for one in said) <= 3 * 8


async def test_what_was_said_a_while_ago_is_nobodys_burden_and_a_circle_ends_again() -> None:
    mesh = await Mesh().open()
    await mesh.circle(None, 12)
    mesh.clock.advance(mesh.configured.hop_memory_ms)
    assert await mesh.circle(None, 12) == [None] * 8 + [Code.HOPS_EXCEEDED] * 4


async def test_one_budget_pays_for_all_that_descends_from_a_task() -> None:
    """The attack: two agents share out the work, each within its own budget."""
    free = await Mesh().open()
    task = await free.given("clerk")
    await free.tell("clerk", "billing", task)
    assert [await free.look("billing") for _ in range(9)] == [None] * 9

    mesh = await Mesh().open()
    task = await mesh.given("clerk", calls=5)
    assert await mesh.tell("clerk", "billing", task) is None
    assert await mesh.look("clerk", task) is None
    assert await mesh.look("billing") is None
    assert await mesh.tell("billing", "stock") is None
    assert await mesh.look("stock") is None
    assert await mesh.look("stock") == Code.BUDGET_SPENT
    assert await mesh.look("billing") == Code.BUDGET_SPENT
    assert await mesh.look("clerk", task) == Code.BUDGET_SPENT
    assert await mesh.look("night") is None, "who was never spoken to for it"


async def test_saying_nothing_of_the_task_saves_nothing() -> None:
    mesh = await Mesh().open()
    await mesh.given("clerk", calls=2)
    assert [await mesh.look("clerk") for _ in range(3)] == [None, None, Code.BUDGET_SPENT]


async def test_a_refusal_takes_one_of_the_tasks_budget() -> None:
    mesh = await Mesh().open()
    task = await mesh.given("clerk", calls=2)
    mesh.policies = parse_policies([Source("t.cedar", 'permit(principal, action == Action::"bank/inbox", resource);')])
    mesh.enforcer.rules = mesh.rules(*TOOLS)
    assert await mesh.tell("clerk", "billing", task) == Code.NO_PERMIT
    assert await mesh.look("clerk", task) is None
    assert await mesh.look("clerk", task) == Code.BUDGET_SPENT


async def test_a_task_that_has_spent_its_budget_stops_nobody_who_works_for_another() -> None:
    mesh = await Mesh().open()
    spent, rich, free = (
        await mesh.given("clerk", calls=1),
        await mesh.given("stock", calls=3),
        await mesh.given("night"),
    )
    assert await mesh.tell("clerk", "billing", spent) is None
    assert await mesh.look("billing") == Code.BUDGET_SPENT
    assert await mesh.tell("stock", "billing", rich) is None
    assert [await mesh.look("billing") for _ in range(3)] == [None, None, Code.BUDGET_SPENT]
    assert await mesh.tell("night", "billing", free) is None
    assert await mesh.look("billing") is None


async def test_what_somebody_else_begins_for_no_task_is_no_way_around_the_budget() -> None:
    mesh = await Mesh().open()
    task = await mesh.given("clerk", calls=1)
    assert await mesh.tell("clerk", "billing", task) is None
    assert await mesh.tell("night", "billing") is None
    assert await mesh.look("billing") == Code.BUDGET_SPENT


async def test_a_task_that_is_over_pays_for_nothing_and_holds_nobody() -> None:
    mesh = await Mesh().open()
    task = await mesh.given("clerk", calls=1)
    assert await mesh.tell("clerk", "billing", task) is None
    await mesh.tasks.end(task, "test", "done")
    assert await mesh.look("billing") is None


async def test_many_who_speak_to_one_at_once_are_all_heard() -> None:
    mesh = await Mesh().open()
    tasks = [await mesh.given("clerk") for _ in range(20)]
    assert await asyncio.gather(*(mesh.tell("clerk", "billing", task) for task in tasks)) == [None] * 20
    senders = [("stock", await mesh.given("stock")), ("night", await mesh.given("night"))] * 4
    assert await asyncio.gather(*(mesh.tell(who, "billing", task) for who, task in senders)) == [None] * 8


async def test_what_is_kept_of_a_busy_agent_is_bounded_and_the_deepest_trees_are() -> None:
    mesh = await Mesh().open()
    first = await mesh.given("clerk")
    await mesh.circle(first, 7)
    for _ in range(MAX_TREES + 8):
        assert await mesh.tell("stock", "billing", await mesh.given("stock")) is None
    row = (await mesh.store.load([reached_key("billing")], ())).rows[reached_key("billing")]
    trees = msgspec.json.decode(row.value, type=Reached).trees
    assert len(trees) == MAX_TREES
    assert trees[first].depth == 7


async def test_the_log_tells_of_each_refusal_and_folds_to_the_same() -> None:
    mesh = await Mesh(max_hops=4).open()
    task = await mesh.given("clerk", calls=9)
    await mesh.circle(task, 6)
    for _ in range(6):
        await mesh.look("billing")
    codes = [one.code for one in await mesh.events() if isinstance(one, events.Decided)]
    assert (codes.count("hops_exceeded"), codes.count("budget_spent")) == (2, 3)
    rehearsal = Rehearsal(mesh.store, MemoryStore(), mesh.enforcer.rules, rebuild)
    assert {one.status for one in [one async for one in rehearsal.run()]} == {Status.SAME}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.booleans()), max_size=40), st.integers(1, 4)
)
def test_however_they_speak_no_more_than_the_budget_and_no_further_than_the_hops(
    said: list[tuple[str, str, bool]], max_hops: int
) -> None:
    """Whoever speaks to whom, with one task in the town: its budget is all that comes of it, and depth is bounded."""

    async def run() -> None:
        mesh = await Mesh(max_hops).open()
        task = await mesh.given("clerk", calls=10)
        came: dict[str, int] = {"clerk": 0}
        passed = 0
        for who, to, names in said:
            if who == to:
                continue
            told = await mesh.tell(who, to, task if names and who == "clerk" else None)
            if told is None and who in came:
                passed += 1
                came[to] = max(came.get(to, 0), came[who] + 1) if to in came else came[who] + 1
        assert passed <= 10
        rows = (await mesh.store.load([reached_key(name) for name in NAMES], ())).rows.values()
        depths = [mark.depth for row in rows for mark in msgspec.json.decode(row.value, type=Reached).trees.values()]
        assert all(1 <= depth <= max_hops for depth in depths)

    asyncio.run(run())
