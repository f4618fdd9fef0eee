"""Replay: what the log holds is enough to decide each call again, and to say so when it is not."""

from __future__ import annotations

import pytest

from citywatch.core import events
from citywatch.core.call import Allow
from citywatch.core.enforce.facts import facts_of
from citywatch.core.enforce.verify import Authority
from citywatch.core.log.entry import decode_event, encode_event
from citywatch.core.policy.decide import decide
from citywatch.main.replay import rebuild
from citywatch.service.ports import NewEntry
from tests.simulation.city import City

POLICY_CODES = (None, "no_permit", "forbidden", "policy_error")


async def replayed(city: City) -> list[tuple[events.Decided, str | None, tuple[str, ...]]]:
    """Each decision that policy made, and what today's rules say of the recorded call at the recorded time."""
    found: list[tuple[events.Decided, str | None, tuple[str, ...]]] = []
    for index, leaf in enumerate(await city.store.entries(0, 10**6)):
        event = decode_event(leaf)
        if not isinstance(event, events.Decided) or event.code not in POLICY_CODES:
            continue
        payload = await city.store.payload(index)
        if payload is None:
            found.append((event, "unverifiable", ()))
            continue
        rules = city.enforcer.rules
        name = event.agent.rpartition("/")[2]
        authority = Authority(agent=event.agent, name=name, key=event.key, entity=rules.agent(event.agent, name))
        decision = decide(rules.policies, facts_of(rebuild(event, payload.body), authority, rules, event.at))
        if isinstance(decision, Allow):
            found.append((event, None, decision.policies))
        else:
            found.append((event, decision.reason.code.value, decision.reason.policies))
    return found


@pytest.fixture
async def busy() -> City:
    city = await City().settle_in()
    for amount in (1, 100, 101, 10**9):
        city.clock.advance(1_000)
        await city.pay(amount)
    await city.ask(city.call())
    await city.ask(city.call("ping", None))
    return city


async def test_replay_with_the_recorded_time_and_payload_gives_the_recorded_decisions(busy: City) -> None:
    again = await replayed(busy)
    assert len(again) == 6
    assert {event.decision for event, _, _ in again} == {"allow", "deny"}
    for event, code, policies in again:
        assert (code, policies) == (event.code, event.policies)


async def test_an_erased_payload_replays_as_unverifiable_never_as_agreement(busy: City) -> None:
    (event, _, _), *_ = await replayed(busy)
    leaves = await busy.store.entries(0, 10**6)
    index = next(at for at, leaf in enumerate(leaves) if event.call.encode() in leaf)
    erased = events.Erased(at=0, replica="r1", index=index, by="an operator", reason="asked to")
    await busy.store.erase(index, NewEntry(encode_event(erased)))
    assert (await replayed(busy))[0][1] == "unverifiable"


async def test_other_policies_replay_differently(busy: City) -> None:
    """The comparison can fail: a stricter policy set disagrees with what was recorded."""
    stricter = City('@id("none") forbid(principal, action, resource);')
    busy.enforcer.rules = stricter.enforcer.rules
    assert all(code == "forbidden" for _, code, _ in await replayed(busy))
