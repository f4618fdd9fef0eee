"""`citywatch connect`: an agent's local bridge to the gateway. It needs the agent's folder, no configuration file."""

from __future__ import annotations

import asyncio
import pwd
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from citywatch.core.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from citywatch.adapters.bridge import Bearer, GatewayClient, Relay

KEY, INTRODUCTION = "key.pem", "introduction.json"
LEEWAY_MS = 60_000
CONNECT_S = 10.0


def register(cli: click.Group) -> None:
    cli.add_command(connect)


@click.command()
@click.argument("name")
@click.option(
    "--key",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The agent's folder, as `citywatch agent add` wrote it.  [default: agents/NAME]",
)
@click.option("--gateway", default="http://127.0.0.1:8460", show_default=True, help="Where the gateway is.")
@click.option("--listen", default="127.0.0.1:8480", show_default=True, help="Loopback HOST:PORT to serve on.")
@click.option(
    "--gateway-user", "user", metavar="USER", help="Whose gateway to believe over plain http, besides root's."
)
@click.option("--unsafe-loopback", is_flag=True, help="Over plain http, believe whoever holds the gateway's port.")
@click.option(
    "--chain", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Act under this chain of grants."
)
@click.option("--sign-messages", "signs", is_flag=True, help="Sign each request with the agent's key (RFC 9421).")
@click.option("--stdio", "server", metavar="SERVER", help="Be this MCP server on standard input and output instead.")
def connect(
    name: str,
    folder: Path | None,
    gateway: str,
    listen: str,
    user: str | None,
    unsafe_loopback: bool,
    chain: Path | None,
    signs: bool,
    server: str | None,
) -> None:
    """Hold an agent's key, renew its papers, and lend them to an MCP or A2A client on this machine that can do neither.

    Over https the gateway proves itself. Over plain http it has to be root's, yours or --gateway-user's: anybody else
    who holds its port gets nothing.

    With --chain, each act of the client is shown with that chain, and for its task; the file is read for each, so that
    the next task's can be put in its place.

    With --sign-messages no bearer token travels over plain http, and over https each request proves the key once more.
    """
    if unsafe_loopback:
        click.echo(
            "UNSAFE       --unsafe-loopback: whoever holds the gateway's port is shown this agent's papers", err=True
        )
    believed = Believed(() if user is None else (_uid(user),), unsafe_loopback)
    asyncio.run(_connect(name, folder or Path("agents") / name, gateway, listen, server, believed, chain, signs))


class Believed(NamedTuple):
    """Who may hold the gateway's port without TLS."""

    users: tuple[int, ...]
    unsafe_loopback: bool


def _uid(user: str) -> int:
    try:
        return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise Malformed(f"there is no user `{user}`") from None


async def _connect(
    name: str,
    folder: Path,
    gateway: str,
    listen: str,
    server: str | None,
    believed: Believed,
    chain: Path | None,
    signs: bool,
) -> None:
    if chain is not None:
        _shown(chain)  # a file that holds none is seen now
    clients, bearer, relay = _assemble(name, folder, gateway, believed, chain, signs)
    work = asyncio.ensure_future(_listen(relay, name, gateway, listen) if server is None else _stdio(relay, server))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await _introduce(bearer)
        await work
    except asyncio.CancelledError:
        return
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        for client in clients:
            await client.close()


def _assemble(
    name: str, folder: Path, gateway: str, believed: Believed, chain: Path | None, signs: bool
) -> tuple[tuple[GatewayClient, ...], Bearer, Relay]:
    from citywatch.adapters.bridge import Bearer, GatewayClient, Relay
    from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
    from citywatch.adapters.system import SystemChance, SystemClock
    from citywatch.adapters.tls import GatewayPin
    from citywatch.core.identity.bundle import TrustBundle
    from citywatch.core.identity.papers import Introduction, format_introduction, parse_introduction

    if not folder.is_dir():
        raise Malformed(f"there is no `{folder}`: `citywatch agent add {name}` writes it, `--key` says where it is")
    secrets = SecretDirectory(folder)
    introduction = parse_introduction(secrets.read(INTRODUCTION))
    if introduction.agent.name != name:
        raise Malformed(f"`{folder}` is of the agent `{introduction.agent.name}`, not of `{name}`")
    clock = SystemClock()

    def remember(bundle: TrustBundle) -> None:
        secrets.replace(
            INTRODUCTION,
            format_introduction(Introduction(agent=introduction.agent, gateway=introduction.gateway, bundle=bundle)),
        )

    def pin() -> GatewayPin:
        return GatewayPin(bearer.bundle, clock.now_ms, LEEWAY_MS)

    def pin_with_papers() -> GatewayPin:
        shown = None if bearer.certificate is None else ([bearer.certificate], folder / KEY)
        return GatewayPin(bearer.bundle, clock.now_ms, LEEWAY_MS, certificate=shown)

    client = GatewayClient(gateway, pin_with_papers, connect_s=CONNECT_S, **believed._asdict())
    renewals = GatewayClient(gateway, pin, connect_s=CONNECT_S, **believed._asdict())
    bearer = Bearer(
        introduction,
        load_key(secrets, KEY, KeyKind.P256),
        renewals,
        clock=clock,
        chance=SystemChance(),
        remember=remember,
        renewed=client.forget,
    )
    shows = None if chain is None else partial(_shown, chain)
    return (client, renewals), bearer, Relay(client, bearer, shows, signs=signs)


def _shown(file: Path) -> tuple[str, list[str]]:
    """The chain in a file, and the task that it is for."""
    from citywatch.core.delegation.grant import parse_link
    from citywatch.main.grants import read_links

    links = read_links(file)
    return parse_link(links[0]).grant.task, links


async def _introduce(bearer: Bearer) -> None:
    """Fetch papers at once, so that a wrong key is seen now; a gateway that is not up yet may come."""
    try:
        await bearer.token()
    except Unavailable as failure:
        click.echo(f"citywatch: {failure}; trying again with the first request", err=True)


async def _listen(relay: Relay, name: str, gateway: str, listen: str) -> None:
    from citywatch.adapters.bridge import LoopbackBridge

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise Malformed(f"`{listen}` is not HOST:PORT")
    bridge = LoopbackBridge(relay)
    bound = await bridge.open(host.strip("[]"), int(port))
    try:
        click.echo(f"ready: http://{host}:{bound}/mcp/SERVER is {gateway}/mcp/SERVER for `{name}`, and so is /a2a/PEER")
        await asyncio.Event().wait()
    finally:
        await bridge.close()


async def _stdio(relay: Relay, server: str) -> None:
    from citywatch.adapters.bridge import StdioBridge
    from citywatch.adapters.bridge.standard import open_input, open_output
    from citywatch.core.names import parse_segment

    def complain(line: str) -> None:
        click.echo(f"citywatch: {line}", err=True)

    bridge = StdioBridge(
        relay, parse_segment(server, "server"), await open_input(), await open_output(), complain=complain
    )
    await bridge.run()
