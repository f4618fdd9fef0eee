"""The rows of contexts only rise and are read as they stand; two readers of one do not disturb each other."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryStore
from citywatch.core.approvals.ticket import State, Ticket, ticket_key
from citywatch.core.call import Allow
from citywatch.core.enforce.context import Context, Flow, FlowNeed, context_key, written_key
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.label import BOTTOM, TOP, Label, is_above, join, join_all
from citywatch.service.asking import NOTHING, using
from citywatch.service.contexts import Contexts, add_item, flowing, label_of, taint_written
from citywatch.service.ports import Append, Loaded
from tests.unit.core.enforce.test_arguments import call

KEY = context_key("spiffe://a/agent/b", "k")
ORIGINS = st.frozensets(st.sampled_from([f"outside:mail/{n}" for n in range(5)] + ["principal:alice"]))
LABELS = st.builds(Label, st.none() | ORIGINS, st.none() | st.frozensets(st.sampled_from("abc")))


def item(words: str = "hello", label: Label | None = None) -> Item:
    read = read_prompt(words, "d", "alice", 0)
    return read if label is None else msgspec.structs.replace(read, label=label)


async def put(store: MemoryStore, context: Context, one: Item) -> Context:
    await store.append(Append(puts=add_item(KEY, context, one)))
    row = (await store.load((KEY,), ())).rows[KEY]
    return msgspec.json.decode(row.value, type=Context)


@given(st.lists(LABELS, min_size=1, max_size=6), LABELS)
def test_a_contexts_label_never_goes_down(labels: list[Label], first: Label) -> None:
    context = Context(label=first)
    for label in labels:
        (*_, (_, row)) = add_item(KEY, context, item(label=label))
        assert row is not None
        after = msgspec.json.decode(row, type=Context)
        assert is_above(after.label, context.label)
        assert is_above(after.label, label)
        context = after


def test_a_full_context_takes_no_more_items_and_still_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citywatch.service.contexts.MAX_ITEMS", 3)
    ((key, row),) = add_item(KEY, Context(items=3, home="h"), item(label=TOP))
    assert key == KEY
    assert row is not None
    assert msgspec.json.decode(row, type=Context) == Context(label=TOP, items=3, home="h")


async def test_ten_thousand_items_are_read_once_and_then_one_by_one() -> None:
    store, context = MemoryStore(), Context()
    puts = []
    for _ in range(10_000):
        added = add_item(KEY, context, item())
        puts.append(added[0])
        context = msgspec.json.decode(added[1][1] or b"", type=Context)
    await store.append(Append(puts=(*puts, added[1])))
    contexts, asked = Contexts(store), []
    load = store.load

    async def counted(keys: object, counters: object) -> Loaded:
        asked.append(len(list(keys)))  # type: ignore[call-overload]
        return await load(keys, counters)  # type: ignore[arg-type]

    store.load = counted  # type: ignore[method-assign, assignment]
    for _ in range(3):
        flow = await contexts.flow(FlowNeed(context=KEY), await load((KEY,), ()))
    assert len(flow.history.items) == 10_000
    assert asked == [10_000]


async def test_two_readers_at_once_add_no_item_twice() -> None:
    store = MemoryStore()
    context = await put(store, Context(), item("one"))
    await put(store, context, item("two"))
    contexts, loaded = Contexts(store), await store.load((KEY,), ())
    load = store.load

    async def slowly(keys: object, counters: object) -> Loaded:
        found = await load(keys, counters)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        return found

    store.load = slowly  # type: ignore[method-assign, assignment]
    one, other = await asyncio.gather(*(contexts.flow(FlowNeed(context=KEY), loaded) for _ in range(2)))
    assert [len(flow.history.items) for flow in (one, other)] == [2, 2]
    assert [prompt.item for prompt in one.history.prompts] == [0, 1]


async def test_what_was_just_written_is_in_the_history_as_it_would_be_read_and_once() -> None:
    store = MemoryStore()
    first = await put(store, Context(), item("one"))
    contexts = Contexts(store)
    await contexts.flow(FlowNeed(context=KEY), await store.load((KEY,), ()))
    added = item("two 1200 EUR", Label(frozenset(("outside:mail/read",)), frozenset(("alice",))))
    await put(store, first, added)
    contexts.remember(KEY, first, added)
    contexts.remember(KEY, first, added)  # another reader had it by then
    kept = (await contexts.flow(FlowNeed(context=KEY), await store.load((KEY,), ()))).history
    anew = (await Contexts(store).flow(FlowNeed(context=KEY), await store.load((KEY,), ()))).history
    assert kept.items == anew.items == [item("one"), added]
    assert [kept.over(number) for number in range(3)] == [anew.over(number) for number in range(3)]


async def test_of_what_another_wrote_before_nothing_is_passed_over() -> None:
    store = MemoryStore()
    first = await put(store, Context(), item("one"))
    contexts = Contexts(store)
    await contexts.flow(FlowNeed(context=KEY), await store.load((KEY,), ()))
    second = await put(store, first, item("by another process"))
    await put(store, second, item("three"))
    contexts.remember(KEY, second, item("three"))
    flow = await contexts.flow(FlowNeed(context=KEY), await store.load((KEY,), ()))
    assert [one.text for one in flow.history.items] == ["one", "by another process", "three"]


async def test_what_an_act_brings_to_an_object_is_joined_to_what_was_there() -> None:
    store, row = MemoryStore(), written_key("bank", "7")
    mail = Label(frozenset(("outside:mail/inbox",)), None)
    web = Label(frozenset(("outside:web/get",)), None)
    need = FlowNeed(context=KEY, written=(row,))
    for label in (mail, join(web, Label(frozenset(("principal:alice",)), None))):
        flow = Flow(context=Context(label=label, items=1), history=History())
        await store.append(Append(puts=taint_written(call(), need, flow, await store.load((row,), ()))))
    loaded = await store.load((row,), ())
    assert label_of(loaded, row) == join_all((mail, web, Label(frozenset(("principal:alice",)), None)))
    clean = Flow(context=Context(label=Label(frozenset(("principal:alice",)), None)), history=History())
    assert taint_written(call(), need, clean, loaded) == ()


def test_a_ticket_is_used_up_by_the_call_that_it_lets_through() -> None:
    ticket = Ticket(
        id="t", agent="a", server="s", tool="x", state=State.APPROVED, asked=0, expires=9, why="", call="c", by="alice"
    )
    need = FlowNeed(context=KEY, ticket=ticket_key("l"))
    flow = Flow(context=Context(), history=History(), ticket=ticket)
    for sources, state in ((("ticket t by alice",), State.USED), (("clean",), State.SUPERSEDED)):
        asked = using(need, flow, Allow(("p",), sources), call(), 1, "r")
        rows = dict(asked.puts)
        assert msgspec.json.decode(rows[ticket_key("l")] or b"", type=Ticket).state is state
        assert len(asked.entries) == 1
    assert using(need, flow, Allow(("p",), ("ticket t by alice",)), call(), 9, "r") == NOTHING
    assert flowing(call(), None, None, Allow(("p",)), Loaded({}, {}), 1) == ()
    assert label_of(Loaded({}, {}), KEY) == BOTTOM
