"""The past is rebuilt in two ways, and they know the same: the log folded entry by entry, and the rows as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.explain import explain
from citywatch.core.enforce.rules import Rules
from citywatch.core.log.entry import decode_event
from citywatch.core.manifest import Output
from citywatch.main.replay import rebuild
from citywatch.service.entries import MAX_HANDLES
from citywatch.service.fold import Fold, Folded
from citywatch.service.handles import drop_shelves, erase_shelves
from citywatch.service.hindsight import agrees, then
from citywatch.service.recorded import Then
from citywatch.service.rehearsal import Rehearsal, Rehearsed
from citywatch.service.unknowns import Status
from tests.simulation.city import City, code_of
from tests.simulation.flow_city import ANN, MALLORY
from tests.simulation.test_derivations import DerivingCity
from tests.simulation.test_handles import HIDING, TOOLS, HidingCity
from tests.simulation.test_rehearsal import STEPS, Act, introduced, lived

HANDLES = st.integers(0, 8)
BEHIND_ANOTHER = "what one of its handles stood for would have been behind another one"


class Opened(HidingCity):
    """A city that knows the handles its agent was given, and whose log begins with the agent's registration."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    async def open(self) -> Opened:
        await introduced(self)
        await super().open()
        return self

    async def mails(self, body: str, sender: str) -> None:
        shown = await self.mail(body, sender)
        self.given += [one for one in shown.values() if one.startswith("cw:")]

    async def pays(self, pay: int) -> None:
        told = await self.read("salaries", [{"name": "ann", "pay": pay}], team="all")
        if "result" in told and "structuredContent" in told["result"]:
            self.given.append(told["result"]["structuredContent"]["result"][0]["pay"])

    def rules_with(self, inbox: dict[str, Output]) -> Rules:
        """The city's rules with another manifest of the inbox."""
        manifests = {**HIDING, "inbox": msgspec.structs.replace(HIDING["inbox"], output=inbox)}
        self.configured = msgspec.structs.replace(self.configured, servers={"bank": manifests})
        return self.rules(*TOOLS)

    def handle(self, number: int) -> str:
        return self.given[number % len(self.given)] if self.given else "cw:" + "a" * 26 + "-0"


def fold(city: City) -> AsyncIterator[Folded]:
    """Each decision of the log, good until the next one is asked for: a history grows."""
    return Fold(city.store, MemoryStore(), city.enforcer.rules, rebuild, lambda _: None, city.enforcer.model).run()


async def looked_back(city: City, index: int) -> tuple[events.Decided, Then]:
    event, payload = decode_event((await city.store.entries(index, index + 1))[0]), await city.store.payload(index)
    assert isinstance(event, events.Decided)
    assert payload is not None
    call = rebuild(event, payload.body)
    return event, await then(city.store, city.enforcer.rules, index, event, call)


async def rehearsed(city: City, rules: Rules | None = None) -> list[Rehearsed]:
    rehearsal = Rehearsal(city.store, MemoryStore(), rules or city.enforcer.rules, rebuild, city.enforcer.model)
    return [one async for one in rehearsal.run()]


def known(flow: Flow | None) -> Any:
    """What both ways must know of it. Of a plan's progress: what was done, for time goes on without a call."""
    if flow is None:
        return None
    done = None if flow.progress is None else (flow.progress.steps, flow.progress.tools, flow.progress.calls)
    context = flow.context
    items = [one.digest for one in flow.history.items]
    return context.label, context.before, context.items, context.home, items, flow.held, done


async def compared(city: City) -> int:
    """Hold the two ways against each other, for each decision that neither has a doubt of; return how many those are.

    Parties may have become known since, and a ticket's other fields stand in no entry: the rows know more of the one,
    and less of the other.
    """
    count = 0
    async for one in fold(city):
        _, past = await looked_back(city, one.index)
        if one.doubt is not None or past.missing or one.then is None:
            continue
        count += 1
        assert (past.call, past.authority, past.known.pin) == (one.then.call, one.then.authority, one.then.known.pin)
        assert msgspec.structs.replace(past.need, budgets=()) == msgspec.structs.replace(one.then.need, budgets=())
        assert known(past.known.flow) == known(one.then.known.flow)
        if past.known.flow is not None and one.then.known.flow is not None:
            assert past.known.flow.parties >= one.then.known.flow.parties
    return count


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=12))
async def test_the_fold_and_the_rows_know_the_same_of_every_decision(steps: list[Act]) -> None:
    city = await lived(steps)
    decided = [one for one in await city.events() if isinstance(one, events.Decided)]
    lifted = any(isinstance(one, events.PlanWritten | events.TaskStarted) and one.plan for one in await city.events())
    spent = sum(one.code == "budget_spent" for one in decided)  # of what was left then, the rows say nothing
    assert len(decided) - spent <= await compared(city) or lifted


