"""`citywatch calls`: calls that were under way when a gateway died, and what became of them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import CitywatchError
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.main.assembly import City

SHOWN = 500
OUTCOMES = ("happened", "did-not-happen")


def register(cli: click.Group) -> None:
    cli.add_command(calls)


@click.group()
def calls() -> None:
    """See calls of unknown outcome, and say what became of them."""


@calls.command()
@click.pass_obj
def lost(file: Path) -> None:
    """Show every call that was under way when a gateway died, until somebody says what became of it.

    Identical calls are refused meanwhile (outcome_unknown). Look at the server what it did, then `citywatch calls
    resolve`.
    """
    from citywatch.main.assembly import open_city
    from citywatch.service.outcomes import lost_calls

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await lost_calls(city.store)
            for call in found:
                click.echo(await _line(city, call))
        if not found:
            click.echo("no call has an unknown outcome")

    asyncio.run(run())


@calls.command()
@click.argument("call")
@click.option("--outcome", type=click.Choice(OUTCOMES), required=True, help="What you found out at the server.")
@click.option("--reason", required=True, help="How you know; it stands in the log.")
@click.pass_obj
def resolve(file: Path, call: str, outcome: str, reason: str) -> None:
    """Say what became of a call of unknown outcome, so that identical calls are not refused for ever.

    If it did not happen, an identical call is judged like any other from now on. If it happened, an identical call
    counts as its repetition for 24 hours and is refused (already_happened); after that it is a new call. The budget
    that the call took stays spent either way.
    """
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.outcomes import Outcome
    from citywatch.service.outcomes import resolve as enter

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            said = Outcome(outcome.replace("-", "_"))
            await enter(city.store, city.clock, city.replica.name, call, said, reason, operator())
        click.echo(f"entered: the call `{call}` {'happened' if said is Outcome.HAPPENED else 'did not happen'}")

    asyncio.run(run())


async def _line(city: City, call: str) -> str:
    """One lost call for a person; whatever an agent wrote is shown as JSON, in ASCII."""
    from citywatch.main.replay import find_decided, rebuild

    index, decided = await find_decided(city, call)
    payload = await city.store.payload(index)
    try:
        asked = "(erased)" if payload is None else json.dumps(rebuild(decided, payload.body).arguments)
    except CitywatchError:
        asked = "(cannot be read)"
    when = datetime.fromtimestamp(decided.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    what = "/".join(json.dumps(name)[1:-1] for name in (decided.server, decided.name) if name)
    cut = asked if len(asked) <= SHOWN else f"{asked[:SHOWN]}... (cut; entry {index} has all of it)"
    return f"{call}  {when}  {decided.agent.rpartition('/')[2]}  {what}  {cut}"
