"""`citywatch up`: the gateway. `connect`: an agent's bridge to it. `witness`: a stranger's memory of the log."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from citywatch.main.place import Place, read_place

DRAIN_S = 20.0
WITNESS_CONNECTIONS = 64


def register(cli: click.Group) -> None:
    cli.add_command(up)
    cli.add_command(witness)


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


YOUNG = 50_000
"""How many more containers there are than at the last look before cycles are looked for again."""


def _leave_alone() -> None:
    """Look for cycles in what comes from now on, and more rarely: what is here by now stays as long as the process.

    A call leaves no cycle behind; the default looks through all that agents have received again and again, for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)


def _warn(line: str) -> None:
    click.echo(f"citywatch: {line}", err=True)


async def _up(place: Place) -> None:
    from citywatch.main.assembly import open_city
    from citywatch.main.gateway import open_gateway

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_city(place) as city, open_gateway(city, _warn) as gateway:
        for line in gateway.says:
            click.echo(line)
        _leave_alone()
        click.echo("ready", nl=True)
        waiting = [asyncio.ensure_future(event.wait()) for event in (stop, gateway.broken)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        failed = gateway.broken.is_set()
        for one in waiting:
            one.cancel()
        click.echo("a part of the gateway failed: stopping, so that nothing runs unguarded" if failed else "draining")
        cut_off = await gateway.listeners.drain(DRAIN_S)
        if cut_off:
            click.echo(f"{cut_off} calls were cut off; the log says which")
    click.echo("stopped")
    if failed:
        raise SystemExit(1)


@click.command()
@click.option("--name", required=True, help="The witness's name, as it signs.")
@click.option(
    "--log", "logs", required=True, multiple=True, help="Verifier key of a log to watch (`citywatch log key`)."
)
@click.option("--listen", default="127.0.0.1:8470", show_default=True, help="HOST:PORT to serve on.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("witness"),
    show_default=True,
    help="Its own key and memory; keep it away from the log's machine.",
)
def witness(name: str, logs: tuple[str, ...], listen: str, state: Path) -> None:
    """Remember how far a log had got, and cosign only what grew from there. Needs no configuration file."""
    from citywatch.adapters.gateway.protocol import Bounds, bounded
    from citywatch.adapters.gateway.room import Room
    from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
    from citywatch.adapters.system import SystemClock
    from citywatch.adapters.witness import WitnessApp, open_heads, serve_witness
    from citywatch.core.errors import Malformed
    from citywatch.core.log.checkpoint import Kind, NoteKey, format_note_key, parse_key_name, parse_note_key
    from citywatch.core.signature import Ed25519Key, parse_spki

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise Malformed(f"`{listen}` is not HOST:PORT")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = open_key(SecretDirectory(state), "witness.pem", KeyKind.ED25519)
    public = parse_spki(signer.public)
    if not isinstance(public, Ed25519Key):
        raise Malformed("a witness signs with Ed25519")
    key = NoteKey(parse_key_name(name), Kind.WITNESS, public)
    heads = open_heads(state / "heads.db")
    app = WitnessApp(
        key=key, signer=signer, logs=[parse_note_key(log) for log in logs], heads=heads, clock=SystemClock()
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host.strip("[]"), int(port)))
        except OSError as failure:
            raise Malformed(f"cannot listen on {listen}: {failure.strerror}") from None
        click.echo(f"witness key: {format_note_key(key)}")
        click.echo(f"ready on http://{host}:{bound.getsockname()[1]}")
        asyncio.run(serve_witness(app, [bound], protocol=bounded(Bounds(), Room(WITNESS_CONNECTIONS))))
