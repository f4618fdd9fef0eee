"""What each agent's key has received: loaded for a decision, and written when something enters.

Decides nothing; `core.enforce` says what enters and what may steer. Keeps no state: the cache of indexes is decoded
rows, and the locks only order two writers of one process, so that they need not collide in the store.

INVARIANTS: a context's rows change only in the transaction that releases what enters; an item's row never changes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Allow, Call, Decision, Direction
from citywatch.core.content.model import Model
from citywatch.core.enforce.approval import Answer
from citywatch.core.enforce.context import (
    MAX_ITEMS,
    Context,
    Flow,
    FlowNeed,
    Hearing,
    Key,
    Party,
    carried_by,
    home_of,
    item_key,
    onward,
)
from citywatch.core.enforce.held import FREE, Holding, plan_key, progress_key
from citywatch.core.enforce.planned import progressed
from citywatch.core.enforce.receive import Entering, entering_request
from citywatch.core.enforce.said import handed_on, overheard
from citywatch.core.enforce.veiling import Veiled, shelf_key
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item
from citywatch.core.flow.readings import Readings
from citywatch.core.label import BOTTOM, Label, has_strangers, is_above, join, join_all
from citywatch.core.plan.contract import Progress
from citywatch.service.ports import Loaded, Puts, Store

MAX_HISTORIES = 256


class Contexts:
    """The contexts of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._histories: OrderedDict[Key, History] = OrderedDict()
        self._readings: OrderedDict[Key, Readings] = OrderedDict()
        self._holdings: OrderedDict[Key, tuple[int, Holding]] = OrderedDict()
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._lately: deque[asyncio.Lock] = deque(maxlen=MAX_HISTORIES)

    def lock(self, context: Key) -> asyncio.Lock:
        """Held from reading a context to writing it."""
        lock = self._locks.get(context)
        if lock is None:
            lock = self._locks[context] = asyncio.Lock()
            self._lately.append(lock)  # kept for a while: who called now calls again soon
        return lock

    @asynccontextmanager
    async def locks(self, keys: Sequence[Key]) -> AsyncIterator[None]:
        """Several of them, always taken in the order in which they are given."""
        async with AsyncExitStack() as held:
            for key in keys:
                await held.enter_async_context(self.lock(key))
            yield

    def readings(self, context: Key) -> Readings:
        """What the calls of this context carried last, as it was read: for `needs` and then for the decision."""
        readings = self._readings.get(context)
        if readings is None:
            readings = self._readings[context] = Readings()
            if len(self._readings) > MAX_HISTORIES:
                self._readings.popitem(last=False)
        self._readings.move_to_end(context)
        return readings

    async def flow(self, need: FlowNeed, loaded: Loaded) -> Flow:
        """What a decision may depend on, from rows that were loaded."""
        context = context_of(need.context, loaded)
        ticket = None if need.ticket is None else loaded.rows.get(need.ticket)
        parties = parties_of(need.parties, loaded)
        answer = None if need.answer is None else loaded.rows.get(need.answer)
        return Flow(
            context=context,
            history=await self._history(home_of(need.context, context), context.items),
            parties=frozenset(form for form, one in parties.items() if not one.waits),
            learnt={form: one for form, one in parties.items() if one.waits},
            ticket=None if ticket is None else msgspec.json.decode(ticket.value, type=Ticket),
            answer=None if answer is None else msgspec.json.decode(answer.value, type=Answer),
            held=self._held(need.plan[0], loaded) if need.plan else FREE,
            progress=_progress(need.plan[1], loaded) if need.plan else None,
            readings=self.readings(need.context),
            task=need.task,
        )

    def _held(self, key: Key, loaded: Loaded) -> Holding:
        row = loaded.rows.get(key)
        if row is None:
            return FREE
        cached = self._holdings.get(key)
        if cached is None or cached[0] != row.version:
            cached = self._holdings[key] = (row.version, msgspec.json.decode(row.value, type=Holding))
            if len(self._holdings) > MAX_HISTORIES:
                self._holdings.popitem(last=False)
        return cached[1]

    async def history(self, context: Key, loaded: Loaded) -> History:
        """What a context holds, from its row."""
        own = context_of(context, loaded)
        return await self._history(home_of(context, own), own.items)

    async def _history(self, context: Key, items: int) -> History:
        history = self._histories.get(context)
        if history is None or len(history.items) > items:
            history = self._histories[context] = History()
            if len(self._histories) > MAX_HISTORIES:
                self._histories.popitem(last=False)
        self._histories.move_to_end(context)
        missing = [item_key(context, number) for number in range(len(history.items), items)]
        if missing:
            rows = (await self._store.load(missing, ())).rows
            for number, key in enumerate(missing, items - len(missing)):
                if number == len(history.items):  # or another reader of this context was faster
                    history.add(msgspec.json.decode(rows[key].value, type=Item))
        return history

    def remember(self, key: Key, context: Context, item: Item) -> None:
        """Keep an item that was committed as the next one of a context, as it would be read anew; `context` as before.

        Another writer's items may lack here: then this one is read with them.
        """
        history = self._histories.get(home_of(key, context))
        if history is not None and len(history.items) == context.items < MAX_ITEMS:
            history.add(item)


