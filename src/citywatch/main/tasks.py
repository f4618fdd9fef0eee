"""`citywatch task` and `citywatch tickets`: what people ask of agents, and what agents must ask of people."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import parse_duration
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.approvals.ticket import Ticket


MAX_HOLD_MS = 24 * 3_600_000


def register(cli: click.Group) -> None:
    cli.add_command(task)
    cli.add_command(tickets)


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
    whole (`citywatch grant hand-on`).
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
                link = await grants_of(city).root(started, left, ttl, depth, operator())
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


@click.group()
def tickets() -> None:
    """See which calls wait for a person, and answer them."""


@tickets.command("list")
@click.pass_obj
def list_tickets(file: Path) -> None:
    """Show the calls that wait for an answer, the oldest first."""
    from citywatch.main.assembly import open_city
    from citywatch.service.tickets import Tickets

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            waiting = await Tickets(store=city.store, clock=city.clock, replica=city.replica.name).pending()
        for one in waiting:
            click.echo(f"{one.id}  {_agent(one)} → {_tool(one)}  asked {_when(one.asked)}{_of(one)}")
        if not waiting:
            click.echo("nothing waits for an answer")

    asyncio.run(run())


@tickets.command()
@click.argument("ticket")
@click.pass_obj
def show(file: Path, ticket: str) -> None:
    """Show one call as it would be sent, and which of its arguments nobody entitled supplied."""
    from citywatch.main.assembly import open_city
    from citywatch.main.replay import find_decided, rebuild
    from citywatch.service.tickets import Tickets

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await Tickets(store=city.store, clock=city.clock, replica=city.replica.name).find(ticket)
            index, decided = await find_decided(city, found.call)
            payload = await city.store.payload(index)
        click.echo(f"{found.id}  {found.state}  asked {_when(found.asked)}, expires {_when(found.expires)}")
        if found.of is not None:
            click.echo(f"to be approved by {' or '.join(found.of) or 'nobody: no principal may steer this act'}")
        click.echo(f"{_agent(found)} wants {_tool(found)} with")
        if payload is None:
            click.echo("  (the payload was erased: this cannot be inspected, and should not be approved)")
        else:
            for name, value in rebuild(decided, payload.body).arguments.items():
                click.echo(f"  {json.dumps(name)}: {json.dumps(value)}")
        for line in found.why.split("; "):
            click.echo(f"  ! {json.dumps(line)[1:-1]}")
        for line in advice_lines(found):
            click.echo(line)

    asyncio.run(run())


@tickets.command()
@click.argument("ticket")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--as", "principal", default="", help="In whose name: a name under `principals:`.")
@click.option("--for", "hold", default="", metavar="TIME", help="For how long also calls that differ in words alone.")
@click.pass_obj
def approve(file: Path, ticket: str, reason: str, principal: str, hold: str) -> None:
    """Let exactly this call through, once; the agent sends it again.

    An irreversible act towards somebody whom nobody named is approved by a principal whose task it is, with `--as`.
    With `--for 2h` the answer holds for two hours, for each call with the same arguments but for words that are carried
    along, and with no link or account in them that was not shown.
    """
    try:
        hold_ms = parse_duration(hold) if hold else 0
    except Malformed as fault:
        raise click.UsageError(f"--for: {fault}") from None
    if hold_ms > MAX_HOLD_MS:
        raise click.UsageError("--for: at most 1d")
    _answer(file, ticket, True, reason, principal, hold_ms)


@tickets.command()
@click.argument("ticket")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def deny(file: Path, ticket: str, reason: str) -> None:
    """Refuse this call, and this act on the same values however they are written, until its ticket expires."""
    _answer(file, ticket, False, reason)


def _answer(file: Path, ticket: str, yes: bool, reason: str, principal: str = "", hold_ms: int = 0) -> None:
    from citywatch.main.assembly import open_city, operator
    from citywatch.service.tickets import Tickets

    place = read_place(file)
    if principal and principal not in place.settings.principals:
        raise click.UsageError(f"--as: there is no principal `{principal}` in {file}")
    if yes and place.settings.people and not place.settings.approvals.unsafe_unsigned:
        raise Malformed("where the file names people a yes is signed, and this one would not be")

    async def run() -> None:
        async with open_city(place) as city:
            answered = await Tickets(store=city.store, clock=city.clock, replica=city.replica.name).answer(
                ticket, yes, operator(), reason, principal=principal, hold_ms=hold_ms
            )
        click.echo(f"{answered.id} {answered.state}")

    asyncio.run(run())


def advice_lines(ticket: Ticket) -> list[str]:
    """What a scan saw, as lines; quoted and escaped, for paths have names of members that a third party can choose."""
    return [f"  ? {json.dumps(line)}" for line in ticket.advice]


def _agent(ticket: Ticket) -> str:
    return ticket.agent.rpartition("/")[2]


def _of(ticket: Ticket) -> str:
    return "" if ticket.of is None else f", for {' or '.join(ticket.of) or 'nobody'} to approve"


def _tool(ticket: Ticket) -> str:
    """A server chose this name: shown as JSON, in ASCII."""
    return json.dumps(f"{ticket.server}/{ticket.tool}")[1:-1]


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
