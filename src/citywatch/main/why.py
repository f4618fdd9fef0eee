"""`citywatch why`: one decision of the log, explained to the person who has to deal with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from citywatch.core.call import Allow, Ask
from citywatch.core.errors import Code
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.explain import Argument, Explanation, Seen
    from citywatch.core.events import Decided
    from citywatch.service.telling import Told

WIDTH = 64


def register(cli: click.Group) -> None:
    cli.add_command(why)


@click.command()
@click.argument("decision")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, all but ASCII escaped.")
@click.pass_obj
def why(file: Path, decision: str, as_json: bool) -> None:
    """Explain a decision: which argument, from where, under which rule, and what would let it pass.

    DECISION is a call's id, a ticket, or the number of a log entry. The call is judged again as it was then; what the
    log no longer holds (an erased payload) is said to be unverifiable. This is for the operator: do not pass it on to
    the agent.
    """
    place = read_place(file)

    async def run() -> Told:
        from citywatch.main.assembly import load_rules, open_city
        from citywatch.main.replay import find_named, rebuild
        from citywatch.service.telling import tell

        async with open_city(place) as city:
            found = await find_named(city, decision)
            return await tell(city.store, await load_rules(city.settings, city.store, city.roots()), *found, rebuild)

    told = asyncio.run(run())
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(told), separators=(",", ":")))
        return
    for line in lines(told):
        click.echo(line)


# -- for a person ------------------------------------------------------------------------------------------------------


def lines(told: Told) -> Iterator[str]:
    """The explanation for a terminal: what happened, where each argument came from, what to do. All of it ASCII."""
    from citywatch.service.telling import POLICY_CODES

    one = told.decided
    act = f"{one.server}/{one.name}" if one.name else f"{one.server} {one.method}"
    yield f"{_when(one.at)}  entry {told.index}  call {one.call}"
    yield f"{_agent(one)} wanted {_shown(act)} ({one.effect}): {_verdict(one)}{_code(one)}"
    if one.via:
        yield f"for {_shown(' -> '.join(one.via))}" + (f", rooted in {_shown(one.rooted)}" if one.rooted else "")
    if one.carriers:
        before = ", ".join(_shown(name) for name in one.carriers[:-1])
        yield f"its text had come to {_agent(one)} from outside" + (
            f"; carried on before by {before}" if before else ""
        )
    yield ""
    explained = told.explanation
    if explained is None or told.again != "same":
        yield from _recorded(one)
    if explained is not None:
        yield from _arguments(explained)
        yield from _readers(one, explained)
        if explained.plan:
            yield f"  {_shown(explained.plan)}"
    if one.policies:
        spoke = "the policies that spoke" if one.code in POLICY_CODES else "permitted by"
        yield f"  {spoke}: {', '.join(_shown(name) for name in one.policies)}"
    for line in told.policies:
        yield f"  {_shown(line)}"
    yield from _next(told)
    yield ""
    yield from _checked(told)


def _verdict(one: Decided) -> str:
    from citywatch.service.telling import VERDICTS

    said = VERDICTS[one.verdict]
    return said if one.verdict == one.decision else f"{said}, were it enforced: it was only observed, and let through"


def _code(one: Decided) -> str:
    return f" ({one.code})" if one.code else ""


def _recorded(one: Decided) -> Iterator[str]:
    for line in (*one.sources, *one.detail.split("; ")):
        if line:
            yield f"  the entry  {_shown(line)}"


def _arguments(explained: Explanation) -> Iterator[str]:
    width = max((len(_shown(one.path)) for one in explained.arguments), default=0)
    for one in sorted(explained.arguments, key=lambda one: one.how is not None):
        mark = "ok" if one.how else "!!"
        said = f"let through as {one.how}" if one.how else "nobody who may steer this act supplied it"
        value = "" if one.value is None else _shown(one.value)
        yield f"  {mark} {_shown(one.path):<{width}}  {value}"
        yield f"     {'':<{width}}  {one.role}, {said}"
        for line in _places(one, explained):
            yield f"     {'':<{width}}  {line}"
    if explained.arguments:
        yield ""


def _places(one: Argument, explained: Explanation) -> Iterator[str]:
    for seen in one.seen:
        yield f"stands in  {_source(seen)} {_shown(seen.path)}[{seen.start}:{seen.end}]"
        yield f"           {_who(seen)}"
    if one.places > len(one.seen):
        yield f"           and in {one.places - len(one.seen)} places more"
    if one.seen or one.how is not None:
        return
    yield "stands nowhere in what the agent received: it was made up"
    for seen in explained.influences:
        yield f"           after it had read {_source(seen)}"


def _source(seen: Seen) -> str:
    from citywatch.service.telling import SHORT

    if seen.source.startswith("principal:"):
        return f"what {_shown(seen.source.partition(':')[2])} asked for at {_when(seen.at)} (task {seen.call[:SHORT]})"
    return f"{_shown(seen.source)} at {_when(seen.at)}" + (f" (call {seen.call[:SHORT]})" if seen.call else "")


def _who(seen: Seen) -> str:
    if seen.source.startswith("principal:"):
        return "their own words"
    if seen.vouched:
        return "the server's own field: the manifest vouches for it"
    origins = "anybody" if seen.origins is None else ", ".join(_shown(one) for one in seen.origins) or "nobody outside"
    return f"no manifest vouches for this field; it could be shaped by {origins}"


def _readers(one: Decided, explained: Explanation) -> Iterator[str]:
    if one.code != Code.NOT_A_READER.value:
        return
    yield f"  it would reach {', '.join(_shown(name) for name in explained.audience)}, who may not see all of"
    for seen in explained.secrets:
        readers = ", ".join(_shown(name) for name in seen.readers or ())
        yield f"     {_source(seen)}: for {readers + ' alone' if readers else 'nobody'}"
    yield ""


def _next(told: Told) -> Iterator[str]:
    from citywatch.service.telling import advice_of, remedy_of

    if told.decided.verdict == "allow":
        return
    yield ""
    yield "What would let it pass. First ask whether it should: the model may have been talked into it."
    for remedy in told.remedies:
        yield f"  - {remedy_of(remedy, told.decided, _shown)}"
    if not told.remedies:
        yield f"  - {advice_of(told.decided.code)}"
    elif told.again != "unverifiable":
        yield "  Each was tried against the same gates, one at a time."


def _checked(told: Told) -> Iterator[str]:
    from citywatch.service.telling import VERDICTS

    said = {
        "same": "judged again with the time and the rows of then: the same decision, in the same words",
        "unknown": "judged again, it comes out otherwise, and not all that it rested on is at hand:",
        "differs": "judged again with the time and the rows of then, it comes out OTHERWISE:",
        "unverifiable": "unverifiable:",
    }[told.again]
    yield said
    for note in told.notes:
        yield f"  {note}"
    if told.again in ("unknown", "differs") and told.explanation is not None:
        decision = told.explanation.decision
        if isinstance(decision, Allow):
            yield "  now: let through"
        else:
            verdict = VERDICTS["ask" if isinstance(decision, Ask) else "deny"]
            yield f"  now: {verdict} ({decision.reason.code.value}) {_shown(decision.reason.detail)}"


def _agent(decided: Decided) -> str:
    return decided.agent.rpartition("/")[2]


def _shown(value: Any) -> str:
    """Whatever an agent, a server or a stranger wrote, with nothing in it that a terminal obeys."""
    text = json.dumps(value)[1:-1] if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDTH * 2 else f"{text[: WIDTH * 2]}..."


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
