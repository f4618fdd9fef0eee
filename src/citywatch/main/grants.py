"""`citywatch grant`: what was handed on, handing it on, and taking it back."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import parse_duration
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.delegation.caveats import Caveats
    from citywatch.main.assembly import City
    from citywatch.service.grants import Grants

MAX_FILE = 262_144
MAX_HOLD_MS = 30 * 24 * 3_600_000
_NAME = re.compile(
    r"(?:grant:[0-9a-f]{64}|chain:[A-Za-z0-9_-]{16,64}|principal:[!-~]{1,128}|domain:[a-z0-9._-]{1,255}|root:[A-Za-z0-9_-]{43})\Z"
)


def register(cli: click.Group) -> None:
    cli.add_command(grant)


@click.group()
def grant() -> None:
    """See what a chain of grants leaves, hand it on, take it back."""


@grant.command()
@click.argument("chain", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(chain: Path) -> None:
    """Show each link of a chain, and what they leave together. Says nothing of revocation: only a gateway knows."""
    from citywatch.core.delegation.chain import read_chain
    from citywatch.core.delegation.grant import parse_link
    from citywatch.core.delegation.wording import format_caveats

    texts = read_links(chain)
    whole = read_chain(texts)
    for text in texts:
        link = parse_link(text)
        told = link.grant
        click.echo(f"{told.delegator} → {told.delegate} (key {told.delegate_thumb})")
        click.echo(f"  grant:{link.hash}, until {_when(told.not_after)}, depth {told.depth}")
        click.echo(f"  {json.dumps(format_caveats(told.caveats), sort_keys=True)}")
    click.echo(f"together, for task {whole.task} of {whole.principal}, until {_when(whole.caveats.not_after or 0)}:")
    click.echo(f"  {json.dumps(format_caveats(whole.caveats), sort_keys=True)}")


@grant.command("hand-on")
@click.argument("chain", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "agent", required=True, metavar="SPIFFE_ID", help="The agent that is to hold the longer chain.")
@click.option("--thumb", required=True, help="The thumbprint of its key, as `citywatch agent list` shows it.")
@click.option(
    "--folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the agent that holds the chain: its key signs.",
)
@click.option("--caveats", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON: what is left.")
@click.option("--for", "hold", default="", metavar="TIME", help="For how long.  [default: as long as the chain]")
@click.option("--depth", type=click.IntRange(0), help="How often it may be handed on from there.  [default: one less]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write the longer chain.")
def hand_on(
    chain: Path,
    agent: str,
    thumb: str,
    folder: Path,
    caveats: Path | None,
    hold: str,
    depth: int | None,
    out: Path,
) -> None:
    """Give another agent what this one holds, or less. Needs no gateway: the holder's own key signs."""
    import msgspec

    from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
    from citywatch.core.delegation.handing import Holder, next_grant
    from citywatch.service.grants import sign_grant

    texts = read_links(chain)
    stated = msgspec.structs.replace(
        read_caveats(caveats),
        not_after=int(time.time() * 1000) + hold_ms(hold) if hold else None,
        depth=depth,
    )
    payload = next_grant(texts, Holder(agent, thumb), stated)
    key = load_key(SecretDirectory(folder), "key.pem", KeyKind.P256)
    write_links(out, [*texts, sign_grant(payload, key)])
    click.echo(f"wrote {out}: {len(texts) + 1} links, the last for {agent}")


@grant.command()
@click.argument("name", metavar="grant:HASH|chain:ID")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def withdraw(file: Path, name: str, reason: str) -> None:
    """Void a link, a whole chain, or every chain of a principal, and all that was handed on beneath, from now on.

    `domain:NAME` voids every chain that another trust domain rooted, `root:THUMB` those of one of its keys.
    """
    from citywatch.main.assembly import open_city, operator

    if not _NAME.match(name):
        raise Malformed(f"`{name[:80]}` names no link and no chain: write grant:<hash> as `citywatch grant show` does")
    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            await grants_of(city).withdraw(name, operator(), reason)
        click.echo(f"{name} is void, and so is what was handed on beneath it")

    asyncio.run(run())


def read_links(file: Path) -> list[str]:
    """A chain as it is kept in a file, and sent in `_meta`: a JSON list of links."""
    value = _json(file)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise Malformed(f"`{file}` holds no chain: expected a JSON list of links")
    return value


def write_links(file: Path, texts: list[str]) -> None:
    file.write_text(json.dumps(texts, indent=2) + "\n", encoding="ascii")


def read_caveats(file: Path | None) -> Caveats:
    """Caveats as a grant writes them, in a file; none without one."""
    from citywatch.core.delegation.caveats import ANYTHING
    from citywatch.core.delegation.wording import parse_caveats

    if file is None:
        return ANYTHING
    value = _json(file)
    if not isinstance(value, dict):
        raise Malformed(f"`{file}` holds no caveats: expected a JSON object")
    return parse_caveats(value, not_after=0, depth=0)


def hold_ms(text: str) -> int:
    """How long a grant holds."""
    found = parse_duration(text)
    if not 0 < found <= MAX_HOLD_MS:
        raise Malformed("a grant holds for at most 30d")
    return found


def _json(file: Path) -> Any:
    try:
        with file.open("rb") as source:
            return json.loads(source.read(MAX_FILE))
    except (OSError, ValueError) as failure:
        raise Malformed(f"`{file}` cannot be read as JSON: {failure}") from None


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def grants_of(city: City) -> Grants:
    """What roots and withdraws chains in an open city."""
    from citywatch.service.grants import Grants

    return Grants(
        store=city.store,
        clock=city.clock,
        chance=city.chance,
        replica=city.replica.name,
        domain=city.settings.trust_domain,
        signer=city.speaks_for_principals(),
    )
