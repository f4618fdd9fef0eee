"""`citywatch quarantine`: put an agent aside, freeze what it can have shaped, and show who consumed it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.spread import Roots, Touch


def register(cli: click.Group) -> None:
    cli.add_command(quarantine)


@click.command()
@click.argument("agent")
@click.option("--since", type=click.IntRange(0), default=0, show_default=True, help="From this log entry on.")
@click.option("--lift", is_flag=True, help="Let the agent act again; what was frozen stays so.")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def quarantine(file: Path, agent: str, since: int, lift: bool, reason: str) -> None:
    """Refuse an agent, let nothing that it can have shaped count any more, and show who consumed it.

    What it wrote counts as shaped by anybody, parties that it made known are known no more, and a context that met any
    of it entitles to nothing until its agent's next task. Said again, it freezes what is found by then.
    """
    from citywatch.main.assembly import load_rules, open_city, operator
    from citywatch.main.blast import lines
    from citywatch.main.replay import rebuild
    from citywatch.service.blast import Found
    from citywatch.service.blast import blast as spread
    from citywatch.service.quarantine import Quarantine

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:

            async def blast(roots: Roots) -> tuple[Touch, ...]:
                rules = await load_rules(place.settings, city.store, city.roots())
                return await spread(city.store, rules, roots, rebuild)

            put = Quarantine(store=city.store, clock=city.clock, replica=city.replica.name, blast=blast)
            if lift:
                named = await put.lift(agent, operator(), reason)
                click.echo(f"{named} acts again; what was frozen stays so")
                return
            frozen = await put.lay(agent, since, operator(), reason)
            click.echo(f"{frozen.agent} is in quarantine; {frozen.rows} rows were frozen")
            told = Found(told=(f"all that {agent} did from entry {since} on",), roots=_none())
            for line in lines(told, frozen.touches):
                click.echo(line)

    asyncio.run(run())


def _none() -> Roots:
    from citywatch.core.enforce.spread import Roots

    return Roots()
