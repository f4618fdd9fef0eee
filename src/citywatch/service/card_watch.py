"""Who looks whether each peer still has the card that a person approved: at the start, now and then, and whenever a new
connection to it is opened.

Decides when a card is looked at. What a change means, `cards` and the gates say: the row of the approval says that
another card was offered, and each message reads that row and is appended only if it is unchanged.
INVARIANTS: a message waits for no card; a peer is asked for its card at most so often, whoever opens connections; one
that cannot be asked changes nothing, and is told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from citywatch.core.errors import CitywatchError
from citywatch.service.cards import Cards

SOONEST_S: Final = 1.0
"""Between two looks at one peer's card."""
AT_ONCE: Final = 8


class CardWatch:
    """Looks at the cards of one process' peers. `held` are those with another card, `failed` why one was not seen."""

    def __init__(self, cards: Cards, peers: Collection[str], every_s: float) -> None:
        self._cards = cards
        self._peers = tuple(peers)
        self._every = every_s
        self._due: set[str] = set(peers)
        self._looked: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.held: set[str] = set()
        self.failed: dict[str, str] = {}

    def connected(self, peer: str) -> None:
        """A new connection to this peer is open: somebody else may be there."""
        self._due.add(peer)
        self._wake.set()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look(asyncio.get_running_loop().time())
            await self._rest()

    async def look(self, now: float) -> None:
        """Look at every card that is due at this time of the loop; one that takes long holds no other up."""
        due = [peer for peer in self._peers if now - self._last(peer) >= self._wait(peer)]
        for peer in due:
            self._looked[peer] = now
            self._due.discard(peer)
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._look(peer, turn) for peer in due))

    def _last(self, peer: str) -> float:
        return self._looked.get(peer, float("-inf"))

    def _wait(self, peer: str) -> float:
        return SOONEST_S if peer in self._due else self._every

    async def _look(self, peer: str, turn: asyncio.Semaphore) -> None:
        try:
            async with turn:
                same = await self._cards.look(peer)
        except CitywatchError as failure:
            self.failed[peer] = str(failure)
            return
        self.failed.pop(peer, None)
        self.held.discard(peer) if same else self.held.add(peer)

    async def _rest(self) -> None:
        """Until a connection is opened, or the next card is due."""
        longest = SOONEST_S if self._due else self._every
        try:
            async with asyncio.timeout(longest):
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(0 if not self._due else SOONEST_S / 10)
        except TimeoutError:
            return
