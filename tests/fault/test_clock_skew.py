"""Clocks that differ: of an agent and the gateway, and of the gateway and itself an hour ago.

What is forgiven is the leeway, to the millisecond, in both directions; minutes are not, and the refusal says which way.
"""

from __future__ import annotations

import msgspec
import pytest

from citywatch.core.errors import Code, Refused
from citywatch.core.http_signature import LONGEST_MS
from citywatch.core.identity.credential import check_time
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.main.assembly import LEEWAY_MS
from citywatch.service.authority import p256
from tests.identity_city import BILLING, GATEWAY, HOUR, LEEWAY, City, signer
from tests.signed import send
from tests.simulation.city import City as Judging
from tests.simulation.city import code_of

MINUTE = 60_000
EARLY, LATE = "credential_not_yet_valid", "credential_expired"


async def judging() -> Judging:
    """A city whose gates forgive what the gateway forgives."""
    city = Judging()
    city.enforcer.rules = msgspec.structs.replace(city.enforcer.rules, leeway_ms=LEEWAY_MS)
    await city.settle_in()
    return city


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [
        (LEEWAY_MS, HOUR, None),
        (LEEWAY_MS + 1, HOUR, EARLY),
        (-HOUR, -LEEWAY_MS + 1, None),
        (-HOUR, -LEEWAY_MS, LATE),
        (5 * MINUTE, HOUR, EARLY),
        (-HOUR, -5 * MINUTE, LATE),
    ],
)
async def test_a_call_is_forgiven_the_leeway_and_not_a_millisecond_more(
    begins: int, ends: int, told: str | None
) -> None:
    city = await judging()
    now = city.clock.now_ms()
    papers = city.credential(not_before=now + begins, not_after=now + ends)
    assert code_of(await city.ask(city.call(), papers)) == told


@pytest.mark.parametrize("kind", ["x509", "jwt", "wit"])
def test_papers_say_their_own_edges(kind: str) -> None:
    """Whatever kind of paper it is, the very edges that it was issued with are the ones that are asked about."""
    city = City()
    now, key = city.clock.now_ms(), signer()
    name, bundle = p256(key.public), city.bundle
    if kind == "x509":
        issued = city.authority.issue_x509(BILLING, name, now=now, ttl=HOUR)
        found = verify_x509_svid([issued.value], bundle)
    elif kind == "jwt":
        issued = city.authority.issue_jwt(BILLING, "k" * 43, GATEWAY, now=now, ttl=HOUR)
        found = verify_jwt_svid(issued.value, bundle, GATEWAY)
    else:
        issued = city.authority.issue_wit(BILLING, name, now=now, ttl=HOUR)
        bound = verify_wit_svid(issued.value, bundle)
        found = verify_x509_svid([city.authority.issue_x509(BILLING, name, now=now, ttl=HOUR).value], bundle)
        found = msgspec.structs.replace(found, not_before=bound.not_before, not_after=bound.not_after)
    assert issued.not_after == found.not_after
    for at, code in (
        (found.not_before - LEEWAY, None),
        (found.not_before - LEEWAY - 1, Code.CREDENTIAL_NOT_YET_VALID),
        (found.not_after + LEEWAY - 1, None),
        (found.not_after + LEEWAY, Code.CREDENTIAL_EXPIRED),
    ):
        if code is None:
            check_time(found, at, LEEWAY)
            continue
        with pytest.raises(Refused) as caught:
            check_time(found, at, LEEWAY)
        assert caught.value.code is code


@pytest.mark.parametrize(
    ("ahead", "told"),
    [
        (LEEWAY, None),
        (LEEWAY + 1000, Code.CREDENTIAL_NOT_YET_VALID),
        (5 * MINUTE, Code.CREDENTIAL_NOT_YET_VALID),
        (-LONGEST_MS - LEEWAY + 1000, None),
        (-LONGEST_MS - LEEWAY, Code.CREDENTIAL_EXPIRED),
        (-5 * MINUTE, Code.CREDENTIAL_EXPIRED),
    ],
)
async def test_a_message_of_an_agent_whose_clock_differs(ahead: int, told: Code | None) -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    here = city.clock.now_ms() // 1000 * 1000
    city.clock.advance(here - city.clock.now_ms())
    token = city.authority.issue_wit(BILLING, p256(key.public), now=here - HOUR, ttl=3 * HOUR).value
    city.clock.advance(ahead)
    sent = send(city, key, token=token)
    city.clock.advance(-ahead)
    bound = verify_wit_svid(token, city.bundle)
    if told is None:
        assert city.messages.verify(sent.head, bound).credential.agent == str(BILLING)
        return
    with pytest.raises(Refused) as caught:
        city.messages.verify(sent.head, bound)
    assert caught.value.code is told


@pytest.mark.parametrize(
    ("ahead", "told"), [(5 * MINUTE, Code.CREDENTIAL_NOT_YET_VALID), (-5 * MINUTE, Code.CREDENTIAL_EXPIRED)]
)
async def test_an_agent_whose_clock_is_minutes_off_renews_nothing_and_is_told_which_way(ahead: int, told: Code) -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    city.clock.advance(ahead)
    proof = city.proof(key)
    city.clock.advance(-ahead)
    before = len(await city.events())
    with pytest.raises(Refused) as caught:
        await city.issuer.renew(proof)
    assert caught.value.code is told
    assert len(await city.events()) == before, "nothing was issued"
    assert await city.issuer.renew(city.proof(key, nonce="m" * 16)), "and the right time is enough"


async def test_a_gateway_whose_clock_went_back_makes_nothing_old_new() -> None:
    city, key = City(), signer()
    await city.admin.add_agent("billing", key.public, "alice")
    token = city.authority.issue_wit(BILLING, p256(key.public), now=city.clock.now_ms() - HOUR, ttl=3 * HOUR).value
    proof, sent = city.proof(key), send(city, key, token=token)
    bound = verify_wit_svid(token, city.bundle)
    await city.issuer.renew(proof)
    await city.messages.take(city.messages.verify(sent.head, bound), sent.body)
    for back in (0, 1, LEEWAY - 1000):
        city.clock.advance(-back)
        with pytest.raises(Refused) as again:
            await city.issuer.renew(proof)
        assert again.value.code is Code.CREDENTIAL_EXPIRED
        with pytest.raises(Refused) as replayed:
            await city.messages.take(city.messages.verify(sent.head, bound), sent.body)
        assert replayed.value.code is Code.CREDENTIAL_EXPIRED
        city.clock.advance(back)
