"""The gateway that stands between the hijacked agent and a world: the real enforcer and exchange, over memory adapters.

THE SEAM. Everything that differs from one defence to another is here, and nothing else in this bench knows how a
decision is made. A variant is a name in `VARIANTS`; `rules_of` builds what a decision may depend on, `Defended.start`
tells the gateway a principal's words, and the plan if there is one, over the principal's own session, `Defended.answer`
is a person who answers a ticket. One policy permits the agent every tool: what is stopped, labels and plans stop.

INVARIANTS: nothing bypasses `Exchange.request`; each run has a city of its own, so that no run taints the next; the one
oracle (`Task.steps` and `replies`) is used by the variant `oracle_plan` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.agentdojo.declared import Declared, declared
from bench.agentdojo.planners import narrowed, oracle
from citywatch.adapters.memory import MemoryClock, MemoryStore, SeededChance
from citywatch.adapters.reader import Desk
from citywatch.adapters.weights import content_model
from citywatch.core.call import Call
from citywatch.core.content.model import Model
from citywatch.core.enforce.context import Flow, FlowNeed
from citywatch.core.enforce.own import SERVER as OWN
from citywatch.core.enforce.own import own_definitions, own_tools
from citywatch.core.enforce.pinning import definition_bytes, definition_digest
from citywatch.core.enforce.rules import Configured, Definition, Rules, build_rules
from citywatch.core.flow.history import History
from citywatch.core.flow.question import IDS, Question, Type
from citywatch.core.flow.tokens import Kind, exact_tokens
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.credential import Kind as Papers
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.manifest import EVERYBODY, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire.jsonrpc import FROM_SERVER
from citywatch.core.wire.mcp import Definition as Offered
from citywatch.service.contexts import Contexts
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.ports import Append, Loaded, Upstream
from citywatch.service.snapshots import Snapshots
from citywatch.service.tasks import Tasks
from citywatch.service.tickets import Tickets
from citywatch.service.tools import approve, compare

UNDEFENDED = "undefended"
ORACLE = "oracle_plan"
KEYWORDS = "keyword_plan"
HANDLES = "handles"
NO_PROVENANCE = "no_provenance"
VARIANTS = ("no_plan", ORACLE, KEYWORDS, HANDLES, NO_PROVENANCE)
"""What this tree can do. Only the variant `handles` hides what the manifests mark `handle`."""
FLOW = True
"""Whether this tree has the flow gates. Without them the defended variants would only repeat the undefended figures."""

DOMAIN = "dojo.example"
AGENT = f"spiffe://{DOMAIN}/agent/assistant"
KEY = "thumbprint-of-the-assistant"
PRINCIPAL = "emma"
DAY_MS = 86_400_000
READ_AS: Sequence[tuple[Type, frozenset[Kind]]] = (
    (Type.NUMBER, frozenset((Kind.NUMBER, Kind.MONEY))),
    (Type.DATE, frozenset((Kind.DATE, Kind.TIME))),
    (Type.ID, IDS),
)
"""As what type a value is asked for."""
POLICY = """
@id("everything") permit(principal in Role::"assistant", action in Action::"call_tool", resource);
"""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for. `steps` are the ground-truth calls, `replies` what they answer where no attacker was.

    Both are an oracle, for the variant that is named so.

    `allowed` is what a planner without a model makes of the prompt (`keywords.tools_for`), for `keyword_plan`.
    """

    principal: str
    prompt: str
    steps: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    replies: tuple[Any, ...] = ()
    allowed: frozenset[str] = frozenset()


def rules_of(variant: str, server: str, tools: Declared, definitions: Sequence[Mapping[str, Any]]) -> Rules:
    """SEAM 1: what decisions depend on, for one variant and one server."""
    hides = variant == HANDLES
    configured = Configured(
        domain=DOMAIN,
        agents=(AgentFacts(id=AgentId(DOMAIN, "assistant"), roles=("assistant",)),),
        servers={server: tools.tools, OWN: own_tools((EVERYBODY,))} if hides else {server: shown(tools.tools)},
        budgets={"assistant": {}},
        digest=f"agentdojo/{variant}",
        leeway_ms=0,
        principals={} if variant == UNDEFENDED else tools.principals,
    )
    approved = {
        (where, tool["name"]): Definition(digest=definition_digest(definition_bytes(tool)), value=tool)
        for where, offered in ((server, definitions), (OWN, own_definitions(asks=True) if hides else ()))
        for tool in offered
    }
    return build_rules(configured, approved, parse_policies([Source("dojo.cedar", POLICY)]))


def shown(tools: Mapping[str, ToolManifest]) -> dict[str, ToolManifest]:
    """The same manifests where nothing is hidden."""
    return {
        name: msgspec.structs.replace(
            tool,
            output={path: msgspec.structs.replace(one, handle=False) for path, one in tool.output.items()},
        )
        for name, tool in tools.items()
    }


class Scripted:
    """`service.ports.Reader` that says what it is told to."""

    says = ""

    async def answer(self, question: Question, text: str) -> str:
        return self.says


