"""A call's handles become what they stand for: before it is judged, so that what is judged is what is forwarded.

Decides whether each handle of a call names something for this agent, now; what its value may do is for the gates, which
are told of it by `Call.filled`.

INVARIANTS
1. A handle is good in the context that was given it, until it expires; whoever makes one up, or has it from another
   agent, is told the same thing.
2. The filled call is written anew from the filled arguments and holds to the limits of any agent's message.
3. A call with a handle that names nothing is refused as a whole: nothing goes out half filled.
4. The gateway's own tools are given texts to read, and nothing else out of handles: a hidden text among the options of
   a question would be one of its answers, and be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.call import Call, Direction, Filled
from citywatch.core.enforce.context import Key
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.own import SERVER
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.veiling import Given, Shelf, shelf_key
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.flow.handle import Name, as_text, fill_in, find_handles, format_handle, is_inert
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Notification, Request, format_message, parse_message


def handles_of(call: Call, rules: Rules) -> tuple[Name, ...]:
    """The handles in a tool call's arguments; raise `Refused` for one where nothing is filled in, or too many."""
    if call.method != TOOL_CALL or call.direction is not Direction.TO_SERVER or call.filled or not rules.principals:
        return ()
    if b"cw:" not in call.body:
        return ()  # our own serialisation escapes none of these
    try:
        return find_handles(call.arguments)
    except Malformed as failure:
        raise Refused(Code.HANDLE_UNKNOWN, str(failure)) from None


def shelf_rows(handles: tuple[Name, ...]) -> tuple[Key, ...]:
    """The rows that say what they stand for."""
    return tuple(dict.fromkeys(shelf_key(one.shelf) for one in handles))


def fill(call: Call, handles: tuple[Name, ...], shelves: Mapping[str, Shelf], home: str, now: int) -> Call:
    """The call with each value in its place. `shelves` are those that exist; `home` is where the context's items are.

    Raises `Refused`.
    """
    if not handles:
        return call
    given = {one: _given(one, shelves.get(one.shelf), home, now) for one in handles}
    own = call.server == SERVER
    value_of = (lambda name: as_text(given[name].value)) if own else (lambda name: given[name].value)
    arguments, places = fill_in(call.arguments, value_of)
    if own and any(path != "text" for path, _ in places):  # INVARIANT: 4.
        raise Refused(Code.HANDLE_UNKNOWN, "a question's handles stand in `text` and nowhere else")
    filled = tuple(
        Filled(
            path=path,
            handle=format_handle(name),
            source=shelves[name.shelf].source,
            field=given[name].field,
            trusted=given[name].trusted,
            inert=is_inert(given[name].value),
            label=given[name].label,
        )
        for path, name in places
    )
    body = _body(call.body, arguments)
    return msgspec.structs.replace(call, arguments=arguments, body=body, filled=filled)


def _given(name: Name, shelf: Shelf | None, home: str, now: int) -> Given:
    if shelf is None or shelf.context != home or name.place >= len(shelf.given):  # INVARIANT: 1.
        raise Refused(Code.HANDLE_UNKNOWN, f"`{format_handle(name)}` names nothing that this agent was given")
    if now >= shelf.expires:
        raise Refused(Code.HANDLE_EXPIRED, f"`{format_handle(name)}`")
    return shelf.given[name.place]


def _body(body: bytes, arguments: dict[str, Any]) -> bytes:
    """# INVARIANT: 2."""
    message = parse_message(body, FROM_SERVER)
    if not isinstance(message, Request | Notification):
        raise Refused(Code.HANDLE_UNKNOWN, "no call is an answer")
    params = {**(message.params or {}), "arguments": arguments}
    written = format_message(msgspec.structs.replace(message, params=params))
    try:
        parse_message(written, FROM_AGENT)
    except Malformed as failure:
        raise Refused(Code.ARGUMENT_UNSUPPORTED, f"once its handles are filled in, {failure}") from None
    return written
