"""The values of a tool call, each with what it does in the act, as the tool's manifest says.

Decides nothing. INVARIANT: no word and no number of a consequential call is passed over: what the manifest is silent
about is a destination, and so is whoever is added to a set of known parties; the names of members inside a value are
values too, for they are the agent's words like any other. A yes or a no has no source that could be traced: it is one
of two options, and follows what was named.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Effect
from citywatch.core.enforce.places import MAX_PLACES, NUMBERED, places
from citywatch.core.flow.history import Value
from citywatch.core.manifest import Parameter, Role, ToolManifest

MAX_VALUES: Final = 512
"""A call with more values than this is not traced: a person is asked."""
MORE: Final = "…"
"""In a list of silent places: there are more places than were looked at."""
_READ: Final = Effect.READ
_DESTINATION: Final = Role.DESTINATION
_SILENT: Final = Parameter()
READ_ROLES: Final = frozenset((Role.DESTINATION, Role.COMMAND))
"""What can do harm in a call that only reads: whom it asks, and what it runs."""


class Argument(msgspec.Struct, frozen=True):
    """One value of a call: where it stands, what it does there, which known set may speak for it.

    `declared`: the manifest says what it does. What is silent is a destination. `member`: it is the name of a member of
    what stands there.
    """

    path: str
    role: Role
    value: Value
    party: str | None
    adds: str | None = None
    declared: bool = False
    member: bool = False


class Traced(msgspec.Struct, frozen=True):
    """The values of one call that are traced, and one more if there are more: found once, asked for by several."""

    call: Call
    manifest: ToolManifest
    values: tuple[Argument, ...]


def trace(call: Call, manifest: ToolManifest, before: Traced | None = None) -> Traced:
    """The values of a call under a manifest, taken from `before` if they were found there of these two themselves."""
    if before is not None and before.call is call and before.manifest is manifest:  # INVARIANT: of no other call
        return before
    found = None if manifest.effect is _READ else _flat(call.arguments, manifest.parameters)
    if found is None:
        found = tuple(itertools.islice(arguments(call, manifest), MAX_VALUES + 1))
    return Traced(call, manifest, found)


def _flat(given: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> tuple[Argument, ...] | None:
    """What `declarations` finds where each argument is one value, as in most calls; None for any other call."""
    if len(given) > MAX_VALUES:
        return None
    found = []
    for name, value in given.items():
        kind = type(value)
        if (kind is not str and kind is not float and kind is not int) or "[" in name:
            return None
        if value != "":
            one = parameters.get(name, _SILENT)
            role = one.role or _DESTINATION
            found.append(Argument(name, role, value, one.party, one.adds, one.role is not None))
    return tuple(found)


def arguments(call: Call, manifest: ToolManifest) -> Iterator[Argument]:
    """Every value of a call that can steer or be carried along; of a read only what `READ_ROLES` names."""
    found = declarations(call, manifest)
    if manifest.effect is not _READ:
        return found
    return (one for one in found if one.declared and one.role in READ_ROLES)


def declarations(call: Call, manifest: ToolManifest) -> Iterator[Argument]:
    """Every value of any call."""
    parameters = manifest.parameters
    for name, value in call.arguments.items():
        whole = parameters.get(name) if "[" not in name else _declared(parameters, name, name)
        for path, leaf, member in _leaves(name, value):
            declared = whole if path is name else _declared(parameters, path, name)
            one = declared or _SILENT
            yield Argument(path, one.role or Role.DESTINATION, leaf, one.party, one.adds, one.role is not None, member)


def _declared(parameters: Mapping[str, Parameter], path: str, name: str) -> Parameter | None:
    """What holds for a value: the declaration of its own place, or the one of the whole argument `name`."""
    return parameters.get(NUMBERED.sub("[]", path) if "[" in path else path) or parameters.get(name)


def silent(manifest: ToolManifest, schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The places that a consequential tool's approved schema offers and its manifest gives no role: destinations.

    `lines[]` among them, beside a role for `lines[].price`, is whatever else a line holds, its members' names too.
    """
    if manifest.effect is Effect.READ:
        return ()
    named = [name for name, one in manifest.parameters.items() if one.role]
    offered = places(schema)
    found = {MORE} if len(offered) == MAX_PLACES else set()
    for place in offered:
        for top in place.tops if not place.listed else ():
            declared = _declared(manifest.parameters, place.path, top)
            if declared is None or declared.role is None:  # where nothing of an argument is said, that is one omission
                within = any(name == top or name.startswith((f"{top}.", f"{top}[")) for name in named)
                found.add(place.path if within else top)
    return tuple(sorted(found))


def words_of(call: Call) -> tuple[Argument, ...]:
    """What a message to another agent says, whatever it calls itself: each value of its parts."""
    message: Mapping[str, Any] = call.arguments.get("message", {})
    found = (_leaves(f"parts[{at}]", part) for at, part in enumerate(message.get("parts", ())))
    values = itertools.islice(itertools.chain.from_iterable(found), MAX_VALUES)
    return tuple(Argument(path, Role.OBJECT, value, None) for path, value, _ in values)


def all_values(call: Call) -> Iterator[tuple[str, Value]]:
    """Every value of a call, whatever its role."""
    for name, value in call.arguments.items():
        yield from ((path, leaf) for path, leaf, _ in _leaves(name, value))


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Value, bool]]:
    """Every value inside a value, the names of members too: they are the agent's words like any other."""
    if type(value) is str or type(value) is float or type(value) is int:  # as most are; a yes or a no is none of these
        return ((path, value, False),) if value != "" else ()
    return _inner_leaves(path, value)


def _inner_leaves(path: str, value: Any) -> Iterator[tuple[str, Value, bool]]:
    pending = [(path, value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield path, key, True
                pending.append((f"{path}.{key[:80]}", inner))
        elif isinstance(value, list | tuple):
            pending += [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
        elif isinstance(value, bool):
            continue
        elif isinstance(value, str | int | float) and value != "":
            yield path, value, False
