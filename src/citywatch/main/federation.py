"""`citywatch federation`: other trust domains; and how a process comes to know their bundles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.adapters.bundles import Proof
    from citywatch.config import Neighbour as Configured
    from citywatch.core.identity.bundle import TrustBundle
    from citywatch.main.assembly import City
    from citywatch.service.federation import Federation

FETCH_S = 10.0


def register(cli: click.Group) -> None:
    cli.add_command(federation)


@click.group()
def federation() -> None:
    """See whose papers are believed beside our own, and put a bundle right."""


@federation.command()
@click.pass_obj
def show(file: Path) -> None:
    """Show every trust domain of the file: its bundle, where it came from, until when it is believed."""
    from citywatch.main.assembly import open_city

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            known = neighbours(city)
            await known.load()
            for domain in city.settings.federation:
                row = known.rows().get(domain)
                if row is None:
                    click.echo(f"{domain}  no bundle yet: its papers are refused")
                    continue
                bundle = row.bundle()
                until = _moment(known.until(domain))
                fresh = "believed until" if domain in known.domains().others else "TOO OLD since"
                click.echo(f"{domain}  sequence {bundle.sequence}, from {row.by}, {fresh} {until}")
                for agent in city.settings.agents.values():
                    if agent.spiffe_id.startswith(f"spiffe://{domain}/"):
                        click.echo(f"    {agent.name}  {agent.spiffe_id}")
            if not city.settings.federation:
                click.echo("no other trust domain is believed; name one under `federation`")

    asyncio.run(run())


@federation.command()
@click.argument("domain")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def trust(file: Path, domain: str, bundle: Path) -> None:
    """Believe the bundle in a file from now on, at your word: also one that is older than what was seen before."""
    from citywatch.adapters.bundles import read_bundle_file
    from citywatch.main.assembly import open_city, operator

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            known = neighbours(city)
            await known.load()
            found = await known.trust(domain, read_bundle_file(bundle), operator())
        click.echo(f"believed: {domain}, sequence {found.sequence}, {len(found.certificates)} authorities")

    asyncio.run(run())


@federation.command()
@click.pass_obj
def bundle(file: Path) -> None:
    """Print our own bundle, for another trust domain to begin with."""
    from citywatch.main.assembly import open_city

    async def run() -> bytes:
        async with open_city(read_place(file)) as city:
            return city.issuer.bundle()

    click.echo(asyncio.run(run()).decode("ascii"))


def neighbours(city: City) -> Federation:
    """The other trust domains of the file, of which nothing is known yet."""
    from citywatch.adapters.bundles import FileSource, HttpsSource, read_bundle_file, web_proof
    from citywatch.service.federation import Federation, Neighbour

    def one(configured: Configured) -> Neighbour:
        beginning = None if configured.bundle is None else partial(read_bundle_file, Path(configured.bundle))
        if configured.endpoint is None:
            source = FileSource(configured.bundle or "")
            return Neighbour(configured.domain, source, configured.max_age_ms, configured.refresh_ms, beginning)
        proof = _spiffe_proof(city, configured) if configured.endpoint_id else web_proof(configured.ca)
        endpoint = HttpsSource(configured.endpoint, proof, FETCH_S)
        return Neighbour(configured.domain, endpoint, configured.max_age_ms, configured.refresh_ms, beginning)

    settings = city.settings
    return Federation(
        store=city.store,
        clock=city.clock,
        replica=city.replica.name,
        neighbours={name: one(each) for name, each in city.settings.federation.items()},
        home=city.bundle,
        named={called: str(settings.agent_id(name)) for name in settings.agents if (called := settings.called(name))},
        until=None if city.outside is None else city.outside.until,
    )


def _spiffe_proof(city: City, configured: Configured) -> Callable[[TrustBundle | None], Proof]:
    """Profile `https_spiffe`: the endpoint proves its SPIFFE ID by the bundle of its domain that we have."""
    from citywatch.adapters.tls import SpiffePin
    from citywatch.core.errors import Code, Unavailable
    from citywatch.main.assembly import LEEWAY_MS

    def proof(known: TrustBundle | None) -> Proof:
        if known is None:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"no bundle of `{configured.domain}` to prove its endpoint by")
        pin = SpiffePin(known, configured.endpoint_id, city.clock.now_ms, LEEWAY_MS)
        return pin.context, pin.check

    return proof


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
