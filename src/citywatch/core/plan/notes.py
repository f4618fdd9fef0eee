"""All mistakes of a text at once: readers note what is wrong and go on, and the parser raises the notes.

Decides nothing. INVARIANT: notes are bounded, one line each, and show at most a few printable letters of what was read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from citywatch.core.errors import Malformed

MAX_MISTAKES = 50


class Mistake(msgspec.Struct, frozen=True):
    """Where (`steps[0].arguments.amount`) and what, in one line."""

    where: str
    what: str


class Mistaken(Malformed):
    """A text with mistakes; `mistakes` holds them all."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(f"{one.where}: {one.what}" if one.where else one.what for one in mistakes))
        self.mistakes = mistakes


class BadPlan(Mistaken):
    """The value is no plan."""


class BadRules(Mistaken):
    """The text holds a rule that is none, or no rule at all."""


class Notes:
    """The mistakes noted so far."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def wrong(self, where: str, what: str) -> None:
        if len(self.mistakes) < MAX_MISTAKES:
            self.mistakes.append(Mistake(where, what))

    def error(self) -> BadPlan:
        return BadPlan(tuple(self.mistakes))

    def members(self, value: Any, where: str, keys: Collection[str]) -> dict[str, Any] | None:
        """The members of an object of known keys; None, noted, if it is none. A null member counts as absent."""
        if type(value) is not dict:
            self.wrong(where, f"{shown(value)} is not a mapping")
            return None
        for key in value:
            if key not in keys:
                self.wrong(where, f"{shown(key)} is no key here; there are {', '.join(keys)}")
        return {key: value[key] for key in keys if value.get(key) is not None}

    def need(self, members: dict[str, Any], where: str, keys: Collection[str]) -> None:
        for key in keys:
            if key not in members:
                self.wrong(where, f"`{key}` is missing")

    def items(self, value: Any, where: str, limit: int, empty: str = "") -> Iterator[tuple[str, Any]]:
        """The items of a list, each with its place; noted if it is none, too long, or empty where that means harm."""
        if type(value) is not list:
            if value is not None:
                self.wrong(where, f"{shown(value)} is not a list")
            return
        if len(value) > limit:
            self.wrong(where, f"more than {limit}")
        if not value and empty:
            self.wrong(where, f"an empty list {empty}")
        for index, item in enumerate(value[:limit]):
            if item is None:
                self.wrong(f"{where}[{index}]", "nothing stands here")
            else:
                yield f"{where}[{index}]", item


def shown(value: Any) -> str:
    """A short, printable form of what was read."""
    if type(value) is not str:
        return {dict: "a mapping", list: "a list", bool: "a yes or no", type(None): "nothing"}.get(type(value), "this")
    line = "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in value[:60])
    return f"`{line}{'…' if len(value) > 60 else ''}`"
