"""Messages between agents under a chain of grants: which skills it leaves, how far it came, and that circles end."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from citywatch.adapters.memory import MemoryAnswer, MemoryUpstream
from citywatch.core import events
from citywatch.core.call import Call, Direction
from citywatch.core.delegation.caveats import ANYTHING, Caveats
from citywatch.core.errors import Code
from citywatch.core.manifest import Peer
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import FROM_AGENT, Request, parse_message
from citywatch.main.replay import rebuild
from tests.simulation.test_chains import KEYS, LIST, NOTE, Town
from tests.simulation.test_peers import code, says


def noted(body: bytes) -> MemoryAnswer:
    return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "result": says("noted")}).encode(), None)])


class Square(Town):
    """A town whose router and clerk speak to `depot`, under a chain or not at all."""

    def __init__(self) -> None:
        super().__init__("router", "clerk")
        self.configured = msgspec.structs.replace(self.configured, peers={"depot": Peer(callers=("router", "clerk"))})
        self.policies = parse_policies([Source("t.cedar", "permit(principal, action, resource is Peer);")])
        self.enforcer.rules = self.rules(LIST, NOTE)
        self.depot = MemoryUpstream(noted)
        self.exchange.upstreams["depot"] = self.depot  # type: ignore[index]

    def letter(self, name: str, chain: list[str], skill: str = "") -> Call:
        own: dict[str, Any] = {a2a.TASK: self.task, **({a2a.SKILL: skill} if skill else {})}
        if chain:
            own[a2a.CHAIN] = chain
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
        params = {"message": message, "metadata": own}
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()
        read = parse_message(raw, FROM_AGENT)
        assert isinstance(read, Request)
        reading = a2a.read_request(read)
        return Call(
            id=self.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=KEYS[name].name,
            server="depot",
            method="SendMessage",
            name=reading.name,
            arguments=reading.arguments,
            body=read.body,
            revision=a2a.REVISION,
            rpc_id=1,
            task=reading.task,
            chain=reading.chain,
            things=reading.things,
        )

    async def writes(self, name: str, chain: list[str], skill: str = "") -> str | None:
        return code(await self.ask(self.letter(name, chain, skill), self.papers(name)))

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.depot.sent[-1][1])["params"]["metadata"]
        return found


async def test_a_bound_agent_speaks_under_its_chain_and_the_peer_sees_none_of_it() -> None:
    square = Square()
    await square.begin()
    assert await square.writes("clerk", []) == Code.TASK_NOT_HELD
    assert await square.writes("router", []) == Code.CHAIN_MISSING
    assert await square.writes("router", square.root) is None
    assert square.told() == {a2a.TASK: square.task, a2a.SENDER: KEYS["router"].name, a2a.HOPS: 1}
    assert await square.writes("clerk", square.hand(square.root, "clerk")) is None
    assert square.told()[a2a.HOPS] == 2


async def test_a_chain_leaves_the_skills_that_it_names() -> None:
    square = Square()
    await square.begin()
    chain = square.hand(square.root, "clerk", Caveats(skills=frozenset({"depot/track"})))
    assert await square.writes("clerk", chain, "track") is None
    assert await square.writes("clerk", chain, "release") == Code.BEYOND_GRANT
    assert await square.writes("clerk", chain) == Code.BEYOND_GRANT


async def test_a_circle_of_messages_ends_with_what_the_first_grant_left() -> None:
    """The attack: router and clerk, each talked into asking the other again, write without end."""
    free = Square()
    await free.begin()
    chain = free.hand(free.root, "clerk")
    assert [await free.writes(*one) for one in (("router", free.root), ("clerk", chain)) * 4] == [None] * 8

    square = Square()
    await square.begin(Caveats(calls=3))
    chain = square.hand(square.root, "clerk", ANYTHING)
    said = [await square.writes(*one) for one in (("router", square.root), ("clerk", chain)) * 4]
    assert said == [None] * 3 + [Code.BUDGET_SPENT] * 5
    assert len(square.depot.sent) == 3


async def test_a_recorded_message_is_rebuilt_as_it_was_judged() -> None:
    square = Square()
    await square.begin()
    call = square.letter("router", square.root, "track")
    await square.ask(call, square.papers("router"))
    decided = next(one for one in reversed(await square.events()) if isinstance(one, events.Decided))
    assert rebuild(decided, call.body) == call
