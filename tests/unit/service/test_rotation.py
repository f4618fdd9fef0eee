"""The authority's keys are founded once and rotate without a moment in which honest papers are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.events import AuthorityChanged
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.service.authority import p256
from citywatch.service.rotation import (
    AuthorityRow,
    Change,
    Step,
    activate_generation,
    found_authority,
    load_authority,
    next_step,
    prepare_generation,
    retire_generation,
)
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, City, signer


async def founded() -> City:
    city = City()
    await found_authority(city.store, city.clock, "r1", city.generation, DOMAIN, "alice")
    return city


async def row_of(city: City) -> AuthorityRow:
    row = await load_authority(city.store, DOMAIN)
    assert row is not None
    return row


def accepted(verify: Callable[[], Credential]) -> bool:
    try:
        return bool(verify())
    except Refused as refused:
        if refused.code is not Code.CREDENTIAL_UNTRUSTED:
            raise
        return False


async def refusal(coroutine: object) -> Code:
    with pytest.raises(Refused) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value.code


async def test_an_authority_is_founded_once() -> None:
    city = City()
    assert await load_authority(city.store, DOMAIN) is None
    await found_authority(city.store, city.clock, "r1", city.generation, DOMAIN, "alice")
    row = await row_of(city)
    assert (row.active, row.sequence, row.generation(1)) == (1, 1, city.generation)
    assert row.bundle().certificates == city.bundle.certificates
    assert row.bundle().keys == city.bundle.keys
    again = found_authority(city.store, city.clock, "r1", city.found(1, signer(), signer()), DOMAIN, "mallory")
    assert await refusal(again) is Code.CONFLICT
    assert await row_of(city) == row


async def test_a_rotation_never_refuses_an_honest_paper() -> None:
    city = await founded()
    certificates, tokens = signer(), signer()
    following = city.found(2, certificates, tokens)
    old, new = city.authority, city.authority_of(following, certificates, tokens)
    now, key = city.clock.now_ms(), p256(signer().public)

    async def check(*, old_good: bool, new_good: bool) -> None:
        bundle = (await row_of(city)).bundle()
        for authority, good in ((old, old_good), (new, new_good)):
            token = authority.issue_jwt(BILLING, "A" * 43, GATEWAY, now=now, ttl=HOUR).value
            leaf = authority.issue_x509(BILLING, key, now=now, ttl=HOUR).value
            assert accepted(partial(verify_jwt_svid, token, bundle, GATEWAY)) is good
            assert accepted(partial(verify_x509_svid, [leaf], bundle)) is good

    await check(old_good=True, new_good=False)
    await prepare_generation(city.store, city.clock, "r1", following, DOMAIN, "alice")
    assert (await row_of(city)).active == 1
    await check(old_good=True, new_good=True)
    await activate_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")
    assert (await row_of(city)).active == 2
    await check(old_good=True, new_good=True)
    await retire_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice")
    await check(old_good=False, new_good=True)
    assert (await row_of(city)).sequence == 4
    changes = [event.change for event in await city.events() if isinstance(event, AuthorityChanged)]
    assert changes == ["founded", "prepared", "activated", "retired"]


async def test_each_step_is_due_when_every_paper_has_been_renewed_since_the_last() -> None:
    city = await founded()
    assert next_step(await row_of(city), HOUR) == Step(Change.PREPARED, 2, 0)
    await prepare_generation(city.store, city.clock, "r1", city.found(2, signer(), signer()), DOMAIN, "alice")
    assert next_step(await row_of(city), HOUR) == Step(Change.ACTIVATED, 2, city.clock.now_ms() + HOUR)
    city.clock.advance(HOUR)
    await activate_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")
    assert next_step(await row_of(city), HOUR) == Step(Change.RETIRED, 1, city.clock.now_ms() + HOUR)
    await retire_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice")
    assert next_step(await row_of(city), HOUR) == Step(Change.PREPARED, 3, 0)


async def test_a_step_at_its_time_voids_no_paper_that_was_ever_good() -> None:
    """The longest paper of the old generation, issued in the last instant before the new one signed."""
    city = await founded()
    following = (signer(), signer())
    await prepare_generation(city.store, city.clock, "r1", city.found(2, *following), DOMAIN, "alice")
    paper = city.authority.issue_x509(BILLING, p256(signer().public), now=city.clock.now_ms(), ttl=HOUR)
    await activate_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")
    assert next_step(await row_of(city), HOUR).due >= paper.not_after


async def test_a_row_from_before_steps_had_times_is_due_at_once() -> None:
    city = await founded()
    row = msgspec.structs.replace(await row_of(city), generations=(city.generation, city.found(2, signer(), signer())))
    old = msgspec.json.encode(row).replace(b',"since":%d' % row.since, b"")
    assert b"since" not in old
    assert next_step(msgspec.json.decode(old, type=AuthorityRow), HOUR) == Step(Change.ACTIVATED, 2, HOUR)


async def test_the_generation_that_signs_is_never_retired() -> None:
    city = await founded()
    assert await refusal(retire_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice")) is Code.CONFLICT


async def test_a_generation_signs_only_after_it_was_published() -> None:
    city = await founded()
    assert await refusal(activate_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")) is Code.CONFLICT


async def test_a_retired_generation_never_comes_back() -> None:
    city = await founded()
    await prepare_generation(city.store, city.clock, "r1", city.found(2, signer(), signer()), DOMAIN, "alice")
    await retire_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")
    again = city.found(2, signer(), signer())
    assert await refusal(prepare_generation(city.store, city.clock, "r1", again, DOMAIN, "alice")) is Code.CONFLICT
    assert await refusal(activate_generation(city.store, city.clock, "r1", 2, DOMAIN, "alice")) is Code.CONFLICT
    third = city.found(3, signer(), signer())
    await prepare_generation(city.store, city.clock, "r1", third, DOMAIN, "alice")
    await activate_generation(city.store, city.clock, "r1", 3, DOMAIN, "alice")
    assert await refusal(activate_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice")) is Code.CONFLICT


async def test_nothing_rotates_before_it_is_founded() -> None:
    city = City()
    for attempt in (
        prepare_generation(city.store, city.clock, "r1", city.found(2, signer(), signer()), DOMAIN, "alice"),
        activate_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice"),
        retire_generation(city.store, city.clock, "r1", 1, DOMAIN, "alice"),
    ):
        assert await refusal(attempt) is Code.CONFLICT
    with pytest.raises(Malformed):
        await found_authority(city.store, city.clock, "r1", city.found(2, signer(), signer()), DOMAIN, "alice")


async def test_of_two_that_found_at_once_one_does() -> None:
    city = City()
    outcomes = await asyncio.gather(
        *(
            found_authority(city.store, city.clock, "r1", city.found(1, signer(), signer()), DOMAIN, by)
            for by in ("alice", "bob")
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(type(None)) == 1
    assert len(await city.events()) == 1
