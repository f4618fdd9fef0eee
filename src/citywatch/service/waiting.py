"""What became of a ticket, for the agent that waits for its answer: asking is no call, spends no budget, shows nothing.

Decides nothing; people answer tickets (`tickets`). INVARIANTS: an agent is told of its own tickets, one answer for all
that are not there; what it costs does not grow with the tickets of others; it learns that there is an answer, and
neither whose nor why; papers that do not hold see nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Malformed
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.service.ports import Clock, Store
from citywatch.service.tickets import find_ticket


class Waiting:
    """The tickets of one store, as the agents see them that wait."""

    def __init__(self, *, store: Store, clock: Clock, leeway_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._leeway_ms = leeway_ms

    async def present(self, credential: Credential, name: str) -> tuple[str, int]:
        """The state of a ticket (pending, approved, denied, used or expired) and when it expires, in milliseconds since
        the epoch; `Malformed` if this agent has none of that id."""
        now = self._clock.now_ms()
        check_time(credential, now, self._leeway_ms())
        key = agent_key(credential.agent.rpartition("/")[2])
        stored = (await self._store.load((key,), ())).rows.get(key)
        check_standing(credential.agent, credential.key, None if stored is None else parse_agent_row(stored.value))
        found = await find_ticket(self._store, name)
        if found is None or found.ticket.agent != credential.agent:  # INVARIANT: an agent's own
            raise Malformed("the agent has no such ticket")
        return found.ticket.by_now(now).value, found.ticket.expires
