"""Replay: the log, and the plans whose digests stand in it, are enough to decide every call of a held agent again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citywatch.core import events
from citywatch.core.call import Allow, Call, Decision
from citywatch.core.canonical import digest
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.held import FREE, take_up
from citywatch.core.enforce.needs import Known, Needs, Pin
from citywatch.core.enforce.planned import progressed
from citywatch.core.enforce.receive import entering_reply
from citywatch.core.enforce.verify import Authority
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.label import BOTTOM, join
from citywatch.core.log.entry import decode_event
from citywatch.core.plan.contract import Plan, Progress, plan_digest
from citywatch.core.plan.narrow import NotAdopted
from citywatch.core.plan.text import parse_plan
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message
from citywatch.main.replay import rebuild
from tests.simulation.city import AGENT, KEY
from tests.simulation.flow_city import ANN, MALLORY, FlowCity

WIDE: dict[str, Any] = {
    "plan": "wide",
    "within": "1h",
    "steps": [
        {"step": "read", "tool": "bank/find_file", "calls": 2, "arguments": {"*": "free"}},
        {
            "step": "pay",
            "tool": "bank/pay",
            "arguments": {"to": {"from": {"step": "read", "field": "$[*].payee"}}, "amount": {"from": "prompt"}},
        },
        {"step": "again", "tool": "bank/pay", "arguments": {"to": {"equals": ANN}, "amount": {"at_most": 10}}},
    ],
    "forbidden": [["bank/payees", "bank/delete_file"]],
}


class Replayed:
    """One agent's context, built from entries alone."""

    def __init__(self, here: FlowCity, plans: Mapping[str, Plan]) -> None:
        self.rules, self.plans = here.enforcer.rules, plans
        self.context, self.history = Context(), History()
        self.held = FREE
        self.progress: Progress | None = None
        self.calls: dict[str, Call] = {}

    def enter(self, item: Item) -> None:
        self.history.add(item)
        self.context = Context(label=join(self.context.label, item.label), items=len(self.history.items))

    def started(self, event: events.TaskStarted, body: bytes) -> None:
        before = None if self.held.plan is None else self.held.plan.held.digest
        given = None if event.plan in (None, before) else self.plans[event.plan or ""]
        taken = take_up(given, event.task, event.principal, self.held, self.progress, event.at)
        assert not isinstance(taken, NotAdopted)
        self.held, self.progress = taken
        self.enter(read_prompt(body.decode(), digest(body), event.principal, event.at, event.task))

    def decided(self, event: events.Decided, body: bytes) -> Decision:
        call = self.calls[event.call] = rebuild(event, body)
        authority = Authority(agent=AGENT, name="clerk", key=KEY, entity=self.rules.agent(AGENT, "clerk"))
        known = Known(
            rules=self.rules,
            agent=None,
            session=None,
            pin=Pin(digest=event.pin or "", by="", at=0),
            lost=None,
            invited=None,
            taken=False,
            used={},
            reads=(),
            flow=Flow(context=self.context, history=self.history, held=self.held, progress=self.progress),
        )
        decision = admit(call, authority, known, Needs((), (), None, None), event.at)
        if isinstance(decision, Allow) and known.flow is not None:
            self.progress = progressed(call, known.flow, event.at) or self.progress
        return decision

    def settled(self, event: events.Settled, body: bytes) -> None:
        message = parse_message(body, FROM_SERVER)
        assert isinstance(message, Response)
        call = self.calls[event.call]
        entering = entering_reply(call, message, self.rules)
        assert entering is not None
        self.enter(entering.item(call.server, BOTTOM, event.at))


async def test_replay_of_a_held_agent_gives_the_recorded_decisions() -> None:
    here = await FlowCity().open()
    narrow = {**WIDE, "plan": "narrow", "parent": plan_digest(parse_plan(WIDE)), "steps": WIDE["steps"][:2]}
    await here.task("Pay 120", plan=WIDE)
    await here.act("delete_file", id="x-17")
    await here.read("find_file", [{"payee": ANN, "text": MALLORY}], name="bill")
    await here.act("pay", to=MALLORY, amount=120)
    await here.act("pay", to=ANN, amount=9)
    here.clock.advance(1000)
    await here.task("Go on", plan=narrow)
    await here.act("pay", to=ANN, amount=10)
    await here.act("pay", to=ANN, amount=120)
    await here.read("payees", [])
    await here.act("delete_file", id="x-17")
    await here.act("pay", to=ANN, amount=120)
    here.clock.advance(3_600_000)
    await here.act("pay", to=ANN, amount=120)
    await here.task(f"Pay 7 to {ANN}")
    await here.act("pay", to=ANN, amount=7)
    again = Replayed(here, {plan_digest(one): one for one in (parse_plan(WIDE), parse_plan(narrow))})
    decisions: list[str] = []
    for index, leaf in enumerate(await here.store.entries(0, 10**6)):
        event, payload = decode_event(leaf), await here.store.payload(index)
        if isinstance(event, events.TaskStarted) and payload is not None:
            again.started(event, payload.body)
        elif isinstance(event, events.Settled) and payload is not None:
            again.settled(event, payload.body)
        elif isinstance(event, events.Decided) and payload is not None:
            found = again.decided(event, payload.body)
            if isinstance(found, Allow):
                told: tuple[Any, ...] = ("allow", None, "", found.sources)
            else:
                told = (type(found).__name__.lower(), found.reason.code.value, found.reason.detail, ())
            assert (event.decision, event.code, event.detail, event.sources) == told
            decisions.append(event.decision)
    assert decisions == "ask allow ask ask ask allow allow deny ask deny allow".split()
