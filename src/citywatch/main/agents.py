"""`citywatch agent`: who may act, under which key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from citywatch.main.place import Place, read_place

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def register(cli: click.Group) -> None:
    cli.add_command(agent)


@click.group()
def agent() -> None:
    """Register agents, revoke them, give them papers."""


@agent.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where to put the agent's folder.  [default: agents/NAME]")
@click.pass_obj
def add(file: Path, names: tuple[str, ...], out: Path | None) -> None:
    """Register agents: draw a key for each, and write what its program needs into a folder of its own (mode 0700)."""
    from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key, replace_key
    from citywatch.core.identity.papers import format_introduction
    from citywatch.core.names import AgentId
    from citywatch.main.assembly import open_city, operator

    place = read_place(file)
    folders = _folders(place, names, out)

    async def run() -> None:
        async with open_city(place) as city:
            for name, folder in folders.items():
                if called := city.settings.called(name):
                    known = await city.admin.readmit(city.settings.agent_id(name), called, operator())
                    click.echo(f"added {known.agent}, whose papers name {called}")
                    click.echo("its own authority gives it keys and papers; there is no folder to hand over")
                    continue
                city.row()  # before a key is drawn: papers may be somebody else's to give
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                secrets = SecretDirectory(folder)
                before = dict(await city.admin.list_agents()).get(name)
                draw = open_key if before is None or not before.revoked else replace_key  # a revoked key never returns
                key = draw(secrets, "key.pem", KeyKind.P256)
                row = await city.admin.add_agent(name, key.public, operator())
                introduction = city.issuer.introduction(AgentId(city.settings.trust_domain, name))
                secrets.replace("introduction.json", format_introduction(introduction))
                click.echo(f"added {row.agent} (key {row.keys[-1]})")
                click.echo(f"its key and papers are in {folder}; give that folder to the agent and to nobody else")
                if name not in city.settings.agents:
                    click.echo(f"note: `{name}` is not under `agents:` in {place.file}, so it has no roles", err=True)

    asyncio.run(run())


def _folders(place: Place, names: tuple[str, ...], out: Path | None) -> dict[str, Path]:
    """Where each agent's papers go: no two agents in one folder."""
    if out is not None and len(names) > 1:
        raise click.UsageError("--out is one agent's folder: name one agent")
    return {name: out or place.file.resolve().parent / "agents" / name for name in names}


@agent.command("list")
@click.pass_obj
def list_agents(file: Path) -> None:
    """Show every registered agent, its keys, and whether it is revoked."""
    from citywatch.main.assembly import open_city

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await city.admin.list_agents()
        for name, row in found:
            since = datetime.fromtimestamp(row.added_at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
            standing = f"revoked: {row.reason}" if row.revoked else row.refusal or "good standing"
            click.echo(f"{name}  {row.agent}  added {since}  {standing}")
            for key in row.keys:
                click.echo(f"    key {key}")
        if not found:
            click.echo("no agent is registered; `citywatch agent add NAME` adds one")

    asyncio.run(run())


@agent.command()
@click.argument("name")
@click.option("--key", help="Only this key of it, by its thumbprint as `agent list` shows it.")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def revoke(file: Path, name: str, key: str | None, reason: str) -> None:
    """Void all papers of an agent, or of one of its keys, from its next request on."""
    from citywatch.main.assembly import open_city, operator

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            if key is not None:
                row = await city.admin.revoke_key(name, key, reason, operator())
                click.echo(f"revoked the key {key} of {row.agent}, which has {len(row.keys)} left")
                return
            row = await city.admin.revoke_agent(name, reason, operator())
            click.echo(f"revoked {row.agent}")

    asyncio.run(run())


@agent.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["jwt", "wit"]),
    default="jwt",
    show_default=True,
    help="jwt: good for whoever holds it. wit: good only with messages that the agent's key signs.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The agent's folder, for wit.  [default: agents/NAME]")
@click.pass_obj
def token(file: Path, name: str, kind: str, out: Path | None) -> None:
    """Print a short-lived token for an agent that can neither do mTLS nor use `connect`.

    A JWT-SVID is a bearer token. A WIT-SVID names the agent's key, and each request is signed with that key (RFC 9421).
    """
    from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
    from citywatch.main.assembly import open_city
    from citywatch.service.authority import p256

    place = read_place(file)
    folder = out or place.file.resolve().parent / "agents" / name

    async def run() -> bytes:
        async with open_city(place) as city:
            if kind == "jwt":
                return (await city.issuer.token(name)).value
            key = load_key(SecretDirectory(folder), "key.pem", KeyKind.P256)
            return (await city.issuer.bound_token(name, p256(key.public))).value

    click.echo(asyncio.run(run()).decode("ascii"))


