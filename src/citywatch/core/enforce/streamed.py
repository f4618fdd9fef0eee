"""What another agent says in a stream, held back until nothing that is still to come can reach into its text.

Decides which texts of an A2A stream are read as one: the pieces of one artifact, and what the statuses say; `holdback`
decides how long each waits, `deliver` what is taken out of it. What a stream cannot be looked through for ends it.

INVARIANTS
1. Texts are read where A2A has them, in the parts of a message or an artifact: nothing that a peer puts between two of
   them (names, ids, metadata, members that nobody knows) parts them.
2. What goes on in pieces and began where it is not read with them is not passed on: bytes in pieces, and an artifact
   that a whole task held before.
3. Where a task waits for its caller, nothing is held, for nothing more may come.
Without a ruling nothing waits, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.enforce.deliver import Places
from citywatch.core.enforce.holdback import Holdback
from citywatch.core.enforce.sift import Ruling, is_open
from citywatch.core.errors import Code, Refused
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import Response

_ANY: Final = "*"
_SPOKEN: Final = (
    ("artifactUpdate", "artifact"),
    ("statusUpdate", "status", "message"),
    ("task", "status", "message"),
    ("task", "artifacts", _ANY),
    ("task", "history", _ANY),
    ("message",),
)
_CONTENTS: Final = ("text", "data")


class Piece(msgspec.Struct, frozen=True):
    """A message that goes on, and where in it something ends that began before it."""

    response: Response
    known: Places | None = None


class Streamed:
    """One stream, for an agent with this ruling. `take` what comes, and pass on what `take` and `end` return."""

    def __init__(self, ruling: Ruling) -> None:
        self._held = None if is_open(ruling) else Holdback(ruling, spoken)
        self._whole: set[str] = set()

    def take(self, response: Response) -> list[Piece]:
        """What goes on now that this has come. Raises `Refused` for what cannot be looked through."""
        if self._held is None:
            return [Piece(response)]
        result = response.result or {}
        self._pieces(result)
        waits = not a2a.may_be_last(response)  # INVARIANT: 3.
        ready = self._held.push(response, _kind(result), result, waits=waits)
        return [Piece(one.token, one.known) for one in ready]

    def end(self) -> list[Piece]:
        """All that is still held."""
        return [] if self._held is None else [Piece(one.token, one.known) for one in self._held.end()]

    def _pieces(self, result: Mapping[str, Any]) -> None:
        """# INVARIANT: 2."""
        task, update = result.get("task"), result.get("artifactUpdate")
        if isinstance(task, dict) and isinstance(task.get("artifacts"), list):
            self._whole |= {_name(one) for one in task["artifacts"]}
        if not isinstance(update, dict) or update.get("append") is not True:
            return
        artifact = update.get("artifact")
        parts = artifact.get("parts") if isinstance(artifact, dict) else None
        if _name(artifact) in self._whole or any("raw" in one for one in parts or () if isinstance(one, dict)):
            raise Refused(Code.CONTENT_WITHHELD, "an artifact in pieces that cannot be looked through as one")


def _kind(result: Mapping[str, Any]) -> str:
    """With which other messages this one is read as one."""
    update = result.get("artifactUpdate")
    return f"artifact\n{_name(update.get('artifact'))}" if isinstance(update, dict) else next(iter(result), "")


def _name(artifact: object) -> str:
    name = artifact.get("artifactId") if isinstance(artifact, dict) else None
    return name if isinstance(name, str) else ""


def spoken(result: Any) -> list[tuple[int, str]]:
    """The texts of a message that somebody reads, in their order, each with its number among all leaves (`leaves_of`).

    # INVARIANT: 1.
    """
    return [(number, text) for number, (path, text) in enumerate(_leaves(result, ())) if text and _is_spoken(path)]


def _is_spoken(path: tuple[str, ...]) -> bool:
    return any(
        len(path) >= len(home) + 3
        and all(want in (_ANY, there) for want, there in zip(home, path, strict=False))
        and path[len(home) : len(home) + 2] == ("parts", _ANY)
        and path[len(home) + 2] in _CONTENTS
        for home in _SPOKEN
    )


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every leaf in the order of `leaves_of`: where it stands, and its text (a name or a number has none here)."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield path, ""
            yield from _leaves(one, (*path, key))
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, (*path, _ANY))
    elif isinstance(value, str):
        yield path, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, ""
