"""What it costs to know where values come from: a 4 kB reply enters a context, a call of six arguments is traced in it.

`content.*` is all that a new reply adds before the next call is decided: the walk over its fields, the scan, typed
values, the index of the context, and `Steering` over the six arguments; beside it, as a floor, what it costs to read
the same bytes as JSON. `decide.flow_p50_us` is a decision that has no new text, in a context of twenty replies, beside
the same decision without flow: a call as an agent makes it once more, with other words for people; `flow_first` is one
whose values no call of the context carried before, `flow_plan` one that is held against a plan as well. Replies are all
different. Run it: `python -m bench flow`.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from bench.content import SEED, reply, word
from bench.decide import quantile, row
from citywatch.adapters.weights import content_model
from citywatch.core.call import Allow, Call, Direction, Effect
from citywatch.core.content.model import Model
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.held import Holding, TaskPlan
from citywatch.core.enforce.needs import Known, Pin, needs
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.rules import Configured, Definition, Rules, build_rules
from citywatch.core.enforce.steering import Steering
from citywatch.core.enforce.verify import verify
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.flow.readings import Readings
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.registration import AgentRow
from citywatch.core.label import BOTTOM, join_all
from citywatch.core.manifest import Output, Parameter, ParameterType, Principal, Role, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.plan.contract import Held, begin
from citywatch.core.plan.contract import Kind as PlanKind
from citywatch.core.plan.narrow import adopt
from citywatch.core.plan.text import parse_plan
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message

REPLIES = 400
CALLS = 2_000
ROUNDS = 5
BEFORE = 20
KEY = "A" * 43
AGENT = "spiffe://bench.example/agent/clerk"
TEXT, NUMBER = {"type": "string"}, {"type": "number"}
OPTION = {"enum": ["EUR", "USD"]}
SCHEMA = {"to": TEXT, "amount": NUMBER, "currency": OPTION, "invoice": TEXT, "date": TEXT, "note": TEXT}
PAY = ToolManifest(
    effect=Effect.IRREVERSIBLE,
    parameters={
        "to": Parameter(role=Role.DESTINATION, party="payees"),
        "amount": Parameter(type=ParameterType.DECIMAL, role=Role.AMOUNT),
        "currency": Parameter(role=Role.OBJECT),
        "invoice": Parameter(role=Role.OBJECT),
        "date": Parameter(role=Role.TIME),
        "note": Parameter(role=Role.CONTENT),
    },
)
INBOX = ToolManifest(effect=Effect.READ, output={"$[*].id": Output(trusted=True, key=True)})


def rules(principals: bool) -> Rules:
    """One server with an inbox and a bank; without principals its flow gates are off."""
    tools = {"pay": PAY, "inbox": INBOX}
    configured = Configured(
        domain="bench.example",
        agents=(AgentFacts(id=AgentId("bench.example", "clerk")),),
        servers={"office": tools},
        budgets={},
        digest="bench",
        leeway_ms=0,
        principals={"alice": Principal(name="alice", may=("office/*",))} if principals else {},
    )
    definitions = {
        ("office", name): Definition(
            digest="d", value={"inputSchema": {"type": "object", "properties": SCHEMA if name == "pay" else {}}}
        )
        for name in tools
    }
    return build_rules(configured, definitions, parse_policies([Source("p", "permit(principal, action, resource);")]))


def call(number: int, name: str, arguments: dict[str, Any]) -> Call:
    return Call(
        id=f"{number:032x}", direction=Direction.TO_SERVER, agent=AGENT, server="office",
        method="tools/call", name=name,
        arguments=arguments, body=b"", revision="2025-11-25", rpc_id=number,
    )  # fmt: skip


def asked(chance: random.Random, number: int) -> tuple[Item, Call]:
    """A prompt, and a call that does what it says in other notations, with words of the agent's own."""
    account, amount = f"{chance.randrange(10**17):018}", chance.randrange(100, 10**6) / 100
    account = f"DE{98 - int(account + '131400') % 97:02}{account}"
    day, invoice = (
        f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
        f"INV-{chance.randrange(10**6):06}",
    )
    prompt = f"Pay invoice {invoice} of {amount:,.2f} EUR to {account} on {day}, and say thank you."
    arguments = {
        "to": account, "amount": amount, "currency": "EUR", "invoice": invoice, "date": day,
        "note": " ".join(word(chance) for _ in range(12)),
    }  # fmt: skip
    return read_prompt(prompt, "d", "alice", 0), call(number, "pay", arguments)


def received(chance: random.Random) -> Iterator[bytes]:
    """Replies as SDK servers give them: structured, and the same as text."""
    for number in range(REPLIES):
        text = reply(chance, number)
        records = json.loads(text[: text.rfind("}, {")] + "}]")
        result = {"content": [{"type": "text", "text": json.dumps(records)}], "structuredContent": {"result": records}}
        yield json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


def timed(work: Sequence[Any], act: Callable[[Any], object], unit: float) -> list[float]:
    """How long each takes, the collector held off so that its pauses are not taken for ours."""
    clock, taken = time.perf_counter_ns, []
    gc.collect()
    gc.disable()
    for one in work:
        before = clock()
        act(one)
        taken.append((clock() - before) / unit)
    gc.enable()
    return taken


def entered(message: Response, law: Rules, model: Model | None) -> Item:
    entering = entering_reply(call(1, "inbox", {}), message, law)
    assert entering is not None
    return entering.item("office", BOTTOM, 0, model)


