"""A principal's task, handed on from agent to agent: each acts within what every link left, with its own key."""

from __future__ import annotations

import json
from typing import Any, Self

import msgspec
import pytest

from bench.grants import party
from citywatch.core import events
from citywatch.core.call import Allow, Call, Continuation, Effect
from citywatch.core.delegation.caveats import ANYTHING, Caveats
from citywatch.core.delegation.grant import parse_link
from citywatch.core.delegation.handing import Holder, next_grant, root_grant
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.chains import withdrawn_key
from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.limit import OneOf
from citywatch.core.log.entry import decode_event
from citywatch.core.manifest import Principal, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, parse_message
from citywatch.main.replay import rebuild
from citywatch.service.grants import Grants, sign_grant
from citywatch.service.hindsight import then
from citywatch.service.ports import Append
from citywatch.service.tasks import Tasks
from tests.simulation.city import DOMAIN, City, code_of
from tests.simulation.flow_city import tool

NAMES = ("router", "clerk", "thief")
KEYS = {name: party(f"spiffe://{DOMAIN}/agent/{name}") for name in (*NAMES, "second")}
SPEAKER = party("principal:anna")
LIST, NOTE = tool("list", of="string"), tool("note", text="string")
POLICY = """
@id("plumbing") permit(principal, action in [Action::"session", Action::"list"], resource);
@id("work") permit(principal in Role::"worker", action in [Action::"read", Action::"write"], resource);
@id("resources") permit(principal in Role::"worker", action == Action::"resources/read", resource);
"""
ORDERS = Caveats(arguments={"bank/list": {"of": OneOf(("orders", "parcels"))}})


class Town(City):
    """Three agents and a principal; `bound` are the agents that act only under a chain."""

    def __init__(self, *bound: str) -> None:
        super().__init__(POLICY)
        self.configured = msgspec.structs.replace(
            self.configured,
            agents=tuple(AgentFacts(id=AgentId(DOMAIN, name), roles=("worker",)) for name in NAMES),
            servers={"bank": {"list": ToolManifest(effect=Effect.READ), "note": ToolManifest(effect=Effect.WRITE)}},
            budgets={},
            principals={"anna": Principal(name="anna", may=("*",))},
            bound=frozenset(bound),
            roots=frozenset({SPEAKER.thumb}),
        )
        self.enforcer.rules = self.rules(LIST, NOTE)

    async def begin(self, root: Caveats = ANYTHING, depth: int = 3) -> Self:
        """Anna gives the router a task, and a grant for it."""
        await self.settle_in(LIST, NOTE)
        rows = [
            (agent_key(name), format_row(AgentRow(agent=KEYS[name].name, keys=(KEYS[name].thumb,), added_at=0)))
            for name in NAMES
        ]
        await self.store.append(Append(puts=tuple(rows)))
        tasks = Tasks(store=self.store, clock=self.clock, chance=self.chance, replica="r1", rules=self.enforcer.rules)
        self.tasks = tasks
        self.task = await tasks.start("anna", "router", "sort the orders", "anna")
        self.grants = Grants(
            store=self.store,
            clock=self.clock,
            chance=self.chance,
            replica="r1",
            domain=DOMAIN,
            signer=SPEAKER.signer,
        )
        self.root = [await self.grants.root(self.task, root, 60_000, depth, "anna")]
        return self

    def hand(self, chain: list[str], to: str, caveats: Caveats = ANYTHING, by: str = "router") -> list[str]:
        return [*chain, sign_grant(next_grant(chain, Holder(KEYS[to].name, KEYS[to].thumb), caveats), KEYS[by].signer)]

    def papers(self, name: str, key: str | None = None) -> Credential:
        return self.credential(agent=KEYS[name].name, key=KEYS[key or name].thumb)

    def asking(
        self, name: str, chain: list[str], tool: str = "list", /, task: str | None = "", **arguments: Any
    ) -> Call:
        meta: dict[str, Any] = {"citywatch/task": self.task, **({"citywatch/chain": chain} if chain else {})}
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        return self.call(
            name=tool,
            arguments=arguments,
            agent=KEYS[name].name,
            body=body,
            chain=tuple(chain),
            task=self.task if task == "" else task,
        )

    async def does(
        self, name: str, chain: list[str], tool: str = "list", /, key: str | None = None, **arguments: Any
    ) -> str | None:
        return code_of(await self.ask(self.asking(name, chain, tool, **arguments), self.papers(name, key)))


