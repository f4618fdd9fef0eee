"""Tables of calls and the decisions they must get, kept beside the policies; `citywatch policy test` runs them.

    cases:
      - case: a small payment goes through
        agent: billing                    # a configured agent; or {name: temp, roles: [support], attributes: {…}}
        call: ledger/transfer             # or, with `server:`, mcp:resources/read or to_agent:roots/list
        peer: billing                     # instead of `call`: a message to this agent, or a2a:GetTask as `call`
        skill: refund                     # optional: what the message is for
        arguments: {amount: 50.00}        # of another method: its params; `name:` is the prompt or URI that it names
        now: "2026-11-22T10:00:00Z"       # optional: noon of 2026-01-01 without it
        spread: 3                         # optional: how many agents carried on what the arguments hold; nobody
        expect: allow                     # or deny
        by: [pay-small]                   # optional: exactly these policies
        code: forbidden                   # optional, for deny

Decides whether the policies do what was expected of them. INVARIANTS: a table without cases fails, and so does a run
without tables; arguments go through the same mapping as an agent's; an unknown key is a mistake, not a comment.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from citywatch.core.call import Allow, Decision, Deny, Direction, Reason
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.names import AgentId
from citywatch.core.policy.arguments import text_of
from citywatch.core.policy.cedar import Mistake, PolicyMistakes
from citywatch.core.policy.decide import Policies, decide
from citywatch.core.policy.extensions import parse_datetime
from citywatch.core.policy.facts import (
    ACTION,
    AGENT,
    PEER,
    PEER_ACTIONS,
    SEND_MESSAGE,
    SERVER,
    Entity,
    Facts,
    agent_entity,
    method_action,
    method_context,
    peer_context,
    tool_context,
)
from citywatch.core.policy.values import EvaluationError, Uid
from citywatch.core.policy.why import explain
from citywatch.core.policy.world import World

_DIRECTIONS = {"mcp:": Direction.TO_SERVER, "to_agent:": Direction.TO_AGENT}


class Stranger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agent that only a table knows."""

    name: str
    roles: tuple[str, ...] = ()
    attributes: dict[str, str | bool | int | tuple[str, ...]] = {}


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One call, and the decision it must get."""

    agent: str | Stranger
    expect: Literal["allow", "deny"]
    call: str = ""
    peer: str = ""
    skill: str = ""
    case: str = ""
    server: str = ""
    name: str | None = None
    arguments: dict[str, Any] = {}
    now: Any = 1_767_268_800_000
    spread: int = 0
    by: tuple[str, ...] | None = None
    code: Code | None = None


class Table(msgspec.Struct, frozen=True):
    """The cases of one file."""

    file: str
    cases: tuple[Case, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one case: passed, or what came instead, with the reasons in words."""

    file: str
    number: int
    case: str
    passed: bool
    got: str
    by: tuple[str, ...]
    why: tuple[str, ...]


def parse_table(file: str, document: object) -> Table:
    """Read a table from parsed YAML or JSON; raises `PolicyMistakes` with all its mistakes. Cases count from 1."""
    cases = document.get("cases") if isinstance(document, dict) else None
    if not isinstance(cases, list) or not cases or not isinstance(document, dict) or len(document) > 1:
        raise PolicyMistakes([Mistake(file, 1, "", "a table is `cases:` with at least one case, and nothing else")])
    found, mistakes = [], []
    for number, case in enumerate(cases, 1):
        try:
            found.append(msgspec.convert(case, Case, strict=True))
        except msgspec.ValidationError as error:
            mistakes.append(Mistake(file, 1, f"case {number}", str(error)[:1].lower() + str(error)[1:]))
    if mistakes:
        raise PolicyMistakes(mistakes)
    return Table(file, tuple(found))


def run_tables(tables: Sequence[Table], policies: Policies, world: World) -> tuple[Outcome, ...]:
    """Run every case. Raises `Malformed` if there is none: policies that were never tried are not tested."""
    outcomes = tuple(
        _outcome(table.file, number, case, policies, world)
        for table in tables
        for number, case in enumerate(table.cases, 1)
    )
    if not outcomes:
        raise Malformed("no table of cases is kept beside the policies: write one, such as `policies/pay.test.yaml`")
    return outcomes


def untested(outcomes: Iterable[Outcome], policies: Policies) -> tuple[str, ...]:
    """The ids of policies that no case's decision named."""
    named = {name for outcome in outcomes for name in outcome.by}
    return tuple(policy.id for policy in policies.policies if policy.id not in named)


