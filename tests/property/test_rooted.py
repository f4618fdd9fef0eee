"""Whatever agents add to a chain, what counts as its principal's word is what the first link says, and no more."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.grants import DOMAIN, Author, Presented
from citywatch.core.call import Call, Direction
from citywatch.core.delegation.chain import verify_chain
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.rooted import rooted
from citywatch.core.enforce.rules import Configured, build_rules
from citywatch.core.enforce.steering import Finding
from citywatch.core.enforce.verify import Authority
from citywatch.core.flow.history import History
from citywatch.core.manifest import Principal, Role
from citywatch.core.names import AgentId
from citywatch.core.policy.facts import agent_entity
from citywatch.core.signature import parse_b64url
from spec.delegation import keeps


def rules_for(*may: str) -> Any:
    people = {name: Principal(name=name, may=may) for name in ("anna", "payroll")}
    return build_rules(
        Configured(domain=DOMAIN, agents=(), servers={}, budgets={}, digest="d", leeway_ms=0, principals=people),
        {},
        (),
    )


ALL, SOME = rules_for("*"), rules_for("crm/*")


def passed(honest: Presented, rules: Any) -> set[str]:
    """The arguments that pass by the grant, of those that nothing else entitles."""
    delegated = verify_chain(honest.texts, honest.asking, honest.trust, honest.now)
    server, _, tool = honest.act.name.partition("/")
    call = Call(
        id="c", direction=Direction.TO_SERVER, agent=honest.asking.agent, server=server, method="tools/call",
        name=tool, arguments=honest.act.arguments, body=b"", revision="", task=honest.asking.task,
    )  # fmt: skip
    authority = Authority(
        agent=honest.asking.agent, name="x", key="k", entity=agent_entity(AgentId(DOMAIN, "x")), delegated=delegated
    )
    known = Known(
        rules=rules, agent=None, session=None, pin=None, lost=None, invited=None, taken=False, used={}, reads=(),
        flow=Flow(context=Context(), history=History()), task=TaskRow(agent="a", principal="anna", started=1),
    )  # fmt: skip
    asked = tuple(Finding(name, Role.DESTINATION, None, "") for name in honest.act.arguments)
    return {one.path for one in rooted(call, authority, known).over(asked) if one.how == "granted"}


def said(honest: Presented) -> set[str]:
    """By definition, out of the first link's own JSON."""
    root = json.loads(parse_b64url(honest.texts[0].split(".")[0]))
    limits = root["caveats"].get("arguments", {}).get(honest.act.name, {})
    given = honest.act.arguments
    return {
        name
        for name, limit in limits.items()
        if ("equals" in limit or "one_of" in limit) and name in given and keeps(limit, given[name])
    }


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_links_add_nothing_to_their_principals_word_and_take_nothing_from_it(seed: int, links: int) -> None:
    honest = Author(Random(seed)).honest(links)
    flat = {name: value for name, value in honest.act.arguments.items() if isinstance(value, str | int | float)}
    honest = msgspec.structs.replace(honest, act=msgspec.structs.replace(honest.act, arguments=flat))
    assert passed(honest, ALL) == said(honest)
    assert passed(honest, SOME) == (said(honest) if honest.act.name.startswith("crm/") else set())
