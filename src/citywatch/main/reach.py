"""`citywatch reach`: all that a hijacked agent could do unasked, as a list and a number."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.reach import Row
    from citywatch.service.reaching import Reached

WIDTH = 60
EFFECTS = ("irreversible", "write", "read")


def register(cli: click.Group) -> None:
    cli.add_command(reach)


@click.command()
@click.argument("agent")
@click.option("--context", "in_context", is_flag=True, help="From its context as it is, not from a fresh one.")
@click.option("--task", "prompt", help="From a fresh context with this prompt.")
@click.option("--as", "principal", help="Whose prompt that is: a name under `principals:`.")
@click.option("--plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The plan of that task.")
@click.option("--max", "most", type=click.IntRange(0), help="Exit with 1 if more than this many can be reached.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, all but ASCII escaped.")
@click.pass_obj
def reach(
    file: Path,
    agent: str,
    in_context: bool,
    prompt: str | None,
    principal: str | None,
    plan: Path | None,
    most: int | None,
    as_json: bool,
) -> None:
    """List every (act, destination, data) that an agent could reach unasked, were its model hijacked.

    Through the agents that it can speak to as well (`agent` under `peers`), and those that they can: a hijacked agent
    hijacks whoever listens. The number counts all of it.

    Asked of the gates that decide every call, under the policies, the configuration and the approvals of now; no
    gateway has to run. It names too much rather than too little. Without an option: from a fresh context that has read
    one stranger's text, and a principal who named nothing.
    """
    if (prompt is None) != (principal is None) or (plan is not None and prompt is None):
        raise click.UsageError("--task and --as go together, and --plan goes with them")
    if in_context and prompt is not None:
        raise click.UsageError("a context as it is, or a fresh one with a task: not both")
    place = read_place(file)
    prompts = () if prompt is None or principal is None else ((principal, prompt),)

    async def run() -> Reached:
        from citywatch.main.assembly import load_rules, open_city
        from citywatch.main.plans import read_plan
        from citywatch.service.reaching import reach_actual, reach_fresh, reach_through

        contract = None if plan is None else read_plan(plan)
        async with open_city(place) as city:
            rules, now = await load_rules(place.settings, city.store), city.clock.now_ms()

            async def asked(name: str) -> Reached:
                if in_context:
                    return await reach_actual(city.store, rules, name, now)
                held = contract if name == agent else None  # who is spoken to is held to no plan of somebody else's
                return await reach_fresh(city.store, rules, name, now, prompts, held)

            return await reach_through(rules, agent, await asked(agent), asked)

    from citywatch.core.enforce.reach import rows

    found = asyncio.run(run())
    listed = rows(found.acts)
    through = [(one.path, rows(one.acts)) for one in found.through]
    count = len(listed) + sum(len(more) for _, more in through)
    observed = place.settings.observe
    if observed:
        click.echo("citywatch: `unsafe_observe` is on: all refusals but a few are let through, listed or not", err=True)
    if as_json:
        told = {"agent": agent, "premise": found.premise, "count": count, "rows": msgspec.to_builtins(listed)}
        if through:
            told["through"] = [{"path": path, "rows": msgspec.to_builtins(more)} for path, more in through]
        click.echo(json.dumps(told, separators=(",", ":")))
    else:
        for line in lines(agent, found.premise, listed):
            click.echo(line)
        for path, more in through:
            click.echo(f"\nthrough {' -> '.join(_shown(one) for one in path)}, {len(more)} more")
            for line in tabled(more):
                click.echo(line)
    if most is not None and (observed or count > most):  # a gate that enforces nothing is no gate
        if not observed:
            click.echo(f"citywatch: {count} can be reached, more than {most}", err=True)
        raise SystemExit(1)


def lines(agent: str, premise: str, listed: tuple[Row, ...]) -> Iterator[str]:
    """The list for a terminal, what cannot be taken back first. All of it ASCII."""
    counted = Counter(row.effect for row in listed)
    yield f"{_shown(agent)}, hijacked, reaches {len(listed)} (act, destination, data) unasked: " + (
        ", ".join(f"{counted[effect]} {effect}" for effect in EFFECTS)
    )
    yield f"from {_shown(premise)}"
    yield from tabled(listed)


def tabled(listed: tuple[Row, ...]) -> Iterator[str]:
    """Rows as tables, one for each effect."""
    for effect in EFFECTS:
        table = [_cells(row) for row in listed if row.effect == effect]
        if table:
            yield ""
            yield effect
        widths = [max((len(cells[column]) for cells in table), default=0) for column in range(2)]
        for act, where, data in table:
            yield f"  {act:<{widths[0]}}  {where:<{widths[1]}}  {data}".rstrip()


def _cells(row: Row) -> tuple[str, str, str]:
    where = f"{_shown(row.argument)}: {_shown(row.way)}" if row.argument else "names nobody"
    data = f"what {_shown(row.data)} may see" + ("  (if its arguments satisfy a policy)" if row.conditional else "")
    return _shown(row.act), where, data


def _shown(text: str) -> str:
    """A server chose these names: shown as JSON, in ASCII."""
    told = json.dumps(text)[1:-1]
    return told if len(told) <= WIDTH * 2 else f"{told[: WIDTH * 2]}..."
