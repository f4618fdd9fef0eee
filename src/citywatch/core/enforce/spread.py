"""How far something went: a fold over the log, in order, from one item, call or agent to all that it can have shaped.

Decides which later thing an earlier one can have shaped, on what is in the log alone. Assumes *havoc*: whoever holds an
item may put it into every later call, in any disguise, so a call counts whatever its arguments are.

    a reply enters a context → the context's later calls → the objects that they write → replies that speak of these
    → other contexts …        what is said to an agent of ours → its contexts → what it answers
    a reply makes parties known → calls that pass because a party is known …

INVARIANTS
1. One-sided: it may name too much, never too little. What cannot be read any more (an erased payload, a manifest of
   then) counts as if it spoke of everything of its server.
2. Only what came later is shaped: the log's order is that of the commits.
3. Each thing is named once, with the first cause.

Does not see: people who retype, servers that share data behind the gateway, agents that talk past it, and what a tool
that its operator declared to read writes all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Direction, Effect

Key = tuple[str, str]


class Kind(StrEnum):
    """What can be touched."""

    CONTEXT = "context"  # all that one key of an agent has received
    CALL = "call"
    ANSWER = "answer"  # what an agent told a server that had asked
    OBJECT = "object"  # of a server; without a name: all of it
    PARTY = "party"  # without a name: nobody can say any more whom a reply made known


ROOT: Final = -1


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was touched. `by` is the number of the touch that caused it, `ROOT` if the search began there.

    `index` is the log entry by which it happened, `at` its time in milliseconds since the epoch. `name` is an agent's
    SPIFFE ID, a `<server>/<tool>`, an object, a party; `call` and `key` where there is one.
    """

    kind: Kind
    name: str
    by: int
    index: int
    at: int
    call: str = ""
    key: str = ""
    server: str = ""
    effect: str = ""
    decision: str = ""


class Roots(msgspec.Struct, frozen=True, kw_only=True):
    """Where the search begins: calls with their replies, and agents, each from one entry of the log on."""

    calls: frozenset[str] = frozenset()
    agents: frozenset[tuple[str, int]] = frozenset()


