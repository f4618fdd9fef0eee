"""Tasks: a principal's own words enter an agent's context, over the principal's own session.

Decides only that principal and agent exist; what a plan may change is `enforce.held`'s. INVARIANTS: the prompt's entry,
its payload, its item and what the agent is held to are one transaction; what an *agent* reports of a prompt, or plans,
never comes this way.
"""

from __future__ import annotations

import msgspec

from citywatch.core import events
from citywatch.core.canonical import digest
from citywatch.core.content.model import Model
from citywatch.core.content.signals import Channel
from citywatch.core.enforce.advice import advised
from citywatch.core.enforce.context import context_key, task_context_key
from citywatch.core.enforce.held import TaskPlan, TaskRow, holder_of, plan_key, progress_key, take_up, task_key
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.flow.item import MAX_PROMPT, Item, read_prompt
from citywatch.core.identity.registration import AgentRow, agent_key, parse_agent_row
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.plan.contract import Held, Kind, Plan
from citywatch.core.plan.narrow import NotAdopted
from citywatch.service.contexts import add_item, context_of, held_to, hold, risen
from citywatch.service.ports import Append, Appended, Chance, Clock, NewEntry, Payload, Puts, Reads, Store
from citywatch.service.snapshots import versions_of

MAX_CONFLICTS = 8
MAX_REASON = 400


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

    async def start(
        self,
        principal: str,
        agent: str,
        prompt: str,
        by: str,
        plan: Plan | None = None,
        template: str | None = None,
        calls: int = 0,
    ) -> str:
        """Give an agent a task in a principal's name; return the task's id. Their session vouches for `plan`.

        `template` names the operator's template that the plan was made from, if it was; `calls` is how many calls and
        messages may be made for the task in all, 0 for any number.

        `Refused(AGENT_UNKNOWN)` for a stranger or a revoked agent; `Malformed` for an unknown principal, a prompt that
        is empty or longer than 64 KiB, or a plan that cannot hold here: it names a tool that is not approved, or does
        not narrow the plan that holds.
        """
        body = self._checked(principal, prompt, plan)
        for _ in range(MAX_CONFLICTS):
            row, version = await self._registered(agent)
            task, now, salt = self._chance.call_id(), self._clock.now_ms(), self._chance.salt()
            item = read_prompt(prompt, digest(body), principal, now, task, followed=True)
            if self._model is not None:
                item = advised(item, [(0, prompt)], Channel.USER, self._model)
            kind = Kind.SIGNED if template is None else Kind.TEMPLATE
            started = TaskRow(agent=row.agent, principal=principal, started=now, calls=calls)
            reads, puts, holds = await self._taking_up(row, started, task, item, plan, kind)
            event = events.TaskStarted(
                at=now,
                replica=self._replica,
                task=task,
                principal=principal,
                agent=row.agent,
                by=by,
                body=payload_digest(salt, body),
                plan=None if holds is None else holds.held.digest,
                kind=None if holds is None else holds.held.kind.value,
                template=template,
                calls=calls,
            )
            entries = (NewEntry(encode_event(event), Payload(salt, body)),)
            reads = ((agent_key(agent), version), *reads)
            outcome = await self._store.append(Append(entries=entries, reads=reads, puts=puts, sync=True))
            if isinstance(outcome, Appended):
                return task
        raise Unavailable(Code.CONFLICT, f"the task of `{agent}` was not started: its context kept changing")

    def _checked(self, principal: str, prompt: str, plan: Plan | None) -> bytes:
        """What needs no row to be refused; return the prompt's bytes."""
        if principal not in self._rules.principals:
            raise Malformed(f"no principal `{principal[:80]}` is configured: name it under `principals:`")
        if not prompt.strip() or len(prompt) > MAX_PROMPT:
            raise Malformed(f"a prompt has 1 to {MAX_PROMPT} characters")
        strange = not_approved(plan, self._rules)
        if strange:
            raise Malformed(f"no approved tool is called {', '.join(f'`{one}`' for one in strange)}")
        try:
            return prompt.encode("utf-8")
        except UnicodeEncodeError:
            raise Malformed("a prompt is text: this one holds bytes that are not UTF-8") from None

    async def _registered(self, agent: str) -> tuple[AgentRow, int]:
        stored = (await self._store.load((agent_key(agent),), ())).rows.get(agent_key(agent))
        row = None if stored is None else parse_agent_row(stored.value)
        if stored is None or row is None or row.revoked:
            raise Refused(Code.AGENT_UNKNOWN, f"no agent `{agent[:80]}` is registered")
        return row, stored.version

    async def _taking_up(
        self, row: AgentRow, started: TaskRow, task: str, item: Item, plan: Plan | None, kind: Kind
    ) -> tuple[Reads, Puts, TaskPlan | None]:
        """What is read and written so that the agent's contexts hold the prompt, and the plan that then holds."""
        principal, now, apart = started.principal, started.started, self._rules.is_isolated(row.agent)
        holder = holder_of(row.agent, task if apart else None)
        of_keys = [context_key(row.agent, key) for key in row.keys]
        keys, around = ([task_context_key(row.agent, task)], of_keys) if apart else (of_keys, [])
        held = (plan_key(holder), progress_key(holder))
        loaded = await self._store.load((*keys, *around, *held), ())
        before = held_to(holder, loaded)
        after = take_up(plan, task, principal, *before, now, kind)
        if isinstance(after, NotAdopted):
            raise Malformed(f"the plan does not hold: {'; '.join(after.reasons)}")
        puts: Puts = hold(holder, *after) if after != before else ()
        puts += ((task_key(task), msgspec.json.encode(started)),)
        puts += risen(around, item.label, loaded)
        for key in keys:
            context = msgspec.structs.replace(context_of(key, loaded), task=task, principal=principal)
            puts += add_item(key, context, item)
        return versions_of((*held, *around, *keys), loaded), puts, after[0].plan

    async def end(self, task: str, by: str, reason: str) -> str:
        """Say that a task is over, and return its agent; whoever names it from now on is refused.

        `Malformed` for a task that is unknown or over.
        """
        key = task_key(task)
        for _ in range(MAX_CONFLICTS):
            stored = (await self._store.load((key,), ())).rows.get(key)
            row = None if stored is None else msgspec.json.decode(stored.value, type=TaskRow)
            if stored is None or row is None or row.ended:
                raise Malformed(f"no task `{task[:80]}` is open")
            now = self._clock.now_ms()
            event = events.TaskEnded(
                at=now, replica=self._replica, task=task, agent=row.agent, by=by, reason=reason[:MAX_REASON]
            )
            ended = msgspec.structs.replace(row, ended=max(now, 1))
            append = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, stored.version),),
                puts=((key, msgspec.json.encode(ended)),),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return row.agent
        raise Unavailable(Code.CONFLICT)

    async def holds(self, agent: str, task: str | None = None) -> Held | None:
        """The plan that an agent is held to at present; in this task, if it keeps its tasks apart."""
        stored = (await self._store.load((agent_key(agent),), ())).rows.get(agent_key(agent))
        if stored is None:
            return None
        row = parse_agent_row(stored.value)
        key = plan_key(holder_of(row.agent, task if self._rules.is_isolated(row.agent) else None))
        plan = held_to(key[1], await self._store.load((key,), ()))[0].plan
        return None if plan is None else plan.held


def not_approved(plan: Plan | None, rules: Rules) -> list[str]:
    """The tools of a plan that no call can use: a slip of the pen would otherwise show when the task stands still."""
    known = {f"{server}/{tool}" for server, tool in rules.tools}
    return [] if plan is None else sorted({step.tool for step in plan.steps} - known)
