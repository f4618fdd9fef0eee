"""The frozen generator of policies that `make bench` decides by: some hundreds of policies, as operators write them.

FROZEN: figures are comparable only while the same seed gives the same text, so a test pins its digest. A changed
generator is another benchmark and gets another name for its rows.

Eight of ten policies have a scope (a role or an agent, a tool or an effect, a server), two of ten have none and apply
to every call: guard rails on amounts, times, paths, recipients, addresses. All conditions are of the kinds that
`SCOPED` and `UNSCOPED` list, with constants drawn afresh, so that few policies repeat another. What exists does not
grow with the number of policies: 100 agents in 20 roles, 40 servers with 10 tools each. Four calls of five are aimed at
the scope of some policy (its agent, its tool), so that there is something to decide; one is drawn from anywhere. Every
call has arguments of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.call import Effect
from citywatch.core.manifest import Parameter, ParameterType, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Policy, Source, parse_policies
from citywatch.core.policy.decide import Policies, compile_policies
from citywatch.core.policy.facts import ACTION, AGENT, SERVER, Facts, tool_context
from citywatch.core.policy.values import Uid
from citywatch.core.policy.world import AgentFacts, ToolFacts, World, build_world

SEED = 20_261_122
DOMAIN = "bench.example"
AGENTS = 100
ROLES = tuple(f"role{n}" for n in range(20))
TEAMS = ("billing", "support", "legal", "ops", "sales", "audit")
REGIONS = ("eu", "us", "apac")
SERVERS = tuple(f"server{n}" for n in range(40))
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY")
TAGS = ("urgent", "external", "draft", "legal", "vip", "bulk", "test", "personal")
TOOLS = ("get", "search", "list", "create", "update", "send", "transfer", "delete", "export", "approve")
START = 1_790_000_000_000  # milliseconds; a day of September 2026
YEAR = 365 * 86_400_000

SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "money": {"amount": "number", "fee": "number", "currency": "string", "recipient": "string", "ratio": "number"},
    "search": {"query": "string", "limit": "integer", "path": "string", "deep": "boolean"},
    "change": {"id": "integer", "path": "string", "reason": "string", "tags": "tags", "deep": "boolean"},
    "send": {"recipient": "string", "subject": "string", "tags": "tags", "address": "string", "count": "integer"},
}
KINDS = {
    **dict.fromkeys(("get", "search", "list"), "search"),
    **dict.fromkeys(("create", "update", "delete", "approve"), "change"),
    **dict.fromkeys(("send", "export"), "send"),
    "transfer": "money",
}
EFFECTS = {
    **dict.fromkeys(("get", "search", "list"), Effect.READ),
    **dict.fromkeys(("create", "update", "approve"), Effect.WRITE),
    **dict.fromkeys(("send", "transfer", "delete", "export"), Effect.IRREVERSIBLE),
}


class Generated(msgspec.Struct, frozen=True):
    """One drawn set: its Cedar text, what exists, and the policies ready to decide."""

    text: str
    world: World
    parsed: tuple[Policy, ...]
    policies: Policies
    agents: tuple[AgentFacts, ...]


def generate(count: int, seed: int = SEED) -> Generated:
    """Draw `count` policies over the universe; the same seed gives the same text."""
    chance = random.Random(f"{seed}/{count}")
    agents = tuple(_agents(random.Random(seed)))
    world = build_world(agents, SERVERS, [_tool(server, tool) for server in SERVERS for tool in TOOLS])
    text = "\n".join(_policy(chance, number, unscoped=number % 5 == 4) for number in range(count))
    parsed = parse_policies([Source("bench", text)])
    return Generated(text, world, parsed, compile_policies(parsed, world.entities), agents)


class Drawn(msgspec.Struct, frozen=True):
    """One call, as its agent makes it: `arguments` is the JSON object, `now` is milliseconds."""

    agent: AgentFacts
    server: str
    tool: str
    arguments: dict[str, Any]
    now: int


def calls(generated: Generated, count: int, seed: int = SEED) -> list[Drawn]:
    """Draw `count` calls, no two alike."""
    chance = random.Random(f"{seed}/calls")
    scoped = [policy.tree for policy in generated.parsed if policy.tree and type(policy.tree.resource) is pst.ScopeEq]
    return [_call(chance, generated, chance.choice(scoped) if chance.random() < 0.8 else None) for _ in range(count)]


def requests(generated: Generated, count: int, seed: int = SEED) -> list[Facts]:
    """The same calls as the facts that policies see."""
    world = generated.world
    return [
        Facts(
            world.entities[Uid(AGENT, str(call.agent.id))],
            world.entities[Uid(ACTION, f"{call.server}/{call.tool}")],
            world.entities[Uid(SERVER, call.server)],
            tool_context(call.tool, world.tools[call.server, call.tool].read(call.arguments), call.now),
        )
        for call in calls(generated, count, seed)
    ]


def _call(chance: random.Random, generated: Generated, aim: pst.Template | None) -> Drawn:
    agent, server, tool = chance.choice(generated.agents), chance.choice(SERVERS), chance.choice(TOOLS)
    if aim is not None:
        target = aim.principal.entity.id  # type: ignore[union-attr]
        agent = chance.choice([one for one in generated.agents if target in one.roles or str(one.id) == target])
        server = aim.resource.entity.id  # type: ignore[union-attr]
        actions = aim.action.entities if type(aim.action) is pst.ActionIn else (aim.action.entity,)  # type: ignore[union-attr]
        action = chance.choice(actions).id
        effects = [name for name, effect in EFFECTS.items() if effect.value == action]
        tool = chance.choice(effects) if effects else action.partition("/")[2]
    return Drawn(agent, server, tool, arguments(chance, tool), START + chance.randrange(YEAR))


def arguments(chance: random.Random, tool: str) -> dict[str, Any]:
    """JSON arguments for one call of a tool, such as an agent sends."""
    fields = SCHEMAS[KINDS[tool]]
    return {name: _value(chance, name, kind) for name, kind in fields.items() if chance.random() < 0.85}


def _agents(chance: random.Random) -> Iterator[AgentFacts]:
    for number in range(AGENTS):
        attributes: dict[str, Any] = {
            "team": chance.choice(TEAMS),
            "region": chance.choice(REGIONS),
            "clearance": chance.randrange(6),
            "contractor": chance.random() < 0.2,
            "projects": tuple(chance.sample(TAGS, 3)),
        }
        roles = tuple(chance.sample(ROLES, chance.choice((1, 1, 2, 3))))
        yield AgentFacts(id=AgentId(DOMAIN, f"agent{number}"), roles=roles, attributes=attributes)


def _tool(server: str, tool: str) -> ToolFacts:
    json_types = {"tags": {"type": "array", "items": {"type": "string"}}}
    properties = {name: json_types.get(kind, {"type": kind}) for name, kind in SCHEMAS[KINDS[tool]].items()}
    money = {name: Parameter(type=ParameterType.MONEY) for name in ("amount", "fee")}
    parameters = {**money, "ratio": Parameter(type=ParameterType.DECIMAL)} if "amount" in properties else {}
    manifest = ToolManifest(effect=EFFECTS[tool], parameters=parameters)
    return ToolFacts(
        server=server, name=tool, manifest=manifest, input_schema={"type": "object", "properties": properties}
    )


def _value(chance: random.Random, name: str, kind: str) -> Any:
    drawn: dict[str, Callable[[], Any]] = {
        "amount": lambda: chance.randrange(1, 2_000_000) / 100,
        "fee": lambda: chance.randrange(500) / 100,
        "ratio": lambda: chance.randrange(10_000) / 10_000,
        "currency": lambda: chance.choice(CURRENCIES),
        "recipient": lambda: f"{chance.choice(TEAMS)}{chance.randrange(500)}@{chance.choice(REGIONS)}.example",
        "path": lambda: f"/{chance.choice(TEAMS)}/{chance.choice(TAGS)}/{chance.randrange(9999)}.txt",
        "address": lambda: f"{chance.choice((10, 172, 192, 203))}.{chance.randrange(256)}.0.{chance.randrange(256)}",
        "tags": lambda: chance.sample(TAGS, chance.randrange(4)),
        "integer": lambda: chance.randrange(100_000),
        "boolean": lambda: chance.random() < 0.5,
        "string": lambda: f"{chance.choice(TEAMS)} {chance.choice(TAGS)} {chance.randrange(10**6)}",
    }
    return drawn[name if name in drawn else kind]()


def _policy(chance: random.Random, number: int, unscoped: bool) -> str:
    if unscoped:
        condition = chance.choice(UNSCOPED)(chance)
        effect = "forbid" if chance.random() < 0.9 else "permit"
        return f'@id("p{number}")\n{effect}(principal, action, resource)\nwhen {{ {condition} }};\n'
    server, tool = chance.choice(SERVERS), chance.choice(TOOLS)
    principal = chance.choice(
        (
            f'principal in Role::"{chance.choice(ROLES)}"',
            f'principal in Role::"{chance.choice(ROLES)}"',
            f'principal is Agent in Role::"{chance.choice(ROLES)}"',
            f'principal == Agent::"spiffe://{DOMAIN}/agent/agent{chance.randrange(AGENTS)}"',
        )
    )
    others = ", ".join(f'Action::"{server}/{other}"' for other in sorted({tool, *chance.sample(TOOLS, 2)}))
    action, guarded = chance.choice(
        (
            (f'action == Action::"{server}/{tool}"', True),
            (f'action == Action::"{server}/{tool}"', True),
            (f"action in [{others}]", False),
            (f'action in Action::"{EFFECTS[tool].value}"', False),
        )
    )
    resource = f'resource == Server::"{server}"'
    effect = "permit" if chance.random() < 0.85 else "forbid"
    clause = ""
    if chance.random() < 0.7:
        kinds = SCOPED[KINDS[tool]] if guarded else SCOPED["any"]
        clause = f"\nwhen {{ {chance.choice(kinds)(chance)} }}"
    if chance.random() < 0.2:
        clause += f"\nunless {{ {chance.choice(SCOPED['any'])(chance)} }}"
    return f'@id("p{number}")\n{effect}({principal}, {action}, {resource}){clause};\n'


def _some(chance: random.Random, pool: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in chance.sample(pool, chance.choice((1, 2, 3)))) + "]"


def _moment(chance: random.Random) -> str:
    return f"2026-{chance.randrange(9, 13):02}-{chance.randrange(1, 29):02}"


SCOPED: Mapping[str, tuple[Any, ...]] = {
    "any": (
        lambda c: f"principal.clearance >= {c.randrange(6)}",
        lambda c: f'principal.team == "{c.choice(TEAMS)}" || principal.clearance > {c.randrange(2, 6)}',
        lambda c: f"{_some(c, REGIONS)}.contains(principal.region)",
        lambda c: "!principal.contractor",
        lambda c: f"principal.projects.containsAny({_some(c, TAGS)})",
        lambda c: f'context.time >= datetime("{_moment(c)}")',
        lambda c: f'context.time.toTime() < duration("{c.randrange(8, 22)}h")',
        lambda c: f'principal.name like "agent{c.randrange(4)}*"',
    ),
    "money": (
        lambda c: f"context.args has amount && context.args.amount <= {c.randrange(1000, 2_000_000)}",
        lambda c: f'context.args has currency && context.args.currency == "{c.choice(CURRENCIES)}"',
        lambda c: (
            "context.args has amount && context.args has fee && "
            f"context.args.amount + context.args.fee * 100 < {c.randrange(1000, 2_000_000)}"
        ),
        lambda c: f'context.args has ratio && context.args.ratio.lessThan(decimal("0.{c.randrange(1, 9999):04}"))',
        lambda c: (
            f"context.args has amount && (if principal.clearance > {c.randrange(5)} "
            f"then context.args.amount < {c.randrange(100_000, 2_000_000)} else context.args.amount < 5000)"
        ),
    ),
    "search": (
        lambda c: f"context.args has limit && context.args.limit <= {c.randrange(100_000)}",
        lambda c: f'context.args has path && context.args.path like "/{c.choice(TEAMS)}/*"',
        lambda c: "!(context.args has deep && context.args.deep)",
        lambda c: f'context.args has query && !(context.args.query like "*{c.choice(TAGS)}*")',
    ),
    "change": (
        lambda c: f"context.args has id && context.args.id < {c.randrange(100_000)}",
        lambda c: f"context.args has tags && {_some(c, TAGS)}.containsAll(context.args.tags)",
        lambda c: f'context.args has reason && context.args.reason like "{c.choice(TEAMS)}*"',
        lambda c: f'context.args has path && context.args.path like "*/{c.choice(TAGS)}/*"',
    ),
    "send": (
        lambda c: f'context.args has recipient && context.args.recipient like "*@{c.choice(REGIONS)}.example"',
        lambda c: f'context.args has address && context.args.address like "{c.choice((10, 172, 192))}.*"',
        lambda c: (
            f"context.args has tags && !context.args.tags.contains({_some(c, TAGS)[1:].split(',')[0].strip(']')})"
        ),
        lambda c: f"context.args has count && context.args.count < {c.randrange(100_000)}",
    ),
}

_ARGS = "context has args && context.args has"
UNSCOPED: tuple[Any, ...] = (
    lambda c: f"{_ARGS} amount && context.args.amount > {c.randrange(1_500_000, 2_000_000)}",
    lambda c: f"{_ARGS} recipient && {_emails(c)}.contains(context.args.recipient)",
    lambda c: f'{_ARGS} recipient && context.args.recipient == "{_email(c)}"',
    lambda c: f'{_ARGS} path && context.args.path like "/{c.choice(TEAMS)}/{c.choice(TAGS)}/{c.randrange(99)}*"',
    lambda c: (
        f'{_ARGS} currency && context.args.currency == "{c.choice(CURRENCIES)}" && '
        f"context.args has amount && context.args.amount > {c.randrange(1_900_000, 2_000_000)}"
    ),
    lambda c: f'{_ARGS} ratio && context.args.ratio.greaterThan(decimal("0.99{c.randrange(100):02}"))',
    lambda c: (
        f"{_ARGS} tags && context.args.tags.containsAll({_some(c, TAGS[:4])}) && "
        f'context.args.tags.contains("{c.choice(TAGS)}") && principal is Agent && principal.contractor'
    ),
    lambda c: f'{_ARGS} address && context.args.address like "{_network(c)}*.0.*"',
    lambda c: (
        f'principal is Agent && principal.team == "{c.choice(TEAMS)}" && principal.contractor && '
        f'action in Action::"irreversible" && resource == Server::"{c.choice(SERVERS)}"'
    ),
    lambda c: f"principal is Agent && principal.clearance < {c.randrange(1, 3)} && action == {_action(c)}",
    lambda c: (
        f'principal in [Role::"{c.choice(ROLES)}", Role::"{c.choice(ROLES)}"] && action in [{_action(c)}, {_action(c)}]'
    ),
    lambda c: (
        f'resource == Server::"{c.choice(SERVERS)}" && context.time < datetime("{_moment(c)}") && '
        f'action in Action::"write"'
    ),
    lambda c: f'action == {_action(c)} && context.time.toTime() > duration("{c.randrange(20, 24)}h")',
    lambda c: (
        f'context has name && context.name == "{c.choice(TOOLS)}" && resource == Server::"{c.choice(SERVERS)}" '
        f'&& principal is Agent && principal.region != "{c.choice(REGIONS)}"'
    ),
    lambda c: f'context.now > {START + YEAR - c.randrange(10**9)} && action in Action::"irreversible"',
    lambda c: f"{_ARGS} limit && context.args.limit > {c.randrange(99_000, 100_000)} && !(context.args has path)",
    lambda c: (
        f"{_ARGS} amount && (if context.args has fee then context.args.amount + context.args.fee > "
        f"{c.randrange(1_950_000, 2_000_000)} else context.args.amount > 1950000)"
    ),
    lambda c: f'action == {_action(c)} && !(principal in Role::"{c.choice(ROLES)}" || principal is Server)',
)


def _email(chance: random.Random) -> str:
    return f"{chance.choice(TEAMS)}{chance.randrange(500)}@{chance.choice(REGIONS)}.example"


def _emails(chance: random.Random) -> str:
    return "[" + ", ".join(f'"{_email(chance)}"' for _ in range(chance.randrange(2, 8))) + "]"


def _network(chance: random.Random) -> str:
    return f"{chance.choice((172, 192, 203))}.{chance.randrange(26)}"


def _action(chance: random.Random) -> str:
    return f'Action::"{chance.choice(SERVERS)}/{chance.choice(TOOLS)}"'
