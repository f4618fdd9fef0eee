"""`citywatch tools`: see what servers offer, and approve it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from citywatch.core.enforce.pinning import Standing
from citywatch.core.errors import CitywatchError, Unavailable
from citywatch.main.place import Place, read_place


def register(cli: click.Group) -> None:
    cli.add_command(tools)


@click.group()
def tools() -> None:
    """See what servers offer, compare it with what is approved, approve it."""


@tools.command("list")
@click.argument("server", required=False)
@click.pass_obj
def list_tools(file: Any, server: str | None) -> None:
    """Show every definition that servers offer, and how it stands.

    Exit with 1 if a server could not be asked.
    """
    failed, compared = asyncio.run(_compare(read_place(file), server))
    for one in compared:
        click.echo(f"{one.standing.value:9} {one.kind:12} {one.server}/{shown(one.name)}  {one.digest[:16]}")
    if failed:
        raise SystemExit(1)


@tools.command()
@click.argument("server", required=False)
@click.pass_obj
def diff(file: Any, server: str | None) -> None:
    """Show what is new or changed since approval; exit with 1 if anything is.

    Exit with 1 as well if a server could not be asked: nobody knows then what it offers.
    """
    failed, compared = asyncio.run(_compare(read_place(file), server))
    open_ones = [one for one in compared if one.standing is not Standing.APPROVED]
    for one in open_ones:
        _show(one)
    if failed or open_ones:  # a check that checked nothing fails; `_surveyed` has said which, and why
        raise SystemExit(1)
    click.echo("everything that servers offer is approved")


@tools.command()
@click.argument("server", required=False)
@click.option("--yes", is_flag=True, help="Approve without asking; everything is still shown.")
@click.pass_obj
def approve(file: Any, server: str | None, yes: bool) -> None:
    """Show what is new or changed, and pin what you accept.

    From then on agents see and call exactly these definitions; anything else is withheld and reported.
    """
    asyncio.run(_approve(read_place(file), server, yes))


@tools.command()
@click.argument("server")
@click.argument("name")
@click.option("--kind", type=click.Choice(["tool", "prompt"]), default="tool", show_default=True)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def withdraw(file: Any, server: str, name: str, kind: str, reason: str) -> None:
    """Take an approval back: from the next call on nobody sees or calls it, until it is approved again."""
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.tools import withdraw as unpin

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            await unpin(city.store, city.clock, city.replica.name, server, name, operator(), reason, kind)
        click.echo(f"withdrawn: {kind} {server}/{shown(name)}")

    asyncio.run(run())


async def _compare(place: Place, server: str | None) -> tuple[list[str], list[Any]]:
    from citywatch.main.assembly import open_city

    async with open_city(place) as city:
        return await _surveyed(city, server)


async def _surveyed(city: Any, server: str | None) -> tuple[list[str], list[Any]]:
    """Ask the chosen servers (all of them, if none is named) and compare; a server that fails is named, not fatal."""
    from citywatch.main.asking import offered_by
    from citywatch.main.peers import offered_cards
    from citywatch.main.pins import Pins
    from citywatch.main.upstreams import build_upstreams
    from citywatch.service.tools import approvals, compare, dropped_offers

    pins = Pins(city)
    upstreams = build_upstreams(city.place, pins)
    peers = city.settings.peers
    if server is not None and server not in upstreams and server not in peers:
        known = ", ".join(sorted((*upstreams, *peers))) or "there is none"
        raise click.UsageError(f"`{server}` is not a configured server: {known}")
    approved = await approvals(city.store)
    failed, compared = [], []
    for name, upstream in sorted(upstreams.items()):
        try:
            if server in (None, name):
                offered, remark = await offered_by(city, name, upstream)
                if remark:
                    click.echo(f"{name}: {remark}", err=True)
                compared += compare(name, offered.definitions, approved)
                if dropped := await dropped_offers(city.store, name):
                    note = "more definitions than are remembered, so they were not reported one by one"
                    click.echo(f"{name}: in one reply it offered {dropped} {note}", err=True)
        except CitywatchError as failure:
            failed.append(name)
            why = (failure.operator if isinstance(failure, Unavailable) else "") or str(failure)
            click.echo(f"{name}: not surveyed: {why}", err=True)
        finally:
            await upstream.close()
    async for name, found in offered_cards(city, pins, city.audience, server):
        if isinstance(found, CitywatchError):
            failed.append(name)
            click.echo(f"{name}: not surveyed: {found}", err=True)
        else:
            compared += compare(name, [found], approved)
    return failed, compared


async def _approve(place: Place, server: str | None, yes: bool) -> None:
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.tools import approve as pin
    from citywatch.service.tools import forget_offers

    async with open_city(place) as city:
        failed, compared = await _surveyed(city, server)
        chosen = []
        for one in compared:
            if one.standing is Standing.APPROVED:
                continue
            _show(one)
            if yes or click.confirm(f"approve {one.kind} {one.server}/{shown(one.name)}?", default=False):
                chosen.append(one)
        count = await pin(city.store, city.clock, city.replica.name, chosen, operator())
        for name in sorted({one.server for one in compared}):
            await forget_offers(city.store, name, compared)
    same = sum(1 for one in compared if one.standing is Standing.APPROVED)
    click.echo(f"{count} approved, {same} were approved before, {len(compared) - count - same} left as they are")
    if failed:
        raise SystemExit(1)


def _show(one: Any) -> None:
    click.echo(f"--- {one.standing.value}: {one.kind} {one.server}/{shown(one.name)}  {one.digest[:16]}")
    click.echo(one.difference or "(as it was approved; it had changed in between)")


def shown(name: str) -> str:
    """A server's word for something, with nothing in it that a terminal obeys."""
    return json.dumps(name)[1:-1]
