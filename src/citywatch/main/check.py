"""`citywatch check`: see what would run, and whether it would protect anything.

Decides no call. INVARIANT: what protects nothing fails. Being sure of nothing counts as nothing: a server that does not
answer is not protected, nor is one that anybody may ask, unless its operator vouches for the network around it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from citywatch.core.errors import CitywatchError, Malformed
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.rules import Rules
    from citywatch.core.manifest import ToolManifest
    from citywatch.core.names import AgentId
    from citywatch.main.assembly import City
    from citywatch.service.ports import Upstream
    from citywatch.service.tools import Approved


def register(cli: click.Group) -> None:
    cli.add_command(check)


@click.command()
@click.option(
    "--closed",
    multiple=True,
    metavar="SERVER",
    help="You vouch that nobody but the gateway reaches this server, whatever it answers here.",
)
@click.pass_obj
def check(file: Path, closed: tuple[str, ...]) -> None:
    """Say what would run and what it would protect; exit with 1 if nothing would be protected."""
    place = read_place(file)
    for name in closed:
        if name not in place.settings.servers:
            raise Malformed(f"`--closed {name}`: no such server is configured")
    problems = asyncio.run(_check(place, closed))
    for problem in problems:
        click.echo(f"problem         {problem}", err=True)
    raise SystemExit(1 if problems else 0)


async def _check(place: Place, closed: Sequence[str]) -> list[str]:
    from citywatch.main.assembly import open_city
    from citywatch.main.pins import Pins
    from citywatch.main.upstreams import build_upstreams
    from citywatch.service.tools import approvals

    settings = place.settings
    problems: list[str] = []
    for listen in settings.listen:
        click.echo(f"listens on      {listen}")
    for name in settings.unsafe:
        click.echo(f"UNSAFE          {name}")
    if settings.observe:
        click.echo("WARNING         `unsafe_observe` is on: nothing is enforced, calls are only judged and logged")
    if settings.principals:
        click.echo(f"principals      {', '.join(settings.principals)}")
    else:
        click.echo(
            "WARNING         no `principals` are declared: information flow is not enforced, "
            "and whatever an agent reads may choose whom its permitted calls reach"
        )
    problems += _templates(settings.plan_templates)
    async with open_city(place) as city:
        agents = [name for name, row in await city.admin.list_agents() if not row.revoked]
        click.echo(f"agents          {', '.join(agents) or 'none'}")
        if not agents:
            problems.append("no agent is registered: `citywatch agent add NAME`")
        problems += await _policies(city, agents)
        if not settings.servers and not settings.peers:
            problems.append("no server is configured: nothing would be protected")
        approved = await approvals(city.store)
        standings = set()
        for name, upstream in build_upstreams(place, Pins(city)).items():
            standings.add(await _server(city, name, upstream, approved, vouched=name in closed))
            problems += _tools(place, name, approved)
    if standings == {"silent"}:
        problems.append("no server answers: nothing can be said to be protected")
    elif standings and "closed" not in standings:
        problems.append("nothing would be protected: every server that answers is open to whoever reaches it")
    return problems


def _templates(folder: str | None) -> list[str]:
    """What is wrong with the plan templates; a folder without any is a mistake of somebody's."""
    from citywatch.main.plans import read_template, template_names

    if folder is None:
        return []
    problems, names = [], template_names(folder)
    for name in names:
        try:
            read_template(folder, name)
        except Malformed as failure:
            problems.append(str(failure))
    click.echo(f"plan templates  {', '.join(names) or 'none'}")
    return problems if names else [f"there is no *.yaml in `{folder}`: no task can be started with a template"]


async def _policies(city: City, agents: Iterable[str]) -> list[str]:
    """What is wrong with the policies, be it that they permit nobody anything."""
    from citywatch.core.enforce.needs import CARD
    from citywatch.core.plan.formula import Then
    from citywatch.core.policy.check import check_policies
    from citywatch.main.assembly import assumptions, load_rules
    from citywatch.main.mesh import told
    from citywatch.service.tools import approvals

    try:
        rules = await load_rules(city.settings, city.store)
    except CitywatchError as failure:
        return [f"the policies or rules cannot be used:\n{failure}"]
    click.echo(f"policies        {len(rules.policies.policies)}, digest {rules.policies.digest[:16]}")
    for one in assumptions(rules):
        click.echo(f"assumes         {one}")
    if rules.temporal:
        click.echo(f"temporal rules  {len(rules.temporal)}, {', '.join(one.rule.name for one in rules.temporal[:8])}")
    if rules.asks:
        asking = [one.rule.name for one in rules.temporal if one.rule.then is Then.ASK]
        about = "calls of tools and messages to agents" if rules.peers else "calls of tools"
        click.echo(f"asks people     about {about}, as {', '.join(asking[:8])} says")
    if rules.follows:
        click.echo("spread of text  is counted, because a policy or a rule asks for it")
    cards = {one.server for one in await approvals(city.store) if one.kind == CARD}
    for line in told(rules, cards):
        click.echo(line)
    for fallen in rules.policies.fallen_back:
        click.echo(f"                `{fallen}` is evaluated by cedarpy, which is slower")
    problems = [f"policy {mistake}" for mistake in check_policies(rules.policies.policies, rules.world)]
    if not _may_permit(rules, map(city.settings.agent_id, agents)):
        problems.append("no policy could ever permit an agent to call a tool: every call would be refused")
    return problems


