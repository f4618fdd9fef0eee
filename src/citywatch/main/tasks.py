"""`citywatch task`: what people ask of agents."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from citywatch.core.errors import Malformed
from citywatch.core.names import parse_domain
from citywatch.main.place import read_place


def register(cli: click.Group) -> None:
    cli.add_command(task)


@click.group()
def task() -> None:
    """Give agents tasks in a person's name."""


@task.command()
@click.argument("agent")
@click.option("--as", "principal", required=True, help="Whose words these are: a name under `principals:`.")
@click.option("--plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Hold the agent to this.")
@click.option("--template", metavar="NAME", help="Hold the agent to this template of `plan_templates:`, filled in.")
@click.option("--with", "values", multiple=True, metavar="NAME=VALUE", help="What a parameter of the template is.")
@click.option("--grant", type=click.Path(path_type=Path), help="Root a chain of grants, and write it to this file.")
@click.option(
    "--caveats", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON: what the grant leaves."
)
@click.option("--for", "hold", default="1h", show_default=True, metavar="TIME", help="How long the grant holds.")
@click.option("--depth", type=click.IntRange(0, 7), default=3, show_default=True, help="How often it may be handed on.")
@click.option(
    "--audience", multiple=True, metavar="DOMAIN", help="A trust domain that may believe the grant beside ours."
)
@click.option("--calls", type=click.IntRange(1), help="How many calls and messages may come of it, whoever makes them.")
@click.argument("prompt", required=False)
@click.pass_obj
def start(
    file: Path,
    agent: str,
    principal: str,
    plan: Path | None,
    template: str | None,
    values: tuple[str, ...],
    grant: Path | None,
    caveats: Path | None,
    hold: str,
    depth: int,
    audience: tuple[str, ...],
    calls: int | None,
    prompt: str | None,
) -> None:
    """Put a principal's own words into an agent's context: only they let values steer acts unasked.

    Without PROMPT they are read from standard input. A plan (YAML or JSON) says which acts the task is made of: all
    others are asked about, and what it binds needs no other source. It holds until it expires; until then another task
    can only narrow it.

    With `--calls`, or `task_calls` under `limits`, all calls and messages that descend from the task draw on one
    budget: those of the agents that it is handed on to, or that are spoken to for it, as well.

    With `--grant` the agent also gets a grant to act for this task, which it can hand on to other agents, in part or
    whole (`citywatch grant hand-on`). It counts in this trust domain; with `--audience` in another one too, if that one
    lets ours speak for this principal.
    """
    from citywatch.adapters.weights import content_model
    from citywatch.core.plan.template import instantiate
    from citywatch.main.assembly import load_rules, open_city, operator
    from citywatch.main.grants import grants_of, hold_ms, read_caveats, write_links
    from citywatch.main.plans import read_plan, read_template, read_values
    from citywatch.service.tasks import Tasks

    place = read_place(file)
    if template is not None and plan is not None:
        raise Malformed("a task has one plan: give `--plan` or `--template`")
    if values and template is None:
        raise Malformed("`--with` fills in a template: name it with `--template`")
    if caveats is not None and grant is None:
        raise Malformed("`--caveats` are a grant's: say where to write it with `--grant`")
    if audience and grant is None:
        raise Malformed("`--audience` is a grant's: say where to write it with `--grant`")
    beside = frozenset(parse_domain(one) for one in audience)
    left, ttl = read_caveats(caveats), hold_ms(hold)
    contract = None if plan is None else read_plan(plan)
    if template is not None:
        contract = instantiate(read_template(place.settings.plan_templates, template), read_values(values))
    words = sys.stdin.read() if prompt is None else prompt

    async def run() -> None:
        async with open_city(place) as city:
            rules = await load_rules(place.settings, city.store)
            tasks = Tasks(
                store=city.store,
                clock=city.clock,
                chance=city.chance,
                replica=city.replica.name,
                rules=rules,
                model=content_model(),
            )
            most = place.settings.limits.task_calls if calls is None else calls
            started = await tasks.start(principal, agent, words, operator(), contract, template, most)
            click.echo(f"task {started}")
            holds = await tasks.holds(agent, started)
            if holds is not None:
                click.echo(f"held to plan {holds.digest}")
                click.echo(f"{holds.kind.value} plan, assumes {holds.kind.assumes}")
            if grant is not None:
                link = await grants_of(city).root(started, left, ttl, depth, operator(), beside)
                write_links(grant, [link])
                click.echo(f"wrote {grant}: a grant for {agent}'s newest key")

    asyncio.run(run())


@task.command()
@click.argument("task_id", metavar="TASK")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def end(file: Path, task_id: str, reason: str) -> None:
    """Say that a task is over: whoever names it from now on is refused.

    What was said in it goes on steering an agent that does not keep its tasks apart.
    """
    from citywatch.main.assembly import load_rules, open_city, operator
    from citywatch.service.tasks import Tasks

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            tasks = Tasks(
                store=city.store,
                clock=city.clock,
                chance=city.chance,
                replica=city.replica.name,
                rules=await load_rules(place.settings, city.store),
            )
            click.echo(f"task {task_id} of {(await tasks.end(task_id, operator(), reason)).rpartition('/')[2]} is over")

    asyncio.run(run())
