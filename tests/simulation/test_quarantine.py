"""An agent is put aside: it is refused, and what it can have shaped entitles nobody to anything."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.core import events
from citywatch.core.enforce.context import Context, context_key, written_key
from citywatch.core.enforce.spread import Roots, Touch
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.label import Label, is_above
from citywatch.core.log.entry import encode_event
from citywatch.main.blast import lines
from citywatch.main.replay import rebuild
from citywatch.service.admin import Admin
from citywatch.service.blast import Found, blast
from citywatch.service.clearing import Clearing
from citywatch.service.fold import IDLE
from citywatch.service.ports import Append, NewEntry
from citywatch.service.quarantine import Quarantine
from tests.simulation.city import DOMAIN, code_of
from tests.simulation.flow_city import ANN
from tests.simulation.test_blast import Town, agents_of, spiffe


def quarantine(town: Town) -> Quarantine:
    async def spread(roots: Roots) -> tuple[Touch, ...]:
        return await blast(town.store, town.enforcer.rules, roots, rebuild)

    return Quarantine(store=town.store, clock=town.clock, replica="another process", blast=spread)


async def asked(town: Town, name: str, tool: str, **arguments: Any) -> str | None:
    call = town.call(name=tool, arguments=arguments, agent=spiffe(name))
    return code_of(await town.ask(call, town.credential(agent=spiffe(name), key=town.keys[name])))


async def context_of(town: Town, name: str) -> Context:
    key = context_key(spiffe(name), town.keys[name])
    return msgspec.json.decode((await town.store.load((key,), ())).rows[key].value, type=Context)


async def written(town: Town, thing: str) -> Label:
    key = written_key("bank", thing)
    return msgspec.json.decode((await town.store.load((key,), ())).rows[key].value, type=Label)


@pytest.fixture
async def town() -> Town:
    """The courier wrote `plan`, the cook read it; the clerk read another thing."""
    town = await Town().open()
    await town.do("courier", "inbox", "")
    await town.do("courier", "write", "plan")
    await town.do("cook", "read", "plan")
    await town.do("clerk", "read", "another")
    return town


async def test_the_agent_is_refused_and_who_consumed_it_is_named(town: Town) -> None:
    assert await asked(town, "courier", "list") is None
    frozen = await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await asked(town, "courier", "list") == "agent_quarantined"
    assert agents_of(frozen.touches) == {"courier", "cook"}
    assert frozen.rows >= 3
    assert await asked(town, "clerk", "read", id="another") is None


async def test_what_it_wrote_counts_as_shaped_by_anybody(town: Town) -> None:
    before = await written(town, "plan")
    await quarantine(town).lay("courier", 0, "op", "it lies")
    after = await written(town, "plan")
    assert after.origins is None
    assert is_above(after, before)


async def test_a_context_that_met_it_holds_nothing_any_more_and_others_stay(town: Town) -> None:
    before, other = await context_of(town, "cook"), await context_of(town, "clerk")
    assert before.items
    await quarantine(town).lay("courier", 0, "op", "it lies")
    after = await context_of(town, "cook")
    assert (after.items, after.label.origins) == (0, None)
    assert is_above(after.label, before.label)
    assert await context_of(town, "clerk") == other


async def test_what_a_consumer_was_told_by_a_person_entitles_to_nothing_until_the_next_task() -> None:
    town = await Town().open()
    await town.do("courier", "inbox", "")
    await town.do("courier", "write", "plan")
    await town.tasks.start("alice", "cook", f"Pay {ANN}", "test", None)
    await town.do("cook", "read", "plan")
    assert await asked(town, "cook", "pay", to=ANN) is None
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await asked(town, "cook", "pay", to=ANN) == "approval_required"
    await town.tasks.start("alice", "cook", f"Pay {ANN}", "test", None)
    assert await asked(town, "cook", "pay", to=ANN) is None


async def test_parties_that_it_made_known_are_known_no_more() -> None:
    town = await Town().open()
    await town.do("courier", "payees", "")
    assert await town.store.scan("party")
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await town.store.scan("party") == []


async def test_what_came_before_is_left_alone(town: Town) -> None:
    since = len(await town.events())
    before = await written(town, "plan")
    await town.do("courier", "write", "other")
    await quarantine(town).lay("courier", since, "op", "it lies")
    assert await written(town, "plan") == before
    assert (await written(town, "other")).origins is None


async def test_it_is_lifted_and_what_was_frozen_stays_so(town: Town) -> None:
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await quarantine(town).lift("courier", "op", "it was told to") == spiffe("courier")
    assert await asked(town, "courier", "list") is None
    assert (await written(town, "plan")).origins is None
    told = [
        event
        for event in await town.events()
        if isinstance(event, events.Quarantined | events.Frozen | events.QuarantineLifted)
    ]
    assert [type(event) for event in told] == [events.Quarantined, events.Frozen, events.QuarantineLifted]
    assert (told[0].agent, told[0].by) == (spiffe("courier"), "op")


async def test_who_dies_between_the_steps_has_refused_the_agent_and_the_next_freezes_the_rest(town: Town) -> None:
    append, steps = town.store.append, [0]

    async def dying(asked: Append) -> Any:
        steps[0] += 1
        if steps[0] > 1:
            raise Unavailable(Code.STORE_UNAVAILABLE)
        return await append(asked)

    town.store.append = dying  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable):
        await quarantine(town).lay("courier", 0, "op", "it lies")
    town.store.append = append  # type: ignore[method-assign]
    assert await asked(town, "courier", "list") == "agent_quarantined"
    assert (await quarantine(town).lay("courier", 0, "op", "it lies")).rows
    assert (await written(town, "plan")).origins is None
    assert (await quarantine(town).lay("courier", 0, "op", "it lies")).rows == 0


async def test_who_reads_between_two_looks_is_found_by_the_second(town: Town) -> None:
    append, steps = town.store.append, [0]

    async def read_meanwhile(asked: Append) -> Any:
        if any(b'"frozen"' in entry.leaf for entry in asked.entries) and not steps[0]:
            steps[0] = 1
            await town.do("clerk", "read", "plan")
        return await append(asked)

    town.store.append = read_meanwhile  # type: ignore[assignment,method-assign]
    frozen = await quarantine(town).lay("courier", 0, "op", "it lies")
    assert steps[0] == 1
    assert agents_of(frozen.touches) == {"courier", "cook", "clerk"}
    assert (await context_of(town, "clerk")).items == 0


async def test_a_stranger_and_a_reasonless_quarantine_are_refused(town: Town) -> None:
    with pytest.raises(Refused) as refused:
        await quarantine(town).lay("nobody", 0, "op", "x")
    assert refused.value.code is Code.AGENT_UNKNOWN
    with pytest.raises(Malformed, match="has a reason"):
        await quarantine(town).lay("courier", 0, "op", " ")


async def test_a_name_in_quarantine_gets_no_new_key(town: Town) -> None:
    admin = Admin(store=town.store, clock=town.clock, replica="r2", domain=DOMAIN)
    await quarantine(town).lay("courier", 0, "op", "it lies")
    await admin.revoke_agent("courier", "turned", "op")
    assert await asked(town, "courier", "list") == "agent_revoked"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Refused, match="is in quarantine: lift that first"):
        await admin.add_agent("courier", der, "op")
    await quarantine(town).lift("courier", "op", "found out")
    assert (await admin.add_agent("courier", der, "op")).refusal is None


async def test_what_was_let_down_of_a_context_comes_back_with_it(town: Town) -> None:
    clearing = Clearing(store=town.store, clock=town.clock, replica="r2")
    await clearing.release("cook", "op", "it was read", readers=True)
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert (await context_of(town, "cook")).label.origins is None


async def test_what_happened_after_it_is_not_taken_for_known_when_it_is_judged_again(town: Town) -> None:
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert "frozen" not in IDLE
    assert {"quarantined", "quarantine_lifted"} <= IDLE


async def erase_all(town: Town) -> None:
    for index in range(len(await town.events())):
        if await town.store.payload(index) is not None:
            erased = events.Erased(at=0, replica="r1", index=index, by="op", reason="asked to")
            await town.store.erase(index, NewEntry(encode_event(erased)))


async def test_parties_of_a_reply_that_was_erased_are_known_no_more_and_it_is_said() -> None:
    """The attack: what made an account known is erased before anybody looks, and the account stays known."""
    town = await Town().open()
    await town.do("courier", "payees", "")
    assert await town.store.scan("party")
    await erase_all(town)
    frozen = await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await town.store.scan("party") == []
    (made,) = [one for one in frozen.touches if one.kind == "party"]
    assert (made.name, made.server) == ("", "bank")
    told = Found(told=("x",), roots=Roots())
    assert any("nobody can say whom any more" in line for line in lines(told, frozen.touches))
    assert (await quarantine(town).lay("courier", 0, "op", "again")).rows == 0


async def test_parties_stay_known_where_what_was_erased_is_not_the_agents() -> None:
    town = await Town().open()
    await town.do("courier", "inbox", "")
    await town.do("clerk", "payees", "")
    await erase_all(town)
    known = await town.store.scan("party")
    assert known
    await quarantine(town).lay("courier", 0, "op", "it lies")
    assert await town.store.scan("party") == known
