"""A slow or failing upstream costs its own callers, and nobody else: bulkheads and breakers around the port.

Every caller has so many places at each upstream, and all of them together so many; one more waits a bounded time in a
bounded queue, and is refused. A caller that an upstream fails again and again leaves it alone for a while
(`core.enforce.breaker`). What is refused here was judged and is on record: it is closed in the log like any other
failure, and what it spent stays spent.

Held in memory, by each process for itself: losing it can only let more calls through than another process would, never
one that the gates did not. INVARIANTS
1. It only refuses: what the gates did not let through never comes here.
2. A place is given back exactly once, however its call ends: answered, failed, left or cancelled.
3. Who waits goes in the order in which they came, except past those whose own places are taken.
4. What a caller does takes no place of another, but for the places that all have together; it opens no other's breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from citywatch.core.enforce.breaker import Breaker, Came, Patience, Resting, ask, told
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.service.ports import Answer, Clock, Upstream

OURS = frozenset((Code.OVERLOADED, Code.DRAINING, Code.UPSTREAM_CROWDED, Code.CIRCUIT_OPEN))
"""Failures that say nothing of the upstream."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls may be open, of one caller and of all; how long one more waits, in milliseconds."""

    per_caller: int
    in_all: int
    wait_ms: int


class Guarded:
    """One upstream, entered by so many at a time. The port `Upstream` itself, for whoever calls it."""

    def __init__(self, name: str, upstream: Upstream, clock: Clock, places: Places, patience: Patience) -> None:
        self._name = name
        self._upstream = upstream
        self._clock = clock
        self._places = places
        self._patience = patience
        self._inside: dict[str, int] = {}
        self._count = 0
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._breakers: dict[str, Breaker] = {}

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> Answer:
        if not self._waiting and self._fits(caller):
            self._take(caller)
        else:
            found = ask(self._breakers.get(caller, _CLOSED), self._patience, self._clock.now_ms())
            if isinstance(found, Resting):  # before it waits for a place, and once it has one
                raise self._resting(found)
            await self._enter(caller)
        try:
            turn = self._asked(caller)
        except Unavailable:
            self._leave(caller)
            raise
        place, came, stream = _Place(self, caller, turn), Came.LEFT, None
        try:
            answer = await self._upstream.send(caller, body, headers, session, repeatable=repeatable, token=token)
            came = Came.FAILED if answer.media == "none" and answer.status >= 500 else Came.ANSWERED
            stream = _Stream(answer, place) if answer.media == "sse" else None
        except Unavailable as failure:
            came = Came.LEFT if failure.code in OURS else Came.FAILED
            raise
        except Refused:
            came = Came.ANSWERED
            raise
        finally:
            if stream is None:  # INVARIANT: 2.
                place.leave(came)
        return answer if stream is None else stream

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> Answer:
        """An open ear is no call under way: it takes no place."""
        return await self._upstream.listen(caller, headers, session, token=token)

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        return await self._upstream.end(caller, headers, session, token=token)

    def callers(self) -> Sequence[str]:
        return self._upstream.callers()

    async def dismiss(self, caller: str) -> None:
        await self._upstream.dismiss(caller)

    async def close(self) -> None:
        await self._upstream.close()

    # -- the breaker -------------------------------------------------------------------------------------------------

    def _asked(self, caller: str) -> int:
        if caller not in self._breakers:  # closed, and nothing is remembered of it
            return _CLOSED.turn
        found = ask(self._breakers.get(caller, _CLOSED), self._patience, self._clock.now_ms())
        if isinstance(found, Resting):
            raise self._resting(found)
        self._keep(caller, found.breaker)
        return found.turn

    def _resting(self, found: Resting) -> Unavailable:
        seconds = _seconds(found.wait_ms)
        detail = f"`{self._name}` failed this agent several times in a row: try again in {seconds} s"
        return Unavailable(Code.CIRCUIT_OPEN, detail, retry_s=seconds)

    def _keep(self, caller: str, breaker: Breaker) -> None:
        """One that remembers nothing is not kept, once no call of its turn is open: so they cannot grow in number."""
        if breaker.idle and not self._inside.get(caller):
            self._breakers.pop(caller, None)
        else:
            self._breakers[caller] = breaker

    def over(self, caller: str, turn: int, came: Came) -> None:
        """A call has ended: its place is free, and its caller's breaker knows."""
        self._leave(caller)
        self.came(caller, turn, came)

    def came(self, caller: str, turn: int, came: Came) -> None:
        """What a call came to, whether or not it is over."""
        if came is not Came.FAILED and caller not in self._breakers:
            return  # it was closed, and stays so
        before = self._breakers.get(caller, _CLOSED)
        self._keep(caller, told(before, self._patience, turn, came, self._clock.now_ms()))

    # -- the places --------------------------------------------------------------------------------------------------

    async def _enter(self, caller: str) -> None:
        if self._fits(caller) and not any(who == caller for who, _ in self._waiting):
            self._take(caller)
            return
        if sum(who == caller for who, _ in self._waiting) >= self._places.per_caller:
            raise self._crowded()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (caller, turn)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._places.wait_ms / 1000):
                await turn
        except TimeoutError:
            if not _given(turn):
                raise self._crowded() from None
        except asyncio.CancelledError:
            if _given(turn):
                self._leave(caller)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _fits(self, caller: str) -> bool:
        return self._count < self._places.in_all and self._inside.get(caller, 0) < self._places.per_caller

    def _take(self, caller: str) -> None:
        self._inside[caller] = self._inside.get(caller, 0) + 1
        self._count += 1

    def _leave(self, caller: str) -> None:
        self._count -= 1
        self._inside[caller] -= 1
        if not self._inside[caller]:
            del self._inside[caller]
        for place, (who, turn) in enumerate(self._waiting):  # INVARIANT: 3.
            if self._fits(who) and not turn.done():
                self._take(who)
                turn.set_result(None)
                del self._waiting[place]
                return

    def _crowded(self) -> Unavailable:
        seconds = _seconds(self._places.wait_ms)
        return Unavailable(Code.UPSTREAM_CROWDED, f"`{self._name}` has no place free for this agent", retry_s=seconds)


