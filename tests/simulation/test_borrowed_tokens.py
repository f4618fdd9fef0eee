"""Tokens that a server's own authorization server gives: for whom, how long, how often asked, and dropped when."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from citywatch.adapters.keys import KeySigner
from citywatch.adapters.memory import MemoryUpstream
from citywatch.core.call import Deny, Reason
from citywatch.core.delegation.caveats import ANYTHING
from citywatch.core.delegation.grant import parse_link
from citywatch.core.errors import CitywatchError, Code, Refused, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.identity.token import parse_compact
from citywatch.core.wire.token_grant import TOKEN_EXCHANGE
from citywatch.service.access import AccessKeys, AccessTokens
from citywatch.service.borrowed import MARGIN_MS, Borrowed, Lender
from citywatch.service.judged import Judged
from citywatch.service.outward import Outward, caller_of
from citywatch.service.ports import Append
from tests.simulation.test_chains import KEYS, Town

LENDER = Lender(
    resource="https://ledger.example/mcp", scopes=("mcp",), issuer="https://login.ledger.example", client="gateway",
    grant=TOKEN_EXCHANGE,
)  # fmt: skip


class Endpoint:
    """An authorization server that gives one token after the other, once it is let."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.seconds = 600
        self.status = 200
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, form: bytes) -> tuple[int, bytes]:
        self.asked.append({name: values[0] for name, values in parse_qs(form.decode()).items()})
        number = len(self.asked)
        await self.open.wait()
        told = {"access_token": f"lent-token-{number}", "token_type": "Bearer", "expires_in": self.seconds}
        return self.status, json.dumps(told if self.status == 200 else {"error": "invalid_grant"}).encode()

    def stated(self, at: int = -1) -> dict[str, Any]:
        token = self.asked[at]["subject_token"].encode()
        return dict(parse_compact(token, typ="JWT", members=frozenset({"kid"})).claims)


class Branch(Town):
    def __init__(self, *bound: str) -> None:
        super().__init__(*bound)
        signer = KeySigner(ec.generate_private_key(ec.SECP256R1()))
        self.endpoint = Endpoint()
        tokens = AccessTokens(
            issuer="https://gateway.city.example", resources={}, keys=lambda: AccessKeys(signer, (signer.public,)),
            clock=self.clock, chance=self.chance,
        )  # fmt: skip
        self.borrowed = Borrowed(
            tokens=tokens, lenders={"bank": (LENDER, self.endpoint)}, clock=self.clock, chance=self.chance,
            stands=self.enforcer.stands,
        )  # fmt: skip

    async def judged(self, name: str, chain: list[str]) -> Judged:
        return await self.enforcer.judge(self.asking(name, chain, of="orders"), self.papers(name))

    async def lent(self, name: str, chain: list[str]) -> str:
        judged = await self.judged(name, chain)
        return (await self.borrowed.of(judged, caller_of(judged))).text


async def test_what_is_stated_is_what_was_verified_and_is_for_that_authorization_server_alone() -> None:
    town = await Branch().begin()
    chain = town.hand(town.root, "clerk")
    await town.lent("clerk", chain)
    stated, asked = town.endpoint.stated(), town.endpoint.asked[0]
    assert stated["sub"] == "principal:anna"
    assert stated["act"] == {"sub": KEYS["clerk"].name, "act": {"sub": KEYS["router"].name}}
    assert (stated["aud"], stated["resource"]) == (LENDER.issuer, LENDER.resource)
    assert stated["client_id"] == "gateway"
    said = json.dumps([stated, asked])
    assert not any(link in said for link in chain)  # nothing that an agent showed us goes on
    introduced = parse_compact(
        asked["client_assertion"].encode(), typ="client-authentication+jwt", members=frozenset({"kid"})
    ).claims
    assert (introduced["iss"], introduced["sub"], introduced["aud"]) == ("gateway", "gateway", LENDER.issuer)


