"""How many requests at our own addresses one agent may have in hand: asking is no call, and no budget counts it.

Decides only that. INVARIANT: an agent that asks without end takes no place of another's; a place is given back however
its request ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from citywatch.core.errors import Code, Unavailable


class Shares:
    """The places of one process, `most` for each agent."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[str, int] = {}

    @contextmanager
    def place(self, agent: str) -> Iterator[None]:
        """Hold one of the agent's places; `Unavailable(OVERLOADED)` where all are taken."""
        taken = self._taken.get(agent, 0)
        if taken >= self._most:
            raise Unavailable(Code.OVERLOADED, "this agent has too many such requests in hand")
        self._taken[agent] = taken + 1
        try:
            yield
        finally:
            self._taken[agent] -= 1
            if not self._taken[agent]:
                del self._taken[agent]
