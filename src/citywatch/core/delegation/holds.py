"""Does an act keep the caveats under which it is done?

Decides that on plain facts about the act. Does not decide whether the act is permitted at all: caveats only take away.

INVARIANTS
1. Each caveat that is there must be kept; one whose facts are missing is not (no argument, unknown readers or origins).
2. Fewer rights never keep more: what is beyond some caveats is beyond every meet of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.delegation.caveats import Caveats, Names, speaks_of
from citywatch.core.limit import keeps


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be done. `name` is `server/tool` or, with `skill`, `agent/skill`; what is neither is `server/*`.

    `readers` are those whom it reaches (None: everybody), `origins` those who could have shaped it (None: anybody).
    """

    name: str
    arguments: Mapping[str, Any]
    readers: Names | None
    origins: Names | None
    skill: bool = False


def beyond(caveats: Caveats, act: Act) -> str | None:
    """The first caveat that the act does not keep, None if it keeps them all."""
    named = caveats.skills if act.skill else caveats.tools
    if named is not None and not speaks_of(named, act.name):
        return "skills" if act.skill else "tools"
    for argument, limit in caveats.arguments.get(act.name, {}).items():
        value = act.arguments.get(argument)
        if value is None or not keeps(limit, value):
            return f"arguments.{act.name}.{argument}"
    if caveats.readers is not None and (act.readers is None or not act.readers <= caveats.readers):
        return "readers"
    if caveats.origins is not None and (
        act.origins is None or not all(speaks_of(caveats.origins, one) for one in act.origins)
    ):
        return "origins"
    return None
