"""What stays open for an agent after a call was let through: streams, and programs that run for it alone.

Decides nothing: whether a call still stands `Enforcer.stands` says, from rows. INVARIANTS: a stream that does not stand
any more is closed with the reason, also while its server says nothing; one that began while something was revoked is
looked at as well; what cannot be looked at for too long is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from citywatch.core.enforce.needs import HALT
from citywatch.core.errors import Refused, Unavailable
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.ports import Upstream

AT_ONCE: Final = 32
"""How many streams are looked at before anything else gets a turn."""


class Stream:
    """One open stream. It may be ended at any moment; whoever reads it learns so at once."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        self._why: Refused | Unavailable | None = None
        self._waiting: asyncio.Timeout | None = None

    @property
    def ended(self) -> bool:
        """Whether somebody ended it: then nothing of it may go on, and nothing has to be asked about what is left."""
        return self._why is not None

    async def next(self, messages: AsyncIterator[tuple[bytes, str | None]]) -> tuple[bytes, str | None] | None:
        """What its server says next, None at its end; raises what the stream was ended for."""
        if self._why is not None:
            raise self._why
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await anext(messages, None)
        except TimeoutError:
            if self._why is None:
                raise
            raise self._why from None
        finally:
            self._waiting = None

    def end(self, why: Refused | Unavailable) -> None:
        if self._why is None:
            self._why = why
            if self._waiting is not None:
                self._waiting.reschedule(0)


class Listening:
    """The open streams and programs of one process."""

    def __init__(self, enforcer: Enforcer, upstreams: Mapping[str, Upstream]) -> None:
        self._enforcer = enforcer
        self._upstreams = upstreams
        self._streams: set[Stream] = set()
        self._unseen: set[Stream] = set()

    @property
    def any(self) -> bool:
        return bool(self._streams)

    def open(self, judged: Judged) -> Stream:
        """A stream that begins to be read; `close` it when it is over."""
        stream = Stream(judged)
        self._streams.add(stream)
        self._unseen.add(stream)
        return stream

    def close(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._unseen.discard(stream)

    async def look(self, *, revoked: bool) -> None:
        """End what does not stand any more: of all if something was `revoked`, else of what began since."""
        left = self._streams.copy() if revoked else self._unseen.copy()
        for number, stream in enumerate(left, 1):
            try:
                await self._enforcer.stands(stream.judged)
            except Refused as why:
                stream.end(why)
            self._unseen.discard(stream)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        if revoked:
            await self._dismiss()

    def end_all(self, why: Unavailable) -> None:
        """Close every stream: nobody knows any more whether it stands."""
        for stream in self._streams:
            stream.end(why)

    async def _dismiss(self) -> None:
        """End the programs of agents which do not stand any more as they did; of all, if everything is stopped."""
        for upstream in self._upstreams.values():
            for caller in upstream.callers():
                agent, _, added = caller.partition("#")
                key = agent_key(agent.rpartition("/")[2])
                rows = (await self._enforcer.store.load((key, HALT), ())).rows
                row = parse_agent_row(rows[key].value) if key in rows else None
                if row is None or row.refusal or HALT in rows or added != str(row.added_at):
                    await upstream.dismiss(caller)
