"""What a temporal rule says: formulas about the past as explicit, frozen trees. The prover reads the same ones.

Decides nothing; `temporal` gives them their meaning, `spec/temporal.py` gives it again by definition.
INVARIANTS: frozen, JSON-codable (`msgspec.to_builtins`), closed: these nodes and no others.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

ATTRIBUTES = (
    "event",
    "agent",
    "task",
    "principal",
    "server",
    "tool",
    "effect",
    "resource",
    "reader",
    "origin",
    "spread",
)
"""What an event can have values of; closed, so that a typing error is a mistake and not a rule that never fits."""


class Is(msgspec.Struct, frozen=True, tag="is"):
    """Some value of the event's attribute is one of these; one that ends in `*` names all that begin so."""

    attribute: str
    values: tuple[str, ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    """It does not hold."""

    of: Formula


class And(msgspec.Struct, frozen=True, tag="and"):
    """All of them hold."""

    of: tuple[Formula, ...]


class Or(msgspec.Struct, frozen=True, tag="or"):
    """One of them holds."""

    of: tuple[Formula, ...]


class Previously(msgspec.Struct, frozen=True, tag="previously"):
    """It held at the event just before, in this trace; at the first event nothing held before."""

    of: Formula


class Once(msgspec.Struct, frozen=True, tag="once"):
    """It holds now, or held at an event at most `within` milliseconds ago; None: ever."""

    of: Formula
    within: int | None = None


class Since(msgspec.Struct, frozen=True, tag="since"):
    """`start` holds now, or held at an event at most `within` milliseconds ago and `of` at each one after that."""

    of: Formula
    start: Formula
    within: int | None = None


class Count(msgspec.Struct, frozen=True, tag="count"):
    """It held at least `times` times, this event included, at most `within` milliseconds ago; None: ever."""

    of: Formula
    times: int
    within: int | None = None


Formula = Is | Not | And | Or | Previously | Once | Since | Count


class Then(StrEnum):
    """What follows when a rule matches."""

    FORBID = "forbid"
    ASK = "ask"


class Per(StrEnum):
    """Whose events make one trace: an agent's, a task's, those on one resource, all that reached one reader."""

    AGENT = "agent"
    TASK = "task"
    RESOURCE = "resource"
    READER = "reader"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule matches at an event if `when` holds there, in one of the traces the event belongs to."""

    name: str
    then: Then
    per: Per
    when: Formula
