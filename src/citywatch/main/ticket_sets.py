"""`citywatch tickets batch`: several tickets that are alike, shown as one table and answered with one signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.answering import (
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
from citywatch.main.place import Place, read_place
from citywatch.main.within import within

if TYPE_CHECKING:
    from citywatch.main.assembly import City


def register(tickets: click.Group) -> None:
    tickets.add_command(batch)


@click.group()
def batch() -> None:
    """Answer several tickets with one signature, that are alike but for their values.

    They are one agent's, for one act with the same arguments, on the same authority, and at most as many as
    `approvals.batch` says. A yes holds nothing that somebody other than its people supplied, and nothing that could not
    be shown. Each is judged, used up and written down by itself; one that is in the way takes back all of them.
    """


_tickets = click.argument("tickets", nargs=-1, required=True, metavar="TICKET...")


@batch.command()
@_tickets
@click.option("--by", required=True, help="Who looks, before they answer: a name under `people:`.")
@click.pass_obj
def show(file: Path, tickets: tuple[str, ...], by: str) -> None:
    """Show what these calls would do: what they have in common once, and what differs, beside each other.

    From now on it takes a while until a yes to all of them counts; longer, the more differs.
    """
    from citywatch.core.approvals.drawn import table_as_text
    from citywatch.main.desks import sets_of

    place = _with_people(file)

    async def run(city: City) -> None:
        opened = await (await sets_of(city)).opened(tickets, by)
        click.echo(table_as_text(opened.table, " ".join(sorted(tickets)), by))
        if opened.alone:
            click.echo(f"\nOne no may answer them all, and no yes: {opened.alone}.")
        elif opened.wait_ms:
            wait = -(-opened.wait_ms // 1000)
            click.echo(f"\nRead it first: a yes to all of them counts in {wait} s. A no counts at once.")

    within(place, run)


@batch.command()
@_tickets
@reason_option
@principal_option
@by_option
@key_option
@signature_option
@print_option
@click.pass_obj
def approve(
    file: Path,
    tickets: tuple[str, ...],
    reason: str,
    principal: str,
    by: str,
    key: Path | None,
    signature: str,
    shown: bool,
) -> None:
    """Let each of these calls through, once."""
    _answer(file, tickets, True, reason, principal, Signing(by, key, signature, shown))


@batch.command()
@_tickets
@reason_option
@by_option
@key_option
@signature_option
@print_option
@click.pass_obj
def deny(
    file: Path, tickets: tuple[str, ...], reason: str, by: str, key: Path | None, signature: str, shown: bool
) -> None:
    """Refuse all of these calls."""
    _answer(file, tickets, False, reason, "", Signing(by, key, signature, shown))


def _answer(file: Path, tickets: tuple[str, ...], yes: bool, reason: str, principal: str, signing: Signing) -> None:
    from citywatch.main.desks import sets_of

    place = _with_people(file)
    check_principal(place, principal)
    signing.check(place)

    async def run(city: City) -> None:
        sets = await sets_of(city)
        offer = await sets.prepare(tickets, signing.by, yes, reason, principal=principal)
        if signing.shown:
            click.echo(offer.text)
            return
        for after in await sets.vote(offer.statements, signing.proof(offer.signed)):
            click.echo(outcome(sets.voting, after))

    within(place, run)


def _with_people(file: Path) -> Place:
    place = read_place(file)
    if not place.settings.people:
        raise click.UsageError(f"{file} names no people: a set is signed by one of them; answer each ticket alone")
    return place
