"""The one sequence, for every call in either direction.

    load(needs) → verify → admit → append → forward → settle → append → release

`judge` is its first half and `settle` its second; `exchange` puts the forwarding between them. What the gates decide is
in `core.enforce`; here it is only made sure that nothing happens out of order. Long, and one thing because both halves
are the same promise: what is in the log, what was read for it, and what may happen next are one transaction each.

INVARIANTS
1. Every call's entry is committed before it is forwarded; one that changes anything is synced first, and so is what an
   agent answers a server (what only reads is not, see ADR 9).
2. Nothing is released that is not in the committed log.
3. Each row a decision read is unchanged when its entry commits; after three conflicts the call is refused.
4. Refusals spend a budget, so asking again is no second chance.
5. A call that its caller abandons is closed at once, whatever instant that is: no entry is left without its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

import msgspec

from citywatch.core import events
from citywatch.core.call import Allow, Call, Decision, Deny, Direction, Reason
from citywatch.core.content.model import Model
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import context_key
from citywatch.core.enforce.invitation import Invitation, read_invitation
from citywatch.core.enforce.needs import (
    TOOL_CALL,
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
    effect_of,
    has_shared_id,
    is_synced,
    lost_key,
    needs,
    open_key,
    read_lost,
    session_key,
    sessions_key,
)
from citywatch.core.enforce.offers import Offers, Report
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.settle import Released, Withheld, reply_rows, settle
from citywatch.core.enforce.verify import Authority, verify
from citywatch.core.errors import CitywatchError, Code, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.registration import AgentRow
from citywatch.core.label import BOTTOM
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.wire.jsonrpc import Response
from citywatch.service.contexts import Contexts, asking, context_of, enter, flowing
from citywatch.service.ports import Append, Appended, Chance, Clock, Loaded, NewEntry, Payload, Spend, Stale, Store
from citywatch.service.rejections import MAX_DETAIL, Rejections
from citywatch.service.unhindered import unhindered

MAX_CONFLICTS = 3
MAX_DECODED = 50_000
WAITING = ("asked", "parked")
"""The kinds of rows that wait for one message each."""
MAX_SOURCES = 64
MAX_POLICIES = 64
"""How many matching policies an entry names: a leaf must fit an entry bundle (64 KiB)."""
Puts = tuple[tuple[Key, bytes | None], ...]
Reads = tuple[tuple[Key, int], ...]
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
}


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A call, its decision, and what it rested on; the decision's entry is committed. Only `judge` makes one."""

    call: Call
    credential: Credential
    decision: Decision
    authority: Authority | None
    known: Known

    @property
    def allowed(self) -> bool:
        return type(self.decision) is Allow


