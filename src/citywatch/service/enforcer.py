"""The one sequence, for every call in either direction.

    load(needs) → verify → admit → append → forward → settle → append → release

`judge` is its first half and `settle` its second; `exchange` puts the forwarding between them. What the gates decide is
in `core.enforce`; here it is only made sure that nothing happens out of order: what is in the log, what was read for
it, and what may happen next are one transaction for each half. `snapshots` reads the rows, `contexts` knows what
flowed, `recording` puts a decision's transaction together, `entries` words it, `closing` ends what gets no reply.
Past 400 lines, and one thing because each half is one transaction, and both rest on the same invariants.

INVARIANTS
1. Every call's entry is committed before it is forwarded; one that changes anything is synced first, and so is what an
   agent answers a server (what only reads is not, see ADR 9).
2. Nothing is released that is not in the committed log.
3. Each row a decision read is unchanged when its entry commits; after three conflicts the call is refused.
4. Refusals spend a budget, so asking again is no second chance.
5. A call that its caller abandons is closed at once, whatever instant that is: no entry is left without its outcome.
6. Of a reply only what its agent is to be given is released and enters its context; the log keeps what came.
7. What is judged, recorded and forwarded is the call with its handles filled in; what an agent is shown of a reply is
   the reply with its hidden fields as handles, and what they stand for is kept in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from citywatch.core.call import Allow, Call, Decision, Deny, Direction, Reason
from citywatch.core.content.model import Model
from citywatch.core.delegation.chain import Verified
from citywatch.core.enforce.abroad import Told, answered_abroad, is_from_abroad, labelled
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import context_key, context_of_call
from citywatch.core.enforce.deliver import Places, as_delivered, deliver
from citywatch.core.enforce.hearing import hearing_of, unheard
from citywatch.core.enforce.needs import (
    PINNED,
    TOOL_CALL,
    Known,
    Needs,
    Pin,
    effect_of,
    has_shared_id,
    needs,
    open_key,
    pin_key,
)
from citywatch.core.enforce.observe import observed
from citywatch.core.enforce.past import event_of, reply_of
from citywatch.core.enforce.peers import receiver_of
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.said import heard, kept_from, said_by
from citywatch.core.enforce.settle import Released, Withheld, check_stands, reply_rows, settle, standing_rows
from citywatch.core.enforce.trees import REACHED
from citywatch.core.enforce.veiling import hiding_tool, veil_reply
from citywatch.core.enforce.verify import Authority, verify
from citywatch.core.errors import CitywatchError, Code, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.registration import AgentRow
from citywatch.core.label import BOTTOM, join
from citywatch.core.wire.jsonrpc import Response
from citywatch.service import entries
from citywatch.service.arriving import arriving
from citywatch.service.asking import waiting_ticket
from citywatch.service.closing import Closing
from citywatch.service.contexts import Contexts, context_of, item_of, shelve
from citywatch.service.handles import filling
from citywatch.service.judged import Judged
from citywatch.service.ports import (
    Append,
    Appended,
    Chance,
    Clock,
    Key,
    Loaded,
    NewEntry,
    Payload,
    Puts,
    Reads,
    Stale,
    Store,
)
from citywatch.service.recording import recording
from citywatch.service.rejections import Rejections
from citywatch.service.snapshots import Snapshots, versions_of
from citywatch.service.trees import Crowded, joined
from citywatch.service.withdrawing import Withdrawing

MAX_CONFLICTS = 3
CROWDED = 16
"""How often it is tried where many speak to one agent, and each changes what is kept of it."""
MAX_CHAINS = 4_096  # remembered as verified; some ten kilobytes each
WAITING = ("asked", "parked")
"""The kinds of rows that wait for one message each."""
Decide = Callable[[Call, Credential, Known, Needs, int], tuple[Authority | None, Decision]]


class Enforcer:
    """Runs the sequence over a store. Holds no state of its own but the rules and caches of decoded rows."""

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
        decide: Decide | None = None,
        federated: bool = False,
    ) -> None:
        """`model` scans what enters a context; without one nothing is scanned, and no Ask becomes a Deny for it.

        `federated`: agents of other domains call, and what they are given leaves with its label (`Released.label`).
        `decide` stands in the place of the gates where a log is folded again (`fold`), and nowhere else.
        """
        self.store = store
        self.clock = clock
        self.chance = chance
        self.rules = rules
        self.replica = replica
        self.model = model
        self._refresh = refresh
        self._decide = decide or decide_call
        self._withdrawing = Withdrawing(store, replica) if decide is None else None
        self._federated = federated
        self.contexts = Contexts(store)
        self.verified = Verified(MAX_CHAINS)
        self.snapshots = Snapshots(store, self.contexts)
        self.closing = Closing(store, clock, replica, self.snapshots)
        self.rejections = Rejections(store, clock, replica, lambda server: self.rules.knows(server))

    # -- the first half: who, whether, on record ---------------------------------------------------------------------

    async def judge(
        self, call: Call, credential: Credential, puts: Puts = (), redacted: tuple[str, ...] = ()
    ) -> Judged:
        """Decide a call and commit the decision. With an `Allow`, `puts` are written in the same transaction.

        Raises `Unavailable` when it cannot be recorded; then nothing may be forwarded.
        """
        async with await self._in_turn(call, credential):
            try:
                return await self._judge(call, credential, puts, redacted)
            except Crowded as crowd:  # many speak to one agent at once: those who came too late, one after the other
                async with self.contexts.lock(crowd.key):
                    return await self._judge(call, credential, puts, redacted, CROWDED)

    async def _judge(
        self, asked: Call, credential: Credential, puts: Puts, redacted: tuple[str, ...], attempts: int = MAX_CONFLICTS
    ) -> Judged:
        opening: Reads = ((open_key(asked), 0),) if has_shared_id(asked) else ()
        readings = self.contexts.readings(self._places(asked, credential)[0])
        taken = False
        for attempt in range(attempts):
            now = self.clock.now_ms()
            filled = await filling(self.store, asked, self._places(asked, credential)[0], self.rules, now)
            call = filled.call  # INVARIANT: 7. From here on there are values, and no handles.
            hearer, hears = await self._hearer(call, self.rules)
            need = needs(call, self.rules, now, credential.key, readings, self.verified, hearer)
            loaded = await self.store.load(need.rows, [(b.key, b.window) for b in need.budgets])
            known = await self.snapshots.known(call, need, loaded, self.rules, now=now, taken=taken)
            need, known = await joined(self.store, self.snapshots, call, need, known, now)
            if filled.broken is not None:
                known = msgspec.structs.replace(known, broken=filled.broken)
            if attempt == 0 and self._refresh is not None and self._outdated(call, known.pin):
                self.rules = await self._refresh()
                continue
            rests = await self._resting(need, known, loaded, now)
            if rests is None:
                continue
            known = msgspec.structs.replace(known, reads=(*known.reads, *rests)) if rests else known
            authority, found = self._decide(call, credential, known, need, now)
            decision = found if authority is None else observed(found, self.rules.observe)
            judged = Judged(
                call=call,
                credential=credential,
                decision=decision,
                found=found,
                authority=authority,
                known=known,
                redacted=redacted,
                ticket=waiting_ticket(call, need.flow, known.flow, decision, self.rules, now),
            )
            if authority is None and isinstance(decision, Deny):
                # Papers that do not hold are worth no more of the disk than none at all: no payload, folded in a flood.
                await self.rejections.add(decision.reason.code, decision.reason.detail, call.agent, call.server)
                return judged
            unheard = not judged.allowed and call.direction is Direction.TO_AGENT
            if unheard and not self.rejections.deny(_code_of(decision), call.server):
                return judged
            append = recording(
                judged,
                need,
                loaded,
                now,
                puts,
                (*opening, *filled.reads, *hears),
                replica=self.replica,
                model=self.model,
                draw=self.chance.salt,
            )
            try:
                outcome = await self.store.append(append)
            except asyncio.CancelledError:
                # INVARIANT: 5. The entry is committed by now or never will be (`Store.append`): the row tells which.
                undone = tuple((key, None) for key, value in puts if value is not None)
                await self.closing.abandon(call, "it was not forwarded", undone)
                raise
            if type(outcome) is Appended:
                return judged
            if isinstance(outcome, Stale) and outcome.key[0] == REACHED and attempts == MAX_CONFLICTS:
                raise Crowded(outcome.key)
            taken = taken or (isinstance(outcome, Stale) and any(outcome.key == key for key, _ in opening))
        raise Unavailable(Code.CONFLICT)

    async def _resting(self, need: Needs, known: Known, loaded: Loaded, now: int) -> Reads | None:
        """What people's yes to this call rests on; None if it was none any more, and the log says so by now."""
        if self._withdrawing is None:  # a log that is folded says itself when a yes was taken away
            return ()
        return await self._withdrawing.check(need.flow, known.flow, loaded, self.rules, now)

    async def recall(self, call: Call, credential: Credential, *, standing: bool = False) -> Judged:
        """Take up a call that was allowed earlier (its reply comes by another request): who asks is verified anew, or,
        where nobody asks (`standing`), who asked.
        """
        now = self.clock.now_ms()
        need = needs(call, self.rules, now, credential.key)
        known = await self.snapshots.known(call, need, await self.store.load(need.rows, ()), self.rules, now=now)
        authority = verify(call, credential, known, now, standing=standing)
        return Judged(
            call=call, credential=credential, decision=_RECALLED, found=_RECALLED, authority=authority, known=known
        )

    async def stands(self, judged: Judged) -> None:
        """Raise `Refused` where what was let through may not go on: whose it is, or what it uses, was revoked."""
        call, kind = judged.call, PINNED.get(judged.call.method)
        pin = () if kind is None or judged.known.pin is None else (pin_key(call.server, kind, call.name or ""),)
        rows = (*standing_rows(call, judged.authority), *pin)
        loaded = await self.store.load(rows, ())
        check_stands(call, judged.authority, {key: self.snapshots.decode(key, loaded) for key in rows})
        if any(key not in loaded.rows for key in pin):
            raise Refused(Code.TOOL_NOT_APPROVED, "its approval was withdrawn since")

    # -- the second half: what came back -----------------------------------------------------------------------------

    async def settle(
        self,
        judged: Judged,
        response: Response,
        index: int,
        puts: Puts = (),
        once: Reads = (),
        known: Places | None = None,
        told: Told | None = None,
    ) -> Released | Withheld:
        """Judge a reply and commit that; only what is returned may reach the agent. `index` counts messages.

        `known` are the places in it where something ends that began in the stream before it. `told` is what another
        domain's gateway says of it, verified.
        `once` are rows, with their versions, that must be unchanged: a question is answered once (`Refused`), a session
        counted once (`Unavailable(CONFLICT)`).
        """
        async with await self._in_turn(judged.call, judged.credential):
            return await self._settle(judged, response, index, puts, once, known, told)

    async def _settle(
        self,
        judged: Judged,
        response: Response,
        index: int,
        puts: Puts,
        once: Reads,
        places: Places | None,
        told: Told | None,
    ) -> Released | Withheld:
        call, rules = judged.call, judged.known.rules
        context, *around = self._places(call, judged.credential)
        answering = bool(self.rules.principals) and call.direction is Direction.TO_AGENT
        event = reply_of(call, self.rules, effect_of(self.rules, call).value)
        delivered = deliver(call, response, rules, places)
        given = response if rules.observe else delivered.response  # INVARIANT: 6.
        hides = hiding_tool(call, rules) is not None
        veiled = veil_reply(call, given, rules, self.chance.salt()) if hides else None
        shown = given if veiled is None else veiled.response
        for _ in range(MAX_CONFLICTS):
            now = self.clock.now_ms()
            entering = entering_reply(call, given, rules) if rules.principals else None
            hearer, heard_of = await self._hearer(call, rules)
            hearing, secret = hearing_of(call, rules, hearer), False
            flowed = (context,) if answering else () if entering is None else (context, *around, *entering.rows())
            flowed = (*flowed, *(() if hearing is None else hearing.contexts))
            judging = reply_rows(call, given, judged.authority)
            rows = (*judging, *flowed, *(() if event is None else event.rows))
            loaded = await self.store.load(rows, ())  # from memory: its own agent's row was read a moment ago
            home = context_of(context, loaded)
            if entering is not None and hearing is not None:
                said = said_by(hearing.agent, [context_of(key, loaded) for key in hearing.contexts])
                entering = heard(entering, hearing.agent, said)
                secret = kept_from(call, rules, said) and not rules.observe
            elif entering is not None and told is not None:
                entering, unseen = answered_abroad(call, entering, told, rules)
                secret = unseen and not rules.observe
            past, read = await self.snapshots.past(event, self.rules, home.task, loaded)
            known = {key: self.snapshots.decode(key, loaded) for key in judging}
            label = join(home.label, home.before) if answering else BOTTOM
            settled = as_delivered(settle(call, judged.authority, shown, rules, known, label), delivered, rules.observe)
            if secret:
                settled = Withheld(code=Code.NOT_A_READER, detail=f"what `{call.server}` says is not for its caller")
            if (silent := unheard(call, rules, hearer)) is not None:
                settled = Withheld(code=silent.reason.code, detail=silent.reason.detail)
            salt = self.chance.salt()
            by = "" if told is None else told.gateway
            entry = entries.settled(
                call, response, settled, index, salt=salt, replica=self.replica, now=now, veiled=veiled, said_by=by
            )
            item = None
            if entering is not None and isinstance(settled, Released):
                item = item_of(entering, call.server, loaded, now, self.model)
            outcome = await self.store.append(
                Append(
                    entries=(
                        NewEntry(entry, Payload(salt, response.body)),
                        *entries.reported(call.server, settled.report, replica=self.replica, now=now),
                    ),
                    reads=(*once, *heard_of, *versions_of(rows, loaded), *read),
                    puts=(
                        (open_key(call), None),
                        *settled.report.puts,
                        *puts,
                        *(
                            (
                                *arriving(
                                    entering, item, event, self.rules, past, loaded, (context, *around), home, now
                                ),
                                *shelve(context, veiled, entering, call.server, loaded, now),
                            )
                            if isinstance(settled, Released)
                            else ()
                        ),
                    ),
                    sync=call.direction is Direction.TO_AGENT,  # INVARIANT: 1. The answer goes to the server.
                )
            )
            if type(outcome) is Appended:
                if item is not None:
                    self.contexts.remember(context, home, item)
                    if self._federated and isinstance(settled, Released) and is_from_abroad(call, rules):
                        return labelled(settled, item.label)
                return settled
            if isinstance(outcome, Stale) and any(outcome.key == key for key, _ in once):
                if outcome.key[0] in WAITING:
                    raise Refused(Code.REPLY_UNEXPECTED, "it was answered before")
                break
        raise Unavailable(Code.CONFLICT)

    # -- in order, and up to date ------------------------------------------------------------------------------------

    async def _in_turn(self, call: Call, credential: Credential) -> AbstractAsyncContextManager[object]:
        """Calls and replies of one context go one after the other, where what entered it counts, and so do those that
        one temporal rule counts together: they would collide in the store.

        All are taken in one order: two agents that speak to each other wait for each other's contexts.
        """
        keys = set(self._places(call, credential)) if self.rules.principals else set()
        if self.rules.temporal:
            event = event_of(call, self.rules, effect_of(self.rules, call).value)
            keys |= set(event.rows) if event is not None else set()
        hearing = hearing_of(call, self.rules, (await self._hearer(call, self.rules))[0])
        if hearing is not None:
            keys |= {*hearing.contexts, *hearing.around}
        if len(keys) > 1:
            return self.contexts.locks(sorted(keys))
        return self.contexts.lock(keys.pop()) if keys else nullcontext()

    async def _hearer(self, call: Call, rules: Rules) -> tuple[AgentRow | None, Reads]:
        """The agent of ours that a message is spoken to, if it is to one, and what that was read from."""
        return (None, ()) if receiver_of(call, rules) is None else await self.snapshots.hearer(call, rules)

    def _places(self, call: Call, credential: Credential) -> tuple[Key, ...]:
        """The context that a call is made in, and the key's own around it where a task has one of its own: what came
        for any task is in that as well."""
        own = context_key(call.agent, credential.key)
        if call.task is None or not self.rules.is_isolated(call.agent):
            return (own,)
        return (context_of_call(call, credential.key, isolated=True), own)

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


def decide_call(
    call: Call, credential: Credential, known: Known, need: Needs, now: int
) -> tuple[Authority | None, Decision]:
    """Who acts, and whether they may: the authority is None for papers that do not hold."""
    try:
        authority = verify(call, credential, known, now)
    except Refused as refusal:
        return None, Deny(Reason(refusal.code, detail=refusal.detail))
    return authority, admit(call, authority, known, need, now)
