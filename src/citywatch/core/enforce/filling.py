"""A call's handles become what they stand for: before it is judged, so that what is judged is what is forwarded.

Decides whether each handle of a call names something for this agent, now; what its value may do is for the gates, which
are told of it by `Call.filled`.

INVARIANTS
1. A handle is good in the context that was given it, until it expires; whoever makes one up, or has it from another
   agent, is told the same thing.
2. The filled call is written anew from the filled arguments and holds to the limits of any agent's message.
3. A call with a handle that names nothing is refused as a whole: nothing goes out half filled.
4. The gateway's own tools are given texts to read and values to work with, and nothing else out of handles: a hidden
   text among the options of a question would be one of its answers, and be seen.
5. A value is derived from handles that stand alone: one between letters of the agent's would be half its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.call import Call, Direction, Filled
from citywatch.core.enforce.context import Key
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.own import DERIVE, FILLED, SERVER, TEXT
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.veiling import Given, Shelf, shelf_key
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.flow.handle import (
    MAX_KEY,
    Name,
    Place,
    as_text,
    fill_in,
    find_handles,
    format_handle,
    is_inert,
    stand_alone,
)
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
    asks = own and call.name != DERIVE
    value_of = (lambda name: as_text(given[name].value)) if asks else (lambda name: given[name].value)
    arguments, places = fill_in(call.arguments, value_of)
    if own:
        _check_own(call, places)
    filled = tuple(
        Filled(
            path=path,
            handle=format_handle(name),
            source=shelves[name.shelf].source,
            field=given[name].field,
            trusted=given[name].trusted,
            inert=is_inert(given[name].value),
            label=given[name].label,
            whole=_is_whole(call.arguments, path, name),
        )
        for path, name in places
    )
    body = _body(call.body, arguments)
    return msgspec.structs.replace(call, arguments=arguments, body=body, filled=filled)


def _check_own(call: Call, places: list[Place]) -> None:
    where = FILLED.get(call.name or "", TEXT)
    if any(_argument(path) not in where for path, _ in places):  # INVARIANT: 4.
        allowed = " and ".join(f"`{one}`" for one in sorted(where))
        raise Refused(Code.HANDLE_UNKNOWN, f"of `{SERVER}/{call.name}`, handles stand in {allowed} and nowhere else")
    if call.name == DERIVE and not stand_alone(call.arguments):  # INVARIANT: 5.
        raise Refused(Code.HANDLE_UNKNOWN, "a value is derived from handles that stand alone, with nothing beside them")


def _is_whole(arguments: Mapping[str, Any], path: str, name: Name) -> bool:
    """A path with a step could be that of two values, and so could one that was cut."""
    plain = len(path) < MAX_KEY and "." not in path and "[" not in path
    return plain and arguments.get(path) == format_handle(name)


def _argument(path: str) -> str:
    return path.partition("[")[0].partition(".")[0]


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
