"""`/a2a/<peer>`: an agent speaks to another, over HTTP. The request becomes a call; its card comes from `cards`.

Decides nothing but what belongs to HTTP and A2A's header. INVARIANT: a message becomes a call only with a verified
credential behind it; what it asks was read from its body alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from citywatch.core.call import Call, Direction
from citywatch.core.errors import Code
from citywatch.core.identity.credential import Credential
from citywatch.core.wire import a2a, jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Message, Request
from citywatch.service.exchange import Exchange
from citywatch.service.replies import Outcome

CARD = "/.well-known/agent-card.json"
Cards = Callable[[str, Credential, str], Awaitable[bytes]]
"""The card of a peer as this caller may have it, by the address under which it reached us; raises `Refused` for one
that nobody approved, or that changed."""


async def said(
    exchange: Exchange, peer: str, headers: list[tuple[bytes, bytes]], message: Message, credential: Credential
) -> Outcome:
    """Carry one request to a peer, and what comes of it back."""
    a2a.check_version(headers)
    reading = a2a.read_request(message)
    call = Call(
        id=exchange.enforcer.chance.call_id(),
        direction=Direction.TO_SERVER,
        agent=credential.agent,
        server=peer,
        method=reading.row.method,
        name=reading.name,
        arguments=reading.arguments,
        body=message.body,
        revision=a2a.REVISION,
        rpc_id=message.id if isinstance(message, Request) else None,
        task=reading.task,
        chain=reading.chain,
        things=reading.things,
    )
    return await exchange.request(call, credential, {"a2a-version": a2a.VERSION})


def turned_away(message: jsonrpc.Message | None, code: Code, detail: str) -> bytes:
    """Tell a sender whose request never became a call; None when its bytes could not be read."""
    if message is None and code is Code.MALFORMED:
        return mcp.turned_away(None, code, detail)
    rpc_id = message.id if isinstance(message, Request) else None
    return a2a.refusal(rpc_id, code, mcp.error_number(code), detail)
