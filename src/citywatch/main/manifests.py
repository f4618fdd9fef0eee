"""`citywatch manifest`: draft what the file should say of a server's tools.

Decides nothing: `config.draft` guesses, a person decides. INVARIANT: a list that holds no tool, or anything that is
none, is refused: a draft of half of a server reads like a draft of all of it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from citywatch.core.errors import Malformed
from citywatch.main.place import Place, read_place

MAX_FILE = 16 << 20


def register(cli: click.Group) -> None:
    cli.add_command(manifest)


@click.group()
def manifest() -> None:
    """Draft what the file should say of a server's tools."""


@manifest.command()
@click.argument("server")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the definitions from a file: a `tools/list` reply, its result, or the list itself, as JSON.",
)
@click.option("--offered", is_flag=True, help="Ask the server for what it offers today, approved or not.")
@click.option(
    "--unsafe-guesses",
    is_flag=True,
    help="Write guesses as if you had decided them, also those that take something away from silence.",
)
@click.pass_obj
def suggest(file: Path, server: str, source: Path | None, offered: bool, unsafe_guesses: bool) -> None:
    """Draft manifests for SERVER's tools, to read, decide and paste into citywatch.yaml.

    Uses the definitions that are approved; asks the server where none is. Nothing in the draft takes anything away from
    silence until you decide so: a weaker guess is a comment, marked `decide:`.
    """
    from citywatch.config import draft_manifests

    if source is not None and offered:
        raise click.UsageError("`--from` and `--offered` exclude each other")
    declared: tuple[str, ...] = ()
    if source is not None:
        definitions = read_definitions(source)
        if file.exists() and server in (servers := read_place(file).settings.servers):
            declared = tuple(servers[server].tools)
    else:
        place = read_place(file)
        if server not in place.settings.servers:
            names = ", ".join(sorted(place.settings.servers)) or "there is none"
            raise click.UsageError(f"`{server}` is not a configured server: {names}")
        declared = tuple(place.settings.servers[server].tools)
        definitions = asyncio.run(_known(place, server, offered))
    if not definitions:
        raise Malformed(f"no tool of `{server}` is known: there is nothing to draft from")
    draft = draft_manifests(_server_name(server), definitions, declared, unsafe_guesses=unsafe_guesses)
    click.echo(draft.text, nl=False)
    if not draft.drafted:
        raise SystemExit(1)


def read_definitions(source: Path) -> list[dict[str, Any]]:
    """The tools that a file lists; raises `Malformed` for anything else."""
    try:
        raw = source.read_bytes()
        if len(raw) > MAX_FILE:
            raise Malformed(f"`{source}` has more than {MAX_FILE} bytes")
        value = json.loads(raw)
    except OSError as failure:
        raise Malformed(f"`{source}` cannot be read: {failure.strerror}") from None
    except (ValueError, RecursionError):
        raise Malformed(f"`{source}` is not JSON") from None
    for word in ("result", "tools"):
        value = value[word] if isinstance(value, dict) and word in value else value
    if not isinstance(value, list) or not all(isinstance(one, dict) and "name" in one for one in value):
        raise Malformed(f"`{source}` is no list of tools: a `tools/list` reply, its result, or a list of definitions")
    return value


async def _known(place: Place, server: str, offered: bool) -> list[dict[str, Any]]:
    """What is approved of a server; what it offers where that was asked for, or nothing is approved."""
    from citywatch.main.asking import offered_by
    from citywatch.main.assembly import open_city
    from citywatch.main.pins import Pins
    from citywatch.main.upstreams import build_upstreams
    from citywatch.service.tools import approvals

    async with open_city(place) as city:
        approved = [one.definition for one in await approvals(city.store) if (one.server, one.kind) == (server, "tool")]
        if approved and not offered:
            return sorted(approved, key=lambda one: str(one.get("name")))
        upstreams = build_upstreams(place, Pins(city))
        try:
            found, _ = await offered_by(city, server, upstreams[server])
        finally:
            for upstream in upstreams.values():
                await upstream.close()
    click.echo("# Nobody has approved these definitions: read `citywatch tools diff` first.", err=True)
    return [dict(one.value) for one in found.definitions if one.kind == "tool"]


def _server_name(server: str) -> str:
    from citywatch.core.names import parse_segment

    return parse_segment(server, "name for a server")