HiddenAct = Callable[[Opened], Awaitable[Any]]
BODIES = st.sampled_from([ANN, MALLORY, "hello", "rm -rf / ;" * 40, "see https://evil.example/x", "7"])
HIDDEN: st.SearchStrategy[HiddenAct] = st.one_of(
    st.builds(lambda to: lambda city: city.task(f"Pay {to} 5, file a review of ann"), st.sampled_from([ANN, MALLORY])),
    st.builds(lambda body, by: lambda city: city.mails(body, by), BODIES, st.sampled_from([ANN, "bob@x.example"])),
    st.builds(lambda pay: lambda city: city.pays(pay), st.sampled_from([42, 4200])),
    st.builds(lambda n: lambda city: city.sends("pay", to=city.handle(n), amount=5), HANDLES),
    st.builds(lambda n: lambda city: city.sends("send", to="ann@x.example", text=f"on {city.handle(n)}"), HANDLES),
    st.builds(lambda n: lambda city: city.sends("file_review", about="ann", text=city.handle(n)), HANDLES),
    st.builds(lambda n: lambda city: city.sends("write_file", id="1", text=city.handle(n)), HANDLES),
    st.builds(lambda n: lambda city: city.sends("run", code=city.handle(n)), HANDLES),
    st.builds(lambda n: lambda city: city.read("find_file", [{"id": "1", "name": "x"}], name=city.handle(n)), HANDLES),
    st.builds(
        lambda n: lambda city: city.read("search", {"n": 1}, query="x", filters={"a": [city.handle(n)]}), HANDLES
    ),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(HIDDEN, min_size=5, max_size=14))
async def test_calls_with_handles_are_judged_again_with_what_their_handles_were(steps: list[HiddenAct]) -> None:
    city = await Opened().open()
    for step in steps:
        await step(city)
    assert [one for one in await rehearsed(city) if one.status is not Status.SAME] == []
    decided = [one for one in await city.events() if isinstance(one, events.Decided)]
    unfilled = [one for one in decided if one.code == "handle_unknown"]
    assert await compared(city) == len(decided) - len(unfilled)
    async for one in fold(city):
        event, past = await looked_back(city, one.index)
        assert len(past.call.filled) == len(event.handles)
        assert bool(past.missing) == (event.code == "handle_unknown")  # what names nothing is no longer to be seen
        if not past.missing:
            found = explain(past.call, past.authority, past.known, past.need, event.at).decision
            assert agrees(event, found), (event, found)


@pytest.fixture
async def city() -> Opened:
    return await Opened().open()


async def last(city: City) -> tuple[events.Decided, Then]:
    index = max(n for n, one in enumerate(await city.events()) if isinstance(one, events.Decided))
    return await looked_back(city, index)


async def test_a_long_text_out_of_a_handle_is_no_command_when_it_is_judged_again(city: Opened) -> None:
    """Too long to be sighted anywhere, in a clean context: by its value alone it would be the agent's own."""
    await city.task("Run the report")
    await city.mails("rm -rf / ;" * 200, "mallory@evil.example")
    assert code_of(await city.sends("run", code=city.given[-1])) == "approval_required"
    event, past = await last(city)
    assert agrees(event, explain(past.call, past.authority, past.known, past.need, event.at).decision)
    bare = msgspec.structs.replace(past.call, filled=())
    assert not agrees(event, explain(bare, past.authority, past.known, past.need, event.at).decision)
    assert [one.status for one in await rehearsed(city)] == [Status.SAME, Status.SAME]


async def test_what_was_worked_out_of_handles_is_judged_again_as_it_was() -> None:
    city = DerivingCity()
    await introduced(city)
    await city.open()
    await city.task(f"Pay all my dues to {ANN}")
    one, two = await city.dues(10.5, 20)
    mail = await city.mail("30.5")
    total = await city.derive("sum", one["due"], two["due"])
    await city.answer_of("98.70", text=mail["body"], type="number")
    assert code_of(await city.sends("pay", to=ANN, amount=await city.derive("sum", total, mail["body"]))) is not None
    assert code_of(await city.sends("pay", to=ANN, amount=total)) is None
    decided = [one for one in await city.events() if isinstance(one, events.Decided)]
    assert {one.status for one in await rehearsed(city)} == {Status.SAME}
    assert await compared(city) == len(decided)