async def test_what_nobody_handed_on_is_not_done_by_an_agent_that_is_bound_and_was_before() -> None:
    """The attack: the clerk was talked into reading the salaries, which its policy lets it read."""
    free = await Town().begin()
    alone = free.asking("clerk", [], of="salaries", task=None)
    assert code_of(await free.ask(alone, free.papers("clerk"))) is None

    town = await Town("clerk").begin()
    alone = town.asking("clerk", [], of="salaries", task=None)
    assert code_of(await town.ask(alone, town.papers("clerk"))) == "chain_missing"
    chain = town.hand(town.root, "clerk", ORDERS)
    assert await town.does("clerk", chain, of="salaries") == "beyond_grant"
    assert await town.does("clerk", chain, of="orders") is None


async def test_an_agent_that_is_bound_still_finds_its_tools() -> None:
    town = await Town("clerk").begin()
    listing = town.call("tools/list", None, agent=KEYS["clerk"].name)
    await town.ask(listing, town.papers("clerk"))
    assert [body for _, body in town.upstream.sent] == [listing.body]


async def test_a_chain_permits_nothing_that_policy_does_not() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    town.enforcer.rules = msgspec.structs.replace(town.enforcer.rules, policies=City().rules().policies)
    assert await town.does("clerk", chain, "note", text="x") == "no_permit"


async def test_every_link_is_kept_not_the_last_alone() -> None:
    town = await Town().begin(Caveats(tools=frozenset({"bank/list"})))
    chain = town.hand(town.hand(town.root, "clerk", ORDERS), "thief", by="clerk")
    assert await town.does("thief", chain, "note", text="x") == "beyond_grant"
    assert await town.does("thief", chain, of="salaries") == "beyond_grant"
    assert await town.does("thief", chain, of="parcels") is None


async def test_what_is_no_tool_needs_the_whole_server() -> None:
    town = await Town().begin(Caveats(tools=frozenset({"bank/list"})))
    call = town.call(
        "resources/read", "file:///x", agent=KEYS["router"].name, chain=tuple(town.root), task=town.task,
        arguments={"uri": "file:///x"},
        body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {
            "uri": "file:///x", "_meta": {"citywatch/chain": town.root}}}).encode(),
    )  # fmt: skip
    assert code_of(await town.ask(call, town.papers("router"))) == "beyond_grant"


async def test_a_chain_that_was_seen_is_of_no_use_to_who_saw_it() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    assert await town.does("thief", chain, of="orders") == "chain_not_held"
    assert await town.does("thief", town.root, of="orders") == "chain_not_held"
    row = AgentRow(agent=KEYS["clerk"].name, keys=(KEYS["clerk"].thumb, KEYS["second"].thumb), added_at=0)
    await town.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    assert await town.does("clerk", chain, key="second", of="orders") == "chain_not_held"
    assert await town.does("clerk", chain, of="orders") is None


async def test_a_chain_of_an_agents_own_making_is_no_principals() -> None:
    town = await Town().begin()
    grant = parse_link(town.root[0]).grant
    router = Holder(KEYS["router"].name, KEYS["router"].thumb)
    own = root_grant(grant.chain_id, town.task, "principal:anna", router.thumb, router, grant.caveats)
    assert await town.does("router", [sign_grant(own, KEYS["router"].signer)], of="orders") == "chain_untrusted"


async def test_a_link_that_widens_or_is_spliced_is_refused_at_the_gateway() -> None:
    town = await Town().begin(Caveats(calls=2))
    with pytest.raises(Malformed):
        town.hand(town.root, "clerk", Caveats(calls=3))
    other = [await town.grants.root(town.task, ANYTHING, 60_000, 3, "anna")]
    mixed = [town.root[0], town.hand(other, "clerk")[1]]
    assert await town.does("clerk", mixed, of="orders") == "chain_broken"


async def test_siblings_share_one_budget_and_a_refused_call_spends_too() -> None:
    town = await Town().begin(Caveats(calls=3))
    one, two = town.hand(town.root, "clerk", ORDERS), town.hand(town.root, "thief", Caveats(calls=2))
    assert await town.does("clerk", one, of="orders") is None
    assert await town.does("clerk", one, of="salaries") == "beyond_grant"
    assert await town.does("thief", two, of="orders") is None
    assert await town.does("thief", two, of="orders") == "budget_spent"
    assert await town.does("clerk", one, of="orders") == "budget_spent"
    assert await town.does("router", town.root, of="orders") == "budget_spent"


