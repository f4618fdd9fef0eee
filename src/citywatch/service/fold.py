"""The log folded again, entry by entry: what was known before each decision of it, as the log alone tells.

Decides nothing. The sequence itself does the folding (`Enforcer`, `Tasks`, `Tickets`, `Plans`) over rows of its own,
with the recorded clock; in the place of its gates stands whoever wants to judge (`rehearsal`), and then what was
recorded. Slow and exact; `hindsight` is the short way to a single decision, from the rows as they are.
Past 400 lines, and one thing because what an entry changes and what its decision rested on are the same rows.

INVARIANTS
1. What happened is what the log says: what a call brought, wrote and spent follows its recorded decision, and no other.
2. What was erased, and all that rests on it, is in doubt (`unknowns`), and is said to be.
3. An event that this module does not know how to fold puts all that flows after it in doubt.
4. A handle of then stands for what it stood for then: the shelf of a reply has the name that its entry says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Ask, Call, Decision, Direction, Effect
from citywatch.core.content.model import Model
from citywatch.core.enforce.context import Context, carried_over, context_key
from citywatch.core.enforce.hearing import hearing_of
from citywatch.core.enforce.held import Holding, holder_of, plan_key, progress_key, take_up
from citywatch.core.enforce.needs import Known, Needs, effect_of, needs
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.settle import Withheld
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import CitywatchError, Malformed, Refused
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.registration import AgentRow, agent_key, format_row, parse_agent_row
from citywatch.core.log.entry import Unknown, decode_event, payload_digest
from citywatch.core.plan.contract import Plan, begin
from citywatch.core.plan.narrow import NotAdopted
from citywatch.core.wire import mcp
from citywatch.service.asking import TAGS, TICKET_ID
from citywatch.service.contexts import held_to
from citywatch.service.enforcer import Enforcer
from citywatch.service.handles import refilled
from citywatch.service.judged import Judged
from citywatch.service.plans import Plans
from citywatch.service.ports import Append, Payload, Puts, Spend, Store
from citywatch.service.recorded import (
    Then,
    attestation_of,
    claims_of,
    digest_of,
    holders_of,
    known_then,
    papers_of,
    recorded,
    response_of,
    standing_of,
    ticket_of,
    told_then,
)
from citywatch.service.shadow import RecordedChance, RecordedClock, ShadowRows
from citywatch.service.tasks import Tasks
from citywatch.service.tickets import CALLED_OFF, Tickets
from citywatch.service.unknowns import Status, Unknowns
from citywatch.service.withdrawing import withdraw

SLICE: Final = 512
REPLICA: Final = "fold"
IDLE: Final = TAGS | frozenset(
    "resolved rejected authority_changed credential_issued tool_approved tool_changed offers_dropped started stopped "
    "gap policy_loaded erased label_released grant_rooted grant_withdrawn key_revoked halted resumed "
    "tool_withdrawn quarantined quarantine_lifted program_measured program_started issuer_distrusted bundle_believed "
    "bundle_refused agent_invited console_entered passkey_invited passkey_enrolled passkey_revoked "
    "ticket_sealed ticket_unsealed approval_reversed flood_struck absence_said ticket_escalated".split()
)
"""Tags of entries that change nothing here: pins stand in the entries, a label that was let down is let down again."""
ERASED: Final = "its payload was erased, or never kept"


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded decision, and what it rested on; `then` is None where the call itself is not kept.

    `doubt` says what of it is not known, and what comes of that. `asked`: the ticket that it rests on, if any, was
    opened in this fold. `reweighed`: other weights than ours may have scanned what was said by then.
    """

    index: int
    event: events.Decided
    then: Then | None
    doubt: tuple[Status, str] | None = None
    asked: bool = True
    reweighed: bool = False


Judge = Callable[[Folded], Decision | None]
"""What the gates would say, asked before the entry is folded; None if that is not to be known."""


