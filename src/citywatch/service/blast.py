"""What an item, a call or an agent touched since, read from the log: who asks `core.enforce.spread` and tells it.

Decides nothing. Reads each entry once, and payloads only where something touched can be meant. INVARIANT: what is not
there any more (payloads, the manifest of then) is told as unknown, so that it counts as everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.context import Key, flow_need, written_key
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.spread import Roots, Spread, Touch
from citywatch.core.errors import Malformed
from citywatch.core.flow.item import Item
from citywatch.core.label import BOTTOM
from citywatch.core.log.entry import decode_event
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message
from citywatch.core.wire.methods import LEGACY
from citywatch.service.entries import MAX_SOURCES
from citywatch.service.ports import Store

SLICE: Final = 512
SHORTEST: Final = 12
"""So many characters of an id or a digest name it."""
CONTINUED: Final = b'"inputResponses"'
Rebuild = Callable[[events.Decided, bytes], Call]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where a search begins, in words, and from which entry on."""

    told: tuple[str, ...]
    roots: Roots


async def find_roots(store: Store, name: str, domain: str, since: int = 0) -> Found:
    """What a person means by a name: an agent's, a call's or a task's id, the digest of an item; or `Malformed`.

    `since` is the log entry from which on an agent counts.
    """
    items = await _items(store, name) if len(name) >= SHORTEST else []
    agent = name if name.startswith("spiffe://") else f"spiffe://{domain}/agent/{name}"
    search = _Search(name, agent, since, items)
    size = await store.sync()
    for start in range(0, size, SLICE):
        for index, leaf in enumerate(await store.entries(start, min(start + SLICE, size)), start):
            search.see(index, decode_event(leaf))
    if not search.calls and not search.agents:
        raise Malformed(f"the log knows no agent, call, task or item `{name[:80]}`")
    roots = Roots(calls=frozenset(search.calls), agents=frozenset(search.agents))
    return Found(told=(*search.calls.values(), *search.agents.values()), roots=roots)


class _Search:
    """Entries of the log that a name can mean, and each in words."""

    def __init__(self, name: str, agent: str, since: int, items: list[tuple[str, Item]]) -> None:
        self.calls: dict[str, str] = {}
        self.agents: dict[tuple[str, int], str] = {}
        self._name, self._agent, self._since = name, agent, since
        self._ids = {name, *(item.call for _, item in items if item.call)}
        self._times = [(owner, item) for owner, item in items if not item.call]

    def see(self, index: int, event: object) -> None:
        if isinstance(event, events.Decided | events.AgentAdded) and event.agent == self._agent:
            told = f"all that {self._name} did from entry {self._since} on"
            self.agents.setdefault((self._agent, self._since), told)
        if isinstance(event, events.Decided) and self._means(event.call):
            self.calls.setdefault(event.call, f"call {event.call} and its reply, from entry {index} on")
        if isinstance(event, events.TaskStarted) and self._means(event.task):
            # A prompt enters each context of the agent: all that they did from there on.
            told = f"the task {event.task} of {event.principal}, from entry {index} on"
            self.agents.setdefault((event.agent, index), told)
        if isinstance(event, events.Decided | events.Settled):
            self._timed(index, event.at)

    def _timed(self, index: int, at: int) -> None:
        """An item without a call (a failure, a server's message) came at its time, with the first entry of it."""
        for owner, item in [one for one in self._times if one[1].at == at]:
            told = f"the item {item.digest[:SHORTEST]}, from entry {index} on"
            self.agents.setdefault((owner, index), told)
            self._times.remove((owner, item))

    def _means(self, name: str) -> bool:
        return name in self._ids or name[:SHORTEST] in self._ids


async def blast(store: Store, rules: Rules, roots: Roots, rebuild: Rebuild) -> tuple[Touch, ...]:
    """All that these roots touched, in the order of the log."""
    teller = _Teller(store, rules, Spread(roots), rebuild)
    size = await store.sync()
    for start in range(0, size, SLICE):
        for index, leaf in enumerate(await store.entries(start, min(start + SLICE, size)), start):
            await teller.tell(index, decode_event(leaf))
    return tuple(teller.spread.touches)


