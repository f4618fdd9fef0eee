"""`citywatch stop`: nothing goes through for an agent, a task or everything, until somebody lets it go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from citywatch.main.place import read_place


def register(cli: click.Group) -> None:
    cli.add_command(stop)


@click.command()
@click.argument("what", required=False)
@click.option("--all", "everything", is_flag=True, help="Everything: every agent, every task.")
@click.option("--resume", is_flag=True, help="Let it go on instead.")
@click.option("--reason", help="Why; it stands in the log.")
@click.pass_obj
def stop(file: Path, what: str | None, everything: bool, resume: bool, reason: str | None) -> None:
    """Stop an agent (by its name), a task (by its id) or everything, from the next request on; or let it go on.

    Open streams are closed, and replies on their way are withheld. It holds until `--resume`, over restarts. Without
    WHAT and `--all`, show what is stopped.
    """
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.halts import ALL, Halts

    if what is not None and everything:
        raise click.UsageError("say what to stop, or `--all`, not both")
    if (what is not None or everything) and not reason:
        raise click.UsageError("say why, with `--reason`")
    if what is None and not everything and (resume or reason):
        raise click.UsageError("say what is meant, or `--all`")
    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            halts = Halts(store=city.store, clock=city.clock, replica=city.replica.name)
            if what is None and not everything:
                found = await halts.halted()
                click.echo("\n".join(f"stopped {one}" for one in found) if found else "nothing is stopped")
                return
            turn = halts.resume if resume else halts.halt
            named = await turn(ALL if everything else what or "", operator(), reason or "")
            click.echo(f"{'goes on' if resume else 'stopped'}: {named}")

    asyncio.run(run())