def from_abroad(flow: Flow, label: Label) -> Flow:
    """The same with what an agent of another trust domain brings along."""
    context = msgspec.structs.replace(flow.context, label=join(flow.context.label, label))
    return msgspec.structs.replace(flow, context=context)


def enter(context: Key, entering: Entering, server: str, loaded: Loaded, at: int, model: Model | None = None) -> Puts:
    """The rows that change when this message reaches the agent. `loaded` has the context's row and the written ones."""
    return entered(context, entering, item_of(entering, server, loaded, at, model), loaded)


def item_of(entering: Entering, server: str, loaded: Loaded, at: int, model: Model | None = None) -> Item:
    """The item that this message is, in the light of what was written where before."""
    return entering.item(server, shaped_by(entering, loaded), at, model)


def entered(context: Key, entering: Entering, item: Item, loaded: Loaded) -> Puts:
    """The rows that change when this item reaches the agent."""
    if not entering.names_parties:
        return add_item(context, context_of(context, loaded), item)
    brought = {key: label_of(loaded, key) for key in entering.rows() if key[0] == "brought" and key in loaded.rows}
    known = entering.learnt(shaped_by(entering, loaded), brought, item.at)
    return (
        *add_item(context, context_of(context, loaded), item),
        *((key, msgspec.json.encode(party)) for key, party in known.items() if key not in loaded.rows),
    )


def shaped_by(entering: Entering, loaded: Loaded) -> Label:
    """What earlier writes can have brought to a message, or those whose words another domain's server returns."""
    shaped = join_all(label_of(loaded, key) for key in entering.written)
    return shaped if entering.beside is None else join(shaped, entering.beside)


def shelve(
    context: Key, veiled: Veiled | None, entering: Entering | None, server: str, loaded: Loaded, at: int
) -> Puts:
    """The row of what a reply hid from the agent that gets it."""
    if veiled is None or entering is None or not veiled.hidden:
        return ()
    own = context_of(context, loaded)
    ambient = join(own.label, own.before)
    row = veiled.row(home_of(context, own)[1], entering, server, shaped_by(entering, loaded), ambient, at)
    return ((shelf_key(veiled.shelf), msgspec.json.encode(row)),)


def add_item(key: Key, context: Context, item: Item) -> Puts:
    """The context's row with one item more, and the item's own."""
    risen = msgspec.structs.replace(context, label=join(context.label, item.label))
    if context.items >= MAX_ITEMS:  # what it holds is found nowhere from here on, which only taints
        return ((key, msgspec.json.encode(risen)),)
    return (
        (item_key(home_of(key, context), context.items), msgspec.json.encode(item)),
        (key, msgspec.json.encode(msgspec.structs.replace(risen, items=context.items + 1))),
    )


def add_items(key: Key, context: Context, items: Iterable[Item]) -> Puts:
    """The same with several, in their order."""
    puts: dict[Key, bytes | None] = {}
    for item in items:
        added = add_item(key, context, item)
        puts |= dict(added)
        context = msgspec.json.decode(puts[key] or b"", type=Context)
    return tuple(puts.items())


def risen(keys: Sequence[Key], label: Label, loaded: Loaded) -> Puts:
    """The contexts that do not have all of a label yet, with it. What brought it is kept elsewhere: it is found in
    none of these, which only taints."""
    if not keys:
        return ()
    found = ((key, context_of(key, loaded)) for key in keys)
    return tuple(
        (key, msgspec.json.encode(msgspec.structs.replace(one, label=join(one.label, label))))
        for key, one in found
        if not is_above(one.label, label)
    )


def taint_written(call: Call, need: FlowNeed, flow: Flow, loaded: Loaded, behind: Iterable[Label] = ()) -> Puts:
    """What a consequential call brings to the objects that it writes: all that could have shaped it.

    INVARIANT: what came out of handles (`behind`) too, though the agent never saw it.
    """
    if not need.written:
        return ()
    carried = onward(join_all((carried_by(call, flow), *behind)))
    before = {key: label_of(loaded, key) for key in need.written}
    after = {key: onward(join(label, carried)) for key, label in before.items()}
    return tuple((key, msgspec.json.encode(label)) for key, label in after.items() if label != before[key])


