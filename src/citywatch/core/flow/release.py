"""The only way a label goes down: for a value of one call, or for a context, by a rule that has a name and a reason.

Decides that what comes out is below what went in, and that somebody can be told why; whether a rule applies is decided
by who calls this (`enforce.released`, `enforce.clearing`; no other module may import it). Keeps nothing: what it
returns is a receipt, and stands in the log in the transaction that acts on it.

INVARIANTS
1. A release lowers: `was` is above `now`. What would raise a label, or trade one origin for another, is a mistake of
   ours.
2. A release has a rule of the closed list `Way`, and a reason.
3. A release of a call's value lasts for that call: no row keeps the lower label.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core.call import Release
from citywatch.core.label import Label, is_above

MAX_REASON: Final = 500


class Way(StrEnum):
    """Every rule by which a label goes down."""

    NAMED = "named"
    OWN = "own"
    LINKED = "linked"
    ENDORSED = "endorsed"
    DERIVED = "derived"
    KNOWN = "known"
    VOUCHED = "vouched"
    QUOTED = "quoted"
    PASSED_ON = "passed on"
    SPOKEN = "spoken"
    ANCHORED = "anchored"
    PLANNED = "planned"
    GRANTED = "granted"
    APPROVED = "approved"
    DISCLOSED = "disclosed"
    CLEARED = "cleared"


REASONS: Final[Mapping[Way, str]] = {
    Way.NAMED: "a person who may steer this act wrote the value",
    Way.OWN: "it reaches only the person whose task this is",
    Way.LINKED: "a server vouches for it in the one record that a person described",
    Way.ENDORSED: "a person named the source, and it holds one value of this kind",
    Way.DERIVED: "it follows by arithmetic from amounts that people gave or described",
    Way.KNOWN: "it is a known party of the set that the manifest names for this parameter",
    Way.VOUCHED: "a server of ours says it itself",
    Way.QUOTED: "it is looked at as it stood, with nothing added",
    Way.PASSED_ON: "a person asked for what this source says to be passed on to whom they named",
    Way.SPOKEN: "a person spoke of this act, which takes nothing that could be named",
    Way.ANCHORED: "when, and in which of a few ways, follows from what was named",
    Way.PLANNED: "the plan of a person who may steer this act binds it",
    Way.GRANTED: "the grant of a person who may steer this act binds it, for this task",
}
"""Why each rule lets a label down. A person's answer and an operator's release bring words of their own."""


class Lowering(msgspec.Struct, frozen=True):
    """A step down from one label to another that was looked at (`lowering`): any number of values can take it."""

    was: Label
    now: Label
    how: str
    reason: str

    def at(self, path: str, role: str, source: str, items: tuple[str, ...]) -> Release:
        """The release of one value."""
        return Release(
            path=path,
            role=role,
            how=self.how,
            source=source,
            items=items,
            was=self.was,
            now=self.now,
            reason=self.reason,
        )


def lowering(was: Label, now: Label, way: Way, reason: str = "") -> Lowering:
    """Look at a step down from `was` to `now`; `reason` is needed where the rule has none of its own.

    Raises `ValueError` for a label that would not go down or stay, and for a release without a reason: both would be
    mistakes of ours, and refuse the call.
    """
    why = (reason and reason.strip()) or REASONS.get(way, "")
    if not why:  # INVARIANT: 2
        raise ValueError(f"a release by `{way}` without a reason")
    if not is_above(was, now):  # INVARIANT: 1
        raise ValueError(f"a release by `{way}` that would not let the label down")
    return Lowering(was, now, way._value_, why[:MAX_REASON])


def release(
    was: Label,
    now: Label,
    way: Way,
    *,
    path: str = "",
    role: str = "",
    source: str = "",
    items: tuple[str, ...] = (),
    reason: str = "",
) -> Release:
    """Let one label down, or raise as `lowering` does."""
    return lowering(was, now, way, reason).at(path, role, source, items)
