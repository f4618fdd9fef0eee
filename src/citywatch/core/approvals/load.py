"""How much an approver is asked: so many questions an hour, evenly, and some kept for those who rarely ask.

Decides whether somebody may be given one more question now. INVARIANTS
1. Within any hour nobody is given more than their budget and what one burst holds.
2. The last part of a burst is kept for questions within everybody's fair share: who asks more cannot spend it.
3. A clock that goes back refills nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HOUR_MS: Final = 3_600_000
BURST: Final = 3
"""A burst is this part of an hour's budget, and at least two."""
KEPT: Final = (2, 3)
"""Two thirds of a burst are kept."""


class Load:
    """Budgets of approvers, by name; whoever has none is asked nothing."""

    def __init__(self) -> None:
        self._hourly: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def comes(self, who: str, per_hour: int, now: int) -> None:
        """Somebody is there from now on, with so many questions an hour."""
        if who not in self._hourly:
            self._left[who] = _burst(per_hour) * HOUR_MS
            self._seen[who] = now
        self._hourly[who] = max(0, per_hour)

    def goes(self, who: str) -> None:
        """Somebody is asked nothing from now on; what they spent is remembered until they come again."""
        self._hourly[who] = 0

    @property
    def capacity(self) -> int:
        """How many answers an hour all of them give."""
        return sum(self._hourly.values())

    def there(self) -> Iterable[str]:
        """Those who are asked."""
        return [who for who, hourly in self._hourly.items() if hourly]

    def may(self, who: str, fair: bool, now: int) -> bool:
        """Whether they may be given one more question; `fair`: one within everybody's share."""
        hourly = self._hourly.get(who, 0)
        if not hourly:
            return False
        self._refill(who, now)
        kept = 0 if fair else _burst(hourly) * HOUR_MS * KEPT[0] // KEPT[1]  # INVARIANT: 2
        return self._left[who] >= HOUR_MS + kept

    def given(self, who: str, now: int) -> None:
        """They were given one; who has no budget has nothing to spend."""
        if who in self._hourly:
            self._refill(who, now)
            self._left[who] -= HOUR_MS

    def _refill(self, who: str, now: int) -> None:
        """# INVARIANT: 1. In units of which an hour's milliseconds make one question."""
        passed = max(0, now - self._seen[who])  # INVARIANT: 3
        self._seen[who] += passed
        most = _burst(self._hourly[who]) * HOUR_MS
        self._left[who] = min(self._left[who] + passed * self._hourly[who], max(most, self._left[who]))


def _burst(per_hour: int) -> int:
    return max(2, per_hour // BURST) if per_hour else 0
