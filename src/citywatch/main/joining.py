"""`citywatch agent invite`, `citywatch join`: first papers for an agent on a machine that nobody here can look at."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import Malformed, Unavailable
from citywatch.main.agents import agent
from citywatch.main.connect import INTRODUCTION, KEY
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.identity.papers import Introduction, Papers
    from citywatch.main.assembly import City
    from citywatch.service.joining import Invitations
    from citywatch.service.ports import Signer

PATIENCE_S = 30.0
MAX_INVITATION = 1024


def register(cli: click.Group) -> None:
    agent.add_command(invite)
    cli.add_command(join)


@click.command()
@click.argument("name")
@click.option("--ttl", default="1h", show_default=True, metavar="TIME", help="How long it can be used, once.")
@click.option(
    "--introduction",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write what the agent must know of this gateway.  [default: NAME.introduction.json]",
)
@click.option("--withdraw", is_flag=True, help="Take back the invitations of this name that nobody has used.")
@click.pass_obj
def invite(file: Path, name: str, ttl: str, introduction: Path | None, withdraw: bool) -> None:
    """Print an invitation for an agent on another machine: whoever brings it first joins under this name.

    It is printed once and kept nowhere. The introduction is no secret, but who can change it on its way can put another
    gateway in place of this one.
    """
    from citywatch.core.identity.papers import format_introduction
    from citywatch.core.names import AgentId
    from citywatch.main.assembly import open_city, operator
    from citywatch.main.grants import hold_ms

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            city.row()  # whose papers are somebody else's to give invites nobody
            if city.settings.called(name):
                raise Malformed(f"`{name}` has papers of its own trust domain: nobody has to invite it")
            if withdraw:
                click.echo(f"took back {await invitations(city).withdraw(name)} invitations for {name}")
                return
            text = await invitations(city).invite(name, hold_ms(ttl), operator())
            where = introduction or Path(f"{name}.introduction.json")
            known = city.issuer.introduction(AgentId(city.settings.trust_domain, name))
            where.write_bytes(format_introduction(known))
            click.echo(f"{name} can join for {ttl}; it needs this and {where}", err=True)
            click.echo(text)

    asyncio.run(run())


@click.command()
@click.argument("gateway")
@click.option(
    "--introduction",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="What `citywatch agent invite` wrote.",
)
@click.option(
    "--join-token-file",
    "token_file",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    required=True,
    help="The file with the invitation, or - for the standard input.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to put the agent's folder.  [default: agents/NAME]")
def join(gateway: str, introduction: Path, token_file: Path, out: Path | None) -> None:
    """Join as the agent of an invitation, at GATEWAY (https://HOST:PORT), and write its folder (mode 0700).

    Draws a key that stays on this machine. From then on `citywatch connect` works with that folder as anywhere, and
    renews by proof of the key; the invitation is spent.
    """
    from citywatch.core.identity.papers import parse_introduction

    known = parse_introduction(introduction.read_bytes())
    folder = out or Path("agents") / known.agent.name
    asyncio.run(_join(gateway, known, _invitation(token_file), folder))
    click.echo(f"joined as {known.agent}; its key and papers are in {folder}")


async def _join(gateway: str, known: Introduction, invitation: str, folder: Path) -> None:
    import ssl

    from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
    from citywatch.core.identity.certificate import format_certificate
    from citywatch.core.identity.papers import Introduction, format_introduction

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = SecretDirectory(folder)
    # Before it asks: if only the answer is lost, the agent has joined, and what is in the folder is all that it needs.
    secrets.replace(INTRODUCTION, format_introduction(known))
    papers = await _ask(gateway, known, invitation, open_key(secrets, KEY, KeyKind.P256))
    secrets.replace("svid.pem", ssl.DER_cert_to_PEM_cert(papers.certificate).encode("ascii"))
    authorities = map(format_certificate, papers.bundle.certificates)
    secrets.replace("bundle.pem", "".join(map(ssl.DER_cert_to_PEM_cert, authorities)).encode("ascii"))
    fresh = Introduction(agent=known.agent, gateway=known.gateway, bundle=papers.bundle)
    secrets.replace(INTRODUCTION, format_introduction(fresh))


async def _ask(gateway: str, known: Introduction, invitation: str, signer: Signer) -> Papers:
    """Redeem the invitation, at the gateway that the introduction proves and at nobody else's."""
    from citywatch.adapters.bridge import GatewayClient
    from citywatch.adapters.bridge.bearer import refused_with
    from citywatch.adapters.system import SystemChance, SystemClock
    from citywatch.adapters.tls import GatewayPin
    from citywatch.core.errors import Code
    from citywatch.core.identity.papers import MAX_PAPERS_BYTES, parse_papers
    from citywatch.core.identity.x509 import verify_x509_svid
    from citywatch.core.signature import thumbprint
    from citywatch.main.connect import CONNECT_S, LEEWAY_MS
    from citywatch.service.authority import p256
    from citywatch.service.joining import prove_joining

    if not gateway.startswith("https://"):
        raise Malformed(f"`{gateway}` would show the invitation to whoever is there: use https")
    clock = SystemClock()
    client = GatewayClient(gateway, lambda: GatewayPin(known.bundle, clock.now_ms, LEEWAY_MS), connect_s=CONNECT_S)
    nonce = SystemChance().salt().hex()
    body = prove_joining(known.agent, known.gateway, invitation, signer, now=clock.now_ms(), nonce=nonce)
    headers = [(b"content-type", b"application/json"), (b"accept", b"application/json")]
    try:
        async with asyncio.timeout(PATIENCE_S):
            reply = await client.request(b"POST", b"/citywatch/join", headers, body)
            answer = await reply.read(MAX_PAPERS_BYTES)
    except TimeoutError:
        raise Unavailable(Code.UPSTREAM_TIMEOUT, "the gateway gave no papers in time") from None
    finally:
        await client.close()
    if reply.status != 200:
        raise refused_with(reply.status, answer)
    papers = parse_papers(answer, known.agent.domain)
    proved = verify_x509_svid([papers.certificate], papers.bundle)
    if (proved.agent, proved.key) != (str(known.agent), thumbprint(p256(signer.public))):
        raise Malformed("the gateway sent another agent's papers")
    return papers


def _invitation(file: Path) -> str:
    """The invitation's text. It never stands on a command line, which every user of a machine can read."""
    try:
        data = sys.stdin.read(MAX_INVITATION) if str(file) == "-" else file.read_text(encoding="ascii")[:MAX_INVITATION]
    except (OSError, UnicodeDecodeError):
        raise Malformed(f"`{file}` cannot be read, or holds no invitation") from None
    return data.strip()


def invitations(city: City) -> Invitations:
    """Who was invited to this city."""
    from citywatch.main.assembly import LEEWAY_MS
    from citywatch.service.joining import Invitations

    return Invitations(
        store=city.store,
        clock=city.clock,
        chance=city.chance,
        replica=city.replica.name,
        domain=city.settings.trust_domain,
        issuer=city.issuer,
        audience=city.audience,
        leeway_ms=LEEWAY_MS,
    )
