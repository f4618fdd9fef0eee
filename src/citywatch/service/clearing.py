"""What an operator sees of an agent's contexts, and how they let their labels down.

Decides that agent, context and reason are there; what is left of a label is `enforce.clearing`'s. INVARIANTS: the
entry and the rows are one transaction, against the rows that were read; no item is touched.
"""

from __future__ import annotations

import msgspec

from citywatch.core import events
from citywatch.core.enforce.clearing import cleared
from citywatch.core.enforce.context import Context, context_key, home_of, item_key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.flow.item import Item
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.label import BOTTOM
from citywatch.core.log.entry import encode_event
from citywatch.service.contexts import context_of
from citywatch.service.entries import origins_of, readers_of
from citywatch.service.ports import Append, Appended, Clock, Key, Loaded, NewEntry, Puts, Store
from citywatch.service.rejections import MAX_DETAIL

MAX_CONFLICTS = 8


class Shown(msgspec.Struct, frozen=True):
    """The context of one key, and the newest of its items, oldest first."""

    key: str
    context: Context
    items: tuple[Item, ...]


class Clearing:
    """The contexts of one store, for an operator."""

    def __init__(self, *, store: Store, clock: Clock, replica: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica

    async def show(self, agent: str, last: int) -> tuple[Shown, ...]:
        """What each key of an agent has received, with its newest `last` items; `Refused(AGENT_UNKNOWN)`."""
        uri, keys, _ = await self._agent(agent)
        loaded = await self._store.load([context_key(uri, one) for one in keys], ())
        found = []
        for one in keys:
            key = context_key(uri, one)
            context = context_of(key, loaded)
            numbers = range(max(0, context.items - last), context.items)
            wanted = [item_key(home_of(key, context), number) for number in numbers]
            rows = (await self._store.load(wanted, ())).rows
            items = tuple(msgspec.json.decode(rows[one].value, type=Item) for one in wanted if one in rows)
            found.append(Shown(one, context, items))
        return tuple(found)

    async def release(self, agent: str, by: str, reason: str, *, readers: bool) -> tuple[str, ...]:
        """Let the labels of all an agent's contexts down; return the keys whose were. `readers`: who may see it, too.

        `Refused(AGENT_UNKNOWN)` for a stranger; `Malformed` without a reason, or where no context has a label that
        could go down; `Unavailable` if the agent is so busy that its context keeps changing.
        """
        if not reason.strip():
            raise Malformed("a release has a reason: it stands in the log")
        for _ in range(MAX_CONFLICTS):
            uri, keys, version = await self._agent(agent)
            rows = [context_key(uri, one) for one in keys]
            loaded = await self._store.load(rows, ())
            append, done = self._letting_down(uri, rows, loaded, by, reason, readers)
            if not done:
                raise Malformed(f"no context of `{agent[:80]}` has a label that could be let down")
            reads = (*append.reads, (agent_key(agent), version))
            outcome = await self._store.append(msgspec.structs.replace(append, reads=reads))
            if isinstance(outcome, Appended):
                return done
        raise Unavailable(Code.CONFLICT, f"the context of `{agent[:80]}` was not released: it kept changing")

    def _letting_down(
        self, uri: str, rows: list[Key], loaded: Loaded, by: str, reason: str, readers: bool
    ) -> tuple[Append, tuple[str, ...]]:
        entries: list[NewEntry] = []
        puts: Puts = ()
        done: list[str] = []
        for key in rows:
            context = context_of(key, loaded)
            after, receipt = cleared(context, by, reason[:MAX_DETAIL], readers)
            if context.label == BOTTOM or after.label == context.label:
                continue
            name = key[1].rpartition("\n")[2]
            event = events.ContextReleased(
                at=self._clock.now_ms(),
                replica=self._replica,
                agent=uri,
                context=name,
                items=context.items,
                origins=origins_of(receipt.was),
                readers=readers_of(receipt.was),
                to_origins=origins_of(receipt.now),
                to_readers=readers_of(receipt.now),
                by=by,
                reason=receipt.reason,
            )
            entries.append(NewEntry(encode_event(event)))
            puts += ((key, msgspec.json.encode(after)),)
            done.append(name)
        reads = tuple((key, loaded.rows[key].version) for key in rows if key in loaded.rows)
        return Append(entries=tuple(entries), reads=reads, puts=puts, sync=True), tuple(done)

    async def _agent(self, agent: str) -> tuple[str, tuple[str, ...], int]:
        stored = (await self._store.load((agent_key(agent),), ())).rows.get(agent_key(agent))
        row = None if stored is None else parse_agent_row(stored.value)
        if stored is None or row is None:
            raise Refused(Code.AGENT_UNKNOWN, f"no agent `{agent[:80]}` is registered")
        return row.agent, row.keys, stored.version
