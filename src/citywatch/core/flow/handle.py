"""A name given to the model in place of a value: `cw:` and what nobody guesses; how it is found in text and replaced.

Decides what a handle looks like, where one stands in a call's arguments, and what stands there once it is filled in.
Does not decide which fields are hidden (`veil`), whose handle is whose, or what its value may be used for (`enforce`).

INVARIANTS: one pass fills in, so that a value that holds what looks like a handle names nothing; whatever stands
where a handle stood is told by the path under which `enforce.arguments` meets it; a text that is no handle, letter by
letter, is left alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.tokens import exact_tokens

SEED: Final = 16
"""Bytes of chance behind the handles of one reply."""
LIFE_MS: Final = 7 * 24 * 3_600_000
"""How long a handle names anything."""
MAX_NAMED: Final = 256
"""Handles of one call that are filled in."""
MAX_KEY: Final = 80
"""How much of a member's name a path holds; as `enforce.arguments` writes it."""
INERT: Final = frozenset((Kind.NUMBER, Kind.MONEY, Kind.DATE, Kind.TIME, Kind.IBAN, Kind.PHONE))
"""What cannot carry an instruction. Words can hide in an address or an id."""
_HANDLE: Final = re.compile(r"cw:([a-z2-7]{26})-(0|[1-9][0-9]{0,4})")


class Name(msgspec.Struct, frozen=True):
    """A handle, taken apart: the shelf that one reply filled, and the place on it."""

    shelf: str
    place: int


def format_handle(name: Name) -> str:
    """The text that a model is given."""
    return f"cw:{name.shelf}-{name.place}"


def parse_handle(text: str) -> Name:
    """The inverse of `format_handle`; raise `Malformed` for every other text."""
    hit = _HANDLE.fullmatch(text)
    if hit is None:
        raise Malformed(f"`{text[:80]}` is not a handle")
    return Name(hit[1], int(hit[2]))


def shelf_of(seed: bytes) -> str:
    """The name of a shelf, from chance that was drawn for it alone."""
    if len(seed) != SEED:
        raise Malformed(f"a shelf is named by {SEED} bytes of chance")
    return base64.b32encode(seed).decode().rstrip("=").lower()


def seed_of(shelf: str) -> bytes:
    """The inverse of `shelf_of`."""
    try:
        seed = base64.b32decode(f"{shelf.upper()}======", casefold=False)
    except ValueError:
        seed = b""
    if len(seed) != SEED or shelf_of(seed) != shelf:
        raise Malformed(f"`{shelf[:80]}` names no shelf")
    return seed


def find_handles(value: Any) -> tuple[Name, ...]:
    """Every handle in a JSON value, each once; `Malformed` for more than `MAX_NAMED`, or one in a member's name."""
    found: dict[Name, None] = {}
    for text, is_name in _texts(value):
        for hit in _HANDLE.finditer(text):
            if is_name:
                raise Malformed("a handle stands in the name of a member, where nothing is filled in")
            found[Name(hit[1], int(hit[2]))] = None
            if len(found) > MAX_NAMED:
                raise Malformed(f"the call has more than {MAX_NAMED} handles")
    return tuple(found)


def fill_in(arguments: Mapping[str, Any], value_of: Callable[[Name], Any]) -> tuple[dict[str, Any], list[Place]]:
    """The arguments with a value for each handle, and where each stood.

    An argument that is a handle and nothing else becomes the value, of its own type; within other words, its text.
    """
    places: list[Place] = []
    filled = {name: _filled(value, name, value_of, places) for name, value in arguments.items()}
    return filled, places


Place = tuple[str, Name]
"""Where a handle stood: the path of that argument, and the handle."""


def _filled(value: Any, path: str, value_of: Callable[[Name], Any], places: list[Place]) -> Any:
    if isinstance(value, str):
        return _filled_text(value, path, value_of, places)
    if isinstance(value, Mapping):
        return {key: _filled(one, f"{path}.{key[:MAX_KEY]}", value_of, places) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, f"{path}[{number}]", value_of, places) for number, one in enumerate(value)]
    return value


def _filled_text(text: str, path: str, value_of: Callable[[Name], Any], places: list[Place]) -> Any:
    whole = _HANDLE.fullmatch(text)
    if whole is not None:
        name = Name(whole[1], int(whole[2]))
        places.append((path, name))
        return value_of(name)

    def put(hit: re.Match[str]) -> str:
        name = Name(hit[1], int(hit[2]))
        places.append((path, name))
        return as_text(value_of(name))

    return _HANDLE.sub(put, text)


def as_text(value: Any) -> str:
    """A value among other words: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def is_inert(value: Any) -> bool:
    """Whether a value can carry no instruction: a number, a yes or no, or a text that is one typed token of `INERT`."""
    if value is None or isinstance(value, bool | int | float):
        return True
    return isinstance(value, str) and any(token.kind in INERT for token in exact_tokens(value))


def stand_alone(value: Any) -> bool:
    """Whether each handle in a JSON value is all of its text."""
    return not any(_HANDLE.search(text) and not _HANDLE.fullmatch(text) for text, _ in _texts(value))


def stood_at(path: str, argument: str) -> bool:
    """Whether a handle at `path` fills the argument at that path, or one inside of it, or a part of it."""
    return argument == path or argument.startswith((f"{path}.", f"{path}["))


def _texts(value: Any) -> Iterator[tuple[str, bool]]:
    """Every string of a JSON value, and whether it is the name of a member."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one, False
        elif isinstance(one, Mapping):
            yield from ((key, True) for key in one)
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one
