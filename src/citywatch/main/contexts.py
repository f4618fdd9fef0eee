"""`citywatch context`: what an agent has received, and letting the label of that down."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.flow.item import Item
    from citywatch.core.label import Label
    from citywatch.service.clearing import Shown


def register(cli: click.Group) -> None:
    cli.add_command(context)


@click.group()
def context() -> None:
    """See what an agent has received, and let its label down."""


@context.command()
@click.argument("agent")
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, help="How many items of each key.")
@click.pass_obj
def show(file: Path, agent: str, last: int) -> None:
    """Show the label of each of an agent's keys, and the newest items under it."""
    from citywatch.main.assembly import open_city
    from citywatch.service.clearing import Clearing

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            clearing = Clearing(store=city.store, clock=city.clock, replica=city.replica.name)
            for one in await clearing.show(agent, last):
                _tell(one)

    asyncio.run(run())


@context.command()
@click.argument("agent")
@click.option("--reason", required=True, help="Why its program is clean again; it stands in the log.")
@click.option("--readers", is_flag=True, help="Let down who may see what it read as well: all else may leave it.")
@click.pass_obj
def release(file: Path, agent: str, reason: str, readers: bool) -> None:
    """Let the label of an agent's context down: what it has read no longer shapes all that it does.

    Only for a program that has truly forgotten: one that was started anew, with an empty memory. What is found in
    something it has read keeps that thing's label; what the agent makes up itself does not.
    """
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.clearing import Clearing

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            clearing = Clearing(store=city.store, clock=city.clock, replica=city.replica.name)
            keys = await clearing.release(agent, operator(), reason, readers=readers)
        for one in keys:
            click.echo(f"released the context of {agent}, key {one}")
        click.echo("what it holds stays tainted; start its next task with `citywatch task start`")

    asyncio.run(run())


def _tell(one: Shown) -> None:
    click.echo(f"key {one.key}  {one.context.items} items  {_label(one.context.label)}")
    if one.context.cleared:
        click.echo(f"  was let down from {_label(one.context.before)}")
    for item in one.items:
        click.echo(f"  {_when(item.at)}  {item.digest[:12]}  {_source(item)}  {_label(item.label)}")


def _label(label: Label) -> str:
    """Names of tools stand in it, which servers chose: shown as JSON, in ASCII."""
    origins = "anybody" if label.origins is None else ", ".join(sorted(label.origins)) or "nobody outside"
    readers = "everybody" if label.readers is None else ", ".join(sorted(label.readers)) or "nobody"
    return json.dumps(f"shaped by {origins}; for {readers}")[1:-1]


def _source(item: Item) -> str:
    return json.dumps(item.source)[1:-1]


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
