"""What people are shown of a ticket, from the log: the call as it stands there, and the texts its values stood in.

Decides nothing; `core.approvals.showing` says what is shown, in which words. INVARIANTS
1. What is shown is what the log has under the digest that its entry names: a payload that is not it is none.
2. A text that is not found is not made up: then its place alone is told.
3. The same rows give the same document, whoever looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final

from citywatch.core import events
from citywatch.core.approvals.showing import Document, Excerpt, document_digest, render
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Call, Source
from citywatch.core.enforce.filling import parse_note
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.shown import subject_of
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.core.log.entry import payload_digest
from citywatch.service.locating import locate
from citywatch.service.ports import Store
from citywatch.service.recorded import response_of

MAX_EXCERPTS: Final = 16
"""Values of one ticket whose sources are looked up."""
MAX_AROUND: Final = 2_000
"""Characters of a source that are handed on, around what is marked."""
Rebuild = Callable[[events.Decided, bytes], Call]


class Documents:
    """Renders the tickets of one store under one set of rules."""

    def __init__(self, store: Store, rules: Callable[[], Rules], rebuild: Rebuild) -> None:
        """`rebuild` makes a call of an entry and its payload."""
        self._store = store
        self._rules = rules
        self._rebuild = rebuild

    async def of(self, ticket: Ticket) -> Document:
        """What a person is to see of this ticket before they answer."""
        found = await locate(
            self._store,
            ticket.asked,
            ticket.call,
            lambda one: isinstance(one, events.Decided) and one.call == ticket.call,
        )
        decided = found[1] if found is not None and isinstance(found[1], events.Decided) else None
        call = None
        if found is not None and decided is not None:
            body = await self._payload(found[0], decided.body)
            call = None if body is None else self._call(decided, body)
        return render(
            subject_of(
                ticket,
                call,
                self._rules(),
                await self._excerpts(ticket),
                () if decided is None else decided.via[1:],
                {} if decided is None else _handles(decided),
            )
        )

    async def digest(self, ticket: Ticket) -> str:
        """The digest of that document, as an approver signs it."""
        return document_digest(await self.of(ticket), ticket.salt)

    def _call(self, decided: events.Decided, body: bytes) -> Call | None:
        try:
            return self._rebuild(decided, body)
        except CitywatchError:
            return None

    async def _payload(self, index: int, digest: str | None) -> bytes | None:
        """# INVARIANT: 1."""
        kept = await self._store.payload(index)
        return kept.body if kept is not None and payload_digest(kept.salt, kept.body) == digest else None

    async def _excerpts(self, ticket: Ticket) -> Mapping[str, Excerpt]:
        found: dict[str, Excerpt] = {}
        texts: dict[tuple[int, str], Mapping[str, list[str]]] = {}
        sources = [one for one in ticket.sources if one.item and one.at]
        for source in itertools.islice(sources, MAX_EXCERPTS):
            where = (source.at, source.call)
            if where not in texts:
                texts[where] = await self._texts(source)
            excerpt = _excerpt(source, texts[where].get(source.part, []))
            if excerpt is not None:
                found[source.path] = excerpt
        return found

    async def _texts(self, source: Source) -> Mapping[str, list[str]]:
        """The texts of what brought a value, by the paths of its parts. # INVARIANT: 2."""

        def wanted(one: events.AnyEvent) -> bool:
            if isinstance(one, events.TaskStarted):
                return one.task == source.call and one.at == source.at
            return isinstance(one, events.Settled) and one.call == source.call and one.at == source.at

        entry = await locate(self._store, source.at, source.call, wanted)
        if entry is None:
            return {}
        index, event = entry
        body = await self._payload(index, getattr(event, "body", None))
        if body is None:
            return {}
        if isinstance(event, events.TaskStarted):
            return {source.part: [body.decode("utf-8", "replace")]}
        return await self._leaves(source, body)

    async def _leaves(self, source: Source, body: bytes) -> Mapping[str, list[str]]:
        asked = await locate(
            self._store, source.at, source.call, lambda one: isinstance(one, events.Decided) and one.call == source.call
        )
        response = response_of(body)
        if asked is None or not isinstance(asked[1], events.Decided) or response is None:
            return {}
        payload = await self._payload(asked[0], asked[1].body)
        call = None if payload is None else self._call(asked[1], payload)
        entering = None if call is None else entering_reply(call, response, self._rules())
        texts: dict[str, list[str]] = {}
        for leaf in () if entering is None else entering.walk.leaves:
            texts.setdefault(leaf.path, []).append(leaf.value if isinstance(leaf.value, str) else str(leaf.value))
        return texts


def _excerpt(source: Source, texts: list[str]) -> Excerpt | None:
    for text in texts:
        if 0 <= source.start < source.end <= len(text):
            first = max(0, source.start - MAX_AROUND)
            return Excerpt(text[first : source.end + MAX_AROUND], source.start - first, source.end - first)
    return None


def _handles(decided: events.Decided) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for one in decided.handles:
        try:
            note = parse_note(one)
        except Malformed:
            continue
        found[note.path] = note.of
    return found
