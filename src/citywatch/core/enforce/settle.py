"""What of a reply the agent may see: its shape is checked, its definitions are held against what was approved.

    the agent's standing → shape of the result → definitions (approved? may it call them?) → the message, re-serialised

Decides release or withholding, on facts alone. INVARIANTS
1. A result is released only if its method promises that shape; what a server says of itself is never believed.
2. A definition that nobody approved, or that changed since, never reaches an agent; the change is reported once.
3. A list shows an agent only tools that some policy could let it call.
4. What is released is our own serialisation, or the bytes that were judged, which are our serialisation already.
5. Nothing reaches an agent that was revoked, or lost its key, since its call was let through, nor one whose chain was
   taken back since.
6. An agent that has read what is not for everybody answers no server's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.chains import chain_rows, check_chain
from citywatch.core.enforce.cursors import Issued, cursor_key, issued_in
from citywatch.core.enforce.held import task_key
from citywatch.core.enforce.needs import HALT, Key, Pin, agent_key, agent_name, definition_key, pin_key
from citywatch.core.enforce.offers import Report, offers_key, report
from citywatch.core.enforce.pinning import definition_bytes, definition_digest
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import Authority, check_halts, check_standing
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.label import BOTTOM, Label, may_flow
from citywatch.core.policy.possible import possible
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Response
from citywatch.core.wire.mcp import Definition


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes the agent may see; `redacted` says what was taken out of them. `code` says why they would not have been
    released, were it enforced. `label`: that of what they bring to an agent of another domain.
    """

    body: bytes
    redacted: tuple[str, ...] = ()
    is_error: bool = False
    report: Report = Report()
    code: Code | None = None
    detail: str = ""
    label: Label | None = None


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """The reply may not be seen, and why."""

    code: Code
    detail: str
    report: Report = Report()


def reply_rows(call: Call, response: Response, authority: Authority | None = None) -> tuple[Key, ...]:
    """The rows that judge a reply: whose it is, under which chain; pins and approved definitions of all it defines,
    earlier offers."""
    delegated = None if authority is None else authority.delegated
    rows = _defined(call, response)
    return rows if delegated is None else tuple(dict.fromkeys((*rows, *chain_rows(delegated.chain))))


def _defined(call: Call, response: Response) -> tuple[Key, ...]:
    whose = _whose(call)
    if call.direction is Direction.TO_AGENT or response.result is None or call.method not in mcp.OFFERING:
        return whose
    given = (cursor_key(call),)  # whether there is a cursor only the rules say
    try:
        mcp.check_reply(call.method, response, call.revision)
        found = mcp.definitions(call.method, response)
    except Malformed:
        return whose  # `settle` says so
    rows: list[Key] = [*whose, *given, offers_key(call.server)] if found else [*whose, *given]
    for one in found:
        rows += [key(call.server, one.kind, one.name) for key in (pin_key, definition_key)]
    return tuple(rows)


def _whose(call: Call) -> tuple[Key, ...]:
    return (agent_key(agent_name(call)), HALT, *(() if call.task is None else (task_key(call.task),)))


def standing_rows(call: Call, authority: Authority | None) -> tuple[Key, ...]:
    """The rows that say whether what was let through may still reach its agent."""
    chain = () if authority is None or authority.delegated is None else chain_rows(authority.delegated.chain)
    return (*_whose(call), *chain)


def check_stands(call: Call, authority: Authority | None, rows: Mapping[Key, Any]) -> None:
    """Raise `Refused` where an agent, its key, its chain, its task or everything was revoked or stopped since.

    That a task is over takes nothing back of what was done for it.
    """
    if authority is None:
        raise Refused(Code.AGENT_UNKNOWN)
    check_standing(authority.agent, authority.key, rows.get(agent_key(authority.name)))
    check_halts(None if call.task is None else rows.get(task_key(call.task)), everything=rows.get(HALT) is not None)
    if authority.delegated is not None:
        check_chain(authority.delegated.chain, rows)


def settle(
    call: Call,
    authority: Authority | None,
    response: Response,
    rules: Rules,
    rows: Mapping[Key, Any],
    label: Label = BOTTOM,
) -> Released | Withheld:
    """Judge one reply. `rows` holds the decoded rows that `reply_rows` named, None for those that do not exist.

    `label` is what the agent's context has by now: its own answers can carry all of that to the server.
    """
    try:
        check_stands(call, authority, rows)  # INVARIANT: 5
    except Refused as refusal:
        return Withheld(code=refusal.code, detail="it was let through before, and its reply is withheld")
    try:
        if call.direction is Direction.TO_AGENT:
            mcp.check_agent_reply(call.method, response)
            if not may_flow(label, None):  # INVARIANT: 6.
                withheld = Withheld(code=Code.NOT_A_READER, detail="the answer would reach `everybody`")
                return _observed(withheld, response) if rules.observe else withheld
            return Released(body=response.body, is_error=response.result is None)
        mcp.check_reply(call.method, response, call.revision, rules.links(call.server))
    except Malformed as failure:
        return Withheld(code=Code.REPLY_MALFORMED, detail=str(failure))
    failed = response.result is None or response.result.get("isError") is True
    offered = mcp.definitions(call.method, response)
    if not offered and call.method not in mcp.OFFERING:
        shared = response.result is not None and response.result.get("cacheScope", "private") != "private"
        return Released(body=mcp.private(response).body if shared else response.body, is_error=failed)
    if response.result is None:
        return Released(body=response.body, is_error=True)
    try:
        digests = [definition_digest(definition_bytes(one.value)) for one in offered]
    except Malformed as failure:
        return Withheld(code=Code.REPLY_MALFORMED, detail=f"a definition: {failure}")
    keep = [
        _approved(call.server, one, digest, rows) and _visible(call, authority, rules, one)
        for one, digest in zip(offered, digests, strict=True)
    ]
    reported = report(call.server, offered, digests, rows)
    if (cursor := issued_in(call, response, rules)) is not None:
        known: Issued = rows.get(cursor_key(call)) or Issued()
        row = (cursor_key(call), msgspec.json.encode(known.with_one(cursor)))
        reported = msgspec.structs.replace(reported, puts=(*reported.puts, row))
    return Released(body=mcp.keep_only(call.method, response, keep).body, is_error=failed, report=reported)


def _observed(withheld: Withheld, response: Response) -> Released:
    """What is released all the same where nothing is enforced; its entry says what it would have been withheld for."""
    return Released(
        body=response.body, is_error=response.result is None, code=withheld.code, detail=f"observed: {withheld.detail}"
    )


def _approved(server: str, one: Definition, digest: str, rows: Mapping[Key, Any]) -> bool:
    pin: Pin | None = rows.get(pin_key(server, one.kind, one.name))
    return pin is not None and pin.offered is None and pin.digest == digest


def _visible(call: Call, authority: Authority | None, rules: Rules, one: Definition) -> bool:
    if one.kind != "tool":
        return True
    tool = rules.tools.get((call.server, one.name))
    if tool is None or authority is None:
        return False
    if rules.observe:  # what an agent does not see it does not try, and nothing would be observed of it
        return True
    return possible(rules.policies, authority.entity, tool.action, rules.servers[call.server])
