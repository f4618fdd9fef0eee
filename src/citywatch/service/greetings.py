"""Replies to `initialize`: the session that one opens is bound to the agent that asked, under an id of ours.

Decides nothing; how many sessions an agent may have is given. INVARIANTS: the row of a session commits with the reply
that opens it, and it is counted in that transaction; one session too many ends the oldest.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from citywatch.core.enforce.needs import Session, session_key
from citywatch.core.errors import CitywatchError, Code, Refused, Unavailable
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Limits, Response
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.outward import Outward
from citywatch.service.ports import Answer, Puts, Reads
from citywatch.service.questions import Questions
from citywatch.service.replies import Outcome, Replies

END_S = 2.0
"""How long a server has to end a session that made room for another."""
Opened = tuple[str | None, Puts, Reads, tuple[tuple[str, Session], ...]]


class Greetings:
    """Settles the replies that open sessions."""

    def __init__(
        self,
        enforcer: Enforcer,
        outward: Outward,
        questions: Questions,
        replies: Replies,
        limits: Limits,
        max_sessions: int,
    ) -> None:
        self._enforcer = enforcer
        self._outward = outward
        self._questions = questions
        self._replies = replies
        self._limits = limits
        self._max_sessions = max_sessions

    async def opened(self, judged: Judged, answer: Answer, response: Response) -> Outcome:
        """A reply to `initialize`: the session it opens is counted, so a race with another one is run again."""
        for _ in range(self._max_sessions + 1):
            try:
                session, puts, reads, over = await self._session(judged, answer, response)
                body = await self._replies.settle(judged, response, 0, puts, reads)
            except Unavailable as failure:
                if failure.code is not Code.CONFLICT:
                    raise
            else:
                for one, row in over:
                    await self._drop(judged, one, row)
                return Outcome(status=answer.status, media="json", body=body, session=session)
        with suppress(CitywatchError):  # the server need not keep what the agent will not get
            await self._outward.end(judged, answer.session or "", {})
        raise Refused(Code.OVERLOADED, "too many sessions are being opened at once")

    async def streamed(self, judged: Judged, answer: Answer) -> Outcome:
        """A streamed reply to `initialize`, as JSON: the header with our session id must precede the reply."""
        try:
            async for raw, _ in answer.messages():
                if raw and isinstance(jsonrpc.parse_message(raw, self._limits), Response):
                    return await self.opened(judged, answer, self._replies.read(judged.call, raw))
        except Unavailable as failure:
            return await self._replies.failed(judged, failure.code, str(failure))
        finally:
            await answer.close()
        return await self._replies.failed(judged, Code.UPSTREAM_UNAVAILABLE, "the stream ended without a reply")

    async def _session(self, judged: Judged, answer: Answer, response: Response) -> Opened:
        """Bind a session that the server just opened to the agent that asked, under an id of ours."""
        call = judged.call
        if call.method != "initialize" or answer.session is None or response.error is not None:
            return None, (), (), ()
        session, revision = self._enforcer.chance.call_id(), mcp.negotiated(response) or call.revision
        row = Session(
            agent=call.agent,
            server=call.server,
            upstream=answer.session,
            replica=self._enforcer.replica,
            revision=revision,
            opened=self._enforcer.clock.now_ms(),
            led=mcp.can_be_led(revision, call.arguments.get("capabilities")),
        )
        listed, reads, over = await self._enforcer.snapshots.opened(call.agent, session, self._max_sessions)
        return session, ((session_key(session), msgspec.json.encode(row)), *listed), reads, over

    async def _drop(self, judged: Judged, session: str, row: Session) -> None:
        """See to what a session that made room for another leaves behind, here and at its server, which need not
        answer."""
        await self._questions.forget(session)
        with suppress(CitywatchError, TimeoutError):
            async with asyncio.timeout(END_S):
                await self._outward.drop(judged, row)
