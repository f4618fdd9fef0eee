"""`citywatch authority`: the keys that sign all papers, and their exchange under running gateways."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import CitywatchError
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.main.assembly import City
    from citywatch.service.rotation import AuthorityRow, Step


def register(cli: click.Group) -> None:
    cli.add_command(authority)


@click.group()
def authority() -> None:
    """See which keys sign papers, and exchange them."""


@authority.command()
@click.pass_obj
def show(file: Path) -> None:
    """Show every generation of keys that is believed, which one signs, and the next step of a rotation."""
    from citywatch.main.assembly import open_city
    from citywatch.service.rotation import next_step

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            row = city.row()
            click.echo(f"authority of {row.domain}, bundle {row.sequence}")
            for line in _generations(row):
                click.echo(line)
            click.echo(f"next: {_announced(next_step(row, city.longest_paper_ms), city.clock.now_ms())}")

    asyncio.run(run())


@authority.command()
@click.option("--now", is_flag=True, help="Do not wait until everybody can follow: the old key may be stolen.")
@click.pass_obj
def rotate(file: Path, now: bool) -> None:
    """Take the next step of a rotation: prepare new keys, let them sign, retire the old ones.

    Run it three times. Each step is an entry in the log, gateways follow within seconds, and a step before its time is
    refused: papers that are still good would be void.
    """
    from citywatch.main.assembly import open_city
    from citywatch.service.rotation import Change, next_step

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            step = next_step(city.row(), city.longest_paper_ms)
            if city.clock.now_ms() < step.due and not now:
                raise CitywatchError(
                    f"generation {step.generation} can be {step.change.value} from {_moment(step.due)} on, when all "
                    "papers have been renewed; `--now` voids those that were not",
                )
            await _take(city, step)
            row = await city.look_at_authority()
            click.echo(f"generation {step.generation} is {step.change.value}")
            if step.change is Change.RETIRED:
                city.discard_generation(step.generation)
            following = next_step(row, city.longest_paper_ms)
            if following.change is not Change.PREPARED:
                click.echo(f"next: {_announced(following, city.clock.now_ms())}")

    asyncio.run(run())


async def _take(city: City, step: Step) -> None:
    from citywatch.main.assembly import operator
    from citywatch.service.rotation import Change, activate_generation, prepare_generation, retire_generation

    store, clock, replica, domain = city.store, city.clock, city.replica.name, city.row().domain
    if step.change is Change.PREPARED:
        following = city.draw_generation(step.generation)
        await prepare_generation(store, clock, replica, following, domain, operator())
    elif step.change is Change.ACTIVATED:
        city.keys_of(step.generation)  # whose keys are gone could sign nothing
        await activate_generation(store, clock, replica, step.generation, domain, operator())
    else:
        await retire_generation(store, clock, replica, step.generation, domain, operator())


def _generations(row: AuthorityRow) -> list[str]:
    from citywatch.core.canonical import digest
    from citywatch.core.identity.certificate import parse_certificate

    lines = []
    for generation in row.generations:
        standing = "signs" if generation.number == row.active else "is believed"
        if generation.number > row.active:
            standing = "is prepared"
        until = parse_certificate(generation.certificate).not_valid_after_utc
        shown = digest(generation.certificate)[:16]
        lines.append(f"generation {generation.number} {standing:11}  until {until:%Y-%m-%d}  {shown}")
    return lines


def _announced(step: Step, now: int) -> str:
    """What `rotate` would do, and from when on."""
    does = {"prepared": "prepares", "activated": "lets sign", "retired": "retires"}[step.change.value]
    when = f", from {_moment(step.due)} on" if step.due > now else ""
    return f"`citywatch authority rotate` {does} generation {step.generation}{when}"


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
