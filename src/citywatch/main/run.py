"""`citywatch up`: the gateway. `connect`: an agent's bridge to it. `witness`: a stranger's memory of the log."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from citywatch.main.place import Place, read_place

DRAIN_S = 20.0


def register(cli: click.Group) -> None:
    cli.add_command(up)


@click.command()
@click.pass_obj
def up(file: Path) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C, then drain."""
    _run(_up(read_place(file)))


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed (the `speed` extra), on asyncio otherwise."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


async def _up(place: Place) -> None:
    from citywatch.main.assembly import open_city
    from citywatch.main.gateway import open_gateway

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_city(place) as city, open_gateway(city) as gateway:
        for line in gateway.says:
            click.echo(line)
        click.echo("ready", nl=True)
        await stop.wait()
        click.echo("draining")
        cut_off = await gateway.listeners.drain(DRAIN_S)
        if cut_off:
            click.echo(f"{cut_off} calls were cut off; the log says which")
    click.echo("stopped")
