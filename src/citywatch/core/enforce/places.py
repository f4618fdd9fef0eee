"""Where values can stand in the arguments of a tool, by its approved input schema, as manifests name places.

Decides nothing and types nothing (`policy.shapes` does). What a schema offers in any branch (`anyOf`, `allOf`, `if`) is
a place, for a call may take that branch. INVARIANTS: a place's path is the one under which `arguments` looks its
declaration up; whatever a server calls a schema, this ends (local references, `MAX_DEPTH` levels, `MAX_PLACES`
places, `MAX_BRANCHES` of each) and never raises; what lies beyond a bound is part of the last place above it.
SPEC: JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

MAX_DEPTH: Final = 8
MAX_PLACES: Final = 512
MAX_BRANCHES: Final = 64
NUMBERED: Final = re.compile(r"\[[0-9]+\]")
"""The numbers of elements: a manifest speaks of all elements of an array at once."""
_BRANCHES: Final = ("anyOf", "oneOf", "allOf")
_CONDITIONS: Final = ("if", "then", "else")


class Place(msgspec.Struct, frozen=True):
    """One place: its path (`order.lines[].price`) and everything that the schema says of the value there.

    `tops` are the arguments that it is in: more than one where one is named as a place of another is. `members`: the
    value is an object, so that names of members stand at the place itself. `listed`: it is an array, whose elements
    stand at a place of their own.
    """

    path: str
    tops: tuple[str, ...]
    schemas: tuple[Mapping[str, Any], ...]
    members: bool = False
    listed: bool = False

    def says(self, word: str) -> Iterator[Any]:
        """What any branch says under a keyword."""
        return (one[word] for one in self.schemas if word in one)


def places(schema: Mapping[str, Any]) -> tuple[Place, ...]:
    """Every place of an input schema, in its order; an object or array stands before what is in it.

    Looks at all arguments before it looks into one, so that none can be deep enough to hide the others.
    """
    found: dict[str, tuple[tuple[int, ...], Place]] = {}
    offered = enumerate(_members(_branches(schema, schema)))
    pending: deque[tuple[tuple[int, ...], str, str, Any]] = deque(
        ((number,), name, name, inner) for number, (name, inner) in offered
    )
    while pending and len(found) < MAX_PLACES:
        order, path, top, inner = pending.popleft()
        path, schemas = NUMBERED.sub("[]", path), _branches(inner, schema)
        while (items := _items(schemas, schema)) and len(order) < MAX_DEPTH:
            _add(found, order, Place(path, (top,), schemas, listed=True))
            order, path, schemas = (*order, 0), f"{path}[]", items
        members = _members(schemas) if len(order) < MAX_DEPTH else []
        _add(found, order, Place(path, (top,), schemas, members=bool(members)))
        if len(pending) + len(found) < MAX_PLACES:  # or there will be no room for them anyway
            pending += [((*order, at), f"{path}.{name}", top, one) for at, (name, one) in enumerate(members)]
    return tuple(place for _, place in sorted(found.values(), key=lambda one: one[0]))[:MAX_PLACES]


def named_members(schema: Mapping[str, Any], declared: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Where an approved schema, or a manifest by the places that it `declared`, has a member of which name."""
    found = (path.rpartition(".") for path in (*(place.path for place in places(schema)), *declared))
    return frozenset((path, name) for path, _, name in found if path and not name.endswith("[]"))


def _add(found: dict[str, tuple[tuple[int, ...], Place]], order: tuple[int, ...], place: Place) -> None:
    """Two places of one path are one to a manifest: an argument called `a.b` beside the member `b` of `a`."""
    if place.path in found:
        order, before = found[place.path]
        place = Place(
            place.path,
            tuple(dict.fromkeys((*before.tops, *place.tops))),
            (*before.schemas, *place.schemas),
            members=before.members or place.members,
            listed=before.listed and place.listed,
        )
    found[place.path] = (order, place)


def _members(schemas: tuple[Mapping[str, Any], ...]) -> list[tuple[str, Any]]:
    named = [one["properties"] for one in schemas if isinstance(one.get("properties"), Mapping)]
    return list(islice(((name, inner) for properties in named for name, inner in properties.items()), MAX_PLACES))


def _items(schemas: tuple[Mapping[str, Any], ...], root: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    inner: list[Any] = []
    for one in schemas:
        prefixed = one.get("prefixItems")
        inner += [one.get("items"), *(prefixed[:MAX_PLACES] if isinstance(prefixed, list) else ())]
    return tuple(branch for one in inner if isinstance(one, Mapping) for branch in _branches(one, root))


def _branches(schema: Any, root: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The schema itself and all that it refers to or combines, each once; `null` is no value."""
    found: list[Mapping[str, Any]] = []
    seen: set[int] = set()
    pending = [schema]
    while pending and len(found) < MAX_BRANCHES:
        one = pending.pop()
        if not isinstance(one, Mapping) or one.get("type") == "null" or id(one) in seen:
            continue
        seen.add(id(one))
        found.append(one)
        for word in reversed(_BRANCHES):
            inner = one.get(word)
            pending += reversed(inner[:MAX_BRANCHES]) if isinstance(inner, list) else ()
        pending += [one[word] for word in _CONDITIONS if word in one]
        pending.append(_target(one.get("$ref"), root))
    return tuple(found)


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found: Any = root
    if reference == "#":
        return found
    for step in reference[2:].split("/")[:MAX_DEPTH]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
