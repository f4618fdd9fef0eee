"""Rows as what they are: all that a decision may depend on, as one frozen snapshot with a version for each row.

Decides nothing. The cache holds decoded rows and no state: a row is decoded once for each of its versions.
INVARIANT: a snapshot names the version of every row it was made of, so that the entry commits only if none changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from citywatch.core.call import Call
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.abroad import brought_from_abroad
from citywatch.core.enforce.carrying import NOTHING, PRINT, Carried, Spread, looked_up, print_key, spread_of
from citywatch.core.enforce.chains import BUNDLE, WITHDRAWN, bundle_key, chain_rows
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.cursors import Issued, cursor_key
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.enforce.invitation import Invitation, read_invitation
from citywatch.core.enforce.needs import (
    HALT,
    Key,
    Known,
    LostCalls,
    Needs,
    OpenCall,
    Pin,
    Session,
    Sessions,
    agent_key,
    agent_name,
    card_rows,
    ended_rows,
    lost_key,
    read_lost,
    session_key,
    sessions_key,
)
from citywatch.core.enforce.offers import Offers
from citywatch.core.enforce.past import Event, task_rows
from citywatch.core.enforce.peers import THING, is_message, receiver_of, thing_rows
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.trees import REACHED, Reached, reached_rows
from citywatch.core.identity.registration import AgentRow
from citywatch.core.plan.temporal import Memory
from citywatch.core.signature import thumbprint
from citywatch.core.wire import a2a_card
from citywatch.service.contexts import Contexts, from_abroad
from citywatch.service.federation import BundleRow
from citywatch.service.ports import Loaded, Puts, Reads, Store

MAX_DECODED = 50_000
ROW_TYPES: dict[str, Any] = {
    "agent": AgentRow,
    "pin": Pin,
    "session": Session,
    "sessions": Sessions,
    "open": OpenCall,
    "lost": str | LostCalls,
    "offers": Offers,
    "definition": dict[str, Any],
    "invited": bool | Invitation,
    "rule": Memory,
    "task": TaskRow,
    WITHDRAWN: bool,
    BUNDLE: BundleRow,
    "cursors": Issued,
    THING: str,
    REACHED: Reached,
    "halt": bool,
    PRINT: Carried,
}
Counted = tuple[Puts, Reads, tuple[tuple[str, Session], ...]]
"""What adds a session to an agent's: the change, what it was read from, and the sessions that it ends."""


