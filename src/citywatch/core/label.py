"""The lattice of what flows: who could have shaped a value (origins), and who may see it (readers).

Decides how two labels join, whether a label may flow to an audience, and which of two labels is above the other. Does
not decide where a label comes from, and has nothing that lowers one: that is `flow.release`, and it is logged.

INVARIANTS: every `Label` that exists is within its bound, however it was made; what is past the bound is summarised
against the flow (more than `MAX_ORIGINS` origins: anybody; more than `MAX_READERS` readers: nobody), never in favour of
it. `join` is commutative, associative and idempotent, and its result is above both of its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from citywatch.core.errors import Malformed

MAX_ORIGINS = 64
MAX_READERS = 64
_NAME = re.compile(r"[!-~]{1,2048}\Z")


class Shaper(StrEnum):
    """What kind of origin stands before the colon."""

    PRINCIPAL = "principal"  # a person or a system account, over their own session
    SERVER = "server"  # the server's own data, vouched for by its manifest
    OUTSIDE = "outside"  # text of third parties: `<server>/<tool>` that it came through, or a name of the manifest
    AGENT = "agent"  # another agent, by its SPIFFE ID
    DOMAIN = "domain"  # whatever another trust domain calls so: `<domain>/<its own name for it>`


_SHAPERS = frozenset(Shaper)


class Origin(msgspec.Struct, frozen=True):
    """One origin, taken apart. Labels carry the text; this is for the one who asks what it means."""

    shaper: Shaper
    name: str


class Label(msgspec.Struct, frozen=True):
    """Who could have shaped a value, and who may see it.

    `origins`: None says that anybody could have shaped it, the empty set that nobody outside did. `readers`: None says
    that everybody may see it, the empty set that nobody may. There are no defaults: silence would be a claim.
    """

    origins: frozenset[str] | None
    readers: frozenset[str] | None

    def __post_init__(self) -> None:
        # INVARIANT: past the bound a label is summarised against the flow. To cut the set off instead would forget the
        # origin, or keep the reader, that an attacker put beyond the edge.
        origins, readers = self.origins, self.readers
        if origins is not None and len(origins) > MAX_ORIGINS:
            force_setattr(self, "origins", None)
        if readers is not None and len(readers) > MAX_READERS:
            force_setattr(self, "readers", frozenset())


BOTTOM = Label(frozenset(), None)
"""Shaped by nobody outside, for everybody to see: joins into anything without a trace."""
TOP = Label(None, frozenset())
"""Shaped by anybody, for nobody to see: the label of what we know nothing about."""


def join(one: Label, other: Label) -> Label:
    """Label what both have shaped: all that shaped either, and only the readers of both."""
    if one is other or (other.readers is None and other.origins is not None and not other.origins):
        return one  # most labels meet themselves, or `BOTTOM`
    if one is BOTTOM:
        return other
    origins = None if one.origins is None or other.origins is None else one.origins | other.origins
    if one.readers is None:
        readers = other.readers
    elif other.readers is None:
        readers = one.readers
    else:
        readers = one.readers & other.readers
    return Label(origins, readers)


def join_all(labels: Iterable[Label]) -> Label:
    """Join any number of labels; of none it is `BOTTOM`, so a caller who found no source says what that means."""
    total = BOTTOM
    for label in labels:
        total = join(total, label)
    return total


def is_above(high: Label, low: Label) -> bool:
    """Is `high` at least as restricted as `low`: all of its origins and no reader more?"""
    shaped = high.origins is None or (low.origins is not None and low.origins <= high.origins)
    seen = low.readers is None or (high.readers is not None and high.readers <= low.readers)
    return shaped and seen


def may_flow(label: Label, readers: frozenset[str] | None) -> bool:
    """May all of an audience see this? None is everybody; an empty audience is one nobody named, and refused."""
    if readers is not None and not readers:
        return False
    if label.readers is None:
        return True
    return readers is not None and readers <= label.readers


def has_strangers(label: Label) -> bool:
    """Whether anybody could have shaped this who is neither a person with rights of their own nor a server of ours."""
    if not label.origins:
        return label.origins is None
    return any(not one.startswith(_VOUCHED) for one in label.origins)


_VOUCHED: Final = (f"{Shaper.PRINCIPAL}:", f"{Shaper.SERVER}:")


def parse_origin(text: str) -> Origin:
    """Take one origin apart, `server:bank` or `outside:mail/read_inbox`; raise `Malformed` for every other text."""
    shaper, colon, name = text.partition(":")
    if not colon or shaper not in _SHAPERS or not _NAME.match(name):
        raise Malformed(
            f"`{text[:80]}` is not an origin: expected principal:, server:, outside:, agent: or domain: and a name"
        )
    return Origin(Shaper(shaper), name)


def format_origin(origin: Origin) -> str:
    """The inverse of `parse_origin`."""
    return f"{origin.shaper}:{origin.name}"


def format_label(label: Label) -> dict[str, list[str] | None]:
    """Write a label as plain JSON; sets are sorted, so that equal labels have equal bytes."""
    return {
        "origins": None if label.origins is None else sorted(label.origins),
        "readers": None if label.readers is None else sorted(label.readers),
    }


def parse_label(value: Mapping[str, Any]) -> Label:
    """The inverse of `format_label`; a member that is missing or of another type is `Malformed`, never a default."""
    if value.keys() != {"origins", "readers"}:
        raise Malformed("a label has exactly the members `origins` and `readers`")
    origins, readers = _names(value["origins"]), _names(value["readers"])
    for origin in origins or ():
        parse_origin(origin)
    return Label(origins, readers)


def _names(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise Malformed("the origins and the readers of a label are lists of names, or null")
    return frozenset(value)
