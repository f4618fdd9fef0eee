"""What an entry says of a handle, and what it stood for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.call import Call, Direction, Filled
from citywatch.core.enforce.filling import MAX_NOTED, Note, fill, note_of, noted, parse_note, shown_instead
from citywatch.core.enforce.own import DERIVE, SERVER
from citywatch.core.enforce.veiling import Given, Shelf
from citywatch.core.errors import Malformed, Refused
from citywatch.core.flow.handle import Name, find_handles, format_handle, shelf_of
from citywatch.core.label import Label

SHELF = shelf_of(bytes(16))
STRANGE = Label(None, frozenset(("hr",)))


def filled(**changes: Any) -> Filled:
    one = Filled(
        path="to",
        handle=f"cw:{SHELF}-0",
        source="bank/inbox",
        field="$[0].body",
        trusted=False,
        inert=False,
        label=STRANGE,
        whole=True,
    )
    return msgspec.structs.replace(one, **changes)


def shelf(*fields: str) -> Shelf:
    given = tuple(Given(field, "7" if field.endswith("id") else "text", field == "$.own", STRANGE) for field in fields)
    return Shelf(context="home", source="bank/inbox", call="c", at=1, expires=2, given=given)


TEXTS = st.text(st.sampled_from("ab .:[]cw-0$" + chr(10) + chr(233)), max_size=100)


@given(TEXTS, st.integers(0, 99_999), TEXTS, TEXTS)
def test_a_note_is_read_as_it_was_written(path: str, place: int, source: str, field: str) -> None:
    name = Name(SHELF, place)
    note = parse_note(note_of(filled(path=path, handle=format_handle(name), source=source, field=field)))
    assert note == Note(path[:MAX_NOTED], name, f"{source[:MAX_NOTED]} {field[:MAX_NOTED]}")
    assert note.is_cut == (len(path) >= MAX_NOTED)


@pytest.mark.parametrize(
    "text", ["", "to", f"to: cw:{SHELF}-0", f"to cw:{SHELF}-0 of x y", f"to: cw:{SHELF}-00 of x y", "to: cw:a-0 of x y"]
)
def test_other_words_are_no_note(text: str) -> None:
    with pytest.raises(Malformed):
        parse_note(text)


def back(note: Note, on: Shelf, arguments: dict[str, Any] | None = None, *, alone: bool = True) -> Filled | None:
    return noted(note, on, called(arguments or {"to": "text"}), alone=alone)


def called(arguments: dict[str, Any], server: str = "bank", name: str = "pay") -> Call:
    return Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent="a",
        server=server,
        method="tools/call",
        name=name,
        arguments=arguments,
        body=b"",
        revision="r",
    )


VALUES = st.sampled_from(["", "text", "7", 7, 7.5, True, None, [1], {"a": 1}])


@given(
    st.lists(st.tuples(st.sampled_from(["", "x", " "]), VALUES), min_size=1, max_size=3),
    st.sampled_from([("bank", "pay"), (SERVER, "ask"), (SERVER, DERIVE)]),
    st.sampled_from(["text", "values", "a.b"]),
)
def test_what_is_put_back_is_what_was_filled_in(parts: list[tuple[str, Any]], act: tuple[str, str], path: str) -> None:
    """Handles with words between them, at one path: also whether one of them was the whole argument."""
    given = tuple(Given(f"$[{number}]", value, False, STRANGE) for number, (_, value) in enumerate(parts))
    kept = msgspec.structs.replace(shelf(), given=given, expires=10)
    written = "".join(f"{words}cw:{SHELF}-{number}" for number, (words, _) in enumerate(parts))
    asked = called({path: written}, *act)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {path: written}}}
    asked = msgspec.structs.replace(asked, body=msgspec.json.encode(body))
    try:
        done = fill(asked, find_handles(asked.arguments), {SHELF: kept}, "home", 5)
    except Refused:  # one of our own tools, which takes no handle there
        return
    notes = [parse_note(note_of(one)) for one in done.filled]
    bare = msgspec.structs.replace(done, filled=())
    assert tuple(noted(note, kept, bare, alone=len(notes) == 1) for note in notes) == done.filled


def test_a_handle_of_then_is_what_it_was_wherever_it_stands_on_its_shelf() -> None:
    note = parse_note(note_of(filled()))
    assert back(note, shelf("$[0].body", "$[0].from")) == filled()
    assert back(note, shelf("$[0].from", "$[0].body")) == filled()
    said = back(note, shelf("$[0].body"), {"to": "a text"})
    assert said == filled(whole=False)
    number = parse_note(note_of(filled(field="$[0].id")))
    assert back(number, shelf("$[0].id"), {"to": "7"}) == filled(field="$[0].id", inert=True)
    assert back(parse_note(note_of(filled(field="$.own"))), shelf("$.own")) == filled(field="$.own", trusted=True)
    assert back(note, shelf("$[1].body")) is None
    assert back(note, msgspec.structs.replace(shelf("$[0].body"), source="bank/outbox")) is None


@pytest.mark.parametrize(
    ("field", "fields", "shown"),
    [
        ("$[0].body", ("$[0].from",), True),
        ("$[0].body", (), True),
        ("$[0].body", ("$[0]",), False),
        ("$[0].body", ("$",), False),
        ("$[0]", ("$[0].body",), False),
        ("$." + "a" * MAX_NOTED, ("$.b",), False),  # cut off: nobody knows which field it was
    ],
)
def test_what_is_on_no_shelf_is_shown_unless_it_is_behind_another_handle(
    field: str, fields: tuple[str, ...], shown: bool
) -> None:
    assert shown_instead(parse_note(note_of(filled(field=field))), shelf(*fields)) is shown
