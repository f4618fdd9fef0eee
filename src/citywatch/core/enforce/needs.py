"""Which rows must be loaded before a call can be judged, and the frozen snapshot they become.

Decides only what to load; whether the call goes through is `admit`'s. INVARIANTS: everything a decision may depend on
is in `Known`, with the version of each row read, so that the append can check that none of them moved; `needs` reads
nothing but the call and the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction, Effect, Reason
from citywatch.core.canonical import digest
from citywatch.core.delegation.chain import Chain, Verified
from citywatch.core.enforce.carrying import NOTHING, Spread, leaving
from citywatch.core.enforce.chains import budget_key, bundle_key, chain_of, chain_rows, guest_budget, is_act
from citywatch.core.enforce.context import Flow, FlowNeed, flow_need
from citywatch.core.enforce.cursors import Issued, cursor_key, cursor_of
from citywatch.core.enforce.hearing import hearing_of
from citywatch.core.enforce.held import TaskRow, holder_of, plan_key, progress_key, task_key
from citywatch.core.enforce.hush import is_hushed
from citywatch.core.enforce.invitation import Invitation
from citywatch.core.enforce.past import Event, event_of
from citywatch.core.enforce.peers import is_message, may_wait, receiver_of, thing_rows
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.trees import Branch, Reached, reached_rows
from citywatch.core.flow.readings import Readings
from citywatch.core.identity.registration import AgentRow
from citywatch.core.plan.temporal import Memory
from citywatch.core.wire import a2a_push, mcp

Key = tuple[str, str]
HALT: Final[Key] = ("halt", "all")
"""Where it is kept that everything is stopped; that it is there says so."""

TOOL_CALL = "tools/call"
CARD: Final = "card"
"""The kind of an agent's card: a definition of which each peer has one, without a name."""
PINNED = {TOOL_CALL: "tool", "prompts/get": "prompt"}
"""The methods that use a definition which somebody must have approved, and its kind."""
# Bound once: up to Python 3.11 each look-up of a member runs code of its class.
_TO_SERVER, _TO_AGENT, _READ = Direction.TO_SERVER, Direction.TO_AGENT, Effect.READ
_SORTED: Final = msgspec.json.Encoder(order="sorted")


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """An approved definition, by digest. `offered` is the digest of a later, other definition, until reviewed."""

    digest: str
    by: str
    at: int
    offered: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A stateful MCP session (2025-11-25 and before): bound to one agent and one server, leased by one replica.

    `led`: its client said, when it was opened, that it shows people addresses (`wire.elicitation`).
    """

    agent: str
    server: str
    upstream: str | None
    replica: str
    revision: str
    opened: int
    led: bool = False


class Sessions(msgspec.Struct, frozen=True):
    """The sessions that one agent has open, oldest first."""

    ids: tuple[str, ...] = ()


class OpenCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was let through and has not been settled. What is still open after a crash is `lost`."""

    replica: str
    agent: str
    server: str
    method: str
    likeness: str | None
    call: str = ""  # empty in rows of a version that kept every call under its own id


