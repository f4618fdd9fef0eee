"""Where in a list an agent goes on: at a place that the server named, or at words of the agent's own.

Decides which cursors of a server an agent has been given; what becomes of any other is for `readers`, to whom it is an
argument like the rest. INVARIANTS: a cursor is good for the agent that was given it and the server that gave it; of
each pair the last `MAX_ISSUED` are kept, as digests.
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.canonical import digest
from citywatch.core.enforce.rules import Rules
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import Response

MAX_ISSUED: Final = 64
CURSOR: Final = "cursor"
NEXT: Final = "nextCursor"
Key = tuple[str, str]


class Issued(msgspec.Struct, frozen=True):
    """The cursors that one server gave one agent, the newest last."""

    digests: tuple[str, ...] = ()

    def holds(self, cursor: str) -> bool:
        return _digest(cursor) in self.digests

    def with_one(self, cursor: str) -> Issued:
        one = _digest(cursor)
        return Issued((*(known for known in self.digests if known != one), one)[-MAX_ISSUED:])


def cursor_key(call: Call) -> Key:
    """A SPIFFE ID holds no newline."""
    return ("cursors", f"{call.agent}\n{call.server}")


def cursor_of(call: Call, rules: Rules) -> str | None:
    """The cursor that an agent goes on at, where it matters whose words it is."""
    if not rules.principals or call.direction is not Direction.TO_SERVER or call.method not in mcp.OFFERING:
        return None
    cursor = call.arguments.get(CURSOR)
    return cursor if isinstance(cursor, str) else None


def issued_in(call: Call, response: Response, rules: Rules) -> str | None:
    """The cursor that a server gives with its answer."""
    if not rules.principals or call.direction is not Direction.TO_SERVER or call.method not in mcp.OFFERING:
        return None
    cursor = None if response.result is None else response.result.get(NEXT)
    return cursor if isinstance(cursor, str) else None


def _digest(cursor: str) -> str:
    return digest(b"citywatch/cursor/v1\n" + cursor.encode("utf-8", "surrogatepass"))
