"""A server that takes access tokens is shown who acts, for whom, through whom; and nothing that an agent showed us."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.call import Deny, Reason
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.errors import CitywatchError, Code
from citywatch.core.identity.access import AccessToken
from citywatch.core.identity.token import ALGORITHM
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.wire.jsonrpc import FROM_SERVER
from citywatch.service.access import AccessKeys, AccessTokens, Resource
from citywatch.service.exchange import Exchange
from tests.identity_city import signer
from tests.simulation.city import AGENT, LEGACY
from tests.simulation.test_chains import KEYS, LIST, NOTE, ORDERS, Town
from tests.simulation.test_peer_chains import Square

ISSUER = "https://gateway.city.example"
BANK = "https://bank.example/mcp"
OLD, NEW, NEXT = signer(), signer(), signer()


class Bank(Town):
    """A town whose bank takes tokens; a second server, `shop`, takes none."""

    def __init__(self, *bound: str) -> None:
        super().__init__(*bound)
        self.signing = AccessKeys(NEW, (OLD.public, NEW.public, NEXT.public))
        self.tokens = AccessTokens(
            issuer=ISSUER,
            resources={"bank": Resource(identifier=BANK, scopes=("mcp",))},
            keys=lambda: self.signing,
            clock=self.clock,
            chance=self.chance,
        )
        upstreams = {"bank": self.upstream}
        self.exchange = Exchange(self.enforcer, upstreams, FROM_SERVER, 3, self.tokens)

    def told(self, token: AccessToken | None) -> dict[str, Any]:
        """What a resource server reads from a token, by an implementation that is not ours."""
        assert token is not None
        keys = KeySet.import_key_set(json.loads(self.tokens.key_set()))
        read = jwt.decode(token.text, keys, algorithms=[ALGORITHM])
        assert read.header == {"alg": "ES256", "typ": "at+jwt", "kid": read.header["kid"]}
        registry = jwt.JWTClaimsRegistry(
            now=self.clock.now_ms() // 1000,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": BANK},
            exp={"essential": True},
            iat={"essential": True},
            jti={"essential": True},
            client_id={"essential": True},
        )
        registry.validate(read.claims)
        return dict(read.claims)

    @property
    def last(self) -> dict[str, Any]:
        return self.told(self.upstream.tokens[-1])


async def test_a_server_sees_the_agents_of_the_chain_and_the_principal_behind_them() -> None:
    town = await Bank().begin()
    chain = town.hand(town.root, "clerk")
    assert await town.does("clerk", chain) is None
    assert town.last["sub"] == "principal:anna"
    assert town.last["act"] == {"sub": KEYS["clerk"].name, "act": {"sub": KEYS["router"].name}}
    assert (town.last["client_id"], town.last["scope"]) == (KEYS["clerk"].name, "mcp tool:list")
    assert town.last["citywatch_task"] == town.task
    assert 0 < town.last["exp"] - town.last["iat"] <= 60
    decided = next(one for one in reversed(await town.events()) if type(one).__name__ == "Decided")
    assert town.last["txn"] == decided.call  # type: ignore[union-attr]


async def test_without_a_chain_a_task_s_principal_stands_behind_its_agent_and_nobody_behind_another() -> None:
    town = await Bank().begin()
    assert await town.does("router", []) is None
    assert (town.last["sub"], town.last["act"]) == ("principal:anna", {"sub": KEYS["router"].name})
    assert await town.does("clerk", []) == "task_not_held"
    assert len(town.upstream.tokens) == 1
    await town.ask(town.asking("clerk", [], task=None), town.papers("clerk"))
    assert town.last["sub"] == KEYS["clerk"].name
    assert "act" not in town.last
    assert "citywatch_task" not in town.last


async def test_what_is_refused_has_no_token() -> None:
    town = await Bank("clerk").begin(ORDERS)
    chain = town.hand(town.root, "clerk")
    assert await town.does("clerk", chain, of="salaries") == "beyond_grant"
    assert await town.does("thief", chain, of="orders") == "chain_not_held"
    assert await town.does("clerk", [*town.root, *chain[:1]], of="orders") == "chain_broken"
    assert town.upstream.tokens == []
    judged = await town.enforcer.judge(town.asking("clerk", chain, of="salaries"), town.papers("clerk"))
    with pytest.raises(CitywatchError, match="not let through"):
        town.tokens.of(judged)
    allowed = await town.enforcer.judge(town.asking("clerk", chain, of="orders"), town.papers("clerk"))
    assert town.tokens.of(allowed) is not None
    with pytest.raises(CitywatchError, match="not let through"):
        town.tokens.of(msgspec.structs.replace(allowed, decision=Deny(Reason(Code.NO_PERMIT))))


async def test_a_token_ends_with_the_chain_that_it_rests_on() -> None:
    town = await Bank().begin()
    chain = town.hand(town.root, "clerk", Caveats(not_after=town.clock.now_ms() + 9_000))
    assert await town.does("clerk", chain) is None
    assert town.last["exp"] * 1000 <= town.clock.now_ms() + 9_000


async def test_no_byte_of_what_an_agent_shows_reaches_the_server() -> None:
    town = await Bank().begin()
    chain = town.hand(town.root, "clerk")
    await town.exchange.request(town.asking("clerk", chain, of="orders"), town.papers("clerk"), {})
    body = town.upstream.sent[-1][1]
    token = town.upstream.tokens[-1]
    assert token is not None
    for link in chain:
        for part in link.split("."):
            assert part.encode() not in body
            assert part not in token.text
    assert token.text not in repr(token)


async def test_every_message_of_a_call_has_a_token_of_its_own() -> None:
    town = await Bank().begin()
    town.answer = lambda body: MemoryAnswer([(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}', None)])
    for _ in range(3):
        assert await town.does("router", []) is None
    texts = [town.told(token)["jti"] for token in town.upstream.tokens]
    assert len(set(texts)) == 3


async def test_keys_are_published_before_they_sign_and_as_long_as_their_tokens_are_good() -> None:
    town = await Bank().begin()
    assert await town.does("router", []) is None
    before = town.upstream.tokens[-1]
    town.signing = AccessKeys(NEXT, (NEW.public, NEXT.public))
    assert await town.does("router", []) is None
    assert town.told(before)["sub"] == town.last["sub"]
    published = json.loads(town.tokens.key_set())["keys"]
    assert len({one["kid"] for one in published}) == 2
    assert all(set(one) == {"kty", "crv", "x", "y", "kid", "alg", "use"} for one in published)


async def test_a_token_for_nobody_s_resource_is_not_written() -> None:
    town = await Bank().begin()
    town.tokens.resources = {}
    assert await town.does("router", []) is None
    assert town.upstream.tokens == [None]
    assert town.tokens.own("bank", AGENT, "tools/list") is None


async def test_a_peer_is_shown_who_speaks_to_it() -> None:
    square = await Square().begin()
    bank = Bank()
    bank.tokens.resources = {"depot": Resource(identifier=BANK)}
    square.exchange.outward.tokens = bank.tokens
    chain = square.hand(square.root, "clerk")
    assert await square.writes("clerk", chain) is None
    claims = bank.told(square.depot.tokens[-1])
    assert claims["act"] == {"sub": KEYS["clerk"].name, "act": {"sub": KEYS["router"].name}}
    assert (claims["sub"], claims["scope"], claims["citywatch_task"]) == ("principal:anna", "SendMessage", square.task)
    assert await square.writes("thief", chain) == "chain_not_held"
    assert len(square.depot.tokens) == 1


async def test_whatever_goes_to_the_server_goes_with_a_token_of_its_own() -> None:
    town = await Bank().begin()
    papers = town.papers("router")
    town.policies = parse_policies([Source("t.cedar", "permit(principal, action, resource);")])
    town.enforcer.rules = town.rules(LIST, NOTE)
    town.answer = lambda _: opened()
    told = town.call("notifications/initialized", None, rpc_id=None, agent=papers.agent)
    await town.exchange.notify(told, papers, {})
    listening = town.call("transport/listen", None, rpc_id=None, agent=papers.agent, body=b"")
    await town.exchange.listen(listening, papers, {})
    opening = town.call("initialize", None, agent=papers.agent)
    outcome = await town.exchange.request(opening, papers, {})
    assert outcome.session is not None
    over = town.call("transport/end", None, rpc_id=None, agent=papers.agent, body=b"", session=outcome.session)
    await town.exchange.end(over, papers, {})
    scopes = [town.told(token)["scope"] for token in town.upstream.tokens]
    assert scopes == [
        f"mcp {one}" for one in ("notifications/initialized", "transport/listen", "initialize", "transport/end")
    ]
    assert len({town.told(token)["jti"] for token in town.upstream.tokens}) == 4


def opened() -> MemoryAnswer:
    result = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "bank", "version": "1"}}
    raw = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    return MemoryAnswer([(raw, None)], session="s-1")
