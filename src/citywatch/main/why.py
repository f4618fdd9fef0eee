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
from citywatch.core.errors import ADVICE, Code, Refused
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.core.enforce.explain import Argument, Explanation, Seen
    from citywatch.core.enforce.remedies import Remedy
    from citywatch.core.events import Decided
    from citywatch.main.assembly import City
    from citywatch.service.recorded import Then

WIDTH = 64
SHORT = 12
"""So much of a call's id names it, here and as a ticket."""
POLICY_CODES = (Code.NO_PERMIT, Code.FORBIDDEN, Code.POLICY_ERROR)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """All that is told of one decision. `again` is same, differs, unknown or unverifiable; `notes` say why."""

    index: int
    decided: Decided
    again: str
    notes: tuple[str, ...]
    explanation: Explanation | None = None
    remedies: tuple[Remedy, ...] = ()
    policies: tuple[str, ...] = ()


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
        from citywatch.main.assembly import open_city
        from citywatch.main.replay import find_named

        async with open_city(place) as city:
            return await _tell(city, *await find_named(city, decision))

    told = asyncio.run(run())
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(told), separators=(",", ":")))
        return
    for line in lines(told):
        click.echo(line)


async def _tell(city: City, index: int, decided: Decided) -> Told:
    from citywatch.core.enforce.explain import explain
    from citywatch.core.enforce.remedies import Trial
    from citywatch.main.assembly import load_rules
    from citywatch.main.replay import rebuild
    from citywatch.service.hindsight import agrees, then

    payload = await city.store.payload(index)
    if payload is None:
        note = "what was asked was erased, or never kept: only what the entry says is left"
        return Told(index=index, decided=decided, again="unverifiable", notes=(note,))
    rules = await load_rules(city.settings, city.store, city.roots())
    past = await then(city.store, rules, index, decided, rebuild(decided, payload.body))
    at = (past.call, past.authority, past.known, past.need, decided.at)
    explained = explain(*at)
    same = agrees(decided, explained.decision)
    return Told(
        index=index,
        decided=decided,
        again="same" if same else "unknown" if past.missing else "differs",
        notes=past.missing,
        explanation=explained,
        remedies=() if decided.verdict == "allow" else tuple(Trial(*at).remedies()),
        policies=_policies(past, decided),
    )


def _policies(past: Then, decided: Decided) -> tuple[str, ...]:
    """What the policies said, where they were what stopped it."""
    from citywatch.core.enforce.facts import facts_of
    from citywatch.core.policy.why import explain as explain_policies

    if decided.code not in POLICY_CODES:
        return ()
    try:
        facts = facts_of(past.call, past.authority, past.known.rules, decided.at, past.known.spread.count)
    except Refused as refusal:
        return (f"refused before any policy was asked: {refusal.code.value}: {refusal.detail}",)
    return explain_policies(past.known.rules.policies, facts)


# -- for a person ------------------------------------------------------------------------------------------------------


def lines(told: Told) -> Iterator[str]:
    """The explanation for a terminal: what happened, where each argument came from, what to do. All of it ASCII."""
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


VERDICTS = {"allow": "let through", "ask": "a person must be asked", "deny": "refused"}


def _verdict(one: Decided) -> str:
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
    if told.decided.verdict == "allow":
        return
    yield ""
    yield "What would let it pass. First ask whether it should: the model may have been talked into it."
    for remedy in told.remedies:
        yield f"  - {_remedy(remedy, told.decided)}"
    if not told.remedies:
        advice = OPERATOR.get(told.decided.code or "") or _advice(told.decided.code)
        yield f"  - {advice}"
    elif told.again != "unverifiable":
        yield "  Each was tried against the same gates, one at a time."


OPERATOR = {
    Code.NO_PERMIT.value: "a policy that permits it: the permits that came closest are above (`citywatch policy test`)",
    Code.FORBIDDEN.value: "nothing but another policy: a forbid that matches always denies",
    Code.TOOL_NOT_APPROVED.value: "`citywatch tools approve`, if the definition is what you want agents to use",
    Code.TOOL_CHANGED.value: "`citywatch tools diff` shows what changed; `citywatch tools approve` accepts it",
    Code.BUDGET_SPENT.value: "a larger budget for this tool in the configuration",
    Code.HOPS_EXCEEDED.value: "fewer agents in the row, a new task, or a higher `max_hops` under `limits`",
    Code.RATE_EXCEEDED.value: "time, or a larger budget for this tool in the configuration",
    Code.OUTCOME_UNKNOWN.value: "`citywatch calls lost`, then `citywatch calls resolve` once you know what happened",
    Code.ALREADY_HAPPENED.value: "nothing for 24 hours: an identical call did happen",
    Code.NOT_A_READER.value: "an agent that has not read this, or a tool for those who may see it",
    Code.APPROVAL_REQUIRED.value: "a person's yes to exactly this call: `citywatch tickets list`",
    Code.SUSPECTED_INJECTION.value: "a principal who names the value in a prompt: their own words are never suspected",
    Code.OUT_OF_PLAN.value: "another plan of the person whose task it is, once this one is over",
}


def _advice(code: str | None) -> str:
    return ADVICE[Code(code)] if code in set(Code) else "nothing that this version knows of"


def _remedy(one: Remedy, decided: Decided) -> str:
    values = " and ".join(_shown(value) for value in one.values)
    agent, subject = _agent(decided), _shown(one.subject)
    return {
        "named": f"{subject} names {values} in a task's prompt: `citywatch task start {agent} --as {subject} ...`",
        "approved": f"a yes to this very call: `citywatch tickets show {decided.call[:SHORT]}` says who may give it",
        "known": f"{values} among the known parties `{subject}`: listed in a reply whose manifest feeds that set",
        "vouched": f"declare {subject} `trusted`, if only the server itself can write there",
        "entitled": f"add `{values}` to `principals.{subject}.may`, if their words may steer it",
        "unplanned": f"a plan of {subject}'s that has this as a step, or none: the plan alone stops it",
        "audience": f"declare the audience of {subject} as {values}, if nobody else sees what is sent there",
    }[one.kind]


def _checked(told: Told) -> Iterator[str]:
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