class Enforcer:
    """Runs the sequence over a store. Holds no state of its own but the rules and a cache of decoded rows."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chance: Chance,
        rules: Rules,
        replica: str,
        refresh: Callable[[], Awaitable[Rules]] | None = None,
        model: Model | None = None,
    ) -> None:
        """`model` scans what enters a context; without one nothing is scanned, and no Ask becomes a Deny for it."""
        self.store = store
        self.clock = clock
        self.chance = chance
        self.rules = rules
        self.replica = replica
        self.model = model
        self._refresh = refresh
        self._decoded: dict[Key, tuple[int, Any]] = {}
        self.contexts = Contexts(store)
        self.rejections = Rejections(store, clock, replica, lambda server: server in self.rules.servers)

    # -- the first half: who, whether, on record ---------------------------------------------------------------------

    async def judge(
        self, call: Call, credential: Credential, puts: tuple[tuple[Key, bytes | None], ...] = ()
    ) -> Judged:
        """Decide a call and commit the decision. With an `Allow`, `puts` are written in the same transaction.

        Raises `Unavailable` when the decision cannot be recorded; then nothing may be forwarded.
        """
        async with self._in_turn(call, credential):
            return await self._judge(call, credential, puts)

    async def _judge(self, call: Call, credential: Credential, puts: Puts) -> Judged:
        opening: Reads = ((open_key(call), 0),) if has_shared_id(call) else ()
        taken = False
        for attempt in range(MAX_CONFLICTS):
            now = self.clock.now_ms()
            need = needs(call, self.rules, now, credential.key)
            loaded = await self.store.load(need.rows, [(b.key, b.window) for b in need.budgets])
            known = await self._snapshot(call, need, loaded, taken)
            if attempt == 0 and self._refresh is not None and self._outdated(call, known.pin):
                self.rules = await self._refresh()
                continue
            authority, decision = _decide(call, credential, known, need, now)
            if authority is None and isinstance(decision, Deny):
                # Papers that do not hold are worth no more of the disk than none at all: no payload, folded in a flood.
                await self.rejections.add(decision.reason.code, decision.reason.detail, call.agent, call.server)
                return Judged(call=call, credential=credential, decision=decision, authority=None, known=known)
            allowed = type(decision) is Allow
            unheard = not isinstance(decision, Allow) and call.direction is Direction.TO_AGENT
            if unheard and not self.rejections.deny(_code_of(decision), call.server):
                return Judged(call=call, credential=credential, decision=decision, authority=authority, known=known)
            salt = self.chance.salt()
            event = self._decided(call, credential, known, decision, salt, now)
            append = Append(
                # What a server says and nobody hears costs it nothing, and would fill our disk: its digest has to do.
                entries=(NewEntry(encode_event(event), None if unheard else Payload(salt, call.body)),),
                reads=(*known.reads, *opening) if allowed else known.reads,
                spends=tuple(Spend(b.key, b.window, b.limit, not allowed) for b in need.budgets),
                puts=(
                    *self._open(call, need, known),
                    *puts,
                    *flowing(call, need.flow, known.flow, loaded, now, self.model),
                )
                if allowed
                else asking(call, need.flow, known.flow, decision, now),
                sync=allowed and is_synced(self.rules, call),
            )
            try:
                outcome = await self.store.append(append)
            except asyncio.CancelledError:
                # INVARIANT: 5. The entry is committed by now or never will be (`Store.append`): the row tells which.
                undone = tuple((key, None) for key, value in puts if value is not None)
                await self.abandon(call, "it was not forwarded", undone)
                raise
            if type(outcome) is Appended:
                return Judged(call=call, credential=credential, decision=decision, authority=authority, known=known)
            taken = taken or (isinstance(outcome, Stale) and any(outcome.key == key for key, _ in opening))
        raise Unavailable(Code.CONFLICT)

    async def recall(self, call: Call, credential: Credential) -> Judged:
        """Take up a call that was allowed earlier (its reply comes by another request): who asks is verified anew."""
        now = self.clock.now_ms()
        need = needs(call, self.rules, now, credential.key)
        known = await self._snapshot(call, need, await self.store.load(need.rows, ()))
        authority = verify(call, credential, known, now)
        return Judged(call=call, credential=credential, decision=_RECALLED, authority=authority, known=known)

    async def session(self, session: str) -> Session | None:
        """The session of that id, if there is one; whose it is, `verify` asks."""
        key = session_key(session)
        found: Session | None = self._decode(key, await self.store.load((key,), ()))
        return found

    async def opened(self, agent: str, session: str, limit: int) -> tuple[Puts, Reads, tuple[tuple[str, Session], ...]]:
        """The change that adds a session to an agent's, and those that it ends: the oldest, where `limit` are open.

        Nobody knows which of them is in use: many clients never end one, and one that was ended under its client is
        opened anew. Ended sessions are not taken out of the list when they end, but here, when it matters.
        """
        key = sessions_key(agent)
        loaded = await self.store.load((key,), ())
        listed: Sessions = self._decode(key, loaded) or Sessions()
        rows = await self.store.load([session_key(one) for one in listed.ids], ())
        alive = tuple(one for one in listed.ids if session_key(one) in rows.rows)
        over = tuple((one, self._decode(session_key(one), rows)) for one in alive[: max(len(alive) - limit + 1, 0)])
        listed = Sessions((*alive[len(over) :], session))
        ends = ((session_key(one), None) for one, _ in over)
        return ((key, msgspec.json.encode(listed)), *ends), ((key, _version(loaded, key)),), over

    def _open(self, call: Call, need: Needs, known: Known) -> Puts:
        """The row that marks a call as open (a notification has no outcome to wait for); an invitation is used up."""
        spent: Puts = () if need.invited is None else ((need.invited, None),)
        if need.likeness is not None and known.lost is not None:
            spent = (*spent, (lost_key(need.likeness), None))  # it was resolved, and its time is over
        if call.rpc_id is None:
            return spent
        row = OpenCall(
            call=call.id,
            replica=self.replica,
            agent=call.agent,
            server=call.server,
            method=call.method,
            likeness=need.likeness,
        )
        return ((open_key(call), msgspec.json.encode(row)), *spent)

    def _decided(
        self, call: Call, credential: Credential, known: Known, decision: Decision, salt: bytes, now: int
    ) -> events.Decided:
        allowed = type(decision) is Allow
        reason = None if isinstance(decision, Allow) else decision.reason
        return events.Decided(
            at=now,
            replica=self.replica,
            call=call.id,
            direction=call.direction.value,
            agent=call.agent,
            key=credential.key,
            server=call.server,
            method=call.method,
            name=call.name,
            revision=call.revision,
            effect=effect_of(known.rules, call).value,
            decision="allow" if allowed else "deny" if isinstance(decision, Deny) else "ask",
            code=None if reason is None else reason.code.value,
            policies=(decision.policies if isinstance(decision, Allow) else decision.reason.policies)[:MAX_POLICIES],
            sources=tuple(one[:MAX_DETAIL] for one in decision.sources[:MAX_SOURCES])
            if isinstance(decision, Allow)
            else (),
            detail="" if reason is None else reason.detail[:MAX_DETAIL],
            policy=known.rules.policies.digest,
            manifest=known.rules.manifest,
            pin=None if known.pin is None else known.pin.digest,
            body=payload_digest(salt, call.body),
        )

    # -- the second half: what came back -----------------------------------------------------------------------------

    async def settle(
        self,
        judged: Judged,
        response: Response,
        index: int,
        puts: Puts = (),
        once: Reads = (),
    ) -> Released | Withheld:
        """Judge a reply and commit that; only what is returned may reach the agent. `index` counts messages.

        `once` are rows, with their versions, that must be unchanged: a question is answered once (`Refused`), a session
        counted once (`Unavailable(CONFLICT)`).
        """
        async with self._in_turn(judged.call, judged.credential):
            return await self._settle(judged, response, index, puts, once)

    async def _settle(
        self, judged: Judged, response: Response, index: int, puts: Puts, once: Reads
    ) -> Released | Withheld:
        for _ in range(MAX_CONFLICTS):
            now = self.clock.now_ms()
            entering = entering_reply(judged.call, response, self.rules) if self.rules.principals else None
            context = context_key(judged.call.agent, judged.credential.key)
            answering = bool(self.rules.principals) and judged.call.direction is Direction.TO_AGENT
            entered = (context,) if answering else () if entering is None else (context, *entering.rows())
            rows = (*reply_rows(judged.call, response), *entered)
            loaded = await self.store.load(rows, ())  # from memory: its own agent's row was read a moment ago
            known = {key: self._decode(key, loaded) for key in rows if key not in entered}
            label = context_of(context, loaded).label if answering else BOTTOM
            settled = settle(judged.call, judged.authority, response, judged.known.rules, known, label)
            salt = self.chance.salt()
            outcome = await self.store.append(
                Append(
                    entries=(
                        NewEntry(
                            encode_event(self._settled(judged.call, response, settled, index, salt, now)),
                            Payload(salt, response.body),
                        ),
                        *self._reported(judged.call.server, settled.report, now),
                    ),
                    reads=(*once, *((key, _version(loaded, key)) for key in rows)),
                    puts=(
                        (open_key(judged.call), None),
                        *settled.report.puts,
                        *puts,
                        *(
                            enter(context, entering, judged.call.server, loaded, now, self.model)
                            if entering is not None and isinstance(settled, Released)
                            else ()
                        ),
                    ),
                    sync=judged.call.direction is Direction.TO_AGENT,  # INVARIANT: 1. The answer goes to the server.
                )
            )
            if type(outcome) is Appended:
                return settled
            if isinstance(outcome, Stale) and any(outcome.key == key for key, _ in once):
                if outcome.key[0] in WAITING:
                    raise Refused(Code.REPLY_UNEXPECTED, "it was answered before")
                break
        raise Unavailable(Code.CONFLICT)

    async def fail(self, judged: Judged, code: Code, detail: str, index: int, puts: Puts = ()) -> None:
        """Record that a forwarded call got no (further) reply. Its effect may have happened all the same."""
        await self._fail(judged.call, code, detail, index, puts, ())

    async def close(self, call: Call, code: Code, detail: str, index: int = 0, puts: Puts = ()) -> None:
        """Record that a call gets no reply, if it is still open; whoever closed it before has said how it ended."""
        key = open_key(call)
        loaded = await self.store.load((key,), ())
        row: OpenCall | None = self._decode(key, loaded)
        if row is not None and row.call == call.id:
            await self._fail(call, code, detail, index, puts, ((key, _version(loaded, key)),))

    async def abandon(self, call: Call, detail: str, puts: Puts = ()) -> None:
        """Close a call that its caller left, if it is still open. If the disk will not, the next start does."""
        with suppress(Unavailable):
            await unhindered(self.close(call, Code.ABANDONED, detail, 0, puts))

    async def _fail(self, call: Call, code: Code, detail: str, index: int, puts: Puts, once: Reads) -> None:
        event = events.Settled(
            at=self.clock.now_ms(),
            replica=self.replica,
            call=call.id,
            message=index,
            outcome="failed",
            code=code.value,
            detail=detail[:MAX_DETAIL],
            final=True,
            is_error=True,
            size=0,
            body=None,
        )
        entries = (NewEntry(encode_event(event)),)
        await self.store.append(Append(entries=entries, reads=once, puts=((open_key(call), None), *puts)))

    def _settled(
        self, call: Call, response: Response, settled: Released | Withheld, index: int, salt: bytes, now: int
    ) -> events.Settled:
        withheld = isinstance(settled, Withheld)
        return events.Settled(
            at=now,
            replica=self.replica,
            call=call.id,
            message=index,
            outcome="withheld" if withheld else "released",
            code=settled.code.value if isinstance(settled, Withheld) else None,
            detail=settled.detail if isinstance(settled, Withheld) else "",
            final=True,
            is_error=response.error is not None,
            size=len(response.body),
            body=payload_digest(salt, response.body),
        )

    def _reported(self, server: str, report: Report, now: int) -> list[NewEntry]:
        found: list[events.Event] = [
            events.ToolChanged(
                at=now,
                replica=self.replica,
                server=server,
                kind=change.kind,
                name=change.name,
                approved=change.approved,
                offered=change.offered,
                difference=change.difference,
            )
            for change in report.changes
        ]
        if report.dropped:
            found.append(events.OffersDropped(at=now, replica=self.replica, server=server, count=report.dropped))
        return [NewEntry(encode_event(event)) for event in found]

    # -- rows --------------------------------------------------------------------------------------------------------

    def _in_turn(self, call: Call, credential: Credential) -> AbstractAsyncContextManager[object]:
        """Calls and replies of one context go one after the other, where what entered it counts."""
        if not self.rules.principals:
            return nullcontext()
        return self.contexts.lock(context_key(call.agent, credential.key))

    async def _snapshot(self, call: Call, need: Needs, loaded: Loaded, taken: bool = False) -> Known:
        return Known(
            flow=None if need.flow is None else await self.contexts.flow(need.flow, loaded),
            rules=self.rules,
            agent=self._decode(agent_key(agent_name(call)), loaded),
            session=None if call.session is None else self._decode(session_key(call.session), loaded),
            pin=None if need.pin is None else self._decode(need.pin, loaded),
            lost=None if need.likeness is None else read_lost(self._decode(lost_key(need.likeness), loaded)),
            invited=None if need.invited is None else read_invitation(self._decode(need.invited, loaded)),
            taken=taken or (need.asked is not None and need.asked in loaded.rows),
            used=loaded.used,
            reads=tuple((key, _version(loaded, key)) for key in need.rows),
        )

    def _decode(self, key: Key, loaded: Loaded) -> Any:
        """The row as its type, decoded once per version."""
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

    def _outdated(self, call: Call, pin: Pin | None) -> bool:
        """An approval that these rules have not seen: its schema types the arguments, so the rules are read again."""
        if pin is None or call.method != TOOL_CALL:
            return False
        known = self.rules.tools.get((call.server, call.name or ""))
        return known is None or known.digest != pin.digest


_RECALLED = Allow(("recalled",))


def _code_of(decision: Decision) -> Code:
    if isinstance(decision, Allow):
        raise CitywatchError("a refusal without a reason")
    return decision.reason.code


def _version(loaded: Loaded, key: Key) -> int:
    row = loaded.rows.get(key)
    return 0 if row is None else row.version


def _decide(
    call: Call, credential: Credential, known: Known, need: Needs, now: int
) -> tuple[Authority | None, Decision]:
    try:
        authority = verify(call, credential, known, now)
    except Refused as refusal:
        return None, Deny(Reason(refusal.code, detail=refusal.detail))
    return authority, admit(call, authority, known, need, now)


__all__ = ["Direction", "Enforcer", "Judged"]
