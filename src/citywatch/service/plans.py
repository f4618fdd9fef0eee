"""Plans that agents write themselves, over their own credentials: held to from then on, *honest until tainted*.

Decides only who may try; whether the plan holds is `enforce.held`'s. INVARIANTS: the contexts that were found clean,
the plan that was narrowed and the entry are one transaction: what taints a context in between comes first, or finds the
plan in force; a plan that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core import events
from citywatch.core.enforce.context import Context, context_key
from citywatch.core.enforce.held import plan_key, progress_key, write_down
from citywatch.core.enforce.needs import HALT
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import check_halts, check_standing
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.plan.contract import Held, Plan, plan_bytes
from citywatch.core.plan.narrow import NotAdopted
from citywatch.service.contexts import context_of, held_to, hold
from citywatch.service.ports import Append, Appended, Chance, Clock, NewEntry, Payload, Store
from citywatch.service.snapshots import versions_of
from citywatch.service.tasks import not_approved

MAX_CONFLICTS = 8
MAX_TOLD = 400


class Plans:
    """What agents write."""

    def __init__(self, *, store: Store, clock: Clock, chance: Chance, replica: str, rules: Callable[[], Rules]) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._replica = replica
        self._rules = rules

    async def write(self, credential: Credential, plan: Plan) -> Held:
        """Hold the agent to a plan of its own and return that; `Refused(PLAN_REFUSED)` says why it is not held."""
        rules = self._rules()
        strange = not_approved(plan, rules)
        if strange:
            raise Refused(Code.PLAN_REFUSED, f"no approved tool is called {', '.join(strange)}"[:MAX_TOLD])
        if rules.is_isolated(credential.agent):
            raise Refused(Code.PLAN_REFUSED, "an agent that keeps its tasks apart gets its plans with them")
        name = credential.agent.rpartition("/")[2]
        for _ in range(MAX_CONFLICTS):
            now, salt = self._clock.now_ms(), self._chance.salt()
            check_time(credential, now, rules.leeway_ms)
            standing = await self._store.load((agent_key(name), HALT), ())
            stored = standing.rows.get(agent_key(name))
            row = check_standing(
                credential.agent, credential.key, None if stored is None else parse_agent_row(stored.value)
            )
            check_halts(None, everything=HALT in standing.rows)
            contexts = tuple(context_key(row.agent, key) for key in row.keys)
            keys = (*contexts, plan_key(row.agent), progress_key(row.agent))
            loaded = await self._store.load(keys, ())
            before, progress = held_to(row.agent, loaded)
            own: Context = context_of(context_key(row.agent, credential.key), loaded)
            after = write_down(
                plan,
                own.task,
                own.principal,
                [context_of(key, loaded).label for key in contexts],
                before,
                progress,
                now,
            )
            if isinstance(after, NotAdopted):
                raise Refused(Code.PLAN_REFUSED, "; ".join(after.reasons)[:MAX_TOLD])
            assert after[0].plan is not None
            held, body = after[0].plan.held, plan_bytes(plan)
            event = events.PlanWritten(
                at=now,
                replica=self._replica,
                agent=row.agent,
                key=credential.key,
                task=own.task,
                plan=held.digest,
                parent=plan.parent,
                body=payload_digest(salt, body),
            )
            append = Append(
                entries=(NewEntry(encode_event(event), Payload(salt, body)),),
                reads=(*versions_of((agent_key(name), HALT), standing), *versions_of(keys, loaded)),
                puts=hold(row.agent, *after),
                sync=True,
            )
            if isinstance(await self._store.append(append), Appended):
                return held
        raise Unavailable(Code.CONFLICT)

    async def present(self, credential: Credential) -> Held | None:
        """What the agent is held to at present, so that it can write a narrower one."""
        name = credential.agent.rpartition("/")[2]
        keys = (agent_key(name), plan_key(credential.agent), progress_key(credential.agent))
        loaded = await self._store.load(keys, ())
        stored = loaded.rows.get(agent_key(name))
        check_time(credential, self._clock.now_ms(), self._rules().leeway_ms)
        check_standing(credential.agent, credential.key, None if stored is None else parse_agent_row(stored.value))
        plan = held_to(credential.agent, loaded)[0].plan
        return None if plan is None else plan.held
