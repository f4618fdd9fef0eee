"""Invitations: one agent joins by each, once, with a key that it holds; whoever guesses learns and costs nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.keys import KeySigner
from citywatch.core import events
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.joining import format_invitation, parse_joining
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.papers import parse_papers
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.service.authority import Authority, p256
from citywatch.service.joining import (
    GUESSES_A_MINUTE,
    REMEMBERED_MS,
    Invitations,
    drop_invitations,
    prove_joining,
)
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, LEEWAY, City, signer


class Town(City):
    def __init__(self) -> None:
        super().__init__()
        self.invitations = self.replica()
        self.key = signer()

    def replica(self) -> Invitations:
        return Invitations(
            store=self.store,
            clock=self.clock,
            chance=self.chance,
            replica="r1",
            domain=DOMAIN,
            issuer=self.issuer,
            audience=GATEWAY,
            leeway_ms=LEEWAY,
        )

    async def invited(self) -> str:
        return await self.invitations.invite("billing", HOUR, "operator:ann")

    def asks(
        self, invitation: str, *, agent: AgentId = BILLING, key: KeySigner | None = None, audience: str = GATEWAY
    ) -> bytes:
        now = self.clock.now_ms()
        return prove_joining(agent, audience, invitation, key or self.key, now=now, nonce="n" * 16)

    async def keys(self) -> tuple[str, ...]:
        rows = (await self.store.load([agent_key("billing")], [])).rows
        row = rows.get(agent_key("billing"))
        return () if row is None else parse_agent_row(row.value).keys


async def refusal(asking: Awaitable[object]) -> tuple[Code, str]:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value.code, caught.value.detail


async def test_whoever_was_invited_joins_and_renews_as_anybody() -> None:
    town = Town()
    text = await town.invited()
    papers = parse_papers(await town.invitations.join(town.asks(text)), DOMAIN)
    thumb = thumbprint(p256(town.key.public))
    found = (
        verify_x509_svid([papers.certificate], town.bundle),
        verify_jwt_svid(papers.token, town.bundle, GATEWAY),
    )
    assert {(one.agent, one.key) for one in found} == {(str(BILLING), thumb)}
    assert verify_wit_svid(papers.bound.encode(), town.bundle).thumbprint == thumb
    assert await town.keys() == (thumb,)
    assert parse_papers(await town.issuer.renew(town.proof(town.key)), DOMAIN).certificate
    kinds = [type(one).__name__ for one in await town.events()]
    assert kinds[:2] == ["AgentInvited", "AgentAdded"]
    added = next(one for one in await town.events() if isinstance(one, events.AgentAdded))
    assert (added.by, added.key) == ("invitation of operator:ann", thumb)


async def test_an_invitation_is_kept_as_its_digest() -> None:
    town = Town()
    text = await town.invited()
    rows = await town.store.scan("join")
    everything = b"".join(row.value + row_id.encode() for row_id, row in rows) + b"".join(
        await town.store.entries(0, 99)
    )
    assert text.encode() not in everything
    assert text.removeprefix("cwjoin_").encode() not in everything


async def test_an_invitation_is_good_once() -> None:
    town = Town()
    text = await town.invited()
    body = town.asks(text)
    await town.invitations.join(body)
    for again in (body, town.asks(text, key=signer())):
        code, detail = await refusal(town.replica().join(again))
        assert (code, "was used before" in detail) == (Code.CREDENTIAL_EXPIRED, True)
    await town.admin.revoke_agent("billing", "stolen", "ann")
    assert (await refusal(town.invitations.join(town.asks(text, key=signer()))))[0] is Code.CREDENTIAL_EXPIRED
    assert await town.keys() == (thumbprint(p256(town.key.public)),)


async def test_of_two_that_use_it_at_once_one_joins() -> None:
    town = Town()
    text = await town.invited()
    keys = [signer() for _ in range(8)]
    tried = await asyncio.gather(
        *(town.replica().join(town.asks(text, key=key)) for key in keys), return_exceptions=True
    )
    assert [type(one) for one in tried].count(bytes) == 1
    assert len(await town.keys()) == 1


async def test_it_is_for_one_agent_for_its_time_and_for_this_gateway() -> None:
    town = Town()
    text = await town.invited()
    other = AgentId(DOMAIN, "other")
    assert (await refusal(town.invitations.join(town.asks(text, agent=other))))[0] is Code.CREDENTIAL_BAD_NAME
    foreign = AgentId("else.example", "billing")
    assert (await refusal(town.invitations.join(town.asks(text, agent=foreign))))[0] is Code.CREDENTIAL_WRONG_DOMAIN
    elsewhere = town.asks(text, audience="spiffe://else.example/gateway")
    assert (await refusal(town.invitations.join(elsewhere)))[0] is Code.CREDENTIAL_WRONG_AUDIENCE
    town.clock.advance(HOUR - 1)
    early = town.asks(text)
    town.clock.advance(1)
    code, detail = await refusal(town.invitations.join(early))
    assert (code, detail) == (Code.CREDENTIAL_EXPIRED, "the invitation has expired")
    assert await town.keys() == ()


async def test_a_proof_is_of_its_key_its_invitation_and_its_minute() -> None:
    """Whoever sees a request pass, or an invitation, has to have both and the key."""
    town = Town()
    text, thief = await town.invited(), signer()
    request = json.loads(town.asks(text))
    stolen = json.loads(town.asks(text, key=thief))
    swapped = json.dumps({**request, "key": stolen["key"]}).encode()
    assert (await refusal(town.invitations.join(swapped)))[0] is Code.CREDENTIAL_UNTRUSTED
    other = await town.invitations.invite("other", HOUR, "operator:ann")
    spliced = json.dumps({**json.loads(town.asks(other, key=thief)), "invitation": text}).encode()
    code, detail = await refusal(town.invitations.join(spliced))
    assert (code, detail) == (Code.CREDENTIAL_UNTRUSTED, "the proof is for another invitation")
    old = town.asks(text)
    town.clock.advance(60_000 + LEEWAY)
    assert (await refusal(town.invitations.join(old)))[0] is Code.CREDENTIAL_EXPIRED
    assert await town.invitations.join(town.asks(text))


async def test_who_guesses_is_held_up_and_who_was_invited_is_not() -> None:
    town = Town()
    text = await town.invited()
    guesses = [format_invitation(bytes([number]) * 32) for number in range(GUESSES_A_MINUTE + 5)]
    codes = [(await refusal(town.replica().join(town.asks(guess))))[0] for guess in guesses]
    assert codes == [Code.CREDENTIAL_UNTRUSTED] * GUESSES_A_MINUTE + [Code.RATE_EXCEEDED] * 5
    assert await town.invitations.join(town.asks(text))
    town.clock.advance(60_000)
    assert (await refusal(town.invitations.join(town.asks(guesses[0]))))[0] is Code.CREDENTIAL_UNTRUSTED


async def test_a_guess_tells_nobody_whether_there_is_such_an_agent() -> None:
    town = Town()
    await town.admin.add_agent("billing", signer().public, "ann")
    guess = format_invitation(b"g" * 32)
    told = [
        await refusal(town.invitations.join(town.asks(guess, agent=AgentId(DOMAIN, name))))
        for name in ("billing", "no")
    ]
    assert told[0] == told[1]


async def test_a_name_that_is_taken_stopped_or_in_quarantine_is_not_given_away() -> None:
    town = Town()
    text = await town.invited()
    await town.admin.add_agent("billing", signer().public, "ann")
    assert (await refusal(town.invitations.join(town.asks(text))))[0] is Code.CONFLICT
    assert (await refusal(town.invited()))[0] is Code.CONFLICT
    await town.admin.revoke_agent("billing", "gone", "ann")
    revoked = await town.keys()
    await town.invitations.join(town.asks(text))
    assert await town.keys() != revoked
    with pytest.raises(Malformed):
        await town.invitations.invite("no/name", HOUR, "ann")


async def test_a_key_that_was_ever_registered_does_not_come_back() -> None:
    town = Town()
    await town.admin.add_agent("old", town.key.public, "ann")
    await town.admin.revoke_agent("old", "stolen", "ann")
    assert (await refusal(town.invitations.join(town.asks(await town.invited()))))[0] is Code.CONFLICT


async def test_an_invitation_can_be_taken_back_and_is_forgotten_in_time() -> None:
    town = Town()
    first, second = await town.invited(), await town.invited()
    await town.invitations.join(town.asks(first))
    assert await town.invitations.withdraw("billing") == 1
    await town.admin.revoke_agent("billing", "gone", "ann")
    assert (await refusal(town.invitations.join(town.asks(second, key=signer()))))[0] is Code.CREDENTIAL_UNTRUSTED
    town.clock.advance(HOUR + REMEMBERED_MS - 1)
    assert await drop_invitations(town.store, town.clock.now_ms()) == 0
    town.clock.advance(1)
    assert await drop_invitations(town.store, town.clock.now_ms()) == 1
    assert await town.store.scan("join") == []


async def test_while_the_authority_is_down_an_invitation_is_not_spent() -> None:
    town = Town()
    text, works = await town.invited(), town.issuer._authority

    def away() -> Authority:
        raise Unavailable(Code.STORE_UNAVAILABLE, "the keys are away")

    town.issuer._authority = away
    with pytest.raises(Unavailable):
        await town.invitations.join(town.asks(text))
    assert await town.keys() == ()
    town.issuer._authority = works
    assert await town.invitations.join(town.asks(text))


BASE = json.loads(prove_joining(BILLING, GATEWAY, format_invitation(b"x" * 32), signer(), now=0, nonce="n" * 16))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from([*BASE, "x"]),
            st.one_of(st.sampled_from(list(BASE.values())), st.text(max_size=20), st.none(), st.integers()),
            max_size=4,
        ),
    )
)
def test_any_bytes_are_a_request_or_refused(drawn: bytes | dict[str, Any]) -> None:
    body = drawn if isinstance(drawn, bytes) else json.dumps(drawn).encode()
    try:
        found = parse_joining(body, DOMAIN)
    except Refused:
        return
    assert found.agent == BILLING