@agent.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="The agent's folder.  [default: agents/NAME]")
@click.pass_obj
def certificate(file: Path, names: tuple[str, ...], out: Path | None) -> None:
    """Write a short-lived certificate (X.509-SVID) for agents that do mTLS: svid.pem, and bundle.pem to trust.

    Also brings introduction.json up to date, for an agent that was away while the authority rotated.
    """
    import ssl

    from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
    from citywatch.core.identity.certificate import format_certificate
    from citywatch.core.identity.papers import format_introduction
    from citywatch.core.names import AgentId
    from citywatch.main.assembly import open_city
    from citywatch.service.authority import p256

    place = read_place(file)
    folders = _folders(place, names, out)

    async def run() -> None:
        async with open_city(place) as city:
            for name, folder in folders.items():
                city.row()  # before a folder is asked for that nobody may have written
                secrets = SecretDirectory(folder)
                key = load_key(secrets, "key.pem", KeyKind.P256)
                issued = await city.issuer.certificate(name, p256(key.public))
                secrets.replace("svid.pem", ssl.DER_cert_to_PEM_cert(issued.value).encode("ascii"))
                authorities = map(format_certificate, city.row().bundle().certificates)
                secrets.replace("bundle.pem", "".join(map(ssl.DER_cert_to_PEM_cert, authorities)).encode("ascii"))
                introduction = city.issuer.introduction(AgentId(city.settings.trust_domain, name))
                secrets.replace("introduction.json", format_introduction(introduction))
                until = datetime.fromtimestamp(issued.not_after / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
                click.echo(
                    f"wrote {folder}/svid.pem (until {until}) and {folder}/bundle.pem; the key is {folder}/key.pem"
                )

    asyncio.run(run())


@agent.command()
@click.argument("name")
@click.option("--owner", help="Who answers for the agent.")
@click.option("--model", default="", help="The model that it runs.")
@click.option("--configuration", type=_FILE, help="Its configuration: the file's SHA-256 is what is vouched for.")
@click.option("--prompt", type=_FILE, help="Its prompt: the file's SHA-256 is what is vouched for.")
@click.option("--capability", "capabilities", multiple=True, help="What it may be used for; can be given repeatedly.")
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="How long it is good.")
@click.option("--from", "brought", type=_FILE, help="Hold this credential of another issuer instead.")
@click.option("--issuer", help="With --from: whose word it must be.")
@click.option("--issuer-key", help="With --from: the issuer's Ed25519 key, as a Multikey (z6Mk...).")
@click.option("--withdraw", is_flag=True, help="Hold none from now on.")
@click.pass_obj
def credential(
    file: Path,
    name: str,
    owner: str | None,
    model: str,
    configuration: Path | None,
    prompt: Path | None,
    capabilities: tuple[str, ...],
    days: int,
    brought: Path | None,
    issuer: str | None,
    issuer_key: str | None,
    withdraw: bool,
) -> None:
    """Vouch for an agent: issue a verifiable credential (W3C VC 2.0), or hold one that a named issuer signed.

    Policies read it as `principal.credential`, from the agent's next request on. The credential is printed.
    """
    from citywatch.core.identity.vc import parse_multikey
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.vouching import Statement, Vouching

    if [owner is not None, brought is not None, withdraw].count(True) != 1:
        raise click.UsageError("give one of --owner, --from and --withdraw")
    if (brought is None) != (issuer is None) or (brought is None) != (issuer_key is None):
        raise click.UsageError("--from, --issuer and --issuer-key belong together")
    place = read_place(file)

    async def run() -> str:
        async with open_city(place) as city:
            domain = city.settings.trust_domain
            vouching = Vouching(store=city.store, clock=city.clock, replica=city.replica.name, domain=domain)
            if withdraw:
                await vouching.withdraw(name, operator())
                return f"no credential is held of {name}"
            if brought is not None and issuer is not None and issuer_key is not None:
                document = brought.read_bytes()
                claims = await vouching.hold(name, document, issuer, parse_multikey(issuer_key), operator())
                return f"held: {claims.issuer} vouches for {claims.agent}, owned by {claims.owner}"
            said = Statement(
                owner=owner or "",
                model=model,
                configuration=_digest(configuration),
                prompt=_digest(prompt),
                capabilities=capabilities,
            )
            issued = await vouching.issue(name, said, city.vouches(), days * 86_400_000, operator())
            return issued.decode("utf-8")

    click.echo(asyncio.run(run()))


def _digest(file: Path | None) -> str:
    from citywatch.core.canonical import digest

    return "" if file is None else f"sha256:{digest(file.read_bytes())}"
