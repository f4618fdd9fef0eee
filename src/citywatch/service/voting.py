"""People answer tickets: each for themselves, signed, over what they were shown; together they decide.

    prepare: who may answer, over which digest and document → a statement
    vote: 1. the statement is of this domain, ticket, digest, end and nonce
          2. the ticket still waits
          3. the person is one of those whom the act reaches, and has not answered yet
          4. in whose name: one of theirs, and nobody's whose own authority is used where that is not to be
          5. what was shown is what is shown now
          6. what could not be shown faithfully was named, and may be approved at all; a yes took care (`care`)
          7. the signature is that person's, over these very bytes; a passkey's counter rose
          8. the vote and what it decides are one transaction against the rows that were read

Decides in which order an answer is judged and written; what it may say is `core.approvals.answers`', whose it is
`signatures`', what the votes come to `counting`'s, whether the call then goes through `admit`'s. INVARIANTS
1. Where people are named, nobody else answers, and nothing is believed unsigned (but for `unsafe_unsigned`).
2. Nobody answers twice, or for another.
3. Nobody who may answer sees what others said before all is said, where the act asks for that.
4. Each answer has an entry with the statement and its signature, so that a stranger can check who approved what.
5. An answer to what was made up (`canaries`) is taken and told like any, and lets nothing through.
6. What is made up is found as any ticket is, by the same reads, and by the one person whom it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.answers import check_answer, person_of
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.batch import Table
from citywatch.core.approvals.deciding import decided
from citywatch.core.approvals.people import Approvals, Person, Quorum, Right
from citywatch.core.approvals.quorum import Tally, Verdict
from citywatch.core.approvals.seal import Canary, Kind, Over, canary_key, over_key
from citywatch.core.approvals.showing import Document, document_digest
from citywatch.core.approvals.statement import (
    APPROVE,
    DENY,
    MAX_REASON,
    Signable,
    Statement,
    challenge_of,
    format_statement,
)
from citywatch.core.approvals.ticket import Done, State, Ticket, Vote, rows_of
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.service.canaries import Canaries
from citywatch.service.care import Care
from citywatch.service.counting import Counting, Weigh
from citywatch.service.documents import Documents
from citywatch.service.ports import Append, Appended, Exhausted, NewEntry, Puts, Spend, Stale
from citywatch.service.signatures import Proof, Proved, Signatures
from citywatch.service.tickets import Found, Tickets, answered_event, find_ticket, standing


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is to look at and to sign. `challenge` is what a passkey signs, in place of the text."""

    ticket: Ticket
    document: Document
    statement: Statement
    text: str
    challenge: bytes


class Shown(msgspec.Struct, frozen=True):
    """A ticket as one person finds it, and what they are shown of it; `canary` is what it is if it was made up."""

    found: Found
    canary: Canary | None
    document: Document

    @property
    def ticket(self) -> Ticket:
        return self.found.ticket


class Judged(msgspec.Struct, frozen=True):
    """An answer that counts once it is proved, beside what it answers (`Voting.judge`)."""

    statement: Statement
    shown: Shown


