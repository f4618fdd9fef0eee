"""What became of a ticket, for the agent that waits for its answer: asking is no call, spends no budget, shows nothing.

    present     what became of it by now
    answered    the same, and only once there is an answer, or after a while
    updates     the same again and again, for whoever follows it

Decides nothing; people answer tickets (`tickets`, `voting`), in this process or another one. INVARIANTS
1. An agent is told of its own tickets, one answer for all that are not there; it learns that there is an answer, and
   neither whose nor why; papers that do not hold see nothing, also where they ended while it waited.
2. What it costs does not grow with the tickets of others, and nothing is looked at while nobody waits.
3. Whoever waits holds one of a few places of its own; where none is free it is told at once what is so now.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from citywatch.core.approvals.ticket import ANSWERED, State
from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Malformed, Unavailable
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import AgentRow, agent_key, parse_agent_row
from citywatch.service.ports import Bus, Clock, Store
from citywatch.service.tickets import find_ticket
from citywatch.service.watch import NOTICE

LOOK_S: Final = 0.004
"""Between two looks while anybody waits."""
LONGEST_S: Final = 20.0
"""How long one request may wait: less than what stands between agents and gateways cuts off."""
OF_ONE: Final = 6
"""How many requests of one agent may wait at once; fewer than it has places at all, so that it can ask meanwhile."""


class Waiting:
    """The tickets of one store, as the agents see them that wait."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        leeway_ms: Callable[[], int],
        bus: Bus | None = None,
        most: int = 128,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        """`bus` is where an answer is noticed (None: nobody is kept waiting), `most` how many may wait in this process
        at once, `ending` whether it is about to stop."""
        self._store = store
        self._clock = clock
        self._leeway_ms = leeway_ms
        self._bus = bus
        self._most = most
        self._ending = ending
        self._held: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """How many are kept waiting now."""
        return sum(self._held.values())

    @property
    def looks(self) -> bool:
        """Whether anybody looks for answers now."""
        return self._looking is not None and not self._looking.done()

    async def present(self, credential: Credential, name: str) -> tuple[State, int]:
        """The state of a ticket (pending, approved, denied, used or expired) and when it expires, in milliseconds since
        the epoch; `Malformed` if this agent has none of that id."""
        now = self._clock.now_ms()
        await self._standing(credential, now)
        found = await find_ticket(self._store, name)
        if found is None or found.ticket.agent != credential.agent:  # INVARIANT: 1.
            raise Malformed("the agent has no such ticket")
        return found.ticket.by_now(now), found.ticket.expires

    async def answered(self, credential: Credential, name: str, longest_s: float) -> tuple[State, int]:
        """What `present` says as soon as the ticket waits no more, or after `longest_s`, or at once without a place."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(longest_s, LONGEST_S)
        with self._place(credential.agent) as placed:
            while True:
                changed = self._changed  # before it is looked at: what changes meanwhile is noticed
                state, expires = await self.present(credential, name)
                left = min(end - loop.time(), (expires - self._clock.now_ms()) / 1000 + LOOK_S)
                if state is not State.PENDING or not placed or left <= 0 or self._ending():
                    return state, expires
                try:
                    async with asyncio.timeout(left):
                        await changed.wait()
                except TimeoutError:
                    continue

    async def updates(self, credential: Credential, name: str) -> AsyncGenerator[State, None]:
        """What `present` says now, every `LONGEST_S` (so that the connection lives), and as soon as the ticket waits no
        more: then it ends; and so it does where there is no place to wait in."""
        loop = asyncio.get_running_loop()
        with self._place(credential.agent) as placed:
            told = -math.inf
            while True:
                changed = self._changed
                state, expires = await self.present(credential, name)
                waits = state is State.PENDING and placed and not self._ending()
                if not waits or loop.time() >= told + LONGEST_S:
                    told = loop.time()
                    yield state
                if not waits:
                    return
                left = min(told + LONGEST_S - loop.time(), (expires - self._clock.now_ms()) / 1000 + LOOK_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(left, LOOK_S)):
                        await changed.wait()

    async def registered(self, credential: Credential) -> int:
        """Since when whoever shows these papers is registered, in milliseconds since the epoch."""
        return (await self._standing(credential, self._clock.now_ms())).added_at

    async def _standing(self, credential: Credential, now: int) -> AgentRow:
        check_time(credential, now, self._leeway_ms())
        key = agent_key(credential.agent.rpartition("/")[2])
        stored = (await self._store.load((key,), ())).rows.get(key)
        row = None if stored is None else parse_agent_row(stored.value)
        return check_standing(credential.agent, credential.key, row)

    @contextmanager
    def _place(self, agent: str) -> Iterator[bool]:
        """# INVARIANT: 3. Hold a place to wait in, if there is one; see that somebody looks as long as anybody does."""
        held = self._held.get(agent, 0)
        if self._bus is None or held >= OF_ONE or self.held >= self._most:
            yield False
            return
        self._held[agent] = held + 1
        if not self.looks:
            self._looking = asyncio.create_task(self._look(self._bus))
        try:
            yield True
        finally:
            self._held[agent] -= 1
            if not self._held[agent]:
                del self._held[agent]

    async def _look(self, bus: Bus) -> None:
        """Wake whoever waits when any ticket was answered or anything was revoked, for as long as somebody waits."""
        seen: tuple[int, int] | None = None
        while self._held:  # INVARIANT: 2.
            try:
                now = await bus.version(ANSWERED), await bus.version(NOTICE)
            except Unavailable:
                now = (-1, -1)  # whoever waits finds out for itself
            if now != seen or self._ending():
                seen = now
                self._wake()
            await asyncio.sleep(LOOK_S)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
