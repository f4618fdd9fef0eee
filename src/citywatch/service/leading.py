"""People are led to a call that waits for them, by a client that shows addresses (MCP 2025-11-25, URL elicitation).

    told      a call about which a person is asked: the error that gives its client the ticket's address
    beside    the stream on which a server speaks unasked, and on it, that a ticket waits no more

Which sessions can be led is in their rows, and so is to which tickets they were. A client that lied about it misleads
itself. INVARIANTS
1. An address is given where the file names the console's, and no other: the one that a console makes up for itself is
   kept from agents, for nobody shall guess it.
2. That a ticket waits no more is told to the sessions that were led to it, once each, on one stream; neither what was
   answered nor by whom. Whoever was revoked meanwhile is told nothing.
3. Nothing is answered here: whoever comes back is judged anew, from the ticket's own row.
4. One row is looked at while such a stream is open, and none otherwise. A session is led to `MOST` tickets at once, and
   one of its streams asks for them: what a hostile agent opens makes no look dearer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import ANSWERED, State
from citywatch.core.enforce.needs import led_key, session_key
from citywatch.core.errors import Refused, Unavailable
from citywatch.core.wire import mcp
from citywatch.service.enforcer import MAX_CONFLICTS, Enforcer
from citywatch.service.judged import Judged
from citywatch.service.ports import Append, Appended, Bus, Row
from citywatch.service.questions import policies_of, reason_of
from citywatch.service.replies import Delivery, Outcome
from citywatch.service.tickets import find_ticket
from citywatch.service.unhindered import unhindered

LOOK_S: Final = 0.05
"""Between two looks: a client that shows an address waits for a person and not for us."""
MOST: Final = 16


class Led(msgspec.Struct, frozen=True):
    """The tickets that one session was led to and has not been told of, oldest first."""

    tickets: tuple[str, ...] = ()


class Leading:
    """The sessions of one store whose clients show addresses."""

    def __init__(self, enforcer: Enforcer, bus: Bus, link: Callable[[str], str]) -> None:
        """`link` is the address at which people find a ticket, empty if the file names none."""
        self._enforcer = enforcer
        self._store = enforcer.store
        self._bus = bus
        self._link = link
        self._streams = 0
        self._asking: dict[str, _Ahead] = {}
        self._moved = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def looks(self) -> bool:
        """Whether anybody looks for answers now."""
        return self._looking is not None and not self._looking.done()

    async def told(self, judged: Judged) -> Outcome | None:
        """What the client of a call that waits is told, None where it gets the refusal."""
        call, session, link = judged.call, judged.known.session, self._link(judged.ticket)
        if not link or call.session is None or session is None or not session.led or call.method != "tools/call":
            return None
        with suppress(Unavailable):  # then it is not told when to come back, and comes back all the same
            await self._keep(call.session, judged.ticket)
        _, detail = reason_of(judged)
        body = mcp.url_required(call, judged.ticket, link, detail, policies_of(judged))
        return Outcome(status=200, media="json", body=body)

    def beside(self, judged: Judged, outcome: Outcome) -> Outcome:
        """The same stream, on which its session is told of its tickets as well, if it was led to any."""
        call, session = judged.call, judged.known.session
        if outcome.stream is None or call.session is None or session is None or not session.led:
            return outcome
        return msgspec.structs.replace(outcome, stream=self._beside(judged, call.session, outcome))

    async def _beside(self, judged: Judged, session: str, outcome: Outcome) -> AsyncGenerator[Delivery, None]:
        ahead = _Ahead(outcome)
        moved: asyncio.Event | None = None
        try:
            with self._watched():
                while True:
                    if moved is not self._moved:
                        moved = self._moved  # before it is looked at: what moves meanwhile is noticed
                        mine = self._asking.setdefault(session, ahead) is ahead  # INVARIANT: 4.
                        for ticket in await self._over(judged, session) if mine else ():
                            yield Delivery(mcp.elicitation_complete(ticket))
                    if not await ahead.came(moved):
                        continue
                    delivery = ahead.take()
                    if delivery is None:
                        return
                    yield delivery
        finally:
            if self._asking.get(session) is ahead:
                del self._asking[session]
                self._wake()  # another stream of the session asks from now on
            await unhindered(ahead.close())

    async def _keep(self, session: str, ticket: str) -> None:
        """Have this session told when that ticket waits no more."""
        home, key = session_key(session), led_key(session)
        for _ in range(MAX_CONFLICTS):
            rows = (await self._store.load((home, key), ())).rows
            led = _led(rows.get(key))
            if home not in rows or ticket in led.tickets:
                return  # who comes back again and again wakes nobody
            reads = tuple((one, rows[one].version if one in rows else 0) for one in (home, key))
            kept = msgspec.json.encode(Led((*led.tickets, ticket)[-MOST:]))  # INVARIANT: 4.
            if isinstance(await self._store.append(Append(reads=reads, puts=((key, kept),))), Appended):
                self._wake()  # it may have been answered before it was kept
                return

    async def _over(self, judged: Judged, session: str) -> tuple[str, ...]:
        """The tickets of a session that wait no more, taken off its list: nobody else tells of them. # INVARIANT: 2."""
        key = led_key(session)
        with suppress(Unavailable, Refused):
            for _ in range(MAX_CONFLICTS):
                row = (await self._store.load((key,), ())).rows.get(key)
                led = _led(row)
                over = tuple([one for one in led.tickets if not await self._waits(one)])
                if row is None or not over:
                    return ()
                await self._enforcer.stands(judged)
                left = tuple(one for one in led.tickets if one not in over)
                put = (key, msgspec.json.encode(Led(left)) if left else None)
                outcome = await self._store.append(Append(reads=((key, row.version),), puts=(put,)))
                if isinstance(outcome, Appended):
                    return over
        return ()

    async def _waits(self, ticket: str) -> bool:
        found = await find_ticket(self._store, ticket)  # None: another call took its place
        return found is not None and found.ticket.by_now(self._enforcer.clock.now_ms()) is State.PENDING

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """See that somebody looks as long as any stream is open."""
        self._streams += 1
        if not self.looks:
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._streams -= 1

    async def _look(self) -> None:
        seen = -1
        while self._streams:  # INVARIANT: 4.
            with suppress(Unavailable):
                version = await self._bus.version(ANSWERED)
                if version != seen:
                    self._wake()
                seen = version
            await asyncio.sleep(LOOK_S)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class _Ahead:
    """What a stream says next, waited for beside something else. It is begun only when somebody waits."""

    def __init__(self, outcome: Outcome) -> None:
        assert outcome.stream is not None
        self._outcome = outcome
        self._stream = outcome.stream
        self._begun = False
        self._next: asyncio.Task[Delivery | None] | None = None

    async def came(self, otherwise: asyncio.Event) -> bool:
        """Whether it said something, or is over, before `otherwise` was set."""
        if self._next is None:
            self._next = asyncio.create_task(self._fetch())
        other = asyncio.create_task(otherwise.wait())
        try:
            await asyncio.wait((self._next, other), return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
        return self._next.done()

    def take(self) -> Delivery | None:
        """What it said, None at its end; raises what ended it."""
        assert self._next is not None
        said, self._next = self._next, None
        return said.result()

    async def close(self) -> None:
        """Close the stream as its reader would have: one that was never begun is abandoned."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        if self._begun or self._outcome.abandon is None:
            await self._stream.aclose()
        else:
            await self._outcome.abandon()

    async def _fetch(self) -> Delivery | None:
        self._begun = True
        return await anext(self._stream, None)


def _led(row: Row | None) -> Led:
    return Led() if row is None else msgspec.json.decode(row.value, type=Led)
