"""`citywatch init` and `citywatch check`: begin, and see what would run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import CitywatchError, Malformed
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.core.manifest import ToolManifest
    from citywatch.service.tools import Approved


def register(cli: click.Group) -> None:
    cli.add_command(init)
    cli.add_command(check)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a commented, working example into a folder; nothing that is there is overwritten."""
    parts: list[tuple[str, str]] = []
    starter = resources.files("citywatch") / "starter"
    parts += [(entry.name, entry.read_text(encoding="utf-8")) for entry in starter.iterdir() if _is_ours(entry.name)]
    shipped = resources.files("citywatch") / "policies"
    parts += [
        (f"policies/{entry.name}", entry.read_text(encoding="utf-8"))
        for entry in shipped.iterdir()
        if _is_ours(entry.name)
    ]
    for name, _ in parts:
        if (folder / name).exists():
            raise Malformed(f"`{folder / name}` exists; choose an empty folder: `citywatch init FOLDER`")
    for name, text in sorted(parts):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / name}")
    click.echo(
        "next: `citywatch check`, then `citywatch agent add assistant`, `citywatch tools approve`, `citywatch up`"
    )


def _is_ours(name: str) -> bool:
    return not name.startswith((".", "__")) and not name.endswith((".pyc", ".py.orig"))


@click.command()
@click.pass_obj
def check(file: Path) -> None:
    """Say what would run and what it would protect; exit with 1 if nothing would be protected."""
    raise SystemExit(asyncio.run(_check(read_place(file))))


async def _check(place: Place) -> int:
    from citywatch.core.enforce.pinning import Standing
    from citywatch.core.policy.check import check_policies
    from citywatch.main.assembly import build_upstreams, load_rules, open_city
    from citywatch.service.survey import survey
    from citywatch.service.tools import approvals, compare

    settings = place.settings
    problems: list[str] = []
    for listen in settings.listen:
        click.echo(f"listens on      {listen}")
    for name in settings.unsafe:
        click.echo(f"UNSAFE          {name}")
    if settings.principals:
        click.echo(f"principals      {', '.join(settings.principals)}")
    else:
        click.echo(
            "WARNING         no `principals` are declared: information flow is not enforced, "
            "and whatever an agent reads may choose whom its permitted calls reach"
        )
    async with open_city(place) as city:
        agents = [name for name, row in await city.admin.list_agents() if not row.revoked]
        click.echo(f"agents          {', '.join(agents) or 'none'}")
        if not agents:
            problems.append("no agent is registered: `citywatch agent add NAME`")
        approved = await approvals(city.store)
        try:
            rules = await load_rules(settings, city.store)
            click.echo(f"policies        {len(rules.policies.policies)}, digest {rules.policies.digest[:16]}")
            found = check_policies(rules.policies.policies, rules.world)
            problems += [f"policy {mistake}" for mistake in found]
            for fallen in rules.policies.fallen_back:
                click.echo(f"                `{fallen}` is evaluated by cedarpy, which is slower")
        except CitywatchError as failure:
            problems.append(f"the policies cannot be used:\n{failure}")
        if not settings.servers:
            problems.append("no server is configured: nothing would be protected")
        for name, upstream in build_upstreams(place).items():
            tools = sum(1 for one in approved if (one.server, one.kind) == (name, "tool"))
            try:
                offered = compare(name, (await survey(upstream, city.audience)).definitions, approved)
                open_ones = sum(1 for one in offered if one.standing is not Standing.APPROVED)
                click.echo(f"server          {name}: {tools} tools approved, {open_ones} definitions await approval")
                await _probe(place, name)
            except CitywatchError as failure:
                click.echo(f"server          {name}: {tools} tools approved; it does not answer: {failure}")
            finally:
                await upstream.close()
            if not tools:
                problems.append(f"no tool of `{name}` is approved: `citywatch tools approve {name}`")
            for line in _silences(name, settings.servers[name].tools, approved):
                click.echo(f"                {line}")
    for problem in problems:
        click.echo(f"problem         {problem}", err=True)
    return 1 if problems else 0


def _silences(server: str, tools: Mapping[str, ToolManifest], approved: Sequence[Approved]) -> list[str]:
    """What the file does not say of approved tools, and how that is read."""
    from citywatch.core.enforce.arguments import silent
    from citywatch.core.manifest import SILENT

    lines = []
    for one in sorted(approved, key=lambda one: one.name):
        if (one.server, one.kind) != (server, "tool"):
            continue
        if one.name not in tools:
            lines.append(f"{server}/{one.name} has no manifest: counts as irreversible")
        schema = one.definition.get("inputSchema")
        names = silent(tools.get(one.name, SILENT), schema if isinstance(schema, dict) else {})
        if names:
            shown = ", ".join(json.dumps(name)[1:-1] for name in names)
            lines.append(f"{server}/{one.name} has no role for {shown}: counts as destination")
    return lines


async def _probe(place: Place, name: str) -> None:
    """Ask a server without our credential: one that answers anybody can be reached around us."""
    from citywatch.adapters.upstream import HttpServer, HttpUpstream
    from citywatch.config import Http
    from citywatch.service.survey import survey

    reach = place.settings.servers[name].reach
    if not isinstance(reach, Http):
        return
    upstream = HttpUpstream(HttpServer(name=name, url=reach.url, ca=reach.ca), None)
    try:
        await survey(upstream, "nobody")
    except CitywatchError:
        click.echo(f"                {name} does not answer without our credential")
    else:
        click.echo(f"WARNING         {name} answers without our credential: agents that reach it go around the gateway")
    finally:
        await upstream.close()
