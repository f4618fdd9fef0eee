"""A city in which words flow: a principal, an inbox that strangers write to, a bank, a drive, a browser."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from citywatch.adapters.memory import MemoryAnswer, MemoryStore
from citywatch.core.call import Effect
from citywatch.core.content.model import Model
from citywatch.core.manifest import Output, Parameter, ParameterType, Principal, Role, ToolManifest
from citywatch.core.plan.text import parse_plan
from citywatch.service.tasks import Tasks
from citywatch.service.tickets import Tickets
from tests.simulation.city import City

TRUSTED = Output(trusted=True)
ANN = "GB29NWBK60161331926819"
MALLORY = "DE89370400440532013000"


def tool(name: str, /, **properties: str) -> dict[str, Any]:
    fields = {field: {"type": kind} for field, kind in properties.items()}
    return {"name": name, "description": name, "inputSchema": {"type": "object", "properties": fields}}


TOOLS = (
    tool("pay", to="string", amount="number", note="string", date="string"),
    tool("inbox"),
    tool("payees"),
    tool("find_file", name="string"),
    tool("delete_file", id="string"),
    tool("write_file", id="string", text="string"),
    tool("fetch", url="string"),
    tool("send", to="string", text="string"),
    tool("salaries", team="string"),
    tool("file_review", about="string", text="string"),
    tool("search", query="string", filters="object"),
    tool("send_report"),
)
MANIFESTS = {
    "pay": ToolManifest(
        effect=Effect.IRREVERSIBLE,
        parameters={
            "to": Parameter(role=Role.DESTINATION, party="payees"),
            "amount": Parameter(type=ParameterType.DECIMAL, role=Role.AMOUNT),
            "note": Parameter(role=Role.CONTENT),
            "date": Parameter(role=Role.TIME),
        },
    ),
    "inbox": ToolManifest(effect=Effect.READ),
    "payees": ToolManifest(
        effect=Effect.READ, output={"$": TRUSTED, "$[*].iban": Output(trusted=True, party="payees", key=True)}
    ),
    "find_file": ToolManifest(
        effect=Effect.READ,
        output={"$": TRUSTED, "$[*].id": Output(trusted=True, key=True), "$[*].text": Output()},
    ),
    "delete_file": ToolManifest(effect=Effect.IRREVERSIBLE, parameters={"id": Parameter(role=Role.OBJECT)}),
    "write_file": ToolManifest(
        effect=Effect.WRITE,
        audience=("owner",),
        parameters={"id": Parameter(role=Role.OBJECT), "text": Parameter(role=Role.CONTENT)},
    ),
    "fetch": ToolManifest(effect=Effect.READ, parameters={"url": Parameter(role=Role.DESTINATION)}),
    "send": ToolManifest(
        effect=Effect.IRREVERSIBLE,
        parameters={
            "to": Parameter(role=Role.DESTINATION, party="contacts"),
            "text": Parameter(role=Role.CONTENT),
        },
    ),
    "salaries": ToolManifest(
        effect=Effect.READ,
        audience=("hr",),
        parameters={"team": Parameter(role=Role.CONTENT)},
        output={
            "$": TRUSTED,
            "$[*].name": Output(trusted=True, readers=("hr", "managers")),
            "$[*].pay": Output(trusted=True, readers=("hr",)),
        },
    ),
    "file_review": ToolManifest(
        effect=Effect.WRITE,
        audience=("hr",),
        parameters={"about": Parameter(role=Role.OBJECT), "text": Parameter(role=Role.CONTENT)},
    ),
    "send_report": ToolManifest(),
    "search": ToolManifest(effect=Effect.READ, parameters={"query": Parameter(role=Role.CONTENT)}),
}
POLICY = """
@id("all") permit(principal, action, resource is Server);
@id("asking") permit(principal is Server, action, resource);
"""


class FlowCity(City):
    """`task` speaks for a principal, `read` has the agent receive what a tool answers, `act` tries something."""

    def __init__(self, store: MemoryStore | None = None, model: Model | None = None) -> None:
        super().__init__(policy=POLICY, store=store)
        self.enforcer.model = model
        self.configured = msgspec.structs.replace(
            self.configured,
            servers={"bank": MANIFESTS},
            principals={
                "alice": Principal(name="alice", may=("bank/*",)),
                "guest": Principal(name="guest", may=("bank/write_file",)),
            },
        )
        self.enforcer.rules = self.rules(*TOOLS)
        self.tasks = Tasks(
            store=self.store,
            clock=self.clock,
            chance=self.chance,
            replica="r1",
            rules=self.enforcer.rules,
            model=model,
        )
        self.tickets = Tickets(store=self.store, clock=self.clock, replica="r1", named=False)

    async def open(self) -> FlowCity:
        await self.settle_in(*TOOLS)
        return self

    async def task(self, prompt: str, principal: str = "alice", plan: dict[str, Any] | None = None) -> str:
        return await self.tasks.start(principal, "clerk", prompt, "test", None if plan is None else parse_plan(plan))

    async def read(self, name: str, value: Any, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that answers `value`."""
        self.answer = lambda body: told(body, value)
        return await self.act(name, **arguments)

    async def act(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        return await self.ask(self.call(name=name, arguments=arguments))


def told(body: bytes, value: Any) -> MemoryAnswer:
    """A reply as SDK servers give it: structured, and the same as text."""
    structured = value if isinstance(value, dict) else {"result": value}
    result: dict[str, Any] = {"content": [{"type": "text", "text": json.dumps(value)}]}
    if not isinstance(value, str):
        result["structuredContent"] = structured
    else:
        result["content"][0]["text"] = value
    reply = {"jsonrpc": "2.0", "id": json.loads(body).get("id"), "result": result}
    return MemoryAnswer([(json.dumps(reply).encode(), None)])
