"""What a message shows of a foreign issuer: taken out of it, verified, and handed on as that issuer's word.

Decides nothing: `core.identity.foreign` verifies. INVARIANT: the token itself goes no further than here: it is in no
call, no entry, no payload, and in nothing that is sent on.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core.call import Asserted
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.foreign import verify_assertion
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Message
from citywatch.service.enforcer import Enforcer

Take = Callable[[Message], tuple[Message, str | None]]
"""Where a protocol carries one: MCP in `_meta`, A2A in `metadata`."""


def taken(
    enforcer: Enforcer, message: Message, credential: Credential, take: Take = mcp.take_assertion
) -> tuple[Message, Asserted | None]:
    """The message without its assertion, and what that says; `Refused` for one that does not hold."""
    bare, token = take(message)
    if token is None:
        return message, None
    rules = enforcer.rules
    now = enforcer.clock.now_ms()
    return bare, verify_assertion(token, rules.issuers, credential, now, rules.leeway_ms)