def _may_permit(rules: Rules, agents: Iterable[AgentId]) -> bool:
    """Whether some tool could be permitted to somebody; before there are both, whether anything could."""
    from citywatch.core.policy.possible import possible

    asked = [
        possible(rules.policies, rules.agent(str(agent), agent.name), tool.action, rules.servers[name])
        for agent in agents
        for (name, _), tool in rules.tools.items()
    ]
    from citywatch.core.enforce.mesh import edges

    if asked:
        return any(asked) or bool(edges(rules))
    return any(policy.permits for policy in rules.policies.policies)


async def _server(city: City, name: str, upstream: Upstream, approved: Sequence[Approved], *, vouched: bool) -> str:
    """Say how a server stands; return whether it is `closed` to others, `open` to them or `silent`."""
    from citywatch.core.enforce.pinning import Standing
    from citywatch.main.asking import offered_by
    from citywatch.service.tools import compare

    tools = sum(1 for one in approved if (one.server, one.kind) == (name, "tool"))
    try:
        found, remark = await offered_by(city, name, upstream)
        offered = compare(name, found.definitions, approved)
    except CitywatchError as failure:
        click.echo(f"server          {name}: {tools} tools approved; it does not answer: {failure}")
        standing = "silent"
    else:
        waiting = sum(1 for one in offered if one.standing is not Standing.APPROVED)
        click.echo(f"server          {name}: {tools} tools approved, {waiting} definitions await approval")
        if remark:
            click.echo(f"                {remark}")
        standing = "closed"
    finally:
        await upstream.close()
    if await _is_open(city.place, name, vouched=vouched):
        return "open"
    return standing


async def _is_open(place: Place, name: str, *, vouched: bool) -> bool:
    """Ask a server without our credential: one that answers anybody can be reached around us."""
    from citywatch.adapters.upstream import HttpServer, HttpUpstream
    from citywatch.config import Http
    from citywatch.service.survey import granted

    reach = place.settings.servers[name].reach
    if not isinstance(reach, Http):
        return False  # a program talks to nobody but us
    upstream = HttpUpstream(HttpServer(name=name, url=reach.url, ca=reach.ca), None)
    try:
        answered = await granted(upstream, "nobody")
    finally:
        await upstream.close()
    if not answered:
        click.echo(f"                {name} does not answer without our credential")
        return False
    click.echo(f"WARNING         {name} answers without our credential: agents that reach it go around the gateway")
    click.echo(f"                (it answers {', '.join(answered)})")
    if vouched:
        click.echo(f"                you vouch that nobody but the gateway reaches {name}")
    return not vouched


def _tools(place: Place, name: str, approved: Sequence[Approved]) -> list[str]:
    """Say what the file does not say of a server's tools; it is a problem if none is approved."""
    declared = place.settings.servers[name].tools
    tools = sorted((one for one in approved if (one.server, one.kind) == (name, "tool")), key=lambda one: one.name)
    unsaid = [line for tool in tools for line in silence(name, tool.name, declared.get(tool.name), tool.definition)]
    for line in unsaid:
        click.echo(f"SILENT          {line}")
    if unsaid:
        click.echo(f"                draft what is missing: `citywatch manifest suggest {name}`")
    for tool in sorted(declared.keys() - {one.name for one in tools} if tools else ()):
        click.echo(f"                {name}/{_shown(tool)} is declared, and no tool of that name is approved")
    return [] if tools else [f"no tool of `{name}` is approved: `citywatch tools approve {name}`"]


def silence(server: str, tool: str, manifest: ToolManifest | None, definition: Mapping[str, Any]) -> Iterator[str]:
    """What the file does not say of a consequential tool, what that means, and where to say it: one line each."""
    from citywatch.core.enforce.arguments import silent
    from citywatch.core.enforce.places import places
    from citywatch.core.manifest import SILENT

    named, schema = _shown(tool), definition.get("inputSchema")
    unsaid = silent(manifest or SILENT, schema if isinstance(schema, dict) else {})
    where = f"servers.{server}.tools.{named}"
    if manifest is None:
        each = f", and as a destination each of {_listed(unsaid)}" if unsaid else ""
        yield f"{server}/{named} has no manifest: it counts as irreversible{each}; declare `{where}`"
    elif unsaid:
        one = "destination" if len(unsaid) == 1 else "destinations"
        yield (
            f"{server}/{named} has no role for {_listed(unsaid)}: what stands there counts as {one}; "
            f"give each a `role` under `{where}.parameters`"
        )
    if manifest is None or not isinstance(schema, dict):
        return
    offered = {top for one in places(schema) for top in one.tops}
    for name in manifest.parameters:
        if name not in offered and name.partition("[")[0].partition(".")[0] not in offered:
            yield f"{server}/{named} declares `{_shown(name)}`, which its approved definition does not have"


def _listed(places: Iterable[str]) -> str:
    return ", ".join(f"`{_shown(one)}`" for one in places)


def _shown(name: str) -> str:
    """A server's word, with nothing in it that a terminal obeys."""
    return json.dumps(name)[1:-1]