class Snapshots:
    """The rows of one store, decoded."""

    def __init__(self, store: Store, contexts: Contexts) -> None:
        self._store = store
        self._contexts = contexts
        self._decoded: dict[Key, tuple[int, Any]] = {}
        self._rooting: dict[str, tuple[str, frozenset[str]]] = {}

    async def known(
        self, call: Call, need: Needs, loaded: Loaded, rules: Rules, *, now: int, taken: bool = False
    ) -> Known:
        """What this call's decision may depend on. `taken`: its id was seen in use a moment ago."""
        flow = None if need.flow is None else await self._contexts.flow(need.flow, loaded)
        if flow is not None and (abroad := brought_from_abroad(call, rules)) is not None:
            flow = from_abroad(flow, abroad)
        invited = None if need.invited is None else read_invitation(self.decode(need.invited, loaded))
        if flow is not None and invited is not None:
            flow = msgspec.structs.replace(flow, continues=invited.call)
        past, read = await self.past(need.event, rules, "" if flow is None else flow.context.task, loaded)
        spread, more = await self._spread(call, need, flow, now)
        read = (*read, *more)
        known = Known(
            flow=flow,
            past=past,
            rules=rules,
            agent=self.decode(agent_key(agent_name(call)), loaded),
            session=None if call.session is None else self.decode(session_key(call.session), loaded),
            pin=None if need.pin is None else self.decode(need.pin, loaded),
            lost=None if need.likeness is None else read_lost(self.decode(lost_key(need.likeness), loaded)),
            invited=invited,
            task=None if call.task is None else self.decode(task_key(call.task), loaded),
            issued=self.decode(cursor_key(call), loaded),
            halted=HALT in loaded.rows,
            taken=taken or (need.asked is not None and need.asked in loaded.rows),
            used=loaded.used,
            things={key: self.decode(key, loaded) for key in thing_rows(call)},
            card=self.decode(card_rows(call)[0], loaded) if is_message(call) else None,
            offers_pushes=not is_message(call) or self._offers_pushes(call, loaded),
            reached={key: self.decode(key, loaded) for key in reached_rows(call, rules)},
            hearer=self._hearer(call, rules, loaded),
            reads=(*versions_of(need.rows, loaded), *read),
            spread=spread,
        )
        chain = need.chain
        if not isinstance(chain, Chain):
            return known if chain is None else msgspec.structs.replace(known, chain=chain)
        rows = chain_rows(chain)
        keys, until = self._roots_abroad(chain.home, rules, loaded) if chain.home else (frozenset[str](), 0)
        return msgspec.structs.replace(
            known,
            rooting=keys,
            rooting_until=until,
            chain=chain,
            hops={key: self.decode(key, loaded) for key in rows if key[0] == "agent"},
            withdrawn=frozenset(key[1] for key in rows if key[0] == WITHDRAWN and key in loaded.rows),
        )

    def _roots_abroad(self, home: str, rules: Rules, loaded: Loaded) -> tuple[frozenset[str], int]:
        """The keys that speak for another domain's principals by its bundle, and until when that counts."""
        row: BundleRow | None = self.decode(bundle_key(home), loaded)
        if row is None or home not in rules.frontiers:
            return frozenset(), 0
        before = self._rooting.get(home)
        if before is None or before[0] != row.text:  # a look that finds the same changes the row
            keys = frozenset(thumbprint(key) for key in row.bundle().principals.values())
            before = self._rooting[home] = (row.text, keys)
        return before[1], row.seen + rules.frontiers[home].max_age

    def _offers_pushes(self, call: Call, loaded: Loaded) -> bool:
        """Whether the approved card of a peer says so, where a call asks; where nobody approved one, the peer says."""
        _, *more = card_rows(call)
        card = self.decode(more[0], loaded) if more else None
        return card is None or a2a_card.pushes(card)

    async def hearer(self, call: Call, rules: Rules) -> tuple[AgentRow | None, Reads]:
        """The agent of ours that a call is spoken to, as it is registered now, and what that was read from."""
        name = receiver_of(call, rules)
        if name is None:
            return None, ()
        loaded = await self._store.load((agent_key(name),), ())
        return self._hearer(call, rules, loaded), versions_of((agent_key(name),), loaded)

    def _hearer(self, call: Call, rules: Rules, loaded: Loaded) -> AgentRow | None:
        name = receiver_of(call, rules)
        found: AgentRow | None = None if name is None else self.decode(agent_key(name), loaded)
        return found

    async def _spread(self, call: Call, need: Needs, flow: Flow | None, now: int) -> tuple[Spread, Reads]:
        """Who carried on what the call carries on, and what was read beside `loaded`: which rows, the history tells."""
        if flow is None or need.flow is None or not need.flow.leaves:
            return NOTHING, ()
        found = looked_up(need.flow.leaves, flow.history)
        keys = tuple(print_key(one) for one in found)
        loaded = await self._store.load(keys, ())
        rows = {key: self.decode(key, loaded) for key in keys if key in loaded.rows}
        spread = spread_of(found, flow.history, rows, agent_name(call), now)
        return spread, versions_of(spread.rests_on, loaded)

    async def past(
        self, event: Event | None, rules: Rules, task: str, loaded: Loaded
    ) -> tuple[dict[Key, Memory], Reads]:
        """What temporal rules remember of an event's traces, and what was read beside `loaded`: the task's own."""
        if event is None:
            return {}, ()
        rows = {key: memory for key in event.rows if (memory := self.decode(key, loaded)) is not None}
        keys = task_rows(rules, task)
        if not keys:
            return rows, ()
        more = await self._store.load(keys, ())
        rows.update({key: memory for key in keys if (memory := self.decode(key, more)) is not None})
        return rows, versions_of(keys, more)

    def decode(self, key: Key, loaded: Loaded) -> Any:
        """The row as its type, decoded once per version; None if there is no such row."""
        row = loaded.rows.get(key)
        if row is None:
            return None
        cached = self._decoded.get(key)
        if cached is not None and cached[0] == row.version:
            return cached[1]
        value = msgspec.json.decode(row.value, type=ROW_TYPES[key[0]])
        if len(self._decoded) >= MAX_DECODED:
            self._decoded.clear()
        self._decoded[key] = (row.version, value)
        return value

    async def session(self, session: str) -> Session | None:
        """The session of that id, if there is one; whose it is, `verify` asks."""
        key = session_key(session)
        found: Session | None = self.decode(key, await self._store.load((key,), ()))
        return found

    async def opened(self, agent: str, session: str, limit: int) -> Counted:
        """The change that adds a session to an agent's, and those that it ends: the oldest, where `limit` are open.

        Nobody knows which of them is in use: many clients never end one, and one that was ended under its client is
        opened anew. Ended sessions are not taken out of the list when they end, but here, when it matters.
        """
        key = sessions_key(agent)
        loaded = await self._store.load((key,), ())
        listed: Sessions = self.decode(key, loaded) or Sessions()
        rows = await self._store.load([session_key(one) for one in listed.ids], ())
        alive = tuple(one for one in listed.ids if session_key(one) in rows.rows)
        over = tuple((one, self.decode(session_key(one), rows)) for one in alive[: max(len(alive) - limit + 1, 0)])
        listed = Sessions((*alive[len(over) :], session))
        ends = ((row, None) for one, _ in over for row in ended_rows(one))
        return ((key, msgspec.json.encode(listed)), *ends), versions_of((key,), loaded), over


def versions_of(keys: Sequence[Key], loaded: Loaded) -> Reads:
    """Each key with the version that was loaded; 0 where there is no such row."""
    rows = loaded.rows
    return tuple([(key, rows[key].version if key in rows else 0) for key in keys])
