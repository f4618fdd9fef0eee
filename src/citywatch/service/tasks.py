"""Tasks: a principal's own words enter an agent's context, over the principal's own session.

Decides only that principal and agent exist. INVARIANTS: the prompt's entry, its payload and its item are one
transaction; what an *agent* reports of a prompt never comes this way.
"""

from __future__ import annotations

import msgspec

from citywatch.core import events
from citywatch.core.canonical import digest
from citywatch.core.content.model import Model
from citywatch.core.content.signals import Channel
from citywatch.core.enforce.advice import advised
from citywatch.core.enforce.context import Context, context_key
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.flow.item import MAX_PROMPT, read_prompt
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.service.contexts import Puts, add_item
from citywatch.service.ports import Append, Appended, Chance, Clock, Key, NewEntry, Payload, Store

MAX_CONFLICTS = 8


class Tasks:
    """What principals ask of agents."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chance: Chance,
        replica: str,
        rules: Rules,
        model: Model | None = None,
    ) -> None:
        """With a model, what it says of a prompt is kept beside it, for people to read: a principal's words decide."""
        self._store = store
        self._clock = clock
        self._chance = chance
        self._replica = replica
        self._rules = rules
        self._model = model

    async def start(self, principal: str, agent: str, prompt: str, by: str) -> str:
        """Give an agent a task in a principal's name; return the task's id.

        `Refused(AGENT_UNKNOWN)` for a stranger or a revoked agent; `Malformed` for an unknown principal, or a prompt
        that is empty or longer than 64 KiB.
        """
        if principal not in self._rules.principals:
            raise Malformed(f"no principal `{principal[:80]}` is configured: name it under `principals:`")
        if not prompt.strip() or len(prompt) > MAX_PROMPT:
            raise Malformed(f"a prompt has 1 to {MAX_PROMPT} characters")
        try:
            body = prompt.encode("utf-8")
        except UnicodeEncodeError:
            raise Malformed("a prompt is text: this one holds bytes that are not UTF-8") from None
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load((agent_key(agent),), ())).rows.get(agent_key(agent))
            row = None if stored is None else parse_agent_row(stored.value)
            if stored is None or row is None or row.revoked:
                raise Refused(Code.AGENT_UNKNOWN, f"no agent `{agent[:80]}` is registered")
            task, now, salt = self._chance.call_id(), self._clock.now_ms(), self._chance.salt()
            item = read_prompt(prompt, digest(body), principal, now)
            if self._model is not None:
                item = advised(item, [(0, prompt)], Channel.USER, self._model)
            keys = [context_key(row.agent, key) for key in row.keys]
            loaded = (await self._store.load(keys, ())).rows
            puts: Puts = ()
            reads: list[tuple[Key, int]] = [(agent_key(agent), stored.version)]
            for key in keys:
                found = loaded.get(key)
                context = Context() if found is None else msgspec.json.decode(found.value, type=Context)
                puts += add_item(key, context, item)
                reads.append((key, 0 if found is None else found.version))
            event = events.TaskStarted(
                at=now,
                replica=self._replica,
                task=task,
                principal=principal,
                agent=row.agent,
                by=by,
                body=payload_digest(salt, body),
            )
            entries = (NewEntry(encode_event(event), Payload(salt, body)),)
            outcome = await self._store.append(Append(entries=entries, reads=tuple(reads), puts=puts, sync=True))
            if isinstance(outcome, Appended):
                return task
        raise Unavailable(Code.CONFLICT, f"the task of `{agent}` was not started: its context kept changing")