class Spread:
    """All that was touched so far; told each entry in the order of the log."""

    def __init__(self, roots: Roots) -> None:
        self.touches: list[Touch] = []
        self._roots = roots
        self._contexts: dict[tuple[str, str], int] = {}
        self._same: dict[tuple[str, str], tuple[str, str]] = {}
        self._calls: dict[str, int] = {}
        self._objects: dict[Key, int] = {}
        self._servers: dict[str, int] = {}
        self._parties: dict[str, int] = {}
        self._loose: dict[str, int] = {}

    # -- what the teller has to look up -------------------------------------------------------------------------------

    def reached(self, server: str) -> bool:
        """Whether anything of a server was touched, so that it matters what its replies speak of."""
        return server in self._servers

    def touched(self, call: str) -> bool:
        """Whether this call was, so that it matters what it wrote and what its reply makes known."""
        return call in self._calls

    def parties(self) -> bool:
        """Whether any party was made known, so that it matters who passes as one."""
        return bool(self._parties or self._loose)

    # -- what happened ------------------------------------------------------------------------------------------------

    def renewed(self, index: int, one: events.KeyReplaced) -> None:
        """A new key makes no other process of an agent: what one has received the other has."""
        old, new = self._home(one.agent, one.old), self._home(one.agent, one.key)
        if old == new:
            return
        cause = self._contexts.get(old, self._contexts.get(new))
        self._same[new] = old
        if cause is not None:
            self._contexts.setdefault(old, cause)

    def decided(self, index: int, one: events.Decided, known: tuple[str, ...] = (), sets: tuple[str, ...] = ()) -> bool:
        """A call was judged; say whether it is touched.

        `known` are the forms of its values under which they may have passed as known parties, `sets` the sets of whose
        members that is not known any more.
        """
        if one.direction == Direction.TO_AGENT.value:
            self._asked(index, one)
            return False
        cause = self._cause(index, one)
        if cause is None and one.forwarded:
            cause = self._through(known, sets)
        if cause is None:
            return False
        name = f"{one.server}/{one.name}" if one.name else f"{one.server} {one.method}"
        self._calls[one.call] = self._touch(
            Touch(
                kind=Kind.CALL,
                name=name,
                by=cause,
                index=index,
                at=one.at,
                call=one.call,
                key=one.key,
                server=one.server,
                effect=one.effect,
                decision=one.became,
            )
        )
        self._told(index, one)
        return True

    def wrote(self, index: int, one: events.Decided, rows: Iterable[Key]) -> None:
        """The rows of objects that a touched call may have written."""
        cause = self._calls[one.call]
        for row in rows:
            self._object(index, one.at, one.server, row, cause)

    def replied(
        self, index: int, at: int, call: events.Decided, rows: Iterable[Key] | None, feeds: Iterable[str] | None
    ) -> None:
        """A reply was released. `rows` are those that it speaks of, None if of any; `feeds` the parties it made known.

        `feeds` None: nobody can say any more, so that every party that passes later may be one of them.
        """
        if call.direction == Direction.TO_AGENT.value:
            self._answered(index, at, call)
            return
        cause = self._calls.get(call.call)
        if cause is None:
            cause = self._said(index, call)
        if cause is None:
            cause = self._spoken_of(call.server, rows)
        if cause is None:
            return
        self._enter(index, at, call, cause)
        if feeds is None and call.server not in self._loose:
            self._loose[call.server] = self._touch(
                Touch(kind=Kind.PARTY, name="", by=cause, index=index, at=at, server=call.server)
            )
        for form in feeds or ():
            if form not in self._parties:
                self._parties[form] = self._touch(
                    Touch(kind=Kind.PARTY, name=form, by=cause, index=index, at=at, server=call.server)
                )

    # -- causes -------------------------------------------------------------------------------------------------------

    def _cause(self, index: int, one: events.Decided) -> int | None:
        if one.call in self._roots.calls:
            return ROOT
        found = self._contexts.get(self._home(one.agent, one.key))
        if found is None and self._is_root(one.agent, index):
            found = self._enter(index, one.at, one, ROOT)
        return found

    def _is_root(self, agent: str, index: int) -> bool:
        return any(agent == name and index >= since for name, since in self._roots.agents)

    def _through(self, known: tuple[str, ...], sets: tuple[str, ...]) -> int | None:
        """It passed because somebody was known whom a touched reply had made known."""
        causes = [self._parties[form] for form in known if form in self._parties]
        causes += [
            cause for form, cause in self._parties.items() for one in sets if not one or form.startswith(f"{one}\n")
        ]
        if known or sets:
            causes += self._loose.values()  # INVARIANT: 1
        return min(causes, default=None)

    def _said(self, index: int, call: events.Decided) -> int | None:
        """What an agent of ours says comes out of its contexts, whichever of its processes says it."""
        agents = {context.partition("\n")[0] for context in call.hears}
        if any(self._is_root(agent, index) for agent in agents):
            return ROOT
        return min((cause for (agent, _), cause in self._contexts.items() if agent in agents), default=None)

    def _spoken_of(self, server: str, rows: Iterable[Key] | None) -> int | None:
        if rows is None:  # INVARIANT: 1
            return self._servers.get(server)
        return min((self._objects[row] for row in rows if row in self._objects), default=None)

    # -- effects ------------------------------------------------------------------------------------------------------

    def _asked(self, index: int, one: events.Decided) -> None:
        """A server's own message reaches the agent: it may say all that was written to that server."""
        if not one.forwarded:
            return
        cause = ROOT if one.call in self._roots.calls else self._servers.get(one.server)
        if cause is not None:
            self._enter(index, one.at, one, cause)

    def _told(self, index: int, one: events.Decided) -> None:
        """What is said to an agent of ours enters its contexts."""
        if not one.forwarded:
            return
        cause = self._calls[one.call]
        for context in one.hears:
            agent, _, key = context.partition("\n")
            home = self._home(agent, key)
            if home not in self._contexts:
                self._contexts[home] = self._touch(
                    Touch(kind=Kind.CONTEXT, name=agent, by=cause, index=index, at=one.at, call=one.call, key=key)
                )

    def _answered(self, index: int, at: int, call: events.Decided) -> None:
        cause = self._cause(index, call)
        if cause is None:
            return
        number = self._touch(
            Touch(
                kind=Kind.ANSWER,
                name=f"{call.server} {call.method}",
                by=cause,
                index=index,
                at=at,
                call=call.call,
                key=call.key,
                server=call.server,
                effect=Effect.IRREVERSIBLE.value,
                decision="allow",
            )
        )
        self._object(index, at, call.server, ("written", f"{call.server}\n"), number)

    def _enter(self, index: int, at: int, one: events.Decided, cause: int) -> int:
        home = self._home(one.agent, one.key)
        if home not in self._contexts:
            self._contexts[home] = self._touch(
                Touch(kind=Kind.CONTEXT, name=one.agent, by=cause, index=index, at=at, call=one.call, key=one.key)
            )
        return self._contexts[home]

    def _object(self, index: int, at: int, server: str, row: Key, cause: int) -> None:
        if row not in self._objects:
            thing = row[1].partition("\n")[2]
            self._objects[row] = self._touch(
                Touch(kind=Kind.OBJECT, name=thing, by=cause, index=index, at=at, server=server)
            )
        self._servers.setdefault(server, self._objects[row])

    def _touch(self, one: Touch) -> int:
        self.touches.append(one)
        return len(self.touches) - 1

    def _home(self, agent: str, key: str) -> tuple[str, str]:
        home = (agent, key)
        while home in self._same:
            home = self._same[home]
        return home