class Fold:
    """One fold of one log under one set of rules; `run` it once."""

    def __init__(
        self,
        log: Store,
        rows: Store,
        rules: Rules,
        rebuild: Callable[[events.Decided, bytes], Call],
        judge: Judge,
        model: Model | None = None,
    ) -> None:
        """`rows` is an empty store that this fold owns; `rebuild` makes a call of an entry and its payload."""
        self._log, self._rules, self._rebuild = log, msgspec.structs.replace(rules, observe=False), rebuild
        self._judge = judge
        self._rows, self._clock, self._chance = ShadowRows(rows), RecordedClock(), RecordedChance()
        self._enforcer = Enforcer(
            store=self._rows,
            clock=self._clock,
            chance=self._chance,
            rules=self._rules,
            replica=REPLICA,
            model=model,
            decide=self._decide,
        )
        self._tasks = Tasks(
            store=self._rows,
            clock=self._clock,
            chance=self._chance,
            replica=REPLICA,
            rules=self._rules,
            model=model,
        )
        self._tickets = Tickets(store=self._rows, clock=self._clock, replica=REPLICA, named=False)
        self._plans_of_agents = Plans(
            store=self._rows, clock=self._clock, chance=self._chance, replica=REPLICA, rules=lambda: self._rules
        )
        self._open: dict[str, Judged | events.Decided] = {}
        self._dark = Unknowns()
        self._weights, self._reweighed = "" if model is None else model.digest, False
        self._plans: dict[str, Holding] = {}
        self._asked: set[str] = set()
        self._now: Folded | None = None

    async def run(self) -> AsyncIterator[Folded]:
        """Every recorded decision in its order; whatever stands between them is folded on the way.

        What it rested on is good until the next one is asked for: histories grow.
        """
        for _, row in await self._log.scan("plan"):
            holding = msgspec.json.decode(row.value, type=Holding)
            if holding.plan is not None:
                self._plans[holding.plan.held.digest] = holding
        size, start = await self._log.sync(), 0
        while start < size:
            leaves = await self._log.entries(start, min(start + SLICE, size))
            for index, leaf in enumerate(leaves, start):
                event = decode_event(leaf)
                if isinstance(event, events.Decided):
                    yield await self._decided(index, event)
                else:
                    await self._fold(index, event)
            start += len(leaves) or size

    # -- decisions -----------------------------------------------------------------------------------------------------

    async def _decided(self, index: int, one: events.Decided) -> Folded:
        self._clock.at, self._chance.id = one.at, one.call
        body = await self._payload(index, one.body)
        try:
            call = None if body is None else self._rebuild(one, body)
        except Malformed:
            call = None
        if call is None:
            await self._unseen(one)
            return Folded(index=index, event=one, then=None, doubt=(Status.UNVERIFIABLE, ERASED))
        await self._stand(one)
        call, lacking = await refilled(self._rows, one, call, "")
        doubt = (Status.UNVERIFIABLE, lacking) if lacking else None
        self._now = Folded(index=index, event=one, then=None, doubt=doubt, reweighed=self._reweighed)
        judged = await self._enforcer.judge(call, papers_of(one))
        if one.forwarded:
            self._open[one.call] = judged
            if (one.agent, one.key) in self._dark.contexts and effect_of(self._rules, call) is not Effect.READ:
                self._dark.servers.add(one.server)  # what it wrote carries what is not known
                self._dark.told(one, "an agent told it something out of a context that is not known")
        return self._now

    def _decide(
        self, call: Call, _: Credential, known: Known, need: Needs, now: int
    ) -> tuple[Authority | None, Decision]:
        """Note what was known, have it judged, and say what was recorded. # INVARIANT: 1."""
        assert self._now is not None
        one = self._now.event
        authority = standing_of(one, self._rules, need.chain, known.agent)
        known = known_then(one, call, known)
        remembers = bool(self._rules.temporal)
        self._now = msgspec.structs.replace(
            self._now,
            then=Then(call=call, authority=authority, known=known, need=need),
            doubt=self._now.doubt or self._dark.about(one, need, flows=known.flow is not None, remembers=remembers),
            asked=ticket_of(one) in (None, *self._asked),
        )
        found, then = self._judge(self._now), recorded(one)
        if isinstance(then, Ask):
            self._asked.add(call.id[:TICKET_ID])
            if isinstance(found, Ask):  # what else a question holds stands in no entry
                then = msgspec.structs.replace(found, reason=then.reason)
        return authority, then

    async def _unseen(self, one: events.Decided) -> None:
        """A call of which only the entry is left: it spent what it spent, and what it did is not known."""
        call = self._rebuild(one, b"")
        need = needs(call, self._rules, one.at, one.key)
        spends = tuple(Spend(b.key, b.window, b.limit, force=True) for b in need.budgets)
        await self._rows.append(Append(spends=spends))
        if not one.forwarded:
            return
        self._open[one.call] = one
        self._dark.told(one, "what another agent told it was erased")
        self._dark.past = "an earlier call, which a rule about the past may speak of, was erased"
        if call.direction is Direction.TO_AGENT:
            self._dark.context(one.agent, one.key, "a server's message to it was erased")
        elif effect_of(self._rules, call) is not Effect.READ:
            self._dark.servers.add(one.server)
            loaded = await self._rows.load((plan_key(one.agent), progress_key(one.agent)), ())
            if held_to(one.agent, loaded)[0].plan is not None:
                self._dark.plans[one.agent] = (Status.UNVERIFIABLE, "a call under its plan was erased")

    # -- everything else -----------------------------------------------------------------------------------------------

    async def _fold(self, index: int, event: events.AnyEvent | Unknown) -> None:
        if isinstance(event, Unknown):
            if event.tag in IDLE:
                return
            self._dark.everything = f"entry {index} is of a kind that this version does not know"  # INVARIANT: 3.
            return
        self._clock.at = event.at
        if isinstance(event, events.Settled):
            await self._settled(index, event)
        elif isinstance(event, events.Lost):
            self._open.pop(event.call, None)
        elif isinstance(event, events.TaskStarted):
            await self._task(index, event)
        elif isinstance(event, events.PlanWritten):
            await self._wrote(index, event)
        elif isinstance(event, events.TicketAnswered):
            await self._answered(event)
        elif isinstance(event, events.TicketWithdrawn):
            await withdraw(self._rows, event)
        elif isinstance(event, events.TicketSuperseded):
            if event.why == CALLED_OFF:  # all else that supersedes one follows from decisions
                with suppress(CitywatchError):
                    await self._tickets.call_off(event.ticket)
        elif isinstance(event, events.Started):
            self._reweighed = self._reweighed or event.weights not in ("", self._weights)
        elif isinstance(event, events.AgentAdded):
            row = AgentRow(agent=event.agent, keys=(event.key,), added_at=event.at)
            await self._put(event.agent, row)
        elif isinstance(event, events.AgentRevoked):
            row = await self._agent(event.agent)
            await self._put(event.agent, msgspec.structs.replace(row, revoked=True, reason=event.reason))
        elif isinstance(event, events.AgentVouched):
            row = await self._agent(event.agent)
            await self._put(event.agent, msgspec.structs.replace(row, claims=claims_of(event), vouched_at=event.at))
        elif isinstance(event, events.AgentAttested):
            row = msgspec.structs.replace(await self._agent(event.agent), attestation=attestation_of(event))
            await self._put(event.agent, msgspec.structs.replace(row, vouched_at=event.at))
        elif isinstance(event, events.KeyReplaced):
            await self._renewed(event)
        elif event.__struct_config__.tag not in IDLE:
            self._dark.everything = f"entry {index} is of a kind that is not folded"  # INVARIANT: 3.

    async def _settled(self, index: int, event: events.Settled) -> None:
        judged = self._open.pop(event.call, None) if event.final else self._open.get(event.call)
        if judged is None or event.outcome != "released":
            return
        one = judged if isinstance(judged, events.Decided) else judged.call
        key = one.key if isinstance(one, events.Decided) else judged.credential.key  # type: ignore[union-attr]
        if one.direction == Direction.TO_AGENT.value:
            return
        body = await self._payload(index, event.body)
        message = None if body is None else response_of(body)
        if message is not None and message.error is None and one.method in mcp.OFFERING:
            return  # definitions: a person approved them, and they enter no context
        if message is None or isinstance(judged, events.Decided):
            self._dark.past = "an earlier reply, which a rule about the past may speak of, was erased"
            self._dark.context(one.agent, key, "a reply that it was given was erased, or what it had asked for")
            self._dark.replied(self._rules, one.server, one.name)
            return
        self._chance.name_shelf(event.shelf)  # INVARIANT: 4.
        settled = await self._enforcer.settle(
            judged, message, event.message, told=told_then(event, judged.call, message)
        )
        if isinstance(settled, Withheld):
            self._dark.context(one.agent, key, f"a reply that it was given would be withheld ({settled.code.value})")
        if one.server in self._dark.servers:
            self._dark.context(one.agent, key, "what an erased call wrote may have come back to it")
        hearing = hearing_of(judged.call, self._rules, judged.known.hearer)
        if hearing is not None and (why := self._dark.heard(hearing.agent)):
            self._dark.context(one.agent, key, why)

    async def _task(self, index: int, event: events.TaskStarted) -> None:
        body = await self._payload(index, event.body)
        self._chance.id = event.task
        plan = await self._brought(event)
        if body is None:
            self._darken(await self._agent(event.agent), "the prompt of a task was erased")
        else:
            name = event.agent.rpartition("/")[2]
            try:
                await self._tasks.start(
                    event.principal, name, body.decode(), event.by, plan, event.template, event.calls
                )
            except (Malformed, Refused) as failure:
                self._darken(await self._agent(event.agent), f"its task would not have been started: {failure}")
        await self._hold(event)

    async def _brought(self, event: events.TaskStarted) -> Plan | None:
        """The plan that a task came with, if the one that holds after it cannot be the one that held before."""
        holder = self._holder(event)
        loaded = await self._rows.load((plan_key(holder), progress_key(holder)), ())
        before = held_to(holder, loaded)
        kept = self._plans.get(event.plan or "")
        for plan in (None, None if kept is None or kept.plan is None else kept.plan.held.plan):
            after = take_up(plan, event.task, event.principal, *before, event.at)
            if not isinstance(after, NotAdopted) and digest_of(after[0]) == event.plan:
                return plan
        return None

    async def _hold(self, event: events.TaskStarted) -> None:
        """See that the agent is held to what it was held to. A plan that was lifted is not kept anywhere."""
        holder = self._holder(event)
        plan, progress = plan_key(holder), progress_key(holder)
        dark = event.agent in self._dark.plans
        holding, _ = held_to(holder, await self._rows.load((plan, progress), ()))
        if digest_of(holding) == event.plan and not dark:
            return
        kept = self._plans.get(event.plan or "")
        if event.plan is None:  # lifted just now: what people said up to here entitles to nothing any more
            holding = Holding(since=event.at, first=event.task)
            rows: Puts = ((plan, msgspec.json.encode(holding)), (progress, None))
        elif kept is not None and kept.first == event.task:  # begun just now, after one that is not kept
            rows = ((plan, msgspec.json.encode(kept)), (progress, msgspec.json.encode(begin(event.at))))
        else:
            self._dark.plans[event.agent] = (Status.GONE, "the plan that held then is not kept")
            return
        await self._rows.append(Append(puts=rows))
        self._dark.plans.pop(event.agent, None)

    def _holder(self, event: events.TaskStarted) -> str:
        return holder_of(event.agent, event.task if self._rules.is_isolated(event.agent) else None)

    async def _wrote(self, index: int, event: events.PlanWritten) -> None:
        """Hold an agent to the plan that it wrote."""
        body = await self._payload(index, event.body)
        await self._stand(event)
        try:
            plan = msgspec.json.decode(body or b"", type=Plan)
            await self._plans_of_agents.write(papers_of(event), plan)
        except (CitywatchError, msgspec.DecodeError):
            self._dark.plans[event.agent] = (Status.UNVERIFIABLE, "the plan that it wrote cannot be held to again")

    async def _answered(self, event: events.TicketAnswered) -> None:
        with suppress(CitywatchError):  # what was asked is not kept, or these rules want another person's word for it
            ticket = await self._tickets.find(event.ticket)
            await self._tickets.answer(
                event.ticket,
                event.answer == "approved",
                event.by,
                event.reason,
                principal=event.principal or next(iter(ticket.of or ()), ""),  # earlier entries do not name one
                hold_ms=max(0, event.until - event.at),
            )

    async def _renewed(self, event: events.KeyReplaced) -> None:
        row = await self._agent(event.agent)
        keys = (*(key for key in row.keys if key != event.old), event.key)
        await self._put(event.agent, msgspec.structs.replace(row, keys=keys))
        before, after = context_key(event.agent, event.old), context_key(event.agent, event.key)
        found = (await self._rows.load([before], ())).rows.get(before)
        if found is not None:
            context = carried_over(before, msgspec.json.decode(found.value, type=Context))
            await self._rows.append(Append(puts=((after, msgspec.json.encode(context)),)))
        self._dark.renewed(event)

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def _payload(self, index: int, digest: str | None) -> bytes | None:
        """The body that an entry names; None if it was erased, never kept, or is not the one."""
        kept: Payload | None = await self._log.payload(index)
        return kept.body if kept is not None and payload_digest(kept.salt, kept.body) == digest else None

    async def _agent(self, agent: str) -> AgentRow:
        key = agent_key(agent.rpartition("/")[2])
        found = (await self._rows.load([key], ())).rows.get(key)
        return AgentRow(agent=agent, keys=(), added_at=0) if found is None else parse_agent_row(found.value)

    async def _put(self, agent: str, row: AgentRow) -> None:
        await self._rows.append(Append(puts=((agent_key(agent.rpartition("/")[2]), format_row(row)),)))

    async def _stand(self, one: events.Decided | events.PlanWritten) -> None:
        """Whoever is in an entry held that key when it was written, whether or not the log began before they did."""
        for agent, key in holders_of(one):
            row = await self._agent(agent)
            if key not in (*row.keys, *row.void) or row.revoked:
                await self._put(agent, msgspec.structs.replace(row, keys=(*row.keys, key), revoked=False))

    def _darken(self, row: AgentRow, why: str) -> None:
        for key in row.keys:
            self._dark.context(row.agent, key, why)
        if not row.keys:
            self._dark.everything = why  # the log does not say which contexts those are