def content_rows() -> list[dict[str, Any]]:
    law, model, chance = rules(True), content_model(), random.Random(SEED)
    raw = list(received(chance))
    work = []
    for number, one in enumerate(raw):
        message = parse_message(one, FROM_SERVER)
        assert isinstance(message, Response)
        work.append((message, *asked(chance, number)))
    tool = law.tools["office", "pay"]

    def trace(one: tuple[Response, Item, Call], scanner: Model | None) -> None:
        message, prompt, wanted = one
        item = entered(message, law, scanner)
        history = History()
        history.add(prompt)
        history.add(item)
        flow = Flow(context=Context(label=item.label, items=2), history=history)
        assert all(found.how for found in Steering(wanted, tool, law, flow).findings())

    halves: dict[str, list[float]] = {"all": [], "late": [], "unscanned": [], "floor": []}
    for _ in range(ROUNDS):
        taken = timed(work, lambda one: trace(one, model), 1e6)
        halves["all"].append(quantile(taken, 0.5))
        halves["late"].append(quantile(taken, 0.95))
        halves["unscanned"].append(quantile(timed(work, lambda one: trace(one, None), 1e6), 0.5))
        halves["floor"].append(quantile(timed(raw, lambda one: parse_message(one, FROM_SERVER), 1e6), 0.5))
    return [
        row("content.p50_ms", halves["all"], "ms", REPLIES, "content.floor_ms", halves["floor"]),
        row("content.p95_ms", halves["late"], "ms", REPLIES, "content.floor_ms", halves["floor"]),
        row("content.unscanned_p50_ms", halves["unscanned"], "ms", REPLIES, "content.p50_ms", halves["all"]),
        row("content.floor_ms", halves["floor"], "ms", REPLIES),
    ]


def contexts() -> Iterator[tuple[Call, Known]]:
    """Calls in contexts of twenty replies and a prompt: in each some that pay the same with another note."""
    law, model, chance = rules(True), content_model(), random.Random(SEED)
    messages = [parse_message(one, FROM_SERVER) for one in list(received(chance))[:BEFORE]]
    read = [entered(message, law, model) for message in messages if isinstance(message, Response)]
    pin = Pin(digest="d", by="bench", at=0)
    for number in range(CALLS // BEFORE):
        prompt, wanted = asked(chance, number)
        history = History()
        for item in (prompt, *read):
            history.add(item)
        label = join_all(item.label for item in history.items)
        known = Known(
            rules=law, agent=AgentRow(agent=AGENT, keys=(KEY,), added_at=0), session=None, pin=pin, lost=None,
            invited=None, taken=False, used={}, reads=(),
            flow=Flow(context=Context(label=label, items=len(history.items)), history=history),
        )  # fmt: skip
        for again in range(BEFORE):
            note = f"{wanted.arguments['note']} {word(chance)} {again}"
            yield msgspec.structs.replace(wanted, arguments={**wanted.arguments, "note": note}), known


def planned(known: Known, wanted: Call) -> Known:
    """The same under a plan of alice's that binds what is paid to whom."""
    bound = {name: {"equals": wanted.arguments[name]} for name in ("to", "amount")}
    free = {name: "free" for name in wanted.arguments if name not in bound}
    step = {"step": "pay", "tool": "office/pay", "arguments": bound | free}
    plan = parse_plan({"plan": "bench", "within": "1h", "steps": [step]})
    held = adopt(plan, PlanKind.SIGNED, clean=False, parent=None)
    assert isinstance(held, Held)
    task = TaskPlan(held=held, task="t", principal="alice")
    assert known.flow is not None
    flow = msgspec.structs.replace(known.flow, held=Holding(plan=task), progress=begin(0))
    return msgspec.structs.replace(known, flow=flow)


def decision_rows() -> list[dict[str, Any]]:
    who = Credential(agent=AGENT, key=KEY, kind=Kind.JWT, not_before=0, not_after=60_000, digest="x")
    work = list(contexts())
    bare = rules(False)
    without = [(one, msgspec.structs.replace(known, rules=bare, flow=None)) for one, known in work]
    bound = [(one, planned(known, one)) for one, known in work]

    def decide(one: tuple[Call, Known]) -> None:
        flow = one[1].flow
        need = needs(one[0], one[1].rules, 1, KEY, None if flow is None else flow.readings)
        assert type(admit(one[0], verify(one[0], who, one[1], 1), one[1], need, 1)) is Allow

    def forgetful() -> list[tuple[Call, Known]]:
        return [(one, msgspec.structs.replace(known, flow=fresh(known.flow))) for one, known in work]

    rounds = [[timed(some, decide, 1e3) for some in (work, forgetful(), bound, without)] for _ in range(ROUNDS)]
    again, first, plan, none = ([quantile(taken, 0.5) for taken in half] for half in zip(*rounds, strict=True))
    return [
        row("decide.flow_p50_us", again, "us", CALLS, "decide.no_flow_p50_us", none),
        row("decide.flow_plan_p50_us", plan, "us", CALLS, "decide.no_flow_p50_us", none),
        row("decide.flow_first_p50_us", first, "us", CALLS, "decide.no_flow_p50_us", none),
        row("decide.no_flow_p50_us", none, "us", CALLS),
    ]


def fresh(flow: Flow | None) -> Flow:
    """The same context, with no memory of what its calls carried."""
    assert flow is not None
    return msgspec.structs.replace(flow, readings=Readings())


def run() -> list[dict[str, Any]]:
    """The rows."""
    return content_rows() + decision_rows()