class Voting:
    """The answers of the people of one file to the tickets of one store."""

    def __init__(
        self,
        tickets: Tickets,
        documents: Documents,
        *,
        people: Mapping[str, Person],
        approvals: Approvals,
        domain: str,
        weigh: Weigh,
        care: Care | None,
        canaries: Canaries | None = None,
    ) -> None:
        """Without `care` a yes needs neither time nor words of one's own: for trials, and no desk of people."""
        self._tickets = tickets
        self._documents = documents
        self._people = people
        self._approvals = approvals
        self._domain = domain
        self._signatures = Signatures(tickets.store, approvals)
        self._counting = Counting(tickets.store, people, approvals, weigh, domain)
        self._care = care
        self._canaries = canaries

    # -- for whoever looks ---------------------------------------------------------------------------------------------

    def quorum(self, ticket: Ticket) -> Quorum:
        """How many have to say yes to this ticket, out of whom."""
        return self._approvals.quorum_of(ticket.server, ticket.tool)

    async def audience(self) -> Audience:
        """Who may answer what, now."""
        return (await self._counting.audience(self._tickets.now()))[0]

    def seen_by(self, ticket: Ticket, person: str) -> Ticket:
        """The ticket as this person may see it. # INVARIANT: 3. Auditors see who answered, once it is decided."""
        if ticket.state is not State.PENDING or not self.quorum(ticket).blinded:
            return ticket
        return msgspec.structs.replace(
            ticket,
            votes=tuple(one for one in ticket.votes if one.person == person),
            done=tuple(one for one in ticket.done if one.what not in _BLINDED or one.who == person),
        )

    async def opened(self, name: str, person: str) -> tuple[Ticket, Document]:
        """Show a ticket to a person; the first time somebody who may answer it sees it, that is an entry.

        Raises `Malformed` if there is no such ticket, `Refused(NO_PERMIT)` for somebody who may not look.
        """
        shown = await self.show(name, person)
        await self.note(shown, person, shown.document)
        return self.seen_by(shown.ticket, person), shown.document

    async def show(self, name: str, person: str) -> Shown:
        """The ticket of that id as this person finds it; nothing is entered."""
        if not self._person(person).may(Right.SEE):
            raise Refused(Code.NO_PERMIT, f"`{person[:80]}` may not see tickets")
        return await self._shown(name, person)

    async def note(self, shown: Shown, person: str, read: Document | Table) -> bool:
        """Enter that somebody was shown a ticket, within what there was to read; whether they may answer it."""
        ticket, audience = shown.ticket, await self.audience()
        if person not in audience.reached(ticket) or ticket.state is not State.PENDING:
            return False
        await self._seal(shown, person, read)
        await self._tickets.note_shown(ticket, person, document_digest(shown.document, ticket.salt))
        return True

    async def seen(self, name: str, person: str) -> Ticket:
        """Where a ticket stands, as this person may see it; nothing is entered, and nothing counts as shown by it.

        Raises as `opened` does.
        """
        return self.seen_by((await self.show(name, person)).ticket, person)

    # -- for whoever answers -------------------------------------------------------------------------------------------

    async def prepare(
        self,
        name: str,
        person: str,
        approve: bool,
        reason: str,
        *,
        principal: str = "",
        hold_ms: int = 0,
        acknowledged: tuple[str, ...] = (),
    ) -> Offer:
        """What this person would sign to give this answer. Raises `Refused` or `Malformed` if it could not count."""
        shown = await self._shown(name, person)
        ticket, document = shown.ticket, shown.document
        place = (await self.audience()).place_for(ticket, person, principal)
        statement = Statement(
            domain=self._domain,
            ticket=ticket.id,
            digest=ticket.digest,
            document=document_digest(document, ticket.salt),
            decision=APPROVE if approve else DENY,
            approver=person,
            principal=principal,
            reason=_reason(reason),
            hold_ms=hold_ms,
            acknowledged=tuple(sorted(acknowledged)),
            expires=ticket.expires,
            nonce=ticket.nonce,
            place="" if place == person else place,
        )
        await self._check(ticket, statement, document)
        return Offer(
            ticket=self.seen_by(ticket, person),
            document=document,
            statement=statement,
            text=format_statement(statement),
            challenge=challenge_of(statement),
        )

    async def vote(self, statement: Statement, proof: Proof) -> Ticket:
        """Count an answer; return the ticket as that person sees it then.

        Raises `Malformed` for what is not theirs, not signed or not allowed, `Refused(CONFLICT)` where the ticket does
        not wait any more or changed at the same moment, `Refused(NO_PERMIT)` for somebody whom it does not reach.
        """
        judged = await self.judge(statement)
        shown, spends = judged.shown, tuple[Spend, ...]()
        if self._care is not None and statement.yes:
            spends = await self._care.check(shown.ticket, statement.approver, statement.reason, shown.document)
        proved = await self.prove(statement, proof)
        after, changes = await self.changes(judged, proved)
        await self.commit([(judged, changes)], proved, spends)
        return await self.answered(judged, after)

    # -- the steps of an answer, for one alone and for several at once -------------------------------------------------

    async def judge(self, statement: Statement) -> Judged:
        """Steps 1 to 6, but for the care that a yes takes."""
        shown = await self._shown(statement.ticket, statement.approver)
        await self._check(shown.ticket, statement, shown.document)
        return Judged(statement, shown)

    async def prove(self, said: Signable, proof: Proof) -> Proved:
        """Step 7."""
        return await self._signatures.prove(said, proof, self._person(said.approver))

    async def changes(
        self, judged: Judged, proved: Proved, batch: str = "", earlier: Puts = ()
    ) -> tuple[Ticket, Append]:
        """The ticket after this answer, and what says so in the log and the rows. # INVARIANT: 4.

        Of several that are written at once, `batch` is what was signed and `earlier` what those before it write.
        """
        shown = judged.shown
        if shown.canary is None:
            return await self._record(judged, proved, batch, earlier)
        await self._seal(shown, judged.statement.approver, shown.document)
        return self._record_made_up(judged, proved, batch, shown.canary)

    async def commit(self, changes: Sequence[tuple[Judged, Append]], proved: Proved, spends: tuple[Spend, ...]) -> None:
        """Step 8: all of it, or nothing."""
        outcome = await self._tickets.store.append(
            Append(
                entries=tuple(entry for _, one in changes for entry in one.entries),
                reads=(*(read for _, one in changes for read in one.reads), *proved.reads),
                spends=spends,
                puts=tuple(dict((*(put for _, one in changes for put in one.puts), *proved.puts)).items()),
                sync=True,
            )
        )
        if isinstance(outcome, Exhausted) and self._care is not None:
            raise self._care.overspent(changes[0][0].statement.approver)
        if not isinstance(outcome, Appended):
            stale = (judged for judged, one in changes if isinstance(outcome, Stale) and outcome.key in dict(one.reads))
            which = next(stale, changes[0][0]).shown.ticket.id
            raise Refused(Code.CONFLICT, f"the ticket `{which}` changed at the same moment: look again")

    async def answered(self, judged: Judged, after: Ticket) -> Ticket:
        """What follows an answer that was written; the ticket as whoever gave it sees it then."""
        if judged.shown.canary is None and self._canaries is not None:
            await self._canaries.maybe(judged.shown.ticket, judged.statement.approver)
        if self._care is not None and after.state is not State.PENDING:
            await self._care.decided(after)
        return self.seen_by(after, judged.statement.approver)

    async def find(self, name: str, person: str) -> Ticket:
        """The ticket of that id as this person would find it; `Malformed` if there is none."""
        return (await self._found(name, person))[0].ticket

    async def _found(self, name: str, person: str) -> tuple[Found, Canary | None]:
        """# INVARIANT: 6."""
        made = None if self._canaries is None else await self._canaries.find(name, person)
        if made is None:
            return await self._tickets.found(name), None
        canary, row = made
        await find_ticket(self._tickets.store, canary.past)
        return Found("", canary_key(name), row, canary.ticket), canary

    async def _shown(self, name: str, person: str) -> Shown:
        """The same, and what they are shown of it."""
        found, canary = await self._found(name, person)
        return Shown(found, canary, await self._documents.of(found.ticket if canary is None else canary.source))

    async def _seal(self, shown: Shown, person: str, read: Document | Table) -> None:
        if self._care is not None and await self._tickets.shown_at(shown.ticket.id, person) is None:
            kind = Kind.CALL if shown.canary is None else shown.canary.kind
            await self._care.opened(shown.ticket, person, read, kind)

    async def _check(self, ticket: Ticket, statement: Statement, document: Document) -> None:
        audience = await self.audience()
        check_answer(ticket, statement, document, audience=audience, domain=self._domain, now=self._tickets.now())

    # -- what is written -----------------------------------------------------------------------------------------------

    async def _record(self, judged: Judged, proved: Proved, batch: str, earlier: Puts) -> tuple[Ticket, Append]:
        statement, found, now = judged.statement, judged.shown.found, self._tickets.now()
        ticket = found.ticket
        weight = await self._counting.weigh(statement.approver, ticket)
        vote = Vote(
            person=statement.approver,
            yes=statement.yes,
            at=now,
            reason=statement.reason,
            principal=statement.principal,
            hold_ms=statement.hold_ms,
            method=proved.method,
            key=proved.key,
            document=statement.document,
            weight=weight,
            place=statement.place,
        )
        said = Done(now, "approved by" if vote.yes else "denied by", vote.person)
        voted = msgspec.structs.replace(ticket, votes=(*ticket.votes, vote), done=(*ticket.done, said))
        audience, away = await self._counting.audience(now)
        count = await self._counting.tally(voted, audience, judged.shown.document.uninspectable)
        signed = self._signed(statement, proved, batch, now, weight)
        entries: tuple[NewEntry, ...] = (NewEntry(encode_event(signed)),)
        after, more = voted, Append()
        if count.verdict is not Verdict.OPEN:
            after, answered, more = await self._decide(voted, count, now, earlier)
            entries = (*entries, NewEntry(encode_event(answered)))
        puts = (*rows_of(after, found.likeness, ticket, now), *more.puts)
        return after, Append(entries=entries, reads=((found.key, found.row.version), *away, *more.reads), puts=puts)

    def _record_made_up(self, judged: Judged, proved: Proved, batch: str, canary: Canary) -> tuple[Ticket, Append]:
        """An answer to what is no call: an entry like any, and no row but its own. # INVARIANT: 5."""
        statement, found, now = judged.statement, judged.shown.found, self._tickets.now()
        over = Over(canary=canary, yes=statement.yes, at=now)
        kept = (over_key(found.ticket.id), msgspec.json.encode(over))
        entry = NewEntry(encode_event(self._signed(statement, proved, batch, now, 0)))
        changes = Append(entries=(entry,), reads=((found.key, found.row.version),), puts=((found.key, None), kept))
        wanted = "denied" if canary.kind is Kind.CANARY else "approved"
        told = f"{MADE_UP}, to be {wanted}: {'seen' if over.right else 'missed'}"
        state = State.APPROVED if statement.yes else State.DENIED
        return msgspec.structs.replace(found.ticket, state=state, done=(Done(now, told),)), changes

    def _signed(self, statement: Statement, proved: Proved, batch: str, now: int, weight: int) -> events.TicketSigned:
        return events.TicketSigned(
            at=now,
            replica=self._tickets.replica,
            ticket=statement.ticket,
            by=statement.approver,
            answer=statement.decision,
            statement=format_statement(statement),
            method=proved.method,
            key=proved.key,
            signature=proved.signature,
            authenticator=proved.authenticator,
            client=proved.client,
            weight=weight,
            batch=batch,
        )

    async def _decide(
        self, ticket: Ticket, count: Tally, now: int, earlier: Puts
    ) -> tuple[Ticket, events.TicketAnswered, Append]:
        """The ticket once its votes have decided it, the entry that says so, and what else that writes."""
        after, hold = decided(ticket, count, now)
        event = answered_event(after, now, self._tickets.replica, hold)
        until = now + hold if after.state is State.APPROVED else ticket.expires
        return after, event, await standing(self._tickets.store, after, until, now, earlier)

    def _person(self, name: str) -> Person:
        return person_of(self._people, name)


MADE_UP: Final = "it was made up"
_BLINDED: Final = frozenset(("approved by", "denied by", "shown to"))


def _reason(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise Malformed(f"a reason has at most {MAX_REASON} characters")
    return reason.strip()
