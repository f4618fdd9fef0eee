"""Several tickets answered with one signature: shown as one table, judged one by one, written all or none.

    opened:  the tickets, as one table (`core.approvals.batch`); each is noted as shown, and so is the set
    prepare: one statement for each ticket, and the one that is signed for all of them
    vote: 1. they are a set (`statement.set_of`, `batch.tabulate`), and a yes may answer it (`batch.check_yes`)
          2. each statement would count by itself (`Voting.judge`)
          3. a yes took care: this very set was shown to this person, long enough ago for all that differs
          4. the signature is that person's, over the set
          5. all votes, and all that they decide, are one transaction

Decides that several answers stand and fall together; what each is worth is `voting`'s, as for any. INVARIANTS
1. What a set's answer does is what the same answers would do that are signed one by one, for each ticket and in all.
2. One that cannot be answered, or changed since it was shown, takes all of them back: nothing is written.
3. Each ticket's entry holds its own statement, and what was signed: whoever has that entry alone can check it.
4. One that was made up stands in a set like any, and the others are answered all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from citywatch.core.approvals.batch import Table, check_yes, table_digest, tabulate
from citywatch.core.approvals.showing import document_digest
from citywatch.core.approvals.statement import (
    Statement,
    StatementSet,
    challenge_of,
    format_statement,
    format_statements,
    set_of,
)
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.errors import Malformed, Refused
from citywatch.service.care import Care
from citywatch.service.ports import Append, Puts, Spend
from citywatch.service.signatures import Proof
from citywatch.service.tickets import Seen, Tickets
from citywatch.service.voting import Judged, Shown, Voting

SHOWN = "set_shown"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Several tickets as one person is shown them. `wait_ms` is how long until their yes to all of them counts, `alone`
    why one yes may not answer them all (empty: it may); a no may."""

    tickets: tuple[Ticket, ...]
    table: Table
    wait_ms: int
    alone: str


class SetOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is to look at and to sign for all of it. `text` is what goes to whoever signs, and comes back."""

    table: Table
    statements: tuple[Statement, ...]
    signed: StatementSet
    text: str
    challenge: bytes


class Sets:
    """Answers to several tickets at once; `most` is how many those may be."""

    def __init__(self, voting: Voting, tickets: Tickets, care: Care | None, most: int) -> None:
        self.voting = voting
        self._tickets = tickets
        self._care = care
        self._most = most

    async def opened(self, names: Sequence[str], person: str) -> Opened:
        """Show several tickets to a person, as one."""
        self._check_count(names)
        shown = [await self.voting.show(name, person) for name in names]
        table = self._table(shown)
        wait, may = 0, [await self.voting.note(one, person, table) for one in shown]
        if all(may) and self._care is not None:
            wait = self._care.waits_for_set_ms(table, await self._note(_name(shown), person))
        tickets = tuple(self.voting.seen_by(one.ticket, person) for one in shown)
        return Opened(tickets=tickets, table=table, wait_ms=wait, alone=_alone(shown))

    async def prepare(
        self, names: Sequence[str], person: str, approve: bool, reason: str, *, principal: str = ""
    ) -> SetOffer:
        """What this person would sign for this answer to all. Raises `Refused` or `Malformed` if it could not count."""
        self._check_count(names)
        offers = []
        for name in names:
            with _all_or_none(name):
                offers.append(await self.voting.prepare(name, person, approve, reason, principal=principal))
        tickets, documents = [one.ticket for one in offers], [one.document for one in offers]
        table = tabulate(tickets, documents, self._most)
        if approve:
            check_yes(tickets, documents)
        statements = tuple(one.statement for one in offers)
        signed = set_of(statements)
        return SetOffer(
            table=table,
            statements=statements,
            signed=signed,
            text=format_statements(statements),
            challenge=challenge_of(signed),
        )

    async def vote(self, statements: Sequence[Statement], proof: Proof) -> tuple[Ticket, ...]:
        """Count one answer to several tickets; return them as that person sees them then.

        Raises what `Voting.vote` raises, with the id of the ticket that is in the way; then nothing was answered.
        """
        self._check_count(statements)
        signed = set_of(statements)  # step 1
        judged = []
        for one in statements:
            if one.hold_ms or one.acknowledged:
                raise Malformed("a set's answer holds for its calls alone, and for what could be shown")
            with _all_or_none(one.ticket):
                judged.append(await self.voting.judge(one))  # step 2
        shown = [one.shown for one in judged]
        table, spends = self._table(shown), tuple[Spend, ...]()
        if statements[0].yes:
            check_yes([one.ticket for one in shown], [one.document for one in shown])
            if self._care is not None:
                since = await self._since(_name(shown), signed.approver)
                spends = self._care.check_set(signed.approver, len(shown), table, since)  # step 3
        proved = await self.voting.prove(signed, proof)  # step 4
        changes: list[tuple[Judged, Append]] = []
        after, earlier, text = [], Puts(), format_statement(signed)
        for each in judged:
            ticket, written = await self.voting.changes(each, proved, text, earlier)
            after.append(ticket)
            changes.append((each, written))
            earlier = (*earlier, *written.puts)
        with _all_or_none(""):
            await self.voting.commit(changes, proved, spends)  # step 5
        return tuple([await self.voting.answered(each, ticket) for each, ticket in zip(judged, after, strict=True)])

    def _table(self, shown: Sequence[Shown]) -> Table:
        return tabulate([one.ticket for one in shown], [one.document for one in shown], self._most)

    def _check_count(self, some: Sequence[object]) -> None:
        if len(some) > self._most:
            raise Malformed(f"{len(some)} tickets are too many for one answer: at most {self._most}")

    async def _note(self, name: str, person: str) -> int:
        """Since when this person knows this set as it is."""
        if (since := await self._since(name, person)) is not None:
            return since
        now = self._tickets.now()
        seen = msgspec.json.encode(Seen(now, name))
        await self._tickets.store.append(Append(reads=((_key(name, person), 0),), puts=((_key(name, person), seen),)))
        return now

    async def _since(self, name: str, person: str) -> int | None:
        key = _key(name, person)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        return None if row is None else msgspec.json.decode(row.value, type=Seen).at


def _name(shown: Sequence[Shown]) -> str:
    """# INVARIANT: 2. Another ticket in it, or another document of one, makes it another set."""
    return table_digest([(one.ticket.digest, document_digest(one.document, one.ticket.salt)) for one in shown])


def _alone(shown: Sequence[Shown]) -> str:
    try:
        check_yes([one.ticket for one in shown], [one.document for one in shown])
    except Malformed as fault:
        return str(fault)
    return ""


def _key(name: str, person: str) -> tuple[str, str]:
    return (SHOWN, f"{name}\n{person}")


@contextmanager
def _all_or_none(ticket: str) -> Iterator[None]:
    """What stands against one ticket, said of it and of all."""
    of, end = f"`{ticket[:40]}`: " if ticket else "", "; none of the set is answered"
    try:
        yield
    except Malformed as fault:
        raise Malformed(f"{of}{fault}{end}") from None
    except Refused as refused:
        raise Refused(refused.code, f"{of}{refused.detail}{end}") from None
