"""Papers leave only for registered agents, only on record; a proof brings fresh ones, once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from citywatch.core.enforce.context import Context, context_key, home_of
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.events import CredentialIssued, KeyReplaced
from citywatch.core.identity.bundle import parse_bundle
from citywatch.core.identity.credential import Kind
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.papers import (
    Papers,
    format_introduction,
    format_papers,
    parse_introduction,
    parse_papers,
)
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.identity.x509 import verify_gateway_svid, verify_x509_svid
from citywatch.core.label import Label
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.service.authority import p256
from citywatch.service.ports import Append
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, City, signer


async def refusal(coroutine: object) -> Code:
    with pytest.raises(Refused) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value.code


async def renewed(city: City, body: bytes) -> Papers:
    return parse_papers(await city.issuer.renew(body), DOMAIN)


async def test_a_proof_brings_papers_that_hold() -> None:
    city, key = City(), signer()
    row = await city.admin.add_agent("billing", key.public, "alice")
    papers = await renewed(city, city.proof(key))
    by_token = verify_jwt_svid(papers.token, city.bundle, GATEWAY)
    by_certificate = verify_x509_svid([papers.certificate], city.bundle)
    assert by_token.agent == by_certificate.agent == str(BILLING)
    assert by_token.key == by_certificate.key == row.keys[0]
    assert (by_token.not_after, by_certificate.not_after) == (papers.token_until, papers.certificate_until)
    assert papers.bundle == city.bundle
    assert parse_papers(format_papers(papers), DOMAIN) == papers


async def test_each_paper_is_on_the_disk_before_it_leaves() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    papers = await renewed(city, city.proof(key))
    city.store = city.store.after_power_loss()
    issued = [event for event in await city.events() if isinstance(event, CredentialIssued)]
    digests = {
        verify_x509_svid([papers.certificate], city.bundle).digest: Kind.X509.value,
        verify_jwt_svid(papers.token, city.bundle, GATEWAY).digest: Kind.JWT.value,
        verify_wit_svid(papers.bound.encode(), city.bundle).digest: Kind.WIT.value,
    }
    assert {event.digest: event.kind for event in issued} == digests


async def test_a_proof_serves_once() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    body = city.proof(key)
    await renewed(city, body)
    assert await refusal(city.issuer.renew(body)) is Code.CREDENTIAL_EXPIRED
    await renewed(city, city.proof(key, nonce="m" * 16))


async def test_of_one_proof_shown_many_times_at_once_one_serves() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    body = city.proof(key)
    outcomes = await asyncio.gather(*(city.issuer.renew(body) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, bytes) for outcome in outcomes) == 1
    assert len([event for event in await city.events() if isinstance(event, CredentialIssued)]) == 3


async def test_the_revoked_and_the_unknown_get_nothing() -> None:
    city, key = City(), signer()
    assert await refusal(city.issuer.renew(city.proof(key))) is Code.KEY_NOT_REGISTERED
    await city.admin.add_agent("billing", key.public, "alice")
    await city.admin.revoke_agent("billing", "stolen", "alice")
    assert await refusal(city.issuer.renew(city.proof(key))) is Code.AGENT_REVOKED
    assert await refusal(city.issuer.token("billing")) is Code.AGENT_REVOKED
    assert await refusal(city.issuer.certificate("billing", p256(key.public))) is Code.AGENT_REVOKED
    assert await refusal(city.issuer.token("nobody")) is Code.AGENT_UNKNOWN
    assert not [event for event in await city.events() if isinstance(event, CredentialIssued)]


@pytest.mark.parametrize("head_start", range(4))
@pytest.mark.parametrize("by", ["proof", "operator"])
async def test_a_revocation_in_the_same_moment_leaves_no_paper_behind_it(head_start: int, by: str) -> None:
    """Whatever the order, no paper is on record after the revocation."""
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")

    async def later() -> None:
        for _ in range(head_start):
            await asyncio.sleep(0)
        await city.admin.revoke_agent("billing", "stolen", "alice")

    issuing = city.issuer.renew(city.proof(key)) if by == "proof" else city.issuer.token("billing")
    await asyncio.gather(later(), issuing, return_exceptions=True)
    kinds = [type(event).__name__ for event in await city.events()]
    assert kinds[-1] == "AgentRevoked"


async def test_the_operator_may_issue_for_a_registered_key() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    token = await city.issuer.token("billing")
    assert verify_jwt_svid(token.value, city.bundle, GATEWAY).agent == str(BILLING)
    assert token.not_after == city.clock.now_ms() + HOUR // 4
    certificate = await city.issuer.certificate("billing", p256(key.public))
    assert verify_x509_svid([certificate.value], city.bundle).key == thumbprint(p256(key.public))
    assert await refusal(city.issuer.certificate("billing", p256(signer().public))) is Code.KEY_NOT_REGISTERED


async def test_the_gateways_own_certificate_is_on_record() -> None:
    city = City()
    issued = await city.issuer.gateway(p256(signer().public), ["localhost"], HOUR)
    assert verify_gateway_svid([issued.value], city.bundle).gateway == GATEWAY
    (event,) = await city.events()
    assert isinstance(event, CredentialIssued)
    assert (event.agent, event.digest) == (GATEWAY, issued.digest)


async def test_a_key_is_changed_and_the_old_one_void_at_once() -> None:
    city, old, new = City(), signer(), signer()
    await city.admin.add_agent("billing", old.public, "alice")
    papers = await renewed(city, city.proof(old, following=new))
    assert verify_x509_svid([papers.certificate], city.bundle).key == thumbprint(p256(new.public))
    assert verify_jwt_svid(papers.token, city.bundle, GATEWAY).key == thumbprint(p256(new.public))
    ((_, row),) = await city.admin.list_agents()
    assert row.keys == (thumbprint(p256(new.public)),)
    assert any(isinstance(event, KeyReplaced) for event in await city.events())
    assert await refusal(city.issuer.renew(city.proof(old, nonce="m" * 16))) is Code.KEY_NOT_REGISTERED
    await renewed(city, city.proof(new))
    assert await refusal(city.admin.add_agent("other", old.public, "alice")) is Code.CONFLICT


async def test_a_key_that_was_ever_registered_is_no_next_key() -> None:
    city, first, second = City(), signer(), signer()
    await city.admin.add_agent("billing", first.public, "alice")
    await city.admin.add_agent("other", second.public, "alice")
    assert await refusal(city.issuer.renew(city.proof(first, following=second))) is Code.CONFLICT


async def test_one_agents_key_is_no_proof_for_another() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    await city.admin.add_agent("admin", signer().public, "alice")
    forged = city.proof(key, agent=AgentId(DOMAIN, "admin"))
    assert await refusal(city.issuer.renew(forged)) is Code.KEY_NOT_REGISTERED


async def test_nothing_leaves_when_it_cannot_be_written_down() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    city.store.broken = Unavailable(Code.STORE_UNAVAILABLE, "the disk is full")
    for attempt in (city.issuer.renew(city.proof(key)), city.issuer.token("billing")):
        with pytest.raises(Unavailable):
            await attempt


async def test_the_bundle_is_public_and_the_introduction_has_it() -> None:
    city = City()
    assert parse_bundle(city.issuer.bundle(), DOMAIN) == city.bundle
    introduction = city.issuer.introduction(BILLING)
    assert parse_introduction(format_introduction(introduction)) == introduction


async def test_a_new_key_takes_over_all_that_the_old_one_received() -> None:
    city, key, following, third = City(), signer(), signer(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    old, new, last = (context_key(str(BILLING), thumbprint(p256(one.public))) for one in (key, following, third))
    label = Label(frozenset(("outside:mail/inbox",)), None)
    received = Context(label=label, items=3)
    await city.store.append(Append(puts=((old, msgspec.json.encode(received)),)))
    await renewed(city, city.proof(key))
    assert not (await city.store.load((new,), ())).rows
    await renewed(city, city.proof(key, nonce="m" * 16, following=following))
    await renewed(city, city.proof(following, nonce="o" * 16, following=third))
    rows = (await city.store.load((new, last), ())).rows
    for one in (new, last):
        context = msgspec.json.decode(rows[one].value, type=Context)
        assert (context.label, context.items) == (label, 3)
        assert home_of(one, context) == old


async def test_what_enters_while_the_key_changes_is_not_lost() -> None:
    """The old context is read in the transaction that changes the key: a row that moved makes it look again."""
    city, key, following = City(), signer(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    old, new = (context_key(str(BILLING), thumbprint(p256(one.public))) for one in (key, following))
    append = city.store.append

    async def meddled(change: Append) -> object:
        city.store.append = append  # type: ignore[method-assign]
        await append(Append(puts=((old, msgspec.json.encode(Context(items=1))),)))
        return await append(change)

    city.store.append = meddled  # type: ignore[method-assign, assignment]
    await renewed(city, city.proof(key, following=following))
    row = (await city.store.load((new,), ())).rows[new]
    assert msgspec.json.decode(row.value, type=Context).items == 1
