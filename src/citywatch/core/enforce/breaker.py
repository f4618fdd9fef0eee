"""Whether a caller asks an upstream that has failed it: the circuit breaker, as a value.

    closed ──(failures in a row)──▶ open ──(its rest is over)──▶ half-open ──answered──▶ closed
                                      ▲                              │
                                      └────────────failed────────────┘

Decides on what came of the caller's own earlier calls alone. INVARIANTS
1. Closed, everything goes through; so many failures in a row open it, and one answer begins the count anew.
2. Open, nothing goes through until the rest is over. Then one call does; while that is under way, none beside it.
3. Its answer closes the breaker; its failure opens it again, for twice as long as before, up to `MOST` times the first.
4. What a call comes to says nothing once the breaker has opened, closed or tried since the call went out.
5. Whether it opens for one caller depends on no other: each has a breaker of its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MOST: Final = 32
"""How often the first rest is doubled into, at most: a server that stays away is tried that seldom."""


class Came(StrEnum):
    """What a call came to: an answer, whatever it says; none, or none in time; or its caller left before either."""

    ANSWERED = "answered"
    FAILED = "failed"
    LEFT = "left"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How many failures in a row open it, and how long its first rest is, in milliseconds."""

    failures: int
    rest_ms: int


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """`opened` counts how often in a row it did, 0: it is closed. `turn` changes with each change of state.

    `since` and `until` bound its rest; `trying`: one call is under way to see whether it is over.
    """

    failures: int = 0
    opened: int = 0
    since: int = 0
    until: int = 0
    trying: bool = False
    turn: int = 0

    @property
    def idle(self) -> bool:
        """Whether it remembers nothing."""
        return not self.failures and not self.opened


class Through(msgspec.Struct, frozen=True):
    """A call goes out, in this turn; what it comes to is told with it."""

    breaker: Breaker
    turn: int


class Resting(msgspec.Struct, frozen=True):
    """No call goes out; worth trying again after so many milliseconds."""

    wait_ms: int


def ask(breaker: Breaker, patience: Patience, now: int) -> Through | Resting:
    """Whether a call may go out now."""
    if not breaker.opened:
        return Through(breaker, breaker.turn)
    if breaker.trying:
        return Resting(patience.rest_ms)
    if breaker.since <= now < breaker.until:  # a clock that was put back ends the rest instead of prolonging it
        return Resting(breaker.until - now)
    trying = msgspec.structs.replace(breaker, trying=True, turn=breaker.turn + 1)
    return Through(trying, trying.turn)


def told(breaker: Breaker, patience: Patience, turn: int, came: Came, now: int) -> Breaker:
    """The breaker after a call of that turn came to something."""
    if turn != breaker.turn:  # INVARIANT: 4.
        return breaker
    if came is Came.ANSWERED:
        if breaker.opened:
            return Breaker(turn=turn + 1)
        return msgspec.structs.replace(breaker, failures=0) if breaker.failures else breaker
    if came is Came.LEFT:  # whether there would have been an answer nobody knows: the next call tries
        return msgspec.structs.replace(breaker, trying=False, turn=turn + 1) if breaker.opened else breaker
    if not breaker.opened and breaker.failures + 1 < patience.failures:
        return msgspec.structs.replace(breaker, failures=breaker.failures + 1)
    rest = patience.rest_ms * min(2**breaker.opened, MOST)
    return Breaker(opened=min(breaker.opened + 1, MOST), since=now, until=now + rest, turn=turn + 1)
