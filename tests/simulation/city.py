"""A whole city in memory: one agent with papers, one server that does as it is told, the real gates between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from citywatch.adapters.memory import MemoryAnswer, MemoryClock, MemoryStore, MemoryUpstream, SeededChance
from citywatch.core.call import Call, Direction, Effect
from citywatch.core.enforce.pinning import definition_bytes, definition_digest
from citywatch.core.enforce.rules import Configured, Definition, Rules, build_rules
from citywatch.core.events import AnyEvent
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.log.entry import decode_event
from citywatch.core.manifest import Budget, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire.jsonrpc import FROM_SERVER
from citywatch.core.wire.mcp import Definition as Offered
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.ports import Append
from citywatch.service.tools import approve, compare

DOMAIN = "city.example"
AGENT = f"spiffe://{DOMAIN}/agent/clerk"
KEY = "thumbprint-of-the-clerk"
LEGACY = "2025-11-25"

PAY = {
    "name": "pay",
    "description": "Pays money.",
    "inputSchema": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}},
        "required": ["to", "amount"],
    },
}
LOOK = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object", "properties": {}}}
POLICY = """
@id("plumbing") permit(principal, action in [Action::"session", Action::"list"], resource);
@id("small-payments") permit(principal in Role::"payer", action == Action::"bank/pay", resource)
when { context.args.amount <= 100 };
@id("looking") permit(principal, action in Action::"read", resource);
@id("telling") permit(principal is Server, action in Action::"notify_agent", resource);
"""


class City:
    """The city and its handles: `ask` makes a call of the agent, `events` reads the log."""

    def __init__(
        self,
        policy: str = POLICY,
        budgets: Mapping[tuple[str, str], tuple[Budget, ...]] | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = MemoryClock()
        self.chance = SeededChance(7)
        self.answer: Callable[[bytes], MemoryAnswer] = obliging
        self.upstream = MemoryUpstream(lambda body: self.answer(body))
        self.configured = Configured(
            domain=DOMAIN,
            agents=(AgentFacts(id=AgentId(DOMAIN, "clerk"), roles=("payer",)),),
            servers={
                "bank": {"pay": ToolManifest(effect=Effect.IRREVERSIBLE), "look": ToolManifest(effect=Effect.READ)}
            },
            budgets={"clerk": dict(budgets or {})},
            digest="test",
            leeway_ms=0,
        )
        self.policies = parse_policies([Source("test.cedar", policy)])
        self.enforcer = Enforcer(
            store=self.store, clock=self.clock, chance=self.chance, rules=self.rules(PAY, LOOK), replica="r1"
        )
        self.exchange = Exchange(self.enforcer, {"bank": self.upstream}, FROM_SERVER, 3)

    def rules(self, *tools: Mapping[str, Any]) -> Rules:
        """The rules under which these tools are approved."""
        definitions = {
            ("bank", tool["name"]): Definition(digest=definition_digest(definition_bytes(tool)), value=tool)
            for tool in tools
        }
        return build_rules(self.configured, definitions, self.policies)

    async def settle_in(self, *tools: Mapping[str, Any]) -> City:
        """Register the agent and approve the tools (all of them if none is named)."""
        row = AgentRow(agent=AGENT, keys=(KEY,), added_at=0)
        await self.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
        chosen: tuple[Mapping[str, Any], ...] = tools or (PAY, LOOK)
        offered = [Offered(kind="tool", name=tool["name"], value=tool) for tool in chosen]
        await approve(self.store, self.clock, "r1", compare("bank", offered, []), "a person")
        return self

    def credential(self, **changes: Any) -> Credential:
        now = self.clock.now_ms()
        papers = Credential(
            agent=AGENT, key=KEY, kind=Kind.X509, not_before=now - 1000, not_after=now + 3_600_000, digest="d"
        )
        return msgspec.structs.replace(papers, **changes)

    def call(self, method: str = "tools/call", name: str | None = "look", **changes: Any) -> Call:
        arguments = changes.pop("arguments", {})
        params = {"name": name, "arguments": arguments} if method == "tools/call" else dict(arguments)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        call = Call(
            id=self.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=AGENT,
            server="bank",
            method=method,
            name=name,
            arguments=arguments,
            body=json.dumps(message).encode(),
            revision=LEGACY,
            rpc_id=1,
        )
        return msgspec.structs.replace(call, **changes)

    async def ask(self, call: Call, credential: Credential | None = None) -> dict[str, Any]:
        """Run the whole sequence; return the JSON-RPC message that the agent gets."""
        outcome = await self.exchange.request(call, credential or self.credential(), {})
        assert outcome.media == "json"
        told: dict[str, Any] = json.loads(outcome.body)
        return told

    async def pay(self, amount: Any, to: str = "ann", **changes: Any) -> dict[str, Any]:
        return await self.ask(self.call(name="pay", arguments={"to": to, "amount": amount}, **changes))

    async def events(self, store: MemoryStore | None = None) -> list[AnyEvent]:
        """Everything in the log, decoded."""
        return [decode_event(leaf) for leaf in await (store or self.store).entries(0, 10**9)]  # type: ignore[misc]


def code_of(told: Mapping[str, Any]) -> str | None:
    """The refusal code that an agent was told, None if it was not refused."""
    if "error" in told:
        code: str | None = told["error"].get("data", {}).get("code")
        return code
    meta: dict[str, str] = told["result"].get("_meta", {})
    return meta.get("citywatch/code")


def answers(*messages: Any, **settings: Any) -> Callable[[bytes], MemoryAnswer]:
    """A scripted server: each message is a JSON value; see `MemoryAnswer`."""
    return lambda _: MemoryAnswer([(json.dumps(message).encode(), None) for message in messages], **settings)


def obliging(body: bytes) -> MemoryAnswer:
    """A server that does what it is asked and says "done"."""
    asked = json.loads(body)
    reply = {"jsonrpc": "2.0", "id": asked.get("id"), "result": {"content": [{"type": "text", "text": "done"}]}}
    return MemoryAnswer([(json.dumps(reply).encode(), None)])