def _outcome(file: str, number: int, case: Case, policies: Policies, world: World) -> Outcome:
    why: tuple[str, ...] = ()
    try:
        facts = _facts(case, world)
        decision = decide(policies, facts)
        why = explain(policies, facts)
    except Refused as refused:
        decision = Deny(Reason(refused.code, (), refused.detail))
    except Malformed as mistake:
        return Outcome(file, number, case.case, False, str(mistake), (), ())
    got, code, by, detail = _parts(decision)
    passed = (
        got == case.expect
        and (case.by is None or sorted(case.by) == sorted(by))
        and (case.code is None or case.code is code)
    )
    said = f"{got}{f' ({code})' if code else ''}{' by ' + ', '.join(by) if by else ''}{': ' + detail if detail else ''}"
    return Outcome(file, number, case.case, passed, said, by, why)


def _parts(decision: Decision) -> tuple[str, Code | None, tuple[str, ...], str]:
    if isinstance(decision, Allow):
        return "allow", None, decision.policies, ""
    return "deny", decision.reason.code, decision.reason.policies, decision.reason.detail


def _facts(case: Case, world: World) -> Facts:
    agent, now = _agent(case, world), _milliseconds(case.now)
    if case.peer:
        return _spoken(case, agent, world, now)
    if case.skill:
        raise Malformed("a `skill` is what a message is for: name its `peer`")
    if not case.call:
        raise Malformed("a case says what is called: `call:`, or `peer:` for a message to an agent")
    prefix = next((prefix for prefix in _DIRECTIONS if case.call.startswith(prefix)), None)
    if prefix is None:
        name, _, tool = case.call.partition("/")
        mapping = world.tools.get((name, tool))
        if mapping is None:
            raise Malformed(f"`{case.call}` is no tool that is approved or declared")
        context = tool_context(tool, mapping.read(case.arguments), now, case.spread)
        return Facts(agent, world.entities[Uid(ACTION, case.call)], _server(name, world), context)
    method, direction = case.call.removeprefix(prefix), _DIRECTIONS[prefix]
    context = method_context(method, case.name, text_of(case.arguments), now)
    action, server = method_action(method, direction), _server(case.server, world)
    near, far = (agent, server) if direction is Direction.TO_SERVER else (server, agent)
    return Facts(near, action, far, context)


def _spoken(case: Case, agent: Entity, world: World, now: int) -> Facts:
    """A message, or what is asked of a peer's task. Who is not named beside the peer is refused, as at the gateway."""
    peer, method = world.peers.get(case.peer), case.call.removeprefix("a2a:") or "SendMessage"
    if peer is None:
        raise Malformed(f"`{case.peer}` is no configured peer")
    if case.server:
        raise Malformed("a message goes to a `peer`: leave `server` out")
    if method not in PEER_ACTIONS:
        raise Malformed(f"`{case.call}` is no way to speak to an agent: one of a2a:{', a2a:'.join(PEER_ACTIONS)}")
    sends = SEND_MESSAGE in PEER_ACTIONS[method].line
    if case.skill and not sends:
        raise Malformed(f"`a2a:{method}` is for no skill: name the task, as `name`")
    if agent.attributes["name"] not in peer.callers:
        raise Refused(Code.SERVER_UNKNOWN, f"`{agent.attributes['name']}` is not named beside `{case.peer}`")
    if sends and peer.skills and case.skill not in peer.skills:
        raise Refused(Code.NO_PERMIT, f"`{case.peer}` is asked for {', '.join(peer.skills)} alone")
    context = peer_context(case.skill if sends else case.name, text_of(case.arguments), now)
    return Facts(agent, PEER_ACTIONS[method], world.entities[Uid(PEER, case.peer)], context)


def _server(name: str, world: World) -> Entity:
    found = world.entities.get(Uid(SERVER, name))
    if found is None:
        raise Malformed(f"`{name}` is no configured server: name one as `server:`")
    return found


def _agent(case: Case, world: World) -> Entity:
    if isinstance(case.agent, Stranger):
        domain = str(world.agents[0].attributes["domain"]) if world.agents else "example.org"
        return agent_entity(AgentId(domain, case.agent.name), case.agent.roles, case.agent.attributes)
    for agent in world.agents:
        if case.agent in (agent.attributes["name"], agent.uid.id) and agent.uid.type == AGENT:
            return agent
    raise Malformed(f"`{case.agent}` is no configured agent: write its name, or {{name: …, roles: […]}}")


def _milliseconds(now: object) -> int:
    if type(now) is int:
        return now
    if isinstance(now, datetime.datetime):  # what YAML makes of a time without quotes
        return int((now if now.tzinfo else now.replace(tzinfo=datetime.UTC)).timestamp() * 1000)
    try:
        return parse_datetime(str(now)).ms
    except EvaluationError as error:
        raise Malformed(str(error)) from None
