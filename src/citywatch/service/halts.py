"""The emergency stop: an agent, a task or everything is refused from the next request, until somebody lets it go on.

Decides what a person means by a name; `core.enforce.verify` refuses. INVARIANTS: a stop and its end are rows that each
decision and each release reads, with an entry in the same transaction, on the disk before this returns; so a stop
survives restarts, and nothing but `resume` ends it. Either may be said twice.
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.enforce.needs import HALT, Key
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row, parse_agent_row
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Store
from citywatch.service.tasks import MAX_CONFLICTS, MAX_REASON
from citywatch.service.watch import NOTICED

ALL: Final = "all"
AGENT: Final = "agent:"
TASK: Final = "task:"


class Halts:
    """Who is stopped, and who may go on."""

    def __init__(self, *, store: Store, clock: Clock, replica: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica

    async def halt(self, what: str, by: str, reason: str) -> str:
        """Stop `all`, an agent (its name) or a task (its id), and return what was stopped as the log names it.

        `agent:` or `task:` before a name says which is meant, where both are called so (`Malformed` otherwise, and for
        what nobody knows).
        """
        return await self._turn(what, by, reason, halted=True)

    async def resume(self, what: str, by: str, reason: str) -> str:
        """Let it go on; what else stops it (a revocation, a stop of everything) holds as before."""
        return await self._turn(what, by, reason, halted=False)

    async def _turn(self, what: str, by: str, reason: str, *, halted: bool) -> str:
        for _ in range(MAX_CONFLICTS):
            key, named, stored, put, turns = await self._found(what, halted=halted)
            if not turns:
                return named
            kind = events.Halted if halted else events.Resumed
            event = kind(at=self._clock.now_ms(), replica=self._replica, what=named, by=by, reason=reason[:MAX_REASON])
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, 0 if stored is None else stored.version),),
                puts=(*NOTICED, (key, put)),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return named
        raise Unavailable(Code.CONFLICT, "nothing was stopped or resumed: the row kept changing")

    async def _found(self, what: str, *, halted: bool) -> tuple[Key, str, Row | None, bytes | None, bool]:
        """The row, its name in the log, as it is and as it will be, and whether that is a change."""
        if what == ALL:
            stored = (await self._store.load((HALT,), ())).rows.get(HALT)
            return HALT, ALL, stored, b"true" if halted else None, (stored is not None) is not halted
        wanted = {AGENT: agent_key(what.removeprefix(AGENT)), TASK: task_key(what.removeprefix(TASK))}
        rows = (await self._store.load(tuple(wanted.values()), ())).rows
        meant = [kind for kind, key in wanted.items() if key in rows and (what.startswith(kind) or ":" not in what)]
        if len(meant) != 1:
            many = f"`{what[:80]}` is an agent and a task: say `agent:` or `task:` before it"
            raise Malformed(many if meant else f"no agent and no task `{what[:80]}` is known")
        key = wanted[meant[0]]
        stored = rows[key]
        if meant[0] == TASK:
            task = msgspec.json.decode(stored.value, type=TaskRow)
            turned = msgspec.structs.replace(task, halted=halted)
            return key, f"{TASK}{key[1]}", stored, msgspec.json.encode(turned), task.halted is not halted
        agent = parse_agent_row(stored.value)
        if agent.revoked:
            raise Refused(Code.AGENT_REVOKED, f"the agent `{key[1]}` is revoked, which is for good")
        after: AgentRow = msgspec.structs.replace(agent, halted=halted)
        return key, agent.agent, stored, format_row(after), agent.halted is not halted

    async def halted(self) -> list[str]:
        """All that is stopped, as the log names it."""
        found = [ALL for _ in await self._store.scan(HALT[0])]
        for _, row in await self._store.scan("agent"):
            if (agent := parse_agent_row(row.value)).halted:
                found.append(agent.agent)
        for name, row in await self._store.scan("task"):
            if msgspec.json.decode(row.value, type=TaskRow).halted:
                found.append(f"{TASK}{name}")
        return found