def name_parties(call: Call, need: FlowNeed, flow: Flow, decision: Decision, loaded: Loaded, now: int) -> Puts:
    """Which names a call carries to its server, in whose words, and whom it adds to the known parties.

    A value that was released has the label that it was released to: an account that a person named is that person's.
    """
    if not need.brought and not need.adds:
        return ()
    released = {one.path: one.now for one in decision.releases} if isinstance(decision, Allow) else {}
    carried = onward(join_all((carried_by(call, flow), *(one.label for one in call.filled))))
    rows: dict[Key, Label] = {}
    for path, key in need.brought:
        label = onward(released.get(path, carried))
        rows[key] = onward(join(rows[key] if key in rows else label_of(loaded, key), label))
    encoded = {key: msgspec.json.encode(label) for key, label in rows.items()}
    added = {}
    for path, key in need.adds:
        label = onward(released.get(path, carried))
        if key not in loaded.rows and not has_strangers(label):
            added[key] = Party(at=now, waits=True, by=tuple(sorted(label.origins or ())))
    return (
        *((key, value) for key, value in encoded.items() if key not in loaded.rows or loaded.rows[key].value != value),
        *((key, msgspec.json.encode(party)) for key, party in added.items()),
    )


def flowing(
    call: Call,
    need: FlowNeed | None,
    flow: Flow | None,
    decision: Decision,
    loaded: Loaded,
    now: int,
    model: Model | None = None,
) -> Puts:
    """What an allowed call leaves in rows: what it writes where, what it brings to the agent, what of it is used up."""
    if need is None or flow is None:
        return ()
    if call.direction is Direction.TO_AGENT:
        entering = entering_request(call, need.readers, hushed=need.hushed, followed=need.followed)
        item = item_of(entering, call.server, loaded, now, model)
        return (*entered(need.context, entering, item, loaded), *risen(need.around, item.label, loaded))
    if need.hearing is not None:
        return hearing_puts(call, need.hearing, need, flow, loaded, now, model)
    used: Puts = ()
    done = progressed(call, flow, now)
    if done is not None:
        used = ((need.plan[1], msgspec.json.encode(done)),)
    named = name_parties(call, need, flow, decision, loaded, now)
    behind = (one.label for one in call.filled)
    return (*taint_written(call, need, flow, loaded, behind), *named, *used)


def hearing_puts(
    call: Call, hearing: Hearing, need: FlowNeed, flow: Flow, loaded: Loaded, now: int, model: Model | None = None
) -> Puts:
    """What an agent of ours has in its contexts once it was told something: that, and the words of whose task it is."""
    if not hearing.carries:
        return ()
    item, words = overheard(call, flow, now, model, followed=need.followed), handed_on(call, flow)
    puts: Puts = risen(hearing.around, item.label, loaded)
    for number, key in enumerate(hearing.contexts):
        context, entering = context_of(key, loaded), [item]
        if words is not None and hearing.handed[number] not in loaded.rows:
            puts += ((hearing.handed[number], b"true"),)
            entering.insert(0, words)
        puts += add_items(key, context, entering)
    return puts


def held_to(agent: str, loaded: Loaded) -> tuple[Holding, Progress | None]:
    """What an agent is held to and what it has done under it, from rows that were loaded."""
    row = loaded.rows.get(plan_key(agent))
    holding = FREE if row is None else msgspec.json.decode(row.value, type=Holding)
    return holding, _progress(progress_key(agent), loaded)


def hold(agent: str, holding: Holding, progress: Progress | None) -> Puts:
    """The rows that say so."""
    done = None if progress is None else msgspec.json.encode(progress)
    return ((plan_key(agent), msgspec.json.encode(holding)), (progress_key(agent), done))


def parties_of(keys: tuple[Key, ...], loaded: Loaded) -> dict[str, Party]:
    """Those of these parties that are known, under their forms."""
    if not keys:
        return {}
    rows = {key[1]: loaded.rows[key].value for key in keys if key in loaded.rows}
    return {form: msgspec.json.decode(value, type=Party) for form, value in rows.items()}


def label_of(loaded: Loaded, key: Key) -> Label:
    row = loaded.rows.get(key)
    return BOTTOM if row is None else msgspec.json.decode(row.value, type=Label)


def context_of(key: Key, loaded: Loaded) -> Context:
    """The context of that key, as it was loaded; an empty one if it has received nothing."""
    row = loaded.rows.get(key)
    return NEW if row is None else _read_context(row.value)


NEW: Final = Context()


@lru_cache(maxsize=MAX_HISTORIES)
def _read_context(value: bytes) -> Context:
    """The same bytes come again and again: for a call, for its reply, and for what both leave behind."""
    return _contexts.decode(value)


_contexts: Final = msgspec.json.Decoder(Context)


def _progress(key: Key, loaded: Loaded) -> Progress | None:
    row = loaded.rows.get(key)
    return None if row is None else msgspec.json.decode(row.value, type=Progress)
