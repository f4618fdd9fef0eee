"""`citywatch policy`: hold the policies against what exists, try them, and ask why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.rules import Rules
    from citywatch.core.policy.facts import Facts


def register(cli: click.Group) -> None:
    cli.add_command(policy)


@click.group()
def policy() -> None:
    """Check the policies, test them, explain a decision."""


@policy.command()
@click.pass_obj
def check(file: Path) -> None:
    """Fail for every policy that is wrong, can never match, or reads what no call has."""
    from citywatch.core.policy.check import check_policies

    rules = asyncio.run(_rules(read_place(file)))
    mistakes = check_policies(rules.policies.policies, rules.world)
    for mistake in mistakes:
        click.echo(str(mistake), err=True)
    if mistakes:
        raise SystemExit(1)
    count = len(rules.policies.policies)
    click.echo(f"{count} policies fit {len(rules.world.agents)} agents and {len(rules.world.tools)} tools")
    for name in rules.policies.fallen_back:
        click.echo(f"note: `{name}` is beyond our compiler: cedarpy evaluates it, which is right and slower")


@policy.command()
@click.pass_obj
def test(file: Path) -> None:
    """Run the tables of cases (`*.test.yaml`) that are kept beside the policies."""
    from citywatch.core.policy.tables import run_tables, untested

    place = read_place(file)
    rules = asyncio.run(_rules(place))
    outcomes = run_tables(read_tables(place), rules.policies, rules.world)
    for outcome in outcomes:
        if not outcome.passed:
            click.echo(f"FAILED  {outcome.file} case {outcome.number}: {outcome.case}\n        got {outcome.got}")
            for line in outcome.why:
                click.echo(f"        {line}")
    passed = sum(outcome.passed for outcome in outcomes)
    for name in untested(outcomes, rules.policies):
        click.echo(f"note: no case is decided by `{name}`")
    click.echo(f"{passed} passed, {len(outcomes) - passed} failed")
    if passed != len(outcomes):
        raise SystemExit(1)


@policy.command()
@click.argument("call", required=False)
@click.option("--agent", help="Ask about a call that nobody made: by this agent,")
@click.option("--tool", help="of this tool (SERVER/TOOL),")
@click.option("--arguments", default="{}", show_default=True, help="with these arguments (a JSON object).")
@click.pass_obj
def why(file: Path, call: str | None, agent: str | None, tool: str | None, arguments: str) -> None:
    """Explain in words how the policies of today decide a call: one in the log (its id), or one you describe."""
    place = read_place(file)
    if call is not None:
        asyncio.run(_why_logged(place, call))
    elif agent and tool:
        asyncio.run(_why_described(place, agent, tool, arguments))
    else:
        raise click.UsageError("name a call's id, or describe a call with --agent and --tool")


async def _rules(place: Place) -> Rules:
    from citywatch.main.assembly import load_rules, open_city

    async with open_city(place) as city:
        return await load_rules(place.settings, city.store)


def read_tables(place: Place) -> list[Any]:
    import yaml

    from citywatch.core.policy.tables import parse_table

    folder = Path(place.settings.policies)
    tables = []
    for path in sorted(folder.glob("*.test.yaml")):
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as failure:
            raise Malformed(f"`{path}` cannot be read: {failure}") from None
        tables.append(parse_table(path.name, document))
    return tables


async def _why_described(place: Place, agent: str, tool: str, arguments: str) -> None:
    from citywatch.core.policy.facts import SERVER, Facts, tool_context
    from citywatch.core.policy.values import Uid
    from citywatch.main.assembly import load_rules, open_city

    async with open_city(place) as city:
        rules, now = await load_rules(place.settings, city.store), city.clock.now_ms()
    server, _, name = tool.partition("/")
    approved = rules.tools.get((server, name))
    if approved is None:
        raise Malformed(f"`{tool}` is not an approved tool: `citywatch tools approve`")
    try:
        given = json.loads(arguments)
    except ValueError as failure:
        raise Malformed(f"the arguments are not JSON: {failure}") from None
    facts = Facts(
        rules.agent(str(place.settings.agent_id(agent)), agent),
        approved.action,
        rules.world.entities[Uid(SERVER, server)],
        tool_context(name, approved.arguments.read(given), now),
    )
    _tell(rules, facts)


async def _why_logged(place: Place, call: str) -> None:
    """Take a call up from the log as it was judged, and decide it again under the rules of today."""
    from citywatch.core.enforce.facts import facts_of
    from citywatch.core.enforce.verify import Authority
    from citywatch.main.assembly import load_rules, open_city
    from citywatch.main.replay import find_decided, rebuild

    async with open_city(place) as city:
        rules = await load_rules(place.settings, city.store)
        index, decided = await find_decided(city, call)
        payload = await city.store.payload(index)
    said = f"{decided.decision}, {decided.code}" if decided.code else decided.decision
    click.echo(f"entry {index}: {decided.agent} asked {decided.server} for {decided.method}: {said}")
    for line in (*decided.sources, *decided.detail.split("; ")):
        if line:
            click.echo(f"  {json.dumps(line)[1:-1]}")
    if decided.code == Code.APPROVAL_REQUIRED.value:
        click.echo(
            "  it would pass if a principal who may steer this act named these values, or by `citywatch tickets`"
        )
    if payload is None:
        click.echo("the payload was erased, or never kept: what was asked can no longer be judged again")
        return
    if decided.policy != rules.policies.digest:
        click.echo("note: the policies have changed since; this is what today's say")
    name = decided.agent.rpartition("/")[2]
    authority = Authority(agent=decided.agent, name=name, key=decided.key, entity=rules.agent(decided.agent, name))
    try:
        facts = facts_of(rebuild(decided, payload.body), authority, rules, decided.at, len(decided.carriers))
    except Refused as refusal:
        click.echo(f"refused before any policy was asked: {refusal.code.value}: {refusal.detail}")
        return
    _tell(rules, facts)


def _tell(rules: Rules, facts: Facts) -> None:
    from citywatch.core.policy.why import explain

    for line in explain(rules.policies, facts):
        click.echo(line)