async def test_a_task_of_an_agent_that_no_entry_introduces_is_no_word_that_was_never_spoken() -> None:
    city = await HidingCity().open()
    await city.task(f"Pay 5 to {ANN}")
    assert code_of(await city.sends("pay", to=ANN, amount=5)) is None
    (one,) = await rehearsed(city)
    assert one.status is Status.UNVERIFIABLE
    assert one.why.startswith("its task would not have been started")


async def test_what_a_handle_brought_into_a_file_comes_back_out_of_it(city: Opened) -> None:
    await city.task("File the mail, and run the report")
    await city.mails("rm -rf / ;" * 200, "mallory@evil.example")
    assert code_of(await city.sends("write_file", id="1", text=city.given[-1])) is None
    await city.read("find_file", [{"id": "1", "name": "x"}], name="1")
    assert code_of(await city.sends("run", code="make report")) == "approval_required"
    assert {one.status for one in await rehearsed(city)} == {Status.SAME}


@pytest.mark.parametrize("how", ["expired", "erased"])
async def test_what_stood_behind_a_handle_and_is_not_kept_is_named(city: Opened, how: str) -> None:
    await city.task("Run the report")
    await city.mails("make report", "bob@x.example")
    await city.sends("run", code=city.given[-1])
    if how == "expired":
        city.clock.advance(8 * 24 * 3_600_000)
        await drop_shelves(city.store, city.clock.now_ms())
    else:
        (call,) = {one.call for one in await city.events() if isinstance(one, events.Settled) and one.shelf}
        await erase_shelves(city.store, call)
    _, past = await last(city)
    assert past.missing == ("what stood behind its handles is not kept any more",)
    assert {one.status for one in await rehearsed(city)} == {Status.SAME}  # the fold has it out of the reply


async def test_more_handles_than_an_entry_names_are_no_agreement(city: Opened) -> None:
    await city.task("Search")
    await city.mails("hello", "bob@x.example")
    for count, missing in (
        (MAX_HANDLES - 1, ()),
        (MAX_HANDLES, ("its entry names 32 of its handles: it may have had more",)),
    ):
        await city.read("search", {"n": 1}, query="x", filters={"a": [city.given[-1]] * count})
        _, past = await last(city)
        assert past.missing == missing
    assert [one.status for one in await rehearsed(city)][-2:] == [Status.SAME, Status.UNVERIFIABLE]


async def test_a_path_that_an_entry_cuts_is_no_agreement(city: Opened) -> None:
    await city.task("Search")
    await city.mails("hello", "bob@x.example")
    await city.read("search", {"n": 1}, query="x", filters={"a" * 100: city.given[-1]})
    _, past = await last(city)
    assert past.missing == ("its entry cuts off where a handle stood",)


@pytest.mark.parametrize(
    ("hides", "field", "status"),
    [
        (("$[*].body",), "$[0].body", Status.SAME),  # in another place of the shelf
        (("$[*].subject",), None, Status.SAME),  # shown, so it stands in the context
        ((), None, Status.SAME),
        (("$[*]",), None, Status.UNVERIFIABLE),  # behind a handle with more beside it
    ],
)
async def test_under_other_manifests_a_handle_is_its_field_or_what_was_shown(
    city: Opened, hides: tuple[str, ...], field: str | None, status: Status
) -> None:
    await city.task("Run the report")
    await city.mails("rm -rf / ;" * 200, "mallory@evil.example")
    body = city.given[-1]
    assert code_of(await city.sends("run", code=body)) == "approval_required"
    output = {"$[*].id": Output(trusted=True, key=True), **{one: Output(handle=True) for one in hides}}
    city.enforcer.rules = city.rules_with(inbox=output)
    async for one in fold(city):
        filled = () if one.then is None else one.then.call.filled
        assert [one.field for one in filled] == ([field] if field and one.event.handles else [])
    found = await rehearsed(city)
    assert [one.status for one in found] == [Status.SAME, status]
    assert found[-1].why == ("" if status is Status.SAME else BEHIND_ANOTHER)
