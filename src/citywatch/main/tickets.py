"""`citywatch tickets`: which calls wait for a person, what they would do, and people's answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import parse_duration
from citywatch.main import ticket_keys, ticket_sets
from citywatch.main.answering import (
    KEY,
    Signing,
    by_option,
    check_principal,
    key_option,
    outcome,
    principal_option,
    print_option,
    reason_option,
    signature_option,
)
from citywatch.main.place import read_place
from citywatch.main.ticket_keys import signed_with
from citywatch.main.within import within

if TYPE_CHECKING:
    from citywatch.core.approvals.showing import Document
    from citywatch.core.approvals.ticket import Ticket
    from citywatch.main.assembly import City

MAX_HOLD_MS = 24 * 3_600_000


def register(cli: click.Group) -> None:
    ticket_keys.register(tickets)
    ticket_sets.register(tickets)
    cli.add_command(tickets)


@click.group()
def tickets() -> None:
    """See which calls wait for a person, and answer them."""


@tickets.command("list")
@click.option("--most", type=click.IntRange(1, 1_000), default=200, show_default=True, help="Show so many at most.")
@click.option("--by", default="", help="Only what reaches somebody: a name under `people:`.")
@click.pass_obj
def list_tickets(file: Path, most: int, by: str) -> None:
    """Show the calls that wait for an answer, in the order in which they should be answered.

    What is at stake comes first, in fair shares of who asks; near-duplicates are one line with a count; what an agent
    or a principal's agents asked too much is one line, and its tickets wait behind it.
    """
    from citywatch.main.desks import queueing_of, tickets_of
    from citywatch.main.people import flood_line

    place = read_place(file)

    async def run(city: City) -> None:
        await tickets_of(city).index()
        view = await queueing_of(city).look(by, most)
        for queued in view.queued:
            one, count = queued.ticket, queued.line.count
            alike = f"  and {count - 1} alike: {' '.join(queued.line.folded[:8])}" if count > 1 else ""
            click.echo(f"{one.id}  {_agent(one)} → {_tool(one)}  asked {_when(one.asked)}{_of(one)}{alike}")
        for flood in view.floods:
            click.echo(flood_line(flood))
        if not view.queued and not view.floods:
            click.echo("nothing waits for an answer")
        if view.total > most:
            click.echo(f"and {view.total - most} more: --most shows up to 1000")

    within(place, run)


@tickets.command()
@click.argument("ticket")
@click.option("--by", default="", help="Who looks, before they answer: a name under `people:`.")
@click.pass_obj
def show(file: Path, ticket: str, by: str) -> None:
    """Show what one call would do, on whose authority, and where its values come from.

    Where the file names people, a yes counts only some time after whoever gives it was shown the ticket, with --by.
    What will happen stands first; in which order the rest follows, differs from ticket to ticket and from reader to
    reader, so that nobody answers from where something stands.
    """
    import msgspec

    from citywatch.core.approvals.drawn import as_text
    from citywatch.core.approvals.reading import layout
    from citywatch.main.desks import documents_of, tickets_of, voting_of
    from citywatch.main.replay import find_decided, rebuild

    place = read_place(file)

    async def run(city: City) -> None:
        if by:
            found, document = await (await voting_of(city)).opened(ticket, by)
        else:
            found = await tickets_of(city).find(ticket)
            document = await (await documents_of(city)).of(found)
        index, decided = await find_decided(city, found.call)
        payload = await city.store.payload(index)
        state = found.by_now(city.clock.now_ms()).value
        click.echo(f"{found.id}  {state}  asked {_when(found.asked)}, expires {_when(found.expires)}")
        click.echo(as_text(msgspec.structs.replace(document, sections=layout(document.sections, found.nonce, by))))
        click.echo("\nAs it would be sent\n")
        if payload is None:
            click.echo("  (the payload was erased: this cannot be inspected, and should not be approved)")
        else:
            for name, value in rebuild(decided, payload.body).arguments.items():
                click.echo(f"  {json.dumps(name)}: {json.dumps(value)}")
        for line in found.why.split("; "):
            click.echo(f"  ! {json.dumps(line)[1:-1]}")
        for line in advice_lines(found):
            click.echo(line)
        if document.uninspectable:
            click.echo(f"\nTo approve it all the same, name what could not be shown: {_acknowledge(document)}")

    within(place, run)


@tickets.command()
@click.argument("ticket", required=False)
@click.option("--most", type=click.IntRange(1, 1_000), default=50, show_default=True, help="Show so many at most.")
@click.pass_obj
def history(file: Path, ticket: str | None, most: int) -> None:
    """Show what became of tickets that wait no more, the last one first; or each step of one."""
    from citywatch.main.desks import tickets_of, voting_of

    place = read_place(file)

    async def run(city: City) -> None:
        desk = tickets_of(city)
        if ticket is not None:
            found = await desk.find(ticket)
            seen = found if not place.settings.people else (await voting_of(city)).seen_by(found, "")
            for done in seen.done:
                click.echo(f"{_when(done.at)}  {done.what} {json.dumps(done.who)[1:-1]}".rstrip())
            click.echo(f"{found.id} is {found.by_now(city.clock.now_ms()).value}")
            return
        now = city.clock.now_ms()
        for one in await desk.closed(most):
            by = f" by {one.by}" if one.by else ""
            click.echo(f"{one.id}  {_agent(one)} → {_tool(one)}  asked {_when(one.asked)}  {one.by_now(now).value}{by}")

    within(place, run)


_acknowledged = click.option("--acknowledge", multiple=True, metavar="CODE", help="What `show` says cannot be shown.")


@tickets.command()
@click.argument("ticket")
@reason_option
@principal_option
@click.option("--for", "hold", default="", metavar="TIME", help="For how long also calls that differ in words alone.")
@by_option
@key_option
@signature_option
@print_option
@_acknowledged
@click.pass_obj
def approve(
    file: Path,
    ticket: str,
    reason: str,
    principal: str,
    hold: str,
    by: str,
    key: Path | None,
    signature: str,
    shown: bool,
    acknowledge: tuple[str, ...],
) -> None:
    """Let exactly this call through, once; the agent sends it again.

    An irreversible act towards somebody whom nobody named is approved by a principal whose task it is, with `--as`.
    With `--for 2h` the answer holds for two hours, for each call with the same arguments but for words that are carried
    along, and with no link or account in them that was not shown.

    Where the file names `people:`, one of them answers (`--by`) and signs: with `--key`, or elsewhere, with `--print`,
    `citywatch tickets sign` and `--signature`. Where an act asks for several people, each answers for themselves.

    What cannot be shown faithfully is approved only by whoever names why (`--acknowledge`), as `show` says.
    """
    try:
        hold_ms = parse_duration(hold) if hold else 0
    except Malformed as fault:
        raise click.UsageError(f"--for: {fault}") from None
    if hold_ms > MAX_HOLD_MS:
        raise click.UsageError("--for: at most 1d")
    said = _Said(ticket, True, reason, principal, hold_ms, tuple(acknowledge))
    _answer(file, said, Signing(by, key, signature, shown))


@tickets.command()
@click.argument("ticket")
@reason_option
@by_option
@key_option
@signature_option
@print_option
@click.pass_obj
def deny(file: Path, ticket: str, reason: str, by: str, key: Path | None, signature: str, shown: bool) -> None:
    """Refuse this call, and this act on the same values however they are written, until its ticket expires."""
    _answer(file, _Said(ticket, False, reason), Signing(by, key, signature, shown))


@tickets.command()
@click.option("--key", type=KEY, required=True, help="The key (PEM, in a folder of mode 0700).")
def sign(key: Path) -> None:
    """Sign an answer that `approve --print` or `deny --print` wrote: from standard input, on any machine.

    What the answer says is written to the terminal; the signature goes to standard output, for `--signature`. What
    `batch approve --print` wrote is signed as one, with a line for each ticket.
    """
    from citywatch.core.approvals.statement import parse_statement, parse_statements, set_of, statement_bytes

    text = sys.stdin.read().strip()
    answers = parse_statements(text) if text.startswith("[") else (parse_statement(text),)
    for one in answers:
        click.echo(f"{one.approver} says {one.decision} to ticket {one.ticket}", err=True)
    click.echo(signed_with(key, statement_bytes(set_of(answers) if text.startswith("[") else answers[0])))


class _Said:
    """An answer as it was typed."""

    def __init__(
        self,
        ticket: str,
        yes: bool,
        reason: str,
        principal: str = "",
        hold_ms: int = 0,
        acknowledged: tuple[str, ...] = (),
    ) -> None:
        self.ticket = ticket
        self.yes = yes
        self.reason = reason
        self.principal = principal
        self.hold_ms = hold_ms
        self.acknowledged = acknowledged


def _answer(file: Path, said: _Said, signing: Signing) -> None:
    place = read_place(file)
    check_principal(place, said.principal)
    if not place.settings.people:
        if signing.is_given:
            raise click.UsageError(f"{file} names no people: whoever runs this answers, without --by and a signature")
        within(place, lambda city: _answer_as_operator(city, said))
        return
    signing.check(place)
    within(place, lambda city: _answer_as_person(city, said, signing))


async def _answer_as_operator(city: City, said: _Said) -> None:
    from citywatch.core.approvals.answers import check_acknowledged
    from citywatch.main.assembly import operator
    from citywatch.main.desks import documents_of, tickets_of

    desk = tickets_of(city)
    if said.yes:
        found = await desk.find(said.ticket)
        document = await (await documents_of(city)).of(found)
        check_acknowledged(document, said.acknowledged, city.settings.approvals)
    answered = await desk.answer(
        said.ticket, said.yes, operator(), said.reason, principal=said.principal, hold_ms=said.hold_ms
    )
    click.echo(f"{answered.id} {answered.state.value}")


async def _answer_as_person(city: City, said: _Said, signing: Signing) -> None:
    from citywatch.main.desks import voting_of

    voting = await voting_of(city)
    offer = await voting.prepare(
        said.ticket,
        signing.by,
        said.yes,
        said.reason,
        principal=said.principal,
        hold_ms=said.hold_ms,
        acknowledged=said.acknowledged,
    )
    if signing.shown:
        click.echo(offer.text)
        return
    click.echo(outcome(voting, await voting.vote(offer.statement, signing.proof(offer.statement))))


def advice_lines(ticket: Ticket) -> list[str]:
    """What a scan saw, as lines; quoted and escaped, for paths have names of members that a third party can choose."""
    return [f"  ? {json.dumps(line)}" for line in ticket.advice]


def _acknowledge(document: Document) -> str:
    return " ".join(f"--acknowledge {one}" for one in document.uninspectable)


def _agent(ticket: Ticket) -> str:
    return ticket.agent.rpartition("/")[2]


def _of(ticket: Ticket) -> str:
    return "" if ticket.of is None else f", for {' or '.join(ticket.of) or 'nobody'} to approve"


def _tool(ticket: Ticket) -> str:
    """A server chose this name: shown as JSON, in ASCII."""
    return json.dumps(f"{ticket.server}/{ticket.tool}")[1:-1]


def _when(at: int) -> str:
    from citywatch.core.approvals.showing import when

    return when(at).removesuffix(" UTC")
