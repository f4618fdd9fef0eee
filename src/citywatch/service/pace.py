"""How often something may be tried: so many times in a span, for each name apart.

Decides whether one more try is within bounds, in the memory of this process. INVARIANT: names that were not seen for a
span are forgotten once there are more than `MOST`.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 500


class Pace:
    """`most` times in `span_ms`."""

    def __init__(self, most: int, span_ms: int) -> None:
        self._most, self._span = most, span_ms
        self._tried: dict[str, list[int]] = {}

    def allows(self, name: str, now: int) -> bool:
        """Whether one more try is within bounds; it counts as one."""
        if len(self._tried) > MOST:
            self._tried = {who: tries for who, tries in self._tried.items() if tries[-1] > now - self._span}
        tries = [at for at in self._tried.get(name, []) if at > now - self._span]
        allowed = len(tries) < self._most
        self._tried[name] = [*tries, now] if allowed else tries or [now]
        return allowed

    def take_back(self, name: str) -> None:
        """The last try of that name does not count."""
        tries = self._tried.pop(name, [])[:-1]
        if tries:
            self._tried[name] = tries
