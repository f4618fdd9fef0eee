"""`citywatch parties`: who is in the sets of known parties, and taking them out."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.service.parties import Listed


def register(cli: click.Group) -> None:
    cli.add_command(parties)


@click.group()
def parties() -> None:
    """See who is in the sets of known parties, and take them out."""


@parties.command("list")
@click.argument("party", metavar="[SET]", required=False)
@click.pass_obj
def list_parties(file: Path, party: str | None) -> None:
    """Show who is known, in one set or in all, since when, and whether an agent's write may have brought them."""
    from citywatch.main.assembly import open_city
    from citywatch.service.parties import Parties

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await Parties(store=city.store, clock=city.clock, replica=city.replica.name).listed(party)
        for one in found:
            click.echo(_line(one))
        if not found:
            click.echo("nobody is known", err=True)

    asyncio.run(run())


@parties.command()
@click.argument("party", metavar="SET")
@click.argument("value")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def forget(file: Path, party: str, value: str, reason: str) -> None:
    """Take one party out of a set. A reply that lists them makes them known again."""
    _forget(file, party, value, reason)


@parties.command()
@click.argument("party", metavar="SET")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def clear(file: Path, party: str, reason: str) -> None:
    """Take everybody out of a set."""
    _forget(file, party, None, reason)


def _forget(file: Path, party: str, value: str | None, reason: str) -> None:
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.parties import Parties

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            known = Parties(store=city.store, clock=city.clock, replica=city.replica.name)
            if value is None:
                count = await known.clear(party, operator(), reason)
            else:
                count = await known.forget(party, value, operator(), reason)
        click.echo(f"took {count} {'name' if count == 1 else 'names'} out of {json.dumps(party)[1:-1]}")

    asyncio.run(run())


def _line(one: Listed) -> str:
    """A server chose this name: shown as JSON, in ASCII."""
    name = json.dumps(one.name.removeprefix("="))[1:-1]
    since = datetime.fromtimestamp(one.how.at / 1000, UTC).strftime("since %Y-%m-%d %H:%M:%S") if one.how.at else ""
    by = f" in words of {', '.join(one.how.by)}" if one.how.by else ""
    waits = f"for tasks begun later, brought by an agent's write{by}" if one.how.waits else ""
    return "  ".join(part for part in (one.party, name, since, waits) if part)