async def test_a_token_is_kept_for_one_agent_one_chain_and_no_longer_than_either_holds() -> None:
    town = await Branch().begin()
    one = town.hand(town.root, "clerk")
    assert await town.lent("clerk", one) == await town.lent("clerk", one) == "lent-token-1"
    assert await town.lent("router", town.root) == "lent-token-2"
    assert await town.lent("clerk", town.hand(town.root, "clerk")) == "lent-token-1"  # the same words, the same link
    other = [await town.grants.root(town.task, ANYTHING, 50_000, 3, "anna")]
    assert await town.lent("router", other) == "lent-token-3"
    town.endpoint.seconds = 20
    town.borrowed.forget()
    assert await town.lent("router", town.root) == "lent-token-4"
    town.clock.advance(20_000 - MARGIN_MS - 1)
    assert await town.lent("router", town.root) == "lent-token-4"
    town.clock.advance(1)
    assert await town.lent("router", town.root) == "lent-token-5"


async def test_a_token_that_outlives_its_chain_is_not_used_after_it() -> None:
    town = await Branch().begin()
    judged = await town.judged("router", town.root)
    token = await town.borrowed.of(judged, caller_of(judged))
    assert token.not_after == parse_link(town.root[0]).grant.not_after  # a minute; the answer says ten
    assert "lent-token" not in repr(token)


async def test_whoever_is_registered_anew_under_a_name_is_lent_nothing_of_the_one_before() -> None:
    town = await Branch().begin()
    assert await town.lent("router", town.root) == "lent-token-1"
    row = AgentRow(agent=KEYS["router"].name, keys=(KEYS["router"].thumb,), added_at=1)
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    assert await town.lent("router", town.root) == "lent-token-2"


async def test_of_several_calls_that_need_one_token_one_asks() -> None:
    town = await Branch().begin()
    judged = [await town.judged("router", town.root) for _ in range(5)]
    town.endpoint.open.clear()
    waiting = [asyncio.create_task(town.borrowed.of(one, caller_of(one))) for one in judged]
    while not town.endpoint.asked:
        await asyncio.sleep(0)
    waiting.pop().cancel()  # who goes away takes it from nobody
    town.endpoint.open.set()
    assert {one.text for one in await asyncio.gather(*waiting)} == {"lent-token-1"}
    assert len(town.endpoint.asked) == 1


async def test_a_failure_is_everybodys_and_is_kept_for_nobody() -> None:
    town = await Branch().begin()
    town.endpoint.status = 400
    with pytest.raises(Unavailable, match="status 400, invalid_grant"):
        await town.lent("router", town.root)
    town.endpoint.status = 200
    assert await town.lent("router", town.root) == "lent-token-2"


async def test_a_revocation_while_the_authorization_server_thinks_sends_nothing() -> None:
    town = await Branch().begin()
    judged = await town.judged("router", town.root)
    town.endpoint.open.clear()
    waiting = asyncio.create_task(town.borrowed.of(judged, caller_of(judged)))
    while not town.endpoint.asked:
        await asyncio.sleep(0)
    row = AgentRow(agent=KEYS["router"].name, keys=(KEYS["router"].thumb,), added_at=0, revoked=True)
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    town.borrowed.forget()
    town.endpoint.open.set()
    with pytest.raises(Refused) as refused:
        await waiting
    assert refused.value.code is Code.AGENT_REVOKED
    row = msgspec.structs.replace(row, revoked=False)
    await town.store.append(Append(puts=((agent_key("router"), format_row(row)),)))
    assert await town.lent("router", town.root) == "lent-token-2"  # what was being asked for was kept for nobody


async def test_a_call_that_was_not_let_through_is_lent_nothing() -> None:
    town = await Branch().begin()
    judged = await town.judged("router", town.root)
    with pytest.raises(CitywatchError, match="not let through"):
        await town.borrowed.of(msgspec.structs.replace(judged, decision=Deny(Reason(Code.NO_PERMIT))), "x")
    assert town.endpoint.asked == []


async def test_the_server_is_shown_what_was_lent_for_this_call() -> None:
    town = await Branch().begin()
    upstream = MemoryUpstream(lambda body: town.answer(body))
    judged = await town.judged("router", town.root)
    outward = Outward({"bank": upstream}, None, town.borrowed)
    await outward.send(judged, judged.call.body, {}, repeatable=False)
    assert [one and one.text for one in upstream.tokens] == ["lent-token-1"]
