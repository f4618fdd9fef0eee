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
6. A recorded call has the provenance that it had: an entry names each handle (`note_of`), the shelf says what it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

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
    parse_handle,
    stand_alone,
    stood_at,
)
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Notification, Request, format_message, parse_message

MAX_NOTED: Final = 80
"""How much of a path, a source or a field a note holds."""
_NOTE: Final = re.compile(r"(.{0,80}?): (cw:[a-z2-7]{26}-[0-9]{1,5}) of (.*)", re.DOTALL)


class Note(msgspec.Struct, frozen=True):
    """What an entry says of a handle that was filled in: where, which one, `of` which source and field."""

    path: str
    name: Name
    of: str

    @property
    def is_cut(self) -> bool:
        """Whether the argument's path may have been longer."""
        return len(self.path) >= MAX_NOTED


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
    asks = _asks(call)
    value_of = (lambda name: as_text(given[name].value)) if asks else (lambda name: given[name].value)
    arguments, places = fill_in(call.arguments, value_of)
    if own:
        _check_own(call, places)
    filled = tuple(
        _filled(path, name, shelves[name.shelf].source, given[name], whole=_is_whole(call.arguments, path, name))
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


def _asks(call: Call) -> bool:
    """Whether a call is one of ours that reads its handles as texts."""
    return call.server == SERVER and call.name != DERIVE


def _is_whole(arguments: Mapping[str, Any], path: str, name: Name) -> bool:
    return _is_plain(path) and arguments.get(path) == format_handle(name)


def _is_plain(path: str) -> bool:
    """A path with a step could be that of two values, and so could one that was cut."""
    return len(path) < MAX_KEY and "." not in path and "[" not in path


def _argument(path: str) -> str:
    return path.partition("[")[0].partition(".")[0]


def note_of(one: Filled) -> str:
    """How an entry tells of a handle that was filled in; no value stands in it."""
    return f"{one.path[:MAX_NOTED]}: {one.handle} of {_of(one.source, one.field)}"


def parse_note(text: str) -> Note:
    """The inverse of `note_of`, as far as that is kept; raise `Malformed` for every other text.

    A path holds no handle (`find_handles` refuses one in a member's name), so the first one is the one that is meant.
    """
    hit = _NOTE.fullmatch(text)
    if hit is None:
        raise Malformed("an entry tells of a handle in other words than ours")
    return Note(hit[1], parse_handle(hit[2]), hit[3])


def noted(note: Note, shelf: Shelf, call: Call, *, alone: bool) -> Filled | None:
    """What was filled in, from the shelf of then; None if it is not on that shelf. # INVARIANT: 6.

    By its field, where it has another place: other manifests may hide other fields of the same reply beside it.
    `alone`: no other handle stood at that path of the call.
    """
    at = shelf.given[note.name.place : note.name.place + 1]
    found = next((one for one in (*at, *shelf.given) if _of(shelf.source, one.field) == note.of), None)
    if found is None:
        return None
    value = as_text(found.value) if _asks(call) else found.value
    there = call.arguments.get(note.path)
    # Within other words it became a text, and a longer one than its own.
    same = there == value if isinstance(there, str) else not isinstance(value, str)
    whole = alone and _is_plain(note.path) and note.path in call.arguments and same
    return _filled(note.path, note.name, shelf.source, found, whole=whole)


def shown_instead(note: Note, shelf: Shelf) -> bool:
    """Whether a reply that left this shelf shows the field that a note speaks of, which is not on it."""
    field = note.of.removeprefix(_of(shelf.source, ""))
    apart = not any(stood_at(one.field, field) or stood_at(field, one.field) for one in shelf.given)
    return apart and len(field) < MAX_NOTED


def _of(source: str, field: str) -> str:
    return f"{source[:MAX_NOTED]} {field[:MAX_NOTED]}"


def _filled(path: str, name: Name, source: str, given: Given, *, whole: bool) -> Filled:
    return Filled(
        path=path,
        handle=format_handle(name),
        source=source,
        field=given.field,
        trusted=given.trusted,
        inert=is_inert(given.value),
        label=given.label,
        whole=whole,
    )


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
