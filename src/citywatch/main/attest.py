"""`citywatch agent attest`: what a builder says of what an agent runs; and whom nobody believes any more."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import Malformed
from citywatch.main.agents import agent
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.core.signature import Key

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_IMAGE = re.compile(r"sha256:([0-9a-f]{64})")
_SUBJECTS = ("configuration", "prompt", "lockfile")


def register(cli: click.Group) -> None:
    agent.add_command(attest)
    agent.add_command(distrust)


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("--key", type=_FILE, help="The builder's key (PEM, in a folder of mode 0700): make an attestation.")
@click.option("--builder", default="", help="With --key: who builds, as policies read it.")
@click.option("--configuration", type=_FILE, help="With --key: its configuration.")
@click.option("--prompt", type=_FILE, help="With --key: its prompt.")
@click.option("--lockfile", type=_FILE, help="With --key: what its dependencies are pinned by.")
@click.option("--image", default="", help="With --key: the digest of its image, sha256:...")
@click.option("--also", multiple=True, help="With --key: as `agent measure` takes it.")
@click.option("--pass", "variables", multiple=True, metavar="VARIABLE", help="With --key: as `agent measure` takes it.")
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="How long it is good.")
@click.option("--envelope", type=_FILE, help="Hold this attestation.")
@click.option("--by", "attestor", help="With --envelope: whose it is, where the file names several attestors.")
@click.option("--withdraw", is_flag=True, help="Hold none from now on.")
@click.pass_obj
def attest(
    file: Path,
    name: str,
    command: tuple[str, ...],
    key: Path | None,
    builder: str,
    configuration: Path | None,
    prompt: Path | None,
    lockfile: Path | None,
    image: str,
    also: tuple[str, ...],
    variables: tuple[str, ...],
    days: int,
    envelope: Path | None,
    attestor: str | None,
    withdraw: bool,
) -> None:
    """Say as its builder what an agent runs (DSSE, in-toto), or hold what a builder said.

    With --key, measure the command after `--` and the files that are named, and print what the key signs. With
    --envelope, hold that: policies read it as `principal.attested`, and an agent with `attested_by` acts, and gets
    papers from `citywatch run`, only with it.
    """
    if [key is not None, envelope is not None, withdraw].count(True) != 1:
        raise click.UsageError("give one of --key, --envelope and --withdraw")
    if (key is None) != (not builder):
        raise click.UsageError("--key and --builder belong together")
    place = read_place(file)
    if key is not None:
        named = {"configuration": configuration, "prompt": prompt, "lockfile": lockfile}
        files = {what: path for what, path in named.items() if path is not None}
        click.echo(_made(place, name, command, key, builder, files, image, also, variables, days))
        return
    click.echo(asyncio.run(_hold(place, name, envelope, attestor)))


def _made(
    place: Place,
    name: str,
    command: tuple[str, ...],
    key: Path,
    builder: str,
    files: dict[str, Path],
    image: str,
    also: tuple[str, ...],
    variables: tuple[str, ...],
    days: int,
) -> str:
    from citywatch.adapters.keys import SecretDirectory, load_key
    from citywatch.adapters.system import SystemClock
    from citywatch.core.canonical import digest
    from citywatch.core.identity.attestation import Said
    from citywatch.core.identity.workload import measured_digest
    from citywatch.core.names import AgentId, parse_segment
    from citywatch.service.vouching import attest as sign

    subjects = [(what, digest(path.read_bytes())) for what, path in files.items()]
    if image:
        found = _IMAGE.fullmatch(image)
        if found is None:
            raise Malformed("an image is named by its digest: sha256: and 64 digits in hex")
        subjects.append(("image", found[1]))
    program = ""
    if command:
        from citywatch.adapters.workload import measure_program

        measured = measure_program(command, str(Path.cwd()), variables, also, None)
        program = measured_digest(measured)
        entries = (str(Path.cwd() / one) for one in command[1:])
        subjects += [(Path(one).name, measured.files[one]) for one in entries if one in measured.files]
    if not subjects and not program:
        raise Malformed("there is nothing to attest: name files, or the command after `--`")
    now = SystemClock().now_ms()
    said = Said(
        agent=AgentId(place.settings.trust_domain, parse_segment(name, "agent name")),
        builder=builder,
        program=program,
        files=tuple((what, value) for what, value in subjects if not value.startswith("link:")),
        built_at=now,
        until=now + days * 86_400_000,
    )
    return sign(said, load_key(SecretDirectory(key.resolve().parent), key.name, None)).decode("ascii")


async def _hold(place: Place, name: str, envelope: Path | None, attestor: str | None) -> str:
    from citywatch.config import attestor_keys
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.vouching import Vouching

    keys = attestor_keys(place.settings.attestors)
    async with open_city(place) as city:
        domain = city.settings.trust_domain
        vouching = Vouching(store=city.store, clock=city.clock, replica=city.replica.name, domain=domain)
        if envelope is None:
            await vouching.withdraw_attestation(name, operator())
            return f"no attestation is held of {name}"
        by, key = _chosen(keys, attestor)
        found = await vouching.hold_attestation(name, envelope.read_bytes(), by, key, operator())
        return (
            f"held: {found.attestor} attests {len(found.programs)} programs and {len(found.subjects)} files of {name}"
        )


def _chosen(keys: dict[str, Key], attestor: str | None) -> tuple[str, Key]:
    if not keys:
        raise Malformed("nobody's attestation counts: name the builder and its key under `attestors:`")
    if attestor is None:
        if len(keys) > 1:
            raise Malformed(f"say whose it is, with `--by`: one of {', '.join(sorted(keys))}")
        return next(iter(keys.items()))
    if attestor not in keys:
        raise Malformed(f"no attestor `{attestor[:80]}` in the file: write one of {', '.join(sorted(keys))}")
    return attestor, keys[attestor]


@click.command()
@click.argument("issuer_key")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def distrust(file: Path, issuer_key: str, reason: str) -> None:
    """Believe an issuer of credentials no more: no credential that this key (a Multikey, z6Mk...) signed counts.

    What is held of it is withdrawn from every agent, in one transaction with the entry that says so, and nothing of it
    is held again.
    """
    from citywatch.core.identity.vc import parse_multikey
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.vouching import Vouching

    place = read_place(file)
    key = parse_multikey(issuer_key)

    async def run() -> None:
        async with open_city(place) as city:
            domain = city.settings.trust_domain
            vouching = Vouching(store=city.store, clock=city.clock, replica=city.replica.name, domain=domain)
            found = await vouching.distrust(key, operator(), reason)
        click.echo(f"this key is not believed any more; withdrawn from {', '.join(found) or 'nobody'}")

    asyncio.run(run())
