"""What the operator declares of a server's tools: effect, audience, typed parameters, output labels, budgets.

Decides nothing; gates read it. INVARIANT: silence is read against the tool: no manifest means irreversible, audience
everybody, output untrusted. What a server says of itself never enters here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from citywatch.core.call import Effect

EVERYBODY = "everybody"


class ParameterType(StrEnum):
    """The type under which policy sees an argument. Without one, the tool's input schema decides."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DECIMAL = "decimal"  # a Cedar decimal: at most four digits after the point
    MONEY = "money"  # an integer count of minor units; `scale` says how many digits the currency has


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One declared parameter. `role` and `labels` steer information flow (used from part 2 on)."""

    type: ParameterType | None = None
    scale: int = 2
    role: str | None = None


class ToolManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool does, as its operator declares it."""

    effect: Effect = Effect.IRREVERSIBLE
    audience: tuple[str, ...] = (EVERYBODY,)
    parameters: Mapping[str, Parameter] = {}
    output: Mapping[str, str] = {}
    declared: bool = True


SILENT = ToolManifest(declared=False)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `calls` attempts in each window of `window_ms` milliseconds; 0 means over the whole life."""

    calls: int
    window_ms: int = 0
