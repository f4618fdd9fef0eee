"""From entries of the log back to the calls they judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citywatch.core.call import Call, Direction
from citywatch.core.errors import Malformed
from citywatch.core.events import Decided
from citywatch.core.log.entry import decode_event
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Request, parse_message

if TYPE_CHECKING:
    from citywatch.main.assembly import City

SLICE = 512


async def find_decided(city: City, call: str) -> tuple[int, Decided]:
    """The entry in which a call was decided; `Malformed` if the log has none of that id."""
    size = await city.store.sync()
    for start in range(0, size, SLICE):
        for index, leaf in enumerate(await city.store.entries(start, min(start + SLICE, size)), start):
            if call.encode() in leaf:
                event = decode_event(leaf)
                if isinstance(event, Decided) and event.call == call:
                    return index, event
    raise Malformed(f"the log has no decision of a call `{call[:80]}`")


def rebuild(decided: Decided, body: bytes) -> Call:
    """The call as it was judged, from its entry and the message that the entry's digest names."""
    arguments: dict[str, object] = {}
    rpc_id = None
    if body:
        message = parse_message(body, FROM_SERVER)
        params = dict(mcp.visible(getattr(message, "params", None)))
        inner = params.get("arguments", {})
        arguments = inner if decided.method == "tools/call" and isinstance(inner, dict) else params
        rpc_id = message.id if isinstance(message, Request) else None
    return Call(
        id=decided.call,
        direction=Direction(decided.direction),
        agent=decided.agent,
        server=decided.server,
        method=decided.method,
        name=decided.name,
        arguments=arguments,
        body=body,
        revision=decided.revision,
        rpc_id=rpc_id,
    )