class _Teller:
    """Tells a `Spread` what happened, with what payloads and manifests still say of it."""

    def __init__(self, store: Store, rules: Rules, spread: Spread, rebuild: Rebuild) -> None:
        self._store, self._rules, self.spread, self._rebuild = store, rules, spread, rebuild
        self._open: dict[str, tuple[int, events.Decided]] = {}

    async def tell(self, index: int, event: object) -> None:
        if isinstance(event, events.KeyReplaced):
            self.spread.renewed(index, event)
        elif isinstance(event, events.Decided):
            await self._decided(index, event)
        elif isinstance(event, events.Settled) and event.call in self._open:
            await self._settled(index, event)

    async def _decided(self, index: int, one: events.Decided) -> None:
        known: tuple[str, ...] = ()
        sets: tuple[str, ...] = ()
        passes = any(" known: " in source for source in one.sources) or len(one.sources) >= MAX_SOURCES
        passes = passes or one.decision.startswith(events.WOULD)  # it names no sources, and may have gone by any
        if passes and self.spread.parties():
            known, sets = await self._known(index, one)
        touched = self.spread.decided(index, one, known, sets)
        if not one.forwarded:
            return
        self._open[one.call] = (index, one)
        if touched:
            self.spread.wrote(index, one, await self._written(index, one))

    async def _settled(self, index: int, event: events.Settled) -> None:
        at, one = self._open[event.call]
        if event.final:
            del self._open[event.call]
        if event.outcome != "released":
            return
        rows: tuple[Key, ...] | None = ()
        feeds: tuple[str, ...] | None = ()
        if self.spread.touched(one.call) or self.spread.reached(one.server):
            rows, feeds = await self._brought(index, at, one)
        self.spread.replied(index, event.at, one, rows, feeds)

    async def _call(self, index: int, one: events.Decided) -> Call | None:
        """The call as it was made; None if it was erased, or cannot be read by this configuration."""
        payload = await self._store.payload(index)
        if payload is None or one.manifest != self._rules.manifest:
            return None
        try:
            return self._rebuild(one, payload.body)
        except Malformed:
            return None

    def _tool(self, one: events.Decided) -> ApprovedTool | None:
        return self._rules.tools.get((one.server, one.name or "")) if one.method == TOOL_CALL else None

    async def _known(self, index: int, one: events.Decided) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The forms under which its values may be known; the sets, where the values are not there any more."""
        call, tool = await self._call(index, one), self._tool(one)
        if call is not None and tool is not None:
            return tuple(key[1] for key in flow_need(call, tool, "", one.key).parties), ()
        parties = {name for source in one.sources if " known: " in source for name in source.split("`")[1::2]}
        return (), tuple(parties) or ("",)

    async def _written(self, index: int, one: events.Decided) -> tuple[Key, ...]:
        everything = (written_key(one.server),)
        if one.effect == Effect.READ.value:
            if one.revision in LEGACY:
                return ()
            payload = await self._store.payload(index)  # a read may carry what the agent answers its server
            return () if payload is not None and CONTINUED not in payload.body else everything
        call, tool = await self._call(index, one), self._tool(one)
        if call is None or tool is None:
            return everything
        return flow_need(call, tool, "", one.key).written or everything

    async def _brought(
        self, index: int, at: int, one: events.Decided
    ) -> tuple[tuple[Key, ...] | None, tuple[str, ...] | None]:
        """What a reply speaks of, and which parties it made known; None for each that nobody can say any more."""
        if one.direction == Direction.TO_AGENT.value:
            return (), ()
        tool = self._tool(one)
        declares = tool is None or any(output.party for output in tool.manifest.output.values())
        unknown = (None, None if declares and one.method == TOOL_CALL else ())
        call, payload = await self._call(at, one), await self._store.payload(index)
        if tool is None or call is None or payload is None:
            return unknown
        try:
            message = parse_message(payload.body, FROM_SERVER)
        except Malformed:
            return unknown
        entering = entering_reply(call, message, self._rules) if isinstance(message, Response) else None
        if entering is None or not entering.written:  # an error, or no declared reply: it may say anything
            return None, ()
        return entering.written, tuple(key[1] for key in entering.known(BOTTOM))


async def _items(store: Store, digest: str) -> list[tuple[str, Item]]:
    """The items of that digest, each with the agent whose context it is in."""
    found = []
    for key, row in await store.scan("item"):
        if digest.encode() in row.value:
            item = msgspec.json.decode(row.value, type=Item)
            if item.digest.startswith(digest):
                found.append((key.partition("\n")[0], item))
    return found
