"""A yes that was decided is looked at again when its call is made: are those who gave it still to give it?

    a call to which a person said yes → those votes that stand (`core.approvals.standing`) still decide it: as before
                                      → they do not: the yes is taken away, on record, and the call is asked about anew

Decides nothing of its own. INVARIANTS
1. What is let through by people's yes rests on the people of the file and on keys and passkeys as they are in the
   transaction that lets it through: a passkey that is revoked in between makes that transaction fail.
2. A yes that stands no more is gone from its rows, in the transaction of its entry, before the call is judged: every
   replica sees it, and a log that is folded again too. A no is never taken away.
3. What nobody was asked about costs nothing here.
"""

from __future__ import annotations

import msgspec

from citywatch.core import events
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.passkey import Passkey
from citywatch.core.approvals.standing import Yes, fallen, passkeys_of, yes_of
from citywatch.core.approvals.ticket import Done, Key, State, Step, Ticket, rows_of, stepped
from citywatch.core.enforce.approval import Answer
from citywatch.core.enforce.context import Flow, FlowNeed
from citywatch.core.enforce.rules import Rules
from citywatch.core.log.entry import encode_event
from citywatch.service.absences import load_away
from citywatch.service.ports import Append, Loaded, NewEntry, Puts, Reads, Store
from citywatch.service.snapshots import versions_of
from citywatch.service.tickets import find_past, find_ticket

Said = tuple[Key, str, Yes | None]
"""The row that a yes lies in, its ticket, and what it rests on."""


class Withdrawing:
    """The decided tickets of one store."""

    def __init__(self, store: Store, replica: str) -> None:
        self._store = store
        self._replica = replica

    async def check(
        self, need: FlowNeed | None, flow: Flow | None, loaded: Loaded, rules: Rules, now: int
    ) -> Reads | None:
        """What the yes to this call rests on besides its own row, with versions; None if that was no yes any more.

        Then it has been taken away, and the rows are to be loaded again. # INVARIANT: 3.
        """
        said = () if need is None or flow is None else tuple(_said(need, flow, now))
        if not rules.people:  # then the operator's yes has no votes, and one that has some is of people who are gone
            said = tuple(one for one in said if one[2] is not None and one[2].votes)
        if not said:
            return ()
        keys = passkeys_of(vote for _, _, yes in said if yes is not None for vote in yes.votes)
        rows = await self._store.load(keys, ())
        passkeys = {key[1]: msgspec.json.decode(row.value, type=Passkey) for key, row in rows.rows.items()}
        places = [vote.place for _, _, yes in said if yes is not None for vote in yes.votes if vote.place]
        away, more = await load_away(self._store, rules.people, rules.domain, now, places)
        audience = Audience(rules.people, rules.approvals, {name: one.deputy for name, one in away.items()})
        reads = (*versions_of(keys, rows), *more)
        gone = [(key, ticket, why) for key, ticket, yes in said if (why := fallen(yes, audience, passkeys))]
        if gone and need is not None and flow is not None:
            await self._withdraw(gone, need, flow, (*versions_of([one[0] for one in gone], loaded), *reads), now)
            return None
        return reads  # INVARIANT: 1

    async def _withdraw(
        self, gone: list[tuple[Key, str, str]], need: FlowNeed, flow: Flow, reads: Reads, now: int
    ) -> None:
        """# INVARIANT: 2. Whoever read the same rows at the same moment finds them changed, and looks again."""
        puts: Puts = ()
        for key, _, why in gone:
            if key == need.ticket and flow.ticket is not None:
                puts += rows_of(_over(flow.ticket, why, now), need.ticket[1], flow.ticket, now)
            else:
                puts += ((key, None),)
        told = {ticket: why for _, ticket, why in gone}
        entries = tuple(
            NewEntry(encode_event(events.TicketWithdrawn(at=now, replica=self._replica, ticket=ticket, why=why)))
            for ticket, why in told.items()
        )
        await self._store.append(Append(entries=entries, reads=reads, puts=puts, sync=True))


async def withdraw(store: Store, event: events.TicketWithdrawn) -> None:
    """Do again what an entry says was done, in the rows of a log that is folded."""
    found = await find_ticket(store, event.ticket) or await find_past(store, event.ticket)
    if found is None:
        return
    puts: Puts = ()
    if found.likeness and found.ticket.by_now(event.at) is State.APPROVED:
        puts = rows_of(_over(found.ticket, event.why, event.at), found.likeness, found.ticket, event.at)
    key: Key = ("answer", found.ticket.answer)
    row = (await store.load((key,), ())).rows.get(key)
    answer = None if row is None else msgspec.json.decode(row.value, type=Answer)
    if answer is not None and answer.ticket == event.ticket and _is_yes(answer, event.at):
        puts += ((key, None),)
    await store.append(Append(puts=puts))


def _over(ticket: Ticket, why: str, now: int) -> Ticket:
    return msgspec.structs.replace(
        stepped(ticket, Step.SUPERSEDE, now), done=(*ticket.done, Done(now, State.SUPERSEDED.value, why))
    )


def _said(need: FlowNeed, flow: Flow, now: int) -> list[Said]:
    """Each yes that this call could be let through by."""
    ticket, answer, found = flow.ticket, flow.answer, list[Said]()
    if need.ticket is not None and ticket is not None and ticket.by_now(now) is State.APPROVED:
        found.append((need.ticket, ticket.id, yes_of(ticket)))
    if need.answer is not None and _is_yes(answer, now):
        found.append((need.answer, answer.ticket, answer.yes))  # type: ignore[union-attr]
    return found


def _is_yes(answer: Answer | None, now: int) -> bool:
    return answer is not None and answer.state == State.APPROVED.value and now < answer.until