async def test_a_link_has_a_budget_of_its_own_beneath_its_ancestors() -> None:
    town = await Town().begin(Caveats(calls=10))
    one, two = town.hand(town.root, "clerk", Caveats(calls=1)), town.hand(town.root, "thief", Caveats(calls=1))
    assert await town.does("clerk", one, of="orders") is None
    assert await town.does("clerk", one, of="orders") == "budget_spent"
    assert await town.does("thief", two, of="orders") is None


async def test_a_chain_ends_with_its_task_its_time_and_every_agent_on_its_way() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    assert await town.does("clerk", chain, of="orders") is None
    row = AgentRow(agent=KEYS["router"].name, keys=(KEYS["router"].thumb,), added_at=0, revoked=True)
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"

    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    row = AgentRow(agent=KEYS["router"].name, keys=(KEYS["second"].thumb,), added_at=0)  # its key was replaced
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"

    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    await town.tasks.end(town.task, "anna", "done")
    assert await town.does("clerk", chain, of="orders") == "task_not_held"

    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    town.clock.advance(60_000)
    assert await town.does("clerk", chain, of="orders") == "chain_expired"


@pytest.mark.parametrize("what", ["root", "leaf", "chain", "principal"])
async def test_what_was_withdrawn_is_void_with_all_beneath_it(what: str) -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    links = [parse_link(text) for text in chain]
    name = {
        "root": f"grant:{links[0].hash}",
        "leaf": f"grant:{links[1].hash}",
        "chain": f"chain:{links[0].grant.chain_id}",
        "principal": "principal:anna",
    }[what]
    assert await town.does("clerk", chain, of="orders") is None
    await town.grants.withdraw(name, "operator", "not needed any more")
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"
    assert await town.does("router", town.root, of="orders") == (None if what == "leaf" else "chain_revoked")


async def test_a_chain_that_is_withdrawn_while_a_call_is_judged_lets_nothing_through() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    load, once = town.store.load, [True]

    async def late(keys: Any, budgets: Any) -> Any:
        found = await load(keys, budgets)
        if once and any(key[0] == "withdrawn" for key in keys):
            once.clear()
            await town.store.append(Append(puts=((withdrawn_key(f"grant:{parse_link(chain[0]).hash}"), b"true"),)))
        return found

    town.store.load = late  # type: ignore[method-assign]
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"
    assert all(b"orders" not in body for _, body in town.upstream.sent)


@pytest.mark.parametrize("what", ["link", "agent", "key"])
async def test_what_is_taken_back_while_a_server_works_takes_its_reply_back(what: str) -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    send = town.upstream.send
    key, value = {
        "link": (withdrawn_key(f"grant:{parse_link(chain[0]).hash}"), b"true"),
        "agent": (agent_key("router"), None),
        "key": (agent_key("router"), format_row(AgentRow(agent=KEYS["router"].name, keys=("x",), added_at=0))),
    }[what]

    async def late(*given: Any, **more: Any) -> Any:
        await town.store.append(Append(puts=((key, value),)))
        return await send(*given, **more)

    town.upstream.send = late  # type: ignore[method-assign]
    assert await town.does("clerk", chain, of="orders") == "chain_revoked"
    settled = [one for one in await town.events() if isinstance(one, events.Settled)]
    assert [(one.outcome, one.code) for one in settled] == [("withheld", "chain_revoked")]


async def test_that_a_task_is_over_takes_back_no_reply() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    send = town.upstream.send

    async def late(*given: Any, **more: Any) -> Any:
        await town.tasks.end(town.task, "anna", "enough")
        return await send(*given, **more)

    town.upstream.send = late  # type: ignore[method-assign]
    assert await town.does("clerk", chain, of="orders") is None


async def test_a_chain_is_for_the_task_that_the_call_names() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    nameless = town.asking("clerk", chain, of="orders", task=None)
    assert code_of(await town.ask(nameless, town.papers("clerk"))) == "chain_wrong_task"
    other = await town.tasks.start("anna", "router", "something else", "anna")
    crossed = town.asking("clerk", chain, of="orders", task=other)
    assert code_of(await town.ask(crossed, town.papers("clerk"))) == "chain_wrong_task"
    assert await town.does("clerk", [], of="orders") == "task_not_held"


