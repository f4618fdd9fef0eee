"""What some may not see is let out in one call, by somebody who may see it: only where a manifest says so.

Each attack is one that a yes of the wrong kind would let through.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Effect
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.readers import owners
from citywatch.core.errors import Code, Malformed
from citywatch.core.events import Decided, LabelReleased
from citywatch.core.flow.history import History
from citywatch.core.label import Label, join_all
from citywatch.core.manifest import Output, Principal, ToolManifest
from citywatch.service.hindsight import agrees
from citywatch.service.ports import Append
from tests.simulation.city import code_of
from tests.simulation.flow_city import MANIFESTS, TOOLS, FlowCity
from tests.simulation.test_why import judged

REFUSED = Code.NOT_A_READER.value
ASKED = Code.APPROVAL_REQUIRED.value
PAY = [{"id": "r1", "name": "Dora", "pay": 91234}]
TO = "bob@acme.example"
TEXT = "Dora earns 91234."
ALICE = ("hr", "principal:alice")
GUEST = ("hr", "principal:guest")


async def city(readers: tuple[str, ...] = ALICE, *, asks: bool = True, prompt: str = f"Write to {TO}") -> FlowCity:
    here = FlowCity()
    manifests: dict[str, ToolManifest] = {
        **MANIFESTS,
        "send": msgspec.structs.replace(MANIFESTS["send"], discloses=asks),
        "salaries": msgspec.structs.replace(
            MANIFESTS["salaries"],
            output={"$": Output(trusted=True), "$[*].pay": Output(trusted=True, readers=readers)},
        ),
        "inbox": ToolManifest(effect=Effect.READ, output={"$": Output(trusted=True, readers=ALICE)}),
        "payees": ToolManifest(effect=Effect.READ, output={"$": Output(trusted=True, readers=GUEST)}),
    }
    people = {**here.configured.principals, "guest": Principal(name="guest", may=("bank/*",))}
    here.configured = msgspec.structs.replace(here.configured, servers={"bank": manifests}, principals=people)
    here.enforcer.rules = here.tasks._rules = here.rules(*TOOLS)
    await here.open()
    await here.task(prompt)
    await here.read("salaries", PAY)
    return here


async def sends(here: FlowCity, text: Any = TEXT) -> str | None:
    return code_of(await here.act("send", to=TO, text=text))


async def approve(here: FlowCity, principal: str = "alice", **more: Any) -> None:
    (ticket,) = await here.tickets.pending()
    await here.tickets.answer(ticket.id, True, "ann at the desk", "bob is her new manager", principal=principal, **more)


async def test_who_may_see_it_lets_it_out_once_in_the_call_that_was_shown() -> None:
    here = await city()
    assert await sends(here) == ASKED
    (ticket,) = await here.tickets.pending()
    assert ticket.of == ("alice",)
    assert "may not see" in ticket.why
    await approve(here)
    assert await sends(here, f"{TEXT} ") == ASKED, "another letter is another call"
    assert await sends(here) is None
    assert await sends(here) == ASKED, "once"
    assert sum(b"send" in body for _, body in here.upstream.sent) == 1
    (one,) = [event for event in await here.events() if isinstance(event, LabelReleased) and event.how == "disclosed"]
    assert (one.readers, one.to_readers) == (("hr", "principal:alice"), ("everybody",))
    assert one.reason == "bob is her new manager"
    allowed = [event for event in await here.events() if isinstance(event, Decided) and event.name == "send"][-2]
    assert any(told.startswith("disclosed by principal:alice") for told in allowed.sources)


async def test_without_the_manifests_word_nobody_is_asked() -> None:
    here = await city(asks=False)
    assert await sends(here) == REFUSED
    assert not await here.tickets.pending()


async def test_where_no_principal_may_see_it_nobody_is_asked() -> None:
    here = await city(("hr",))
    assert await sends(here) == REFUSED
    assert not await here.tickets.pending()


@pytest.mark.parametrize("principal", ["guest", ""])
async def test_nobody_else_says_yes(principal: str) -> None:
    here = await city()
    assert await sends(here) == ASKED
    with pytest.raises(Malformed, match="only `alice` may approve it: who may see all that it could carry"):
        await approve(here, principal)
    assert await sends(here) == ASKED


@pytest.mark.parametrize("bound", [True, False])
async def test_a_yes_that_was_given_before_there_was_a_secret_lets_none_out(bound: bool) -> None:
    """The attack: have an ordinary call approved, read the secret, and make the call. Yes from before they were bound
    to calls are out there, too."""
    here = await city(("everybody",), prompt="Look around")
    await here.read("find_file", [{"id": "1", "text": "Please write to bob"}], name="x")
    assert await sends(here, "hello") == ASKED
    (ticket,) = await here.tickets.pending()
    assert not ticket.discloses
    await here.tickets.answer(ticket.id, True, "ann", "fine", principal="alice")
    if not bound:
        ((name, row),) = await here.store.scan("ticket")
        old = msgspec.structs.replace(msgspec.json.decode(row.value, type=Ticket), bound=None, digest="")
        await here.store.append(Append(puts=((("ticket", name), msgspec.json.encode(old)),)))
    await here.read("inbox", "for hr and alice")
    assert await sends(here, "hello") == ASKED
    (ticket,) = await here.tickets.pending()
    assert (ticket.discloses, ticket.of) == (True, ("alice",))


async def test_a_yes_of_one_who_may_not_see_what_was_read_since_lets_nothing_out() -> None:
    here = await city()
    assert await sends(here) == ASKED
    await approve(here)
    await here.read("payees", "not for alice")
    assert await sends(here) == REFUSED, "by now no principal may see all of it"


async def test_a_yes_for_a_while_is_none_for_secrets() -> None:
    here = await city()
    assert await sends(here) == ASKED
    with pytest.raises(Malformed, match="in the one call that is shown"):
        await approve(here, hold_ms=60_000)


async def test_a_no_holds() -> None:
    here = await city()
    assert await sends(here) == ASKED
    (ticket,) = await here.tickets.pending()
    await here.tickets.answer(ticket.id, False, "ann", "no", principal="")
    assert await sends(here) == Code.APPROVAL_DENIED.value


async def test_what_they_may_see_anyway_needs_no_yes() -> None:
    here = await city(prompt=f"Write to {TO}: The review is done")
    assert await sends(here, "The review is done") is None


async def test_each_decision_is_judged_again_as_it_was() -> None:
    here = await city()
    await sends(here)
    await approve(here)
    await sends(here)
    await sends(here)
    found = [(event, past) for event, past in await judged(here) if event.name == "send"]
    assert [event.verdict for event, _ in found] == ["ask", "allow", "ask"]
    for event, past in found:
        again = admit(past.call, past.authority, past.known, past.need, event.at)
        assert agrees(event, again), (event, again)


@given(
    st.lists(
        st.none() | st.frozensets(st.sampled_from(["hr", "principal:alice", "principal:guest"]), max_size=3), max_size=3
    )
)
def test_an_owner_may_see_each_thing_that_the_call_could_carry(read: list[frozenset[str] | None]) -> None:
    here = FlowCity()
    *before, now = [Label(frozenset(), one) for one in (None, *read)]
    context = Context(label=now, before=join_all(before))
    known = Known(
        rules=here.enforcer.rules,
        agent=None,
        session=None,
        pin=None,
        lost=None,
        invited=None,
        taken=False,
        used={},
        reads=(),
        flow=Flow(context=context, history=History()),
    )
    expected = tuple(
        name
        for name in ("alice", "guest")
        if all(readers is None or f"principal:{name}" in readers for readers in read)
    )
    assert owners(here.call(), known) == expected
