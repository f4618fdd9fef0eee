"""`citywatch blast`: all that an item, a call or an agent touched since it came in."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from citywatch.core.call import Effect
from citywatch.core.enforce.context import ANY_OBJECT
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.spread import Touch
    from citywatch.service.blast import Found

SHORT = 12
WIDTH = 80


def register(cli: click.Group) -> None:
    cli.add_command(blast)


@click.command()
@click.argument("what")
@click.option("--since", type=click.IntRange(0), default=0, show_default=True, help="Of an agent: from this entry on.")
@click.option("--all", "everything", is_flag=True, help="Show the reads and the refused calls one by one too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, all but ASCII escaped.")
@click.pass_obj
def blast(file: Path, what: str, since: int, everything: bool, as_json: bool) -> None:
    """Show all that an item, a call, a task or an agent touched since, in other agents too.

    WHAT is an agent's name, the id of a call (it and its reply) or of a task, or the digest of an item. The answer
    names too much rather than too little: whoever held the item may have put it into each later call. What the
    manifest declares to only read is taken to write nothing.
    """
    place = read_place(file)

    async def run() -> tuple[Found, tuple[Touch, ...]]:
        from citywatch.main.assembly import load_rules, open_city
        from citywatch.main.replay import rebuild
        from citywatch.service.blast import blast as spread
        from citywatch.service.blast import find_roots

        async with open_city(place) as city:
            rules = await load_rules(place.settings, city.store, city.roots())
            found = await find_roots(city.store, what, place.settings.trust_domain, since)
            return found, await spread(city.store, rules, found.roots, rebuild)

    found, touches = asyncio.run(run())
    if as_json:
        told = {"from": found.told, "counts": counts(touches), "touched": msgspec.to_builtins(touches)}
        click.echo(json.dumps(told, separators=(",", ":")))
        return
    for line in lines(found, touches, everything):
        click.echo(line)


def counts(touches: tuple[Touch, ...]) -> dict[str, int]:
    """How many of each: the numbers to tell the others."""
    kinds = Counter(one.kind.value for one in touches)
    calls = [one for one in touches if one.kind == "call"]
    acted = [one for one in calls if one.decision == "allow" and one.effect != Effect.READ.value]
    return {
        "agents": len({one.name for one in touches if one.kind == "context"}),
        "contexts": kinds["context"],
        "calls": len(calls),
        "calls_let_through_with_an_effect": len(acted),
        "reads_let_through": sum(one.decision == "allow" and one.effect == Effect.READ.value for one in calls),
        "calls_asked": sum(one.decision == "ask" for one in calls),
        "calls_denied": sum(one.decision == "deny" for one in calls),
        "answers_to_servers": kinds["answer"],
        "objects_written": kinds["object"],
        "parties_made_known": kinds["party"],
        "servers": len({one.server for one in touches if one.kind == "object"}),
    }


def lines(found: Found, touches: tuple[Touch, ...], everything: bool = False) -> Iterator[str]:
    """A tree of causes for a terminal. All of it ASCII."""
    for told in found.told:
        yield f"from {_shown(told)}"
    yield "  " + ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts(touches).items() if number)
    if not touches:
        yield "  nothing was touched"
    yield ""
    below: dict[int, list[int]] = {}
    for number, one in enumerate(touches):
        below.setdefault(one.by, []).append(number)
    pending = [(number, 0) for number in reversed(below.get(-1, []))]
    while pending:
        number, depth = pending.pop()
        one, children = touches[number], below.get(number, [])
        yield f"{'  ' * depth}{_line(one)}"
        shown = [
            child for child in children if everything or touches[child].kind != "call" or _acted(touches, child, below)
        ]
        folded = Counter(_folded(touches[child]) for child in children if child not in set(shown))
        for what, count in sorted(folded.items()):
            yield f"{'  ' * (depth + 1)}{count} {what}"
        pending += [(child, depth + 1) for child in reversed(shown)]


def _acted(touches: tuple[Touch, ...], number: int, below: dict[int, list[int]]) -> bool:
    """Whether a call is worth a line of its own: it had an effect, or something came of it."""
    one = touches[number]
    return bool(below.get(number)) or (one.decision == "allow" and one.effect != Effect.READ.value)


def _folded(one: Touch) -> str:
    return (
        "read let through"
        if one.decision == "allow"
        else f"call {'asked about' if one.decision == 'ask' else 'denied'}"
    )


def _line(one: Touch) -> str:
    where = f"entry {one.index}  {_when(one.at)}"
    if one.kind == "context":
        return f"context of {_shown(one.name.rpartition('/')[2])} (key {_shown(one.key[:SHORT])})  {where}"
    if one.kind == "object":
        thing = {"": "something", ANY_OBJECT: "what replies show that name no object"}.get(
            one.name, f"object {_shown(one.name)}"
        )
        return f"wrote {thing} of {_shown(one.server)}  {where}"
    if one.kind == "party" and not one.name:
        return f"made somebody known by {_shown(one.server)}; nobody can say whom any more  {where}"
    if one.kind == "party":
        party, _, form = one.name.partition("\n")
        return f"made known in `{_shown(party)}`: {_shown(form.partition(':')[2] or form.removeprefix('='))}  {where}"
    if one.kind == "answer":
        return f"answered {_shown(one.name)}  {where}"
    said = {"allow": "let through", "ask": "asked about", "deny": "denied"}[one.decision]
    return f"call {one.call[:SHORT]} {_shown(one.name)} ({one.effect}) {said}  {where}"


def _shown(text: str) -> str:
    """Whatever an agent, a server or a stranger wrote, with nothing in it that a terminal obeys."""
    told = json.dumps(text)[1:-1]
    return told if len(told) <= WIDTH else f"{told[:WIDTH]}..."


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