class LostCalls(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of identical calls that were lost: those of `unknown` outcome, by their ids.

    `happened` is the last one of which a person found out that it did; until `until` a retry is refused as its
    repetition.
    """

    unknown: tuple[str, ...] = ()
    happened: str | None = None
    until: int = 0


def read_lost(row: str | LostCalls | None) -> LostCalls | None:
    """The row of lost calls; an earlier version kept one id and nothing else."""
    return LostCalls(unknown=(row,)) if isinstance(row, str) else row


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot that a decision depends on. `reads` names each row with the version seen (0: absent).

    `taken` says that an earlier call, still open, has the same JSON-RPC id; `past` is what temporal rules remember;
    `broken` says why a handle names nothing here; `issued` are the cursors that the server gave the agent. `chain` is
    what the call's links are together, or why they are no chain; `hops` are the agents that it went through,
    `withdrawn` what of it was revoked. `halted`: everything is stopped. `things` says to whom a peer gave what a
    message goes on with, `hearer` is the agent of ours that it is spoken to. `card` is the approval of
    that peer's card, `offers_pushes` what it says of them. `reached` says in which trees its agent
    stands, and in which whom it speaks to; `branches` are those that it belongs to (`trees`).
    `spread` is who carried on before what the call carries on. `rooting` are the keys that speak for the principals of
    the trust domain that rooted the chain, by its bundle, and that counts until `rooting_until`.
    """

    rules: Rules
    agent: AgentRow | None
    session: Session | None
    pin: Pin | None
    lost: LostCalls | None
    invited: Invitation | None
    taken: bool
    used: Mapping[str, int]
    reads: tuple[tuple[Key, int], ...]
    flow: Flow | None = None
    past: Mapping[Key, Memory] = {}
    broken: Reason | None = None
    task: TaskRow | None = None
    chain: Chain | Reason | None = None
    hops: Mapping[Key, AgentRow | None] = {}
    withdrawn: frozenset[str] = frozenset()
    issued: Issued | None = None
    halted: bool = False
    things: Mapping[Key, str | None] = {}
    card: Pin | None = None
    offers_pushes: bool = True
    reached: Mapping[Key, Reached | None] = {}
    branches: tuple[Branch, ...] = ()
    hearer: AgentRow | None = None
    spread: Spread = NOTHING
    rooting: frozenset[str] = frozenset()
    rooting_until: int = 0


class BudgetNeed(msgspec.Struct, frozen=True):
    """One budget that a call draws on: the key of its counter, its present window and its limit."""

    key: str
    window: int
    limit: int
    rate: bool


class Needs(msgspec.Struct, frozen=True):
    """The rows and the budget counters to load."""

    rows: tuple[Key, ...]
    budgets: tuple[BudgetNeed, ...]
    likeness: str | None
    pin: Key | None
    invited: Key | None = None
    asked: Key | None = None
    flow: FlowNeed | None = None
    event: Event | None = None
    chain: Chain | Reason | None = None


def agent_name(call: Call) -> str:
    """The label after `/agent/`; the gateway built `call.agent` from a verified credential."""
    return call.agent.rpartition("/")[2]


def agent_key(name: str) -> Key:
    return ("agent", name)


def pin_key(server: str, kind: str, name: str) -> Key:
    """A newline separates the parts: server names and kinds cannot hold one, so no two triples meet."""
    return ("pin", f"{server}\n{kind}\n{name}")


def definition_key(server: str, kind: str, name: str) -> Key:
    """Where the approved definition itself is kept."""
    return ("definition", pin_key(server, kind, name)[1])


def card_rows(call: Call) -> tuple[Key, ...]:
    """The approval of the card of whoever a message is spoken to; who asks for pushes has to know what it says."""
    pin = pin_key(call.server, CARD, "")
    if call.method not in a2a_push.METHODS and a2a_push.asked(call) is None:
        return (pin,)
    return (pin, definition_key(call.server, CARD, ""))


def session_key(session: str) -> Key:
    return ("session", session)


def led_key(session: str) -> Key:
    """Where it is kept to which tickets a session was led (`service.leading`)."""
    return ("led", session)


def ended_rows(session: str) -> tuple[Key, ...]:
    """The rows that go with a session."""
    return session_key(session), led_key(session)


def sessions_key(agent: str) -> Key:
    return ("sessions", agent)


def lost_key(likeness: str) -> Key:
    return ("lost", likeness)


def open_key(call: Call) -> Key:
    """Where it is kept that a call was let through and is not settled.

    An agent's request in a session is kept under its JSON-RPC id: it names one call at a time. A server that mixes up
    two calls of one id would send the reply to one where the shape of the other is expected.
    """
    if not has_shared_id(call):
        return ("open", call.id)
    return ("open", f"{call.session}\n{msgspec.json.encode(call.rpc_id).decode()}")


def has_shared_id(call: Call) -> bool:
    """Whether a request's JSON-RPC id may be that of another call: without a session each has its own connection."""
    return call.session is not None and call.rpc_id is not None and call.direction is _TO_SERVER


def waiting_key(kind: str, call: Call, rpc_id: str | int | None) -> Key:
    """Where it is kept what waits for one message: in one session or, without one, for one agent at one server."""
    home = call.session if call.session is not None else f"{call.agent}\n{call.server}"
    return (kind, f"{home}\n{msgspec.json.encode(rpc_id).decode()}")


def invited_key(call: Call) -> Key:
    """Where it is kept that a server asked for more before it answers this call, for the task that it was made for."""
    return ("invited", likeness(call) if call.task is None else f"{likeness(call)}\n{call.task}")


def effect_of(rules: Rules, call: Call) -> Effect:
    """What a call does to the world: a tool's effect as declared, irreversible if undeclared; else its method's."""
    if call.method != TOOL_CALL or call.direction is not _TO_SERVER:
        return mcp.effect_of_method(call.direction, call.revision, call.method)
    tool = rules.tools.get((call.server, call.name or ""))
    return Effect.IRREVERSIBLE if tool is None else tool.effect


def is_synced(rules: Rules, call: Call) -> bool:
    """Whether a call's entry must survive a loss of power before it leaves: it changes something, or it carries what
    an agent answers a server."""
    return effect_of(rules, call) is not _READ or call.continuation is not None


def likeness(call: Call) -> str:
    """What makes two calls "identical": agent, server, method and params, not the JSON-RPC id or `_meta`."""
    head = f"citywatch/likeness/v1\n{call.agent}\n{call.server}\n{call.method}\n{call.name or ''}\n"
    asked = call.arguments
    if call.method != TOOL_CALL:
        asked = {name: value for name, value in asked.items() if name not in mcp.CONTINUING}
    return digest(head.encode() + _SORTED.encode(_without_nulls(asked)))


def _without_nulls(value: Any) -> Any:
    """Null is absent to policy, and so it makes no other call of one."""
    if type(value) is dict or isinstance(value, Mapping):
        return {
            name: item if type(item) in _SCALARS else _without_nulls(item)
            for name, item in value.items()
            if item is not None
        }
    return value


_SCALARS: Final = frozenset((str, int, float, bool))


def needs(
    call: Call,
    rules: Rules,
    now: int,
    key: str = "",
    readings: Readings | None = None,
    verified: Verified | None = None,
    hearer: AgentRow | None = None,
) -> Needs:
    """Say which rows judge this call: who calls, in which session, which pin, which earlier call, which budgets.

    `key` is the thumbprint that the request proves: what that key has received decides what its values may steer.
    Not whether an agent's JSON-RPC id is in use: the row of one that is not is in no memory. The append asks.
    `readings` is where the decision will look for the values of the call as they were read; `verified` remembers the
    chains that were shown before. `hearer` is the row of the agent of ours that is spoken to.
    """
    need = _with_chain(call, _needs(call, rules, now), chain_of(call, verified, rules.roots, rules.frontiers), rules)
    if cursor_of(call, rules) is not None:
        need = msgspec.structs.replace(need, rows=(*need.rows, cursor_key(call)))
    event = event_of(call, rules, effect_of(rules, call).value) if rules.temporal else None
    if event is not None:
        need = msgspec.structs.replace(need, rows=(*need.rows, *event.rows), event=event)
    if not rules.principals:
        return need
    isolated = rules.is_isolated(call.agent)
    steered = _steered(call, rules)
    waits = steered is not None or may_wait(call, rules)  # about what else is asked there is no ticket
    alike = need.likeness or likeness(call) if waits else ""
    flow = flow_need(call, steered, alike, key, readings, isolated=isolated)
    if call.about is not None and (tool := rules.tools.get((call.server, call.about))) is not None:
        flow = msgspec.structs.replace(flow, readers=tool.fields.readers)
    if call.direction is Direction.TO_AGENT and call.rpc_id is None:
        hushed = rules.hushes(call.agent, call.server, call.about)
        hushed = hushed and is_hushed(call.method, call.arguments, call.body)
        flow = msgspec.structs.replace(flow, hushed=hushed)
    if hearer is not None and (hearing := hearing_of(call, rules, hearer)) is not None:
        holder = holder_of(call.agent, call.task if isolated else None)
        plan = (plan_key(holder), progress_key(holder)) if hearing.handed else ()
        flow = msgspec.structs.replace(flow, hearing=hearing, plan=plan)
    if rules.follows:
        flow = msgspec.structs.replace(flow, leaves=leaving(call, rules), followed=True)
    return msgspec.structs.replace(need, rows=(*need.rows, *flow.rows()), flow=flow)


def _with_chain(call: Call, need: Needs, chain: Chain | Reason | None, rules: Rules) -> Needs:
    """The chain's rows and, for an act, its counters beside the agent's own."""
    if not isinstance(chain, Chain):
        return need if chain is None else msgspec.structs.replace(need, chain=chain)
    counters = tuple(BudgetNeed(budget_key(one), 0, one.calls, False) for one in chain.budgets) if is_act(call) else ()
    rows = (*need.rows, *(key for key in chain_rows(chain) if key not in need.rows))
    if chain.home:
        rows = (*rows, bundle_key(chain.home))
        most = BudgetNeed(guest_budget(chain.home, chain.task), 0, rules.frontiers[chain.home].calls, False)
        counters = (*counters, most) if is_act(call) else ()
    return msgspec.structs.replace(need, rows=rows, budgets=(*need.budgets, *counters), chain=chain)


def _steered(call: Call, rules: Rules) -> ApprovedTool | None:
    """The tool whose arguments are traced, if the call uses one."""
    if call.method != TOOL_CALL or call.direction is not _TO_SERVER:
        return None
    return rules.tools.get((call.server, call.name or ""))


def _needs(call: Call, rules: Rules, now: int) -> Needs:
    name = agent_name(call)
    rows: list[Key] = [agent_key(name), HALT, *(() if call.task is None else (task_key(call.task),)), *thing_rows(call)]
    rows += reached_rows(call, rules)
    if is_message(call):
        rows += card_rows(call)
    if is_message(call) and (spoken_to := receiver_of(call, rules)) is not None and spoken_to != name:
        rows.append(agent_key(spoken_to))
    if call.session is not None:
        rows.append(session_key(call.session))
    if call.direction is _TO_AGENT and call.rpc_id is not None:
        asked = waiting_key("asked", call, call.rpc_id)
        return Needs((*rows, asked), (), None, None, asked=asked)
    invited = None
    if call.continuation is not None:
        invited = invited_key(call)
        rows.append(invited)
    kind = PINNED.get(call.method)
    if kind is None or call.direction is not _TO_SERVER or call.name is None:
        return Needs(tuple(rows), (), None, None, invited)
    pin = pin_key(call.server, kind, call.name)
    rows.append(pin)
    if call.method != TOOL_CALL:
        return Needs(tuple(rows), (), None, pin, invited)
    alike = None
    if effect_of(rules, call) is not _READ:
        alike = likeness(call)
        rows.append(lost_key(alike))
    return Needs(tuple(rows), _budgets(call, name, rules, now), alike, pin, invited)


def _budgets(call: Call, name: str, rules: Rules, now: int) -> tuple[BudgetNeed, ...]:
    budgets = rules.budgets.get(name)
    if not budgets:
        return ()
    return tuple(
        BudgetNeed(
            f"{name}\n{call.server}\n{call.name}\n{budget.window_ms}",
            now // budget.window_ms if budget.window_ms else 0,
            budget.calls,
            budget.window_ms > 0,
        )
        for budget in budgets.get((call.server, call.name or ""), ())
    )