class _Place:
    """The place of one call. # INVARIANT: 2."""

    def __init__(self, guarded: Guarded, caller: str, turn: int) -> None:
        self._guarded = guarded
        self._caller = caller
        self._turn = turn
        self._left = False

    def heard(self) -> None:
        """The upstream answers: whoever waits to see whether it does need not wait for the end of a stream."""
        self._guarded.came(self._caller, self._turn, Came.ANSWERED)

    def leave(self, came: Came) -> None:
        if not self._left:
            self._left = True
            self._guarded.over(self._caller, self._turn, came)


class _Stream:
    """An answer in a stream: its call has its place until it is closed. Its first word is the answer."""

    def __init__(self, answer: Answer, place: _Place) -> None:
        self._answer = answer
        self._place = place
        self._came = Came.LEFT
        self.status, self.media, self.session, self.body = answer.status, answer.media, answer.session, answer.body
        self.retry_ms = answer.retry_ms

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        try:
            async for message in self._answer.messages():
                if self._came is Came.LEFT:
                    self._came = Came.ANSWERED
                    self._place.heard()
                self.retry_ms = self._answer.retry_ms
                yield message
        except Unavailable as failure:
            if self._came is Came.LEFT and failure.code not in OURS:
                self._came = Came.FAILED
            raise

    async def close(self) -> None:
        try:
            await self._answer.close()
        finally:
            self._place.leave(self._came)


_CLOSED = Breaker()


def _given(turn: asyncio.Future[None]) -> bool:
    return turn.done() and not turn.cancelled()


def _seconds(ms: int) -> int:
    return max(1, -(-ms // 1000))
