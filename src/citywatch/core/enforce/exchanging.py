"""What a call for a token is: how it is told from others, and what it asks for.

Decides no more than that; `tokens` says who may have one.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.call import Call, Direction

METHOD: Final = "token/exchange"


def is_exchange(call: Call) -> bool:
    """Whether a call asks for a token."""
    return call.method == METHOD and call.direction is Direction.TO_SERVER


def scopes_of(call: Call) -> tuple[str, ...]:
    """The scopes that a call for a token asks for."""
    scope = call.arguments.get("scope")
    return tuple(scope.split(" ")) if isinstance(scope, str) and scope else ()
