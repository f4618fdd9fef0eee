"""An agent is put aside while people find out: it is refused, and what it can have shaped counts for nothing.

Decides what is frozen: all that `blast` says it touched. INVARIANTS
1. The agent is refused before anything is looked for, so that it adds nothing meanwhile; whoever dies after that may
   begin again, and finds the rest.
2. Labels only go up: what was written counts as shaped by anybody, and so does what a context that met it holds from
   here on. Lifting a quarantine lets no label down; a release does, by its own entry (`clearing`).
3. A context that met it is found to hold nothing: no value in it entitles to anything, and neither do a person's words
   of then. The next task is new words.
4. It is looked for again until nothing new is found: whoever read between two looks is found by the second.
5. Where nobody can say any more whom a reply made known (it was erased), anybody may be the one: nobody is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.enforce.context import Context
from citywatch.core.enforce.spread import Kind, Roots, Touch
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row, parse_agent_row
from citywatch.core.label import BOTTOM, Label, join
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Puts, Reads, Row, Store
from citywatch.service.tasks import MAX_REASON
from citywatch.service.watch import NOTICED

MAX_CONFLICTS: Final = 8
MAX_LOOKS: Final = 8
BATCH: Final = 256
ANYBODY: Final = Label(None, None)
Blast = Callable[[Roots], Awaitable[tuple[Touch, ...]]]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a quarantine: all that was touched, and how many rows count for nothing now."""

    agent: str
    touches: tuple[Touch, ...]
    rows: int


class Quarantine:
    """Who is put aside. `blast` says what a search from these roots touched."""

    def __init__(self, *, store: Store, clock: Clock, replica: str, blast: Blast) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._blast = blast

    async def lay(self, name: str, since: int, by: str, reason: str) -> Frozen:
        """Refuse the agent, then freeze what it touched from entry `since` on; again: freeze what is found by now.

        `Refused(AGENT_UNKNOWN)` for a stranger.
        """
        agent = await self._turn(name, True, since, by, reason)  # INVARIANT: 1
        rows, before = 0, None
        for _ in range(MAX_LOOKS):
            touches = await self._blast(Roots(agents=frozenset({(agent, since)})))
            keys = await self._keys(touches)
            if keys == before:  # INVARIANT: 4
                return Frozen(agent=agent, touches=touches, rows=rows)
            rows += await self._freeze(agent, keys, by)
            before = keys
        raise Unavailable(Code.CONFLICT, "the agent is refused, but what it wrote spreads on: say it again")

    async def lift(self, name: str, by: str, reason: str) -> str:
        """Let the agent act again, and return its SPIFFE ID. What was frozen stays so."""
        return await self._turn(name, False, 0, by, reason)

    async def _turn(self, name: str, on: bool, since: int, by: str, reason: str) -> str:
        if not reason.strip():
            raise Malformed("a quarantine has a reason: it stands in the log")
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load((agent_key(name),), ())).rows.get(agent_key(name))
            if stored is None:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{name[:80]}` is registered")
            row: AgentRow = parse_agent_row(stored.value)
            if row.quarantined is on:
                return row.agent
            now, told = self._clock.now_ms(), reason[:MAX_REASON]
            event: events.Event = events.QuarantineLifted(
                at=now, replica=self._replica, agent=row.agent, by=by, reason=told
            )
            if on:
                event = events.Quarantined(
                    at=now, replica=self._replica, agent=row.agent, since=since, by=by, reason=told
                )
            after = format_row(msgspec.structs.replace(row, quarantined=on))
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((agent_key(name), stored.version),),
                puts=(*NOTICED, (agent_key(name), after)),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return row.agent
        raise Unavailable(Code.CONFLICT, f"the agent `{name[:80]}` kept changing")

    # -- freezing ------------------------------------------------------------------------------------------------------

    async def _freeze(self, agent: str, keys: Sequence[Key], by: str) -> int:
        """Freeze what is not frozen yet; return how many rows that was."""
        done = 0
        for start in range(0, len(keys), BATCH):
            done += await self._freeze_some(agent, keys[start : start + BATCH], by)
        return done

    async def _keys(self, touches: tuple[Touch, ...]) -> list[Key]:
        """The rows that what was touched is kept in: objects first, so that nobody reads them as they were."""
        parties = {one.name for one in touches if one.kind is Kind.PARTY}
        contexts = {(one.name, one.key) for one in touches if one.kind is Kind.CONTEXT}
        tasks = {agent for agent, _ in contexts}
        keys = dict.fromkeys(("written", f"{one.server}\n{one.name}") for one in touches if one.kind is Kind.OBJECT)
        anybody = "" in parties  # INVARIANT: 5
        keys |= {("party", form): None for form, _ in await self._store.scan("party") if anybody or form in parties}
        for name, _ in await self._store.scan("context"):
            agent, _, key = name.partition("\n")
            if (agent, key) in contexts or (agent in tasks and key.startswith("task\n")):
                keys["context", name] = None
        return list(keys)

    async def _freeze_some(self, agent: str, keys: Sequence[Key], by: str) -> int:
        for _ in range(MAX_CONFLICTS):
            rows = (await self._store.load(keys, ())).rows
            puts: Puts = tuple(put for key in keys for put in _frozen(key, rows.get(key)))
            if not puts:
                return 0
            event = events.Frozen(
                at=self._clock.now_ms(),
                replica=self._replica,
                agent=agent,
                objects=sum(key[0] == "written" for key, _ in puts),
                parties=sum(key[0] == "party" for key, _ in puts),
                contexts=sum(key[0] == "context" for key, _ in puts),
                by=by,
            )
            reads: Reads = tuple((key, rows[key].version if key in rows else 0) for key, _ in puts)
            append = Append(entries=(NewEntry(encode_event(event)),), reads=reads, puts=puts, sync=True)
            if isinstance(await self._store.append(append), Appended):
                return len(puts)
        raise Unavailable(Code.CONFLICT, "the agent is refused, but what it wrote kept changing: say it again")


def _frozen(key: Key, row: Row | None) -> Puts:
    """What a row becomes; nothing if it is frozen already. # INVARIANT: 2"""
    if key[0] == "party":
        return () if row is None else ((key, None),)
    if key[0] == "written":
        label = BOTTOM if row is None else msgspec.json.decode(row.value, type=Label)
        raised = join(label, ANYBODY)
        return () if raised == label else ((key, msgspec.json.encode(raised)),)
    if row is None:
        return ()
    context = msgspec.json.decode(row.value, type=Context)
    if not context.items and context.label.origins is None:
        return ()
    # INVARIANT: 3. What it held lies under its old home; whoever remembers that finds nothing under the new one.
    home = f"{context.home or key[1]}\nfrozen\n{row.version}"
    label = join(join(context.label, context.before), ANYBODY)
    after = msgspec.structs.replace(context, label=label, before=BOTTOM, items=0, home=home)
    return ((key, msgspec.json.encode(after)),)