class LabelsAlone(Contexts):
    """The label of a context without what stood in it: each value could be from anything that the agent has read."""

    async def flow(self, need: FlowNeed, loaded: Loaded) -> Flow:
        known = await super().flow(need, loaded)
        return msgspec.structs.replace(known, history=History(), parties=frozenset())


class City:
    """A variant's rules and a store in which the agent is registered and every tool approved; `visit` copies it."""

    def __init__(self, variant: str, server: str, tools: Declared, definitions: Sequence[Mapping[str, Any]]) -> None:
        self.variant, self.server, self.declared = variant, server, tools
        self.rules = rules_of(variant, server, tools, definitions)
        self.store = MemoryStore()
        self._definitions = definitions

    async def settle_in(self) -> City:
        row = AgentRow(agent=AGENT, keys=(KEY,), added_at=0)
        await self.store.append(Append(puts=((agent_key("assistant"), format_row(row)),)))
        offered = [Offered(kind="tool", name=tool["name"], value=tool) for tool in self._definitions]
        await approve(self.store, MemoryClock(), "bench", compare(self.server, offered, []), "an operator")
        own = [Offered(kind="tool", name=tool["name"], value=tool) for tool in own_definitions(asks=True)]
        await approve(self.store, MemoryClock(), "bench", compare(OWN, own, []), "an operator")
        return self

    def visit(self, upstream: Upstream, seed: int = 7, advice: bool = True) -> Defended:
        """A gateway of its own for one run, in front of one world; with the content model that ships, or without."""
        return Defended(self, upstream, seed, _model() if advice and self.variant != UNDEFENDED else None)


class Defended:
    """One gateway before one world, for one run."""

    def __init__(self, city: City, upstream: Upstream, seed: int, model: Model | None) -> None:
        self.city = city
        self.clock = MemoryClock()
        self.chance = SeededChance(seed)
        self.enforcer = Enforcer(
            store=city.store.after_crash(),
            clock=self.clock,
            chance=self.chance,
            rules=city.rules,
            replica="bench",
            model=model,
        )
        if city.variant == NO_PROVENANCE:
            self.enforcer.contexts = LabelsAlone(self.enforcer.store)
            self.enforcer.snapshots = Snapshots(self.enforcer.store, self.enforcer.contexts)
        self.reader = Scripted()
        upstreams = {city.server: upstream, OWN: Desk(self.reader)}
        self.exchange = Exchange(self.enforcer, upstreams, FROM_SERVER, 3)
        now = self.clock.now_ms()
        self.credential = Credential(
            agent=AGENT, key=KEY, kind=Papers.X509, not_before=now - 1000, not_after=now + DAY_MS, digest="d"
        )

    async def start(self, task: Task) -> None:
        """SEAM 2: the principal's words, over the principal's own session."""
        if self.city.rules.principals:
            store, rules, server = self.enforcer.store, self.city.rules, self.city.server
            if self.city.variant == KEYWORDS:
                rules = self.enforcer.rules = narrowed(rules, server, task.allowed)
            plan = None
            if self.city.variant == ORACLE:
                plan = oracle(self.city.declared, server, task.prompt, task.steps, task.replies)
            tasks = Tasks(
                store=store,
                clock=self.clock,
                chance=self.chance,
                replica="bench",
                rules=rules,
                model=self.enforcer.model,
            )
            await tasks.start(task.principal, "assistant", task.prompt, "bench", plan)

    async def answer(self, call: Call, told: Mapping[str, Any], approved: bool) -> bool:
        """SEAM 3: a person answers the ticket of a call that was asked; True if the identical call may be made again.

        `told` is the refusal as the agent got it: its ticket's id stands in there.
        """
        tickets = Tickets(store=self.enforcer.store, clock=self.clock, replica="bench", named=False)
        waiting = [one for one in await tickets.pending() if one.call == call.id]
        said = approved and all(one.of != () for one in waiting)  # what nobody may steer nobody can approve
        for one in waiting:
            principal = one.of[0] if one.of else ""
            await tickets.answer(one.id, said, "bench", "as scripted", principal=principal)
        return said and bool(waiting)

    def question(self, handle: str, answer: str) -> Mapping[str, Any]:
        """SEAM 4: the arguments with which an agent asks the quarantined reader for this about a handle.

        The reader is scripted: `answer` is what one that understands the text would say. Whether the gateway lets an
        answer of that type out, and as what (the value itself, or a handle for it), it decides like every reply.
        """
        self.reader.says = answer
        kinds = {token.kind for token in exact_tokens(answer)}
        word = next((type_ for type_, of in READ_AS if kinds & of), Type.PHRASE)
        return {"text": handle, "question": "What is it?", "type": str(word)}


@functools.cache
def _model() -> Model:
    return content_model()


@functools.cache
def _city(variant: str, server: str, definitions: tuple[str, ...]) -> City:
    return City(variant, server, declared(server), [msgspec.json.decode(one) for one in definitions])


async def city_of(variant: str, server: str, definitions: Sequence[Mapping[str, Any]]) -> City:
    """The city of a variant for a suite's server, made once per process."""
    city = _city(variant, server, tuple(msgspec.json.encode(one, order="sorted").decode() for one in definitions))
    if not (await city.store.load((agent_key("assistant"),), ())).rows:
        await city.settle_in()
    return city