async def test_the_entry_says_for_whom_and_through_whom_and_no_server_sees_the_chain() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk")
    assert await town.does("clerk", chain, of="orders") is None
    log = await town.events()
    rooted = next(one for one in log if isinstance(one, events.GrantRooted))
    decided = next(one for one in reversed(log) if isinstance(one, events.Decided))
    assert decided.via == ("principal:anna", KEYS["router"].name, KEYS["clerk"].name)
    assert decided.grants == tuple(parse_link(text).hash for text in chain)
    assert rooted.grant == decided.grants[0]
    sent = json.loads(town.upstream.sent[-1][1])
    assert "citywatch/chain" not in sent["params"]["_meta"]
    assert sent["params"]["arguments"] == {"of": "orders"}


def test_every_digit_of_what_was_judged_is_forwarded() -> None:
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1180591620717411303424,'
        b'"f":1e+21},"_meta":{"citywatch/chain":["a"],"citywatch/task":"t"}}}'
    )
    sent = mcp.without_chain(body)
    assert b"1180591620717411303424" in sent
    assert json.loads(sent)["params"]["_meta"] == {"citywatch/task": "t"}


async def test_an_answer_to_a_server_is_no_way_around_a_limit() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk", ORDERS)
    call = town.asking("clerk", chain, of="orders")
    answering = msgspec.structs.replace(call, continuation=Continuation(responses={"of": "salaries"}, state="s"))
    assert code_of(await town.ask(answering, town.papers("clerk"))) == "beyond_grant"
    free = msgspec.structs.replace(
        town.asking("clerk", town.hand(town.root, "clerk"), of="orders"), continuation=answering.continuation
    )
    assert code_of(await town.ask(free, town.papers("clerk"))) == "input_unexpected"


async def test_a_taint_floor_asks_what_the_context_holds() -> None:
    town = await Town().begin()
    chain = town.hand(town.root, "clerk", Caveats(origins=frozenset({"principal:*"})))
    assert await town.does("clerk", chain, of="orders") is None  # its reply is nobody's that we know
    assert await town.does("clerk", chain, of="orders") == "beyond_grant"


async def test_no_root_is_signed_for_a_task_that_is_over_or_an_agent_that_is_gone() -> None:
    town = await Town().begin()
    with pytest.raises(Malformed, match="no task `nothing` is open"):
        await town.grants.root("nothing", ANYTHING, 1000, 1, "anna")
    await town.store.append(Append(puts=((agent_key("router"), None),)))
    with pytest.raises(Refused, match="not registered as it was"):
        await town.grants.root(town.task, ANYTHING, 1000, 1, "anna")
    await town.tasks.end(town.task, "anna", "done")
    with pytest.raises(Malformed, match="is open"):
        await town.grants.root(town.task, ANYTHING, 1000, 1, "anna")


async def test_a_root_is_for_the_agent_whose_task_it_is_as_it_was_registered() -> None:
    """The speaker's key signs for any task; the task's row says whose it is."""
    town = await Town().begin()
    grant = parse_link(town.root[0]).grant
    clerk = Holder(KEYS["clerk"].name, KEYS["clerk"].thumb)
    other = root_grant(grant.chain_id, town.task, "principal:anna", SPEAKER.thumb, clerk, grant.caveats)
    assert await town.does("clerk", [sign_grant(other, SPEAKER.signer)], of="orders") == "chain_revoked"
    row = AgentRow(agent=KEYS["router"].name, keys=(KEYS["router"].thumb,), added_at=town.clock.now_ms() + 1)
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    assert await town.does("clerk", town.hand(town.root, "clerk"), of="orders") == "chain_revoked"


async def test_a_decision_under_a_chain_is_the_same_when_its_entry_is_judged_again() -> None:
    town = await Town("clerk").begin()
    chain = town.hand(town.root, "clerk", ORDERS)
    for of in ("orders", "salaries"):
        await town.does("clerk", chain, of=of)
    log = await town.store.entries(0, 10**6)
    judged = []
    for index, leaf in enumerate(log):
        one, payload = decode_event(leaf), await town.store.payload(index)
        if isinstance(one, events.Decided) and payload is not None:
            past = await then(town.store, town.enforcer.rules, index, one, rebuild(one, payload.body))
            found = admit(past.call, past.authority, past.known, past.need, one.at)
            judged.append((one.code, None if isinstance(found, Allow) else found.reason.code.value))
    assert judged == [(None, None), ("beyond_grant", "beyond_grant")]


@pytest.mark.parametrize("chain", ["x", [], [1], ["x"] * 9, {}, None])
def test_what_is_no_list_of_links_is_no_message(chain: Any) -> None:
    message = parse_message(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {mcp.CHAIN: chain}}}).encode(),
        FROM_AGENT,
    )
    with pytest.raises(Malformed, match="is a list of one to 8 links"):
        mcp.shown_chain(message)
