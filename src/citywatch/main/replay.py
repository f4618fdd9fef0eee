"""From entries of the log back to the calls they judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citywatch.core.call import Asserted, Call, Direction
from citywatch.core.errors import Malformed
from citywatch.core.events import Decided
from citywatch.core.identity.envelope import read_envelope
from citywatch.core.log.entry import decode_event
from citywatch.core.wire import a2a, mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Request, parse_message

if TYPE_CHECKING:
    from citywatch.main.assembly import City

SLICE = 512
TICKET = 12
"""A ticket is named by so many characters of the call that opened it."""


async def find_named(city: City, name: str) -> tuple[int, Decided]:
    """The decision that a person means: by a call's id, a ticket's, or the index of an entry of that call."""
    if not (name.isdecimal() and len(name) < TICKET):
        return await find_decided(city, name)
    index = int(name)
    leaves = await city.store.entries(index, index + 1) if index < await city.store.sync() else ()
    event = decode_event(leaves[0]) if leaves else None
    if isinstance(event, Decided):
        return index, event
    call = getattr(event, "call", None)
    if not isinstance(call, str):
        raise Malformed(f"entry {index} is no decision, and belongs to none: `citywatch log show` lists entries")
    return await find_decided(city, call)


async def find_decided(city: City, call: str) -> tuple[int, Decided]:
    """The entry in which a call was decided, by its id or its ticket's; `Malformed` if the log has none."""
    size = await city.store.sync()
    for start in range(0, size, SLICE):
        for index, leaf in enumerate(await city.store.entries(start, min(start + SLICE, size)), start):
            if call.encode() in leaf:
                event = decode_event(leaf)
                if isinstance(event, Decided) and call in (event.call, event.call[:TICKET]):
                    return index, event
    raise Malformed(f"the log has no decision of a call `{call[:80]}`")


def rebuild(decided: Decided, body: bytes) -> Call:
    """The call as it was judged, from its entry and the message that the entry's digest names."""
    arguments: dict[str, object] = {}
    rpc_id = None
    chain: tuple[str, ...] = ()
    things: tuple[tuple[str, str], ...] = ()
    tightened = brought = None
    kind = ""
    if body and decided.revision == a2a.REVISION:
        message = parse_message(body, FROM_SERVER)
        reading = a2a.read_request(message)
        arguments, chain, things = dict(reading.arguments), reading.chain, reading.things
        kind = reading.type
        rpc_id = message.id if isinstance(message, Request) else None
        tightened = reading.tightened
        brought = None if reading.envelope is None else read_envelope(reading.envelope.encode("utf-8")).label
    elif body:
        message = parse_message(body, FROM_SERVER)
        params = dict(mcp.visible(getattr(message, "params", None)))
        inner = params.get("arguments", {})
        arguments = inner if decided.method == "tools/call" and isinstance(inner, dict) else params
        chain = mcp.shown_chain(message)
        rpc_id = message.id if isinstance(message, Request) else None
        shown = mcp.shown_envelope(message) if decided.direction == Direction.TO_SERVER.value else None
        brought = None if shown is None else read_envelope(shown.encode("utf-8")).label
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
        task=decided.task,
        chain=chain,
        things=things,
        tightened=tightened,
        brought=brought,
        type=kind,
        asserted=_asserted(decided),
    )


def _asserted(decided: Decided) -> Asserted | None:
    """What a foreign issuer had asserted, as the entry says: the token itself is nowhere."""
    if len(decided.asserted) < 2:
        return None
    issuer, subject, *actors = decided.asserted
    return Asserted(issuer=issuer, subject=subject, actors=tuple(actors))
