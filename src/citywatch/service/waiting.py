"""What became of a ticket, for the agent that waits for its answer: asking is no call, spends no budget, shows nothing.

Decides nothing; people answer tickets (`tickets`). INVARIANTS: an agent is told of its own tickets, one answer for all
that are not there; it learns that there is an answer, and neither whose nor why; papers that do not hold see nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from citywatch.core.enforce.context import Ticket
from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Malformed
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.service.ports import Clock, Store


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
        for _, row in await self._store.scan("ticket"):
            ticket = msgspec.json.decode(row.value, type=Ticket)
            if ticket.id == name and ticket.agent == credential.agent:  # INVARIANT: an agent's own
                over = ticket.state == "pending" and now >= ticket.expires
                return "expired" if over else ticket.state, ticket.expires
        raise Malformed("the agent has no such ticket")
